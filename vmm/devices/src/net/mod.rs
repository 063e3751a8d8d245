//! What network devices have in common: frames, the back-end trait, and the adapter between what a
//! guest and a back end can do.
//!
//! ```text
//!   virtio-net, E1000 --- Port ---> NetBackend (user, tap, passt, hub, ...)
//!                         checksums and segmentation in software,
//!                         where one side has left them to the other
//! ```
//! A [`Frame`] is an Ethernet frame without its CRC, with the header that virtio-net and Linux
//! TAP devices put in front of it (VIRTIO 5.1.6).

pub mod checksum;
pub mod offload;
pub mod packet;
mod port;
pub mod segment;

pub use port::Port;

use crate::device::Origin;
use crate::pci::PciDevice;
use bitflags::bitflags;
use std::time::Duration;
use xinim_abi::hw::virtio_net::Header;

/// Longest frame: an IPv4 packet of 65,535 bytes behind an Ethernet header with a VLAN tag.
pub const MAX_FRAME: usize = 65_535 + 18;
/// Shortest frame on a wire, without CRC.
pub const MIN_FRAME: usize = 60;
/// Destination, source, type.
pub const ETHERNET_HEADER: usize = 14;

bitflags! {
    /// What a side does for the other.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Offloads: u8 {
        /// Takes frames whose TCP or UDP checksum is not filled in (NEEDS_CSUM).
        const CHECKSUM = 1;
        /// Takes TCP segments over IPv4 larger than the link's, to be split.
        const TSO4 = 2;
        /// The same over IPv6.
        const TSO6 = 4;
    }
}

/// A frame and what is still to be done to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub header: Header,
    pub data: Vec<u8>,
}

impl Frame {
    /// A frame with nothing left to do.
    pub fn plain(data: Vec<u8>) -> Self {
        Self { header: Header::default(), data }
    }
}

/// Whether a back end has taken a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Taken, or dropped as a network may.
    Done,
    /// Not now: the machine calls the device's `output_ready` when it makes sense to try again.
    Later,
}

/// The host's end of a network device. Never blocks.
pub trait NetBackend: Send {
    /// Takes a frame from the guest. One that does not obey [`offloads`](Self::offloads) or is
    /// longer than [`MAX_FRAME`] is dropped.
    fn send(&mut self, frame: &Frame) -> Sent;
    /// Puts the next frame for the guest into `frame`; `false`: none now, the machine calls the
    /// device's `input_ready` when there is one.
    fn receive(&mut self, frame: &mut Frame) -> bool;
    /// What it does for the guest.
    fn offloads(&self) -> Offloads {
        Offloads::empty()
    }
    /// What the guest's device takes from now on.
    fn accept(&mut self, _offloads: Offloads) {}
}

impl<T: NetBackend + ?Sized> NetBackend for Box<T> {
    fn send(&mut self, frame: &Frame) -> Sent {
        (**self).send(frame)
    }
    fn receive(&mut self, frame: &mut Frame) -> bool {
        (**self).receive(frame)
    }
    fn offloads(&self) -> Offloads {
        (**self).offloads()
    }
    fn accept(&mut self, offloads: Offloads) {
        (**self).accept(offloads);
    }
}

/// A cable that leads nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNet;

impl NetBackend for NoNet {
    fn send(&mut self, _frame: &Frame) -> Sent {
        Sent::Done
    }
    fn receive(&mut self, _frame: &mut Frame) -> bool {
        false
    }
    fn offloads(&self) -> Offloads {
        Offloads::all()
    }
}

/// Calls a device back at a time of its clock; the machine gives one to each device that asks.
pub trait Timer: Send + Sync {
    /// Forgets what was asked before. `at` counts as [`Clock::monotonic`](crate::backend::Clock)
    /// does; a time that has passed means at once. The call back comes on another thread.
    fn arm(&self, at: Option<Duration>);
}

/// A timer that never fires.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTimer;

impl Timer for NoTimer {
    fn arm(&self, _at: Option<Duration>) {}
}

/// A network device as the machine drives it. The calls return whether to call again at once.
pub trait NetDevice: PciDevice {
    /// The back end may have frames. Called on every edge.
    fn input_ready(&mut self, origin: &Origin) -> bool;
    /// The back end takes frames again.
    fn output_ready(&mut self, origin: &Origin) -> bool;
    /// The time asked for has come.
    fn timer(&mut self, origin: &Origin) -> bool;
    /// The cable is put in or pulled out.
    fn set_link(&mut self, up: bool, origin: &Origin);
    /// Whether the cable is in.
    fn link(&self) -> bool;
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
