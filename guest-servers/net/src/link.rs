//! Where an interface's frames come from and go to.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

pub use xinim_abi::services::link::{received, transmit};

/// What a link can do. `mtu` is of IP packets; offloads as `services::link::info` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub mac: [u8; 6],
    pub mtu: u32,
    pub tx_checksum: bool,
    pub rx_checksum: bool,
    pub tso4: bool,
    pub tso6: bool,
}

/// What is asked of the device for one frame; see `services::link::Transmit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    pub flags: u16,
    pub header_len: u16,
    pub checksum_start: u16,
    pub checksum_offset: u16,
    pub segment_size: u16,
    pub flow: u32,
}

/// A way for frames. Nothing waits.
pub trait Link {
    fn capabilities(&self) -> Capabilities;
    fn is_up(&self) -> bool;
    /// The next frame replaces `frame`. `None`: there is none; else whether its TCP or UDP checksum
    /// was found right.
    fn receive(&mut self, frame: &mut Vec<u8>) -> Option<bool>;
    /// Are there frames that nobody else announces?
    fn is_waiting(&self) -> bool {
        false
    }
    /// Is there room for a frame of any size?
    fn has_room(&self) -> bool;
    /// Takes a frame; one that cannot be taken is dropped and counted by the link.
    fn transmit(&mut self, frame: &[u8], offload: &Offload);
    /// Everything taken is to go out now.
    fn flush(&mut self) {}
    /// Frames it had to drop: received, to be sent.
    fn dropped(&self) -> (u64, u64) {
        (0, 0)
    }
    /// The driver's label; empty for none.
    fn driver(&self) -> String {
        String::new()
    }
}

/// Frames kept by a loopback.
const LOOPBACK_MAX: usize = 512;

/// Gives back what it takes.
#[derive(Debug, Default)]
pub struct Loopback {
    frames: VecDeque<Vec<u8>>,
}

impl Link for Loopback {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mtu: 65535, tx_checksum: true, rx_checksum: true, ..Capabilities::default() }
    }
    fn is_up(&self) -> bool {
        true
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> Option<bool> {
        *frame = self.frames.pop_front()?;
        Some(true)
    }
    fn is_waiting(&self) -> bool {
        !self.frames.is_empty()
    }
    fn has_room(&self) -> bool {
        self.frames.len() < LOOPBACK_MAX
    }
    fn transmit(&mut self, frame: &[u8], _offload: &Offload) {
        if self.has_room() {
            self.frames.push_back(frame.to_vec());
        }
    }
}
