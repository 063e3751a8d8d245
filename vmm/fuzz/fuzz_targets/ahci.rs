//! A hostile driver and an unruly host around the AHCI model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_device_fuzz::ahci(data));
