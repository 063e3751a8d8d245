//! Logic of the kernel that needs no hardware, tested on the host.
//!
//! State is in `Cell`s: the kernel runs under one lock with interrupts off, so shared references
//! are all it needs. `unsafe` is confined to [`refs`], which hands out references to objects in
//! type-stable slabs.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod calibration;
pub mod cpio;
pub mod elf;
pub mod frames;
pub mod handles;
pub mod list;
pub mod log_ring;
pub mod paging;
pub mod refs;
pub mod timers;
