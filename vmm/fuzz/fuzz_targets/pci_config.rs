//! Random accesses to a whole machine's ports, configuration space and BARs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_device_fuzz::pci_config(data));
