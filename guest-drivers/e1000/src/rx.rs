//! The receive ring (8254x 3.2): one buffer of 2 KiB a descriptor.
//!
//! ```text
//! give() -> descriptor at the tail -> (RDT) -> device -> DD set -> poll() -> frame or part of one
//! ```
//! The ring never gets full, since head and tail being equal means empty to the device.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::hw::e1000::descriptor::{RxDesc, SIZE, rx_error, rx_status};
use xinim_abi::services::link::{RX_BUFFER, received};
use xinim_driver_kit::{DmaBuffer, Segment, SharedMemory, Slice};
use xinim_link_service::{Events, Frame};

/// Descriptors.
pub const ENTRIES: u32 = 256;

#[derive(Clone, Copy, Debug)]
struct Given {
    cookie: u32,
    segment: Segment,
}

pub struct RxRing<B> {
    ring: Slice<B>,
    /// By descriptor.
    given: Vec<Option<Given>>,
    /// Next to be looked at, next to be filled in.
    head: u32,
    tail: u32,
    published: u32,
    /// In the middle of a frame that is thrown away.
    dropping: bool,
    pub bad: u64,
}

impl<B: DmaBuffer> RxRing<B> {
    pub fn new(ring: Slice<B>) -> Self {
        let given = vec![None; ENTRIES as usize];
        let mut new = Self { ring, given, head: 0, tail: 0, published: 0, dropping: false, bad: 0 };
        new.clear();
        new
    }

    pub fn address(&self) -> u64 {
        self.ring.device_address(0).address
    }

    /// The ring as the reset device finds it; what was given stays noted.
    pub fn clear(&mut self) {
        for at in 0..ENTRIES as usize {
            self.ring.write_value(at * SIZE, &RxDesc::default());
        }
        (self.head, self.tail, self.published, self.dropping) = (0, 0, 0, false);
    }

    pub fn forget(&mut self) {
        self.given.fill(None);
    }

    /// Gives the noted buffers again, in the order they had.
    pub fn again(&mut self) {
        let old: Vec<Given> = self.given.iter_mut().filter_map(Option::take).collect();
        for given in old {
            // They fitted before.
            let _ = self.give(given.segment, given.cookie);
        }
    }

    /// `Again`: the ring is full.
    pub fn give(&mut self, segment: Segment, cookie: u32) -> Result<()> {
        let next = (self.tail + 1) % ENTRIES;
        if next == self.head {
            return Err(Error::Again);
        }
        let desc = RxDesc { address: segment.address, ..RxDesc::default() };
        self.ring.write_value(self.tail as usize * SIZE, &desc);
        self.given[self.tail as usize] = Some(Given { cookie, segment });
        self.tail = next;
        Ok(())
    }

    /// The tail to be written to RDT, if the device does not know it.
    pub fn publish(&mut self) -> Option<u32> {
        let news = self.published != self.tail;
        self.published = self.tail;
        news.then_some(self.tail)
    }

    fn done(&self) -> Option<RxDesc> {
        if self.head == self.published {
            return None;
        }
        // The status is in the upper half of the third dword; loading it orders what follows.
        let at = self.head as usize * SIZE;
        let status = self.ring.load_u32(at + 12) as u8;
        (status & rx_status::DD != 0).then(|| self.ring.read_value(at))
    }

    pub fn has_done(&self) -> bool {
        self.done().is_some()
    }

    pub fn poll(&mut self, events: &mut Events) {
        while let Some(desc) = self.done() {
            let given = self.given[self.head as usize].take();
            self.head = (self.head + 1) % ENTRIES;
            let Some(Given { cookie, .. }) = given else { continue };
            let last = desc.status & rx_status::EOP != 0;
            let bad = desc.errors & (rx_error::CE | rx_error::RXE) != 0
                || u32::from(desc.length) > RX_BUFFER
                || desc.length == 0;
            if bad || self.dropping {
                self.bad += u64::from(last);
                self.dropping = !last;
                events.unused.push(cookie);
                continue;
            }
            let checked = desc.status & (rx_status::TCPCS | rx_status::UDPCS) != 0
                && desc.status & rx_status::IXSM == 0
                && desc.errors & (rx_error::TCPE | rx_error::IPE) == 0;
            let mut flags = if last { 0 } else { received::MORE };
            if checked && last {
                flags |= received::CHECKSUM_GOOD;
            }
            events.received.push(Frame { cookie, start: 0, len: desc.length, flags });
        }
    }
}
