//! A hostile driver and a hostile network around the virtio-net model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_device_fuzz::virtio_net(data));
