//! The virtio network driver (VIRTIO 1.2, 5.1): the device's logic; `services::link` around it comes from
//! `xinim_link_service`.
//!
//! * [`net`]: the device from reset to reset, features, link state, recovery;
//! * [`pair`]: a receive and a transmit queue with what is in flight on them;
//! * [`control`]: commands on the control queue.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod control;
pub mod net;
mod pair;

pub use net::{Net, PAIRS, Vectors};
