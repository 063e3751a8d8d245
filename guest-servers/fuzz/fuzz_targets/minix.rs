//! Hostile images: see `xinim_fs_fuzz::minix`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_fs_fuzz::minix(data));
