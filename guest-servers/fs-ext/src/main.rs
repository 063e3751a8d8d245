//! The ext2/ext3/ext4 server: see the library for what it does. One instance serves one mount.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use xinim_block_client::disk::{open_kept_cache, stand_by};
use xinim_fs_ext::{Ext, Surroundings};
use xinim_rt::keep::KeptArea;
use xinim_rt::{kip, log};

xinim_rt::program!(main, prepares);

/// The running transaction's memory, and its key at RS (the cache has 1).
const ACCOUNT: u64 = 2;
const ACCOUNT_LEN: u64 = 4 << 20;

fn main() -> i32 {
    if stand_by().is_err() {
        return 1;
    }
    let around = Surroundings { now: kip::wall_clock_ns, log: |message| log!("{message}") };
    let open = |source: &str| Ok(Box::new(open_kept_cache(source)?) as Box<_>);
    let account = || Ok(Box::new(KeptArea::open(ACCOUNT, ACCOUNT_LEN)?) as Box<_>);
    xinim_fs_server::run(Ext::new(Box::new(open), around).kept(Box::new(account)))
}
