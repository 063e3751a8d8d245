//! The FAT server: see the library for what it does. One instance serves one mount.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

fn main() -> i32 {
    0
}
