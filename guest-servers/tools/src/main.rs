//! The tools as one XINIM program; its name says which.
#![no_std]
#![no_main]

use xinim_os_rt::{Xinim, args, env};

xinim_rt::program!(main);

fn main() -> i32 {
    let args = args();
    xinim_tools::run(&Xinim, &args, &env()).unwrap_or_else(|| {
        let name = args.first().map_or("", |name| name.as_str());
        xinim_rt::eprintln!("{name}: no tool of this name");
        127
    })
}
