//! The MINIX server: see the library for what it does. One instance serves one mount.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use xinim_block_client::disk::{open_kept_cache, stand_by};
use xinim_fs_minix::Minix;
use xinim_rt::kip;

xinim_rt::program!(main, prepares);

fn main() -> i32 {
    if stand_by().is_err() {
        return 1;
    }
    xinim_fs_server::run(Minix::new(Box::new(open_kept_cache), kip::wall_clock_ns))
}
