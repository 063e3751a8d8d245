//! virtio block device driver.
#![no_std]
