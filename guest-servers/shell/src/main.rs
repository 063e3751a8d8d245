//! `sh`: the shell as a XINIM program.
#![no_std]
#![no_main]

use xinim_os_rt::{Xinim, args, env};

xinim_rt::program!(main);

fn main() -> i32 {
    xinim_shell::run(&Xinim, &args(), &env())
}
