//! The ISO 9660 server: see the library for what it does. One instance serves one mount.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use xinim_block_client::disk::open_cache;
use xinim_fs_iso::Iso;
use xinim_rt::kip;

xinim_rt::program!(main);

/// Of the block cache; a sixteenth of the memory where that is less.
const CACHE_LEN: u64 = 4 << 20;

fn main() -> i32 {
    let cache_len = (kip::memory_total() / 16).min(CACHE_LEN) as usize;
    let open = Box::new(move |source: &str| open_cache(source, cache_len));
    xinim_fs_server::run(Iso::new(open))
}
