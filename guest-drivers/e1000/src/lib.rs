//! The driver of Intel's 82540EM, 82545EM and 82574L (8254x Software Developer's Manual 317453, 82574
//! datasheet): the device's logic; `services::link` around it comes from `xinim_link_service`.
//!
//! * [`device`]: reset, start, interrupts, link, filters, recovery;
//! * [`rx`], [`tx`] over [`ring`]: the rings with what is in flight;
//! * [`access`]: what stands behind registers: EEPROM words, PHY registers.
//!
//! One queue each way; legacy receive descriptors on all models; context and data descriptors for
//! sending.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod access;
pub mod device;
mod ring;
mod rx;
mod tx;

pub use device::{Nic, StartError};
