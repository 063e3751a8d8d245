//! The file-system tools as one XINIM program; its name says which.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use xinim_os_rt::{Xinim, args, env};

xinim_rt::program!(main);

fn main() -> i32 {
    let args = args();
    xinim_fs_tools::run(&Xinim, &args, &env()).unwrap_or_else(|| {
        xinim_rt::eprintln!("{}: no tool of this name", args.first().map_or("", |name| name));
        127
    })
}
