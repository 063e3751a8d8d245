//! A hostile driver in front of the virtio-blk model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_device_fuzz::virtio_blk(data));
