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

/// Of the block cache; a sixteenth of the memory where that is less. As much is kept.
const CACHE_LEN: u64 = 8 << 20;

fn main() -> i32 {
    let cache_len = (kip::memory_total() / 16).min(CACHE_LEN) as usize;
    if stand_by(cache_len).is_err() {
        return 1;
    }
    let open = Box::new(move |source: &str| open_kept_cache(source, cache_len));
    xinim_fs_server::run(Minix::new(open, kip::wall_clock_ns))
}
