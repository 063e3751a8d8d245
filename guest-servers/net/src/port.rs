//! A [`Link`] as smoltcp's device: one buffer each way, captures, counters, fragments put together, and what
//! TCP lost sent again (`xinim_tcp_recovery`) where there is a wire that could lose it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroUsize;

use smoltcp::phy::{
    Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, SegmentationCapabilities,
    TxToken,
};
use smoltcp::time::Instant;
use xinim_tcp_recovery::{Recovery, Verdict};

use crate::flood::Datagrams;
use crate::lasting::tap::{self, Tap};
use crate::link::{Capabilities, Link};
use crate::neighbours::Neighbours;
use crate::offload;
use crate::reassembly::{Reassembly, Taken};

/// Bytes of Ethernet's header.
const ETHERNET: usize = 14;
/// Longest frame given to a device that segments.
const SEGMENTABLE: usize = 65535;
/// Frames kept for captures between two looks; more are counted and forgotten.
const CAPTURED_MAX: usize = 512;

/// A captured frame.
#[derive(Clone, Debug)]
pub struct Captured {
    pub outgoing: bool,
    pub at: Instant,
    pub frame: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    /// Received with a wrong checksum.
    pub rx_bad: u64,
    /// UDP's part of what was received.
    pub datagrams: Datagrams,
}

/// What lies beside the link and its receive buffer, so that tokens can borrow them apart.
struct Out {
    link: Box<dyn Link>,
    frame: Vec<u8>,
    ethernet: bool,
    prepare: bool,
    counters: Counters,
    capturing: bool,
    captured: Vec<Captured>,
    capture_lost: u64,
    recovery: Recovery,
    tap: Tap,
    /// Whether the stack makes TCP's checksums.
    sums: bool,
}

pub struct Port {
    out: Out,
    incoming: Vec<u8>,
    capabilities: Capabilities,
    neighbours: Neighbours,
    reassembly: Reassembly,
}

impl Out {
    fn capture(&mut self, outgoing: bool, at: Instant, frame: &[u8]) {
        if !self.capturing {
            return;
        }
        if self.captured.len() < CAPTURED_MAX {
            self.captured.push(Captured { outgoing, at, frame: frame.to_vec() });
        } else {
            self.capture_lost += 1;
        }
    }
}

impl Out {
    /// A frame goes to the link.
    fn transmit(&mut self, now: Instant, mut frame: Vec<u8>, segment: Option<u16>) -> Vec<u8> {
        let offload =
            if self.prepare { offload::prepare(&mut frame, segment) } else { Default::default() };
        self.capture(true, now, &frame);
        self.counters.tx_packets += 1;
        self.counters.tx_bytes += frame.len() as u64;
        self.link.transmit(&frame, &offload);
        frame
    }

    /// Frames that were lost go out again; without room they are lost once more.
    fn again(&mut self, now: Instant, frames: Vec<Vec<u8>>) {
        for frame in frames {
            if self.link.has_room() {
                self.transmit(now, frame, None);
            }
        }
    }
}

impl Port {
    /// `ethernet`: frames have Ethernet headers; else they are IP packets.
    pub fn new(link: Box<dyn Link>, ethernet: bool) -> Self {
        let capabilities = link.capabilities();
        let out = Out {
            link,
            frame: Vec::new(),
            ethernet,
            prepare: ethernet && capabilities.tx_checksum,
            counters: Counters::default(),
            capturing: false,
            captured: Vec::new(),
            capture_lost: 0,
            recovery: Recovery::new(capabilities.mtu as usize),
            tap: Tap::default(),
            sums: ethernet && !capabilities.tx_checksum,
        };
        let (neighbours, reassembly) = (Neighbours::default(), Reassembly::default());
        Self { out, incoming: Vec::new(), capabilities, neighbours, reassembly }
    }

    pub fn link(&mut self) -> &mut dyn Link {
        &mut *self.out.link
    }

    pub fn link_ref(&self) -> &dyn Link {
        &*self.out.link
    }

    pub fn mac(&self) -> [u8; 6] {
        self.capabilities.mac
    }

    pub fn mtu(&self) -> u32 {
        self.capabilities.mtu
    }

    pub fn is_ethernet(&self) -> bool {
        self.out.ethernet
    }

    pub fn counters(&self) -> Counters {
        self.out.counters
    }

    pub fn set_capturing(&mut self, on: bool) {
        self.out.capturing = on;
        if !on {
            self.out.captured = Vec::new();
        }
    }

    pub fn take_captured(&mut self) -> Vec<Captured> {
        core::mem::take(&mut self.out.captured)
    }

    /// TCP's segments whose acknowledgements are overdue go out again.
    pub fn recover(&mut self, now: Instant) {
        if self.out.recovery.due().is_some_and(|at| at <= now) {
            let mut again = Vec::new();
            self.out.recovery.expire(now, &mut again);
            self.out.again(now, again);
        }
    }

    /// When [`recover`](Self::recover) has something to do.
    pub fn recovery_due(&self) -> Option<Instant> {
        self.out.recovery.due()
    }

    /// TCP segments sent again.
    pub fn resent(&self) -> u64 {
        self.out.recovery.resent
    }

    /// Has the stack take in a frame that never was on the wire.
    pub fn deliver(&mut self, frame: Vec<u8>) {
        self.out.tap.to_stack.push_back(frame);
    }

    /// The stack's addresses change, and it forgets its neighbours.
    pub fn forgets(&mut self) {
        self.neighbours.forget();
    }

    /// Has the stack hear again of neighbours that it has forgotten.
    pub fn remind(&mut self, now: Instant) {
        self.out.tap.to_stack.extend(self.neighbours.remind(now));
    }

    /// Are there such frames?
    pub fn has_own(&self) -> bool {
        !self.out.tap.to_stack.is_empty()
    }

    pub fn tap(&mut self) -> &mut Tap {
        &mut self.out.tap
    }

    pub fn tap_ref(&self) -> &Tap {
        &self.out.tap
    }

    /// What the tap has to say to peers.
    pub fn nudge(&mut self, now: Instant) {
        let frames = core::mem::take(&mut self.out.tap.to_link);
        self.out.again(now, frames);
    }

    /// Sends a frame made elsewhere, as it is.
    pub fn inject(&mut self, frame: &[u8], now: Instant) -> bool {
        if !self.out.link.has_room() {
            return false;
        }
        self.out.capture(true, now, frame);
        self.out.counters.tx_packets += 1;
        self.out.counters.tx_bytes += frame.len() as u64;
        self.out.link.transmit(frame, &crate::link::Offload::default());
        true
    }
}

pub struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub struct Outgoing<'a> {
    out: &'a mut Out,
    meta: PacketMeta,
    now: Instant,
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let out = self.out;
        let mut frame = core::mem::take(&mut out.frame);
        frame.clear();
        frame.resize(len, 0);
        let result = f(&mut frame);
        let segment = self.meta.segmentation_offload_size.map(core::num::NonZeroU16::get);
        if out.tap.outgoing(&mut frame, out.ethernet, out.sums) == tap::Verdict::Drop {
            out.frame = frame;
            return result;
        }
        if out.ethernet {
            out.recovery.sent(self.now, &frame, ETHERNET);
        }
        out.frame = out.transmit(self.now, frame, segment);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.meta = meta;
    }
}

impl Device for Port {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        // An answer needs room; what comes meanwhile waits in the ring.
        if !self.out.link.has_room() {
            return None;
        }
        if let Some(own) = self.out.tap.to_stack.pop_front() {
            self.incoming = own;
            let meta = PacketMeta::default();
            return Some((Incoming(&self.incoming), Outgoing { out: &mut self.out, meta, now }));
        }
        loop {
            let verified = self.out.link.receive(&mut self.incoming)?;
            self.out.counters.rx_packets += 1;
            self.out.counters.rx_bytes += self.incoming.len() as u64;
            self.out.capture(false, now, &self.incoming);
            let taken = self.reassembly.take(now, &mut self.incoming, self.out.ethernet);
            match taken {
                Taken::Whole | Taken::Assembled => {}
                Taken::Held => continue,
                Taken::Bad => {
                    self.out.counters.rx_bad += 1;
                    continue;
                }
            }
            let trusted = verified
                && taken == Taken::Whole
                && offload::is_whole(&self.incoming, self.out.ethernet);
            if !trusted && !offload::verify(&self.incoming, self.out.ethernet) {
                self.out.counters.rx_bad += 1;
                continue;
            }
            if !self.out.ethernet {
                if self.out.tap.incoming(&mut self.incoming, false) == tap::Verdict::Drop {
                    continue;
                }
                break;
            }
            self.neighbours.see(now, &self.incoming);
            if let Some(bytes) = offload::datagram(&self.incoming) {
                self.out.counters.datagrams.count += 1;
                self.out.counters.datagrams.bytes += bytes as u64;
            }
            let mut again = Vec::new();
            let verdict = self.out.recovery.received(now, &self.incoming, ETHERNET, &mut again);
            self.out.again(now, again);
            if verdict == Verdict::Deliver
                && self.out.tap.incoming(&mut self.incoming, true) == tap::Verdict::Pass
            {
                break;
            }
        }
        let at = if self.out.ethernet { ETHERNET } else { 0 };
        self.out.tap.to_stack.extend(xinim_tcp_recovery::part_end(&mut self.incoming, at));
        let meta = PacketMeta::default();
        Some((Incoming(&self.incoming), Outgoing { out: &mut self.out, meta, now }))
    }

    fn transmit(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        let meta = PacketMeta::default();
        let room = self.out.link.has_room();
        if room { Some(Outgoing { out: &mut self.out, meta, now }) } else { None }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        let header = if self.out.ethernet { ETHERNET } else { 0 };
        caps.medium = if self.out.ethernet { Medium::Ethernet } else { Medium::Ip };
        caps.max_transmission_unit = self.capabilities.mtu as usize + header;
        // Received checksums are looked at by `receive`, for what the device did not verify.
        let transport = if self.capabilities.tx_checksum { Checksum::None } else { Checksum::Tx };
        caps.checksum.tcp = transport;
        caps.checksum.udp = transport;
        if !self.out.ethernet {
            caps.checksum = smoltcp::phy::ChecksumCapabilities::ignored();
        }
        caps.segmentation = SegmentationCapabilities::default();
        if self.out.prepare && self.capabilities.tso4 {
            // Not with IPv6: smoltcp 0.14 drops what is longer than a packet there.
            caps.segmentation.tcpv4 = NonZeroUsize::new(SEGMENTABLE);
        }
        caps
    }
}
