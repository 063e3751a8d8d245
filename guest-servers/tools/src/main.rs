//! The tools as one XINIM program; its name says which. Three tools look at the system from
//! below and stand here rather than in the pure library: `breakout`, `ipcbench` and `ringbench`.
#![no_std]
#![no_main]

extern crate alloc;

use xinim_os_rt::{Xinim, args, env};

mod breakout;
mod ipcbench;
mod raw;
mod ringbench;

xinim_rt::program!(main);

fn main() -> i32 {
    let args = args();
    let name = args.first().map_or("", |name| xinim_os::base_name(name));
    if xinim_rt::start::handle(xinim_abi::start::role::SERVICE).is_some() {
        return breakout::service(&args);
    }
    match name {
        "breakout" => breakout::main(&args),
        "ipcbench" => ipcbench::main(),
        "ringbench" => ringbench::main(&args),
        _ => xinim_tools::run(&Xinim, &args, &env()).unwrap_or_else(|| {
            xinim_rt::eprintln!("{name}: no tool of this name");
            127
        }),
    }
}
