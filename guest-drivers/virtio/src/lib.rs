//! The driver side of virtqueues and the virtio PCI transport.
#![no_std]
