//! virtio console driver and the guest end of the host link.
#![no_std]
