//! A hostile driver in front of the virtio-iommu model, and devices behind it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_device_fuzz::iommu(data));
