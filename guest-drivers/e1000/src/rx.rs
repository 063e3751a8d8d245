//! The receive ring (8254x 3.2): one buffer of 2 KiB a descriptor.
//!
//! ```text
//! give() -> descriptor at the tail -> (RDT) -> device -> DD set -> poll() -> frame or part of one
//! ```

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::hw::e1000::descriptor::{RxDesc, rx_error, rx_status};
use xinim_abi::services::link::{RX_BUFFER, received};
use xinim_driver_kit::{DmaBuffer, Segment, Slice};
use xinim_link_service::{Events, Frame};

use crate::ring::Ring;

/// Descriptors.
pub const ENTRIES: u32 = 256;

#[derive(Clone, Copy, Debug)]
struct Given {
    cookie: u32,
    segment: Segment,
}

pub struct RxRing<B> {
    pub ring: Ring<B>,
    /// By descriptor.
    given: Vec<Option<Given>>,
    /// In the middle of a frame that is thrown away.
    dropping: bool,
    /// In the middle of one that is not.
    inside: bool,
    pub bad: u64,
}

impl<B: DmaBuffer> RxRing<B> {
    pub fn new(ring: Slice<B>) -> Self {
        let given = vec![None; ENTRIES as usize];
        Self { ring: Ring::new(ring, ENTRIES), given, dropping: false, inside: false, bad: 0 }
    }

    /// The ring as the reset device finds it; what was given stays noted.
    pub fn clear(&mut self) {
        self.ring.clear();
        (self.dropping, self.inside) = (false, false);
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
        if self.ring.room() == 0 {
            return Err(Error::Again);
        }
        let desc = RxDesc { address: segment.address, ..RxDesc::default() };
        let at = self.ring.put(&desc);
        self.given[at as usize] = Some(Given { cookie, segment });
        Ok(())
    }

    fn done(&self) -> Option<RxDesc> {
        let head = self.ring.head;
        let done = self.ring.is_head_published() && self.ring.status(head) & rx_status::DD != 0;
        done.then(|| self.ring.read(head))
    }

    pub fn has_done(&self) -> bool {
        self.done().is_some()
    }

    pub fn poll(&mut self, events: &mut Events) {
        while let Some(desc) = self.done() {
            let given = self.given[self.ring.head as usize].take();
            self.ring.head = self.ring.next(self.ring.head);
            let Some(Given { cookie, .. }) = given else { continue };
            let last = desc.status & rx_status::EOP != 0;
            let bad = desc.errors & (rx_error::CE | rx_error::RXE) != 0
                || u32::from(desc.length) > RX_BUFFER
                || desc.length == 0;
            if bad || self.dropping {
                self.bad += u64::from(last);
                (self.dropping, self.inside) = (!last, false);
                events.unused.push(cookie);
                continue;
            }
            let checked = desc.status & (rx_status::TCPCS | rx_status::UDPCS) != 0
                && desc.status & rx_status::IXSM == 0
                && desc.errors & (rx_error::TCPE | rx_error::IPE) == 0;
            let mut flags = if last { 0 } else { received::MORE };
            if core::mem::replace(&mut self.inside, !last) {
                flags |= received::CONTINUED;
            }
            if checked && last {
                flags |= received::CHECKSUM_GOOD;
            }
            events.received.push(Frame { cookie, start: 0, len: desc.length, flags });
        }
    }
}
