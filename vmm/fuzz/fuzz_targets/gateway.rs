//! A hostile guest in front of the user network's gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_hostnet::fuzz::gateway(data));
