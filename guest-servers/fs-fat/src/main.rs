//! The FAT server: see the library for what it does. One instance serves one mount.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use xinim_abi::error::Result;
use xinim_block_client::Storage;
use xinim_block_client::disk::{open_kept_cache, stand_by};
use xinim_fs_fat::Fat;
use xinim_rt::kip;

xinim_rt::program!(main, prepares);

fn main() -> i32 {
    if stand_by().is_err() {
        return 1;
    }
    let open =
        |source: &str| -> Result<Box<dyn Storage>> { Ok(Box::new(open_kept_cache(source)?)) };
    let fat = Fat::new(Box::new(open), kip::wall_clock_ns);
    xinim_fs_server::run(fat)
}
