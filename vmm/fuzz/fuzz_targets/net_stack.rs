//! A hostile network around the guest's TCP/IP stack.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinim_tests::net_stack::hostile_network(data));
