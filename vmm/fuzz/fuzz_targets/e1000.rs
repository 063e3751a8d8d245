//! A hostile driver and a hostile network around the E1000 model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_device_fuzz::e1000(data));
