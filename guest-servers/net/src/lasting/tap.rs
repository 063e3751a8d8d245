//! Between smoltcp and the link: every TCP segment of connections that are to outlive the server.
//!
//! ```text
//! stack ──outgoing()──> numbers shifted, acknowledgement no more than is kept ──> link
//! stack <──incoming()── acknowledgement shifted back, bytes kept <────────────── link
//! ```
//! A stack that resumes a connection does what any stack does: it sends a SYN. That never leaves: the
//! answer, what had come before and was not read, and the peer's end are given to it as frames of our
//! own making, with the numbers that the peer knows. What the stack's own first number is does not matter;
//! it is shifted from then on. (As FT-TCP does: Alvisi and others, INFOCOM 2001.)
//!
//! Bounds: [`FLOWS_MAX`] connections, of which [`OPENING_MAX`] are not accepted yet; beyond that one is
//! not kept, and ends with the server. [`EARLY_FLOWS`] of these have what came held for them.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpEndpoint, IpProtocol, IpRepr,
    TcpControl, TcpOption, TcpPacket, TcpRepr, TcpSeqNumber,
};
use xinim_abi::error::{Error, Result};

use super::flow::{Flow, Given, Left, Peer, Stage};
use super::mirror::Mirror;
use crate::offload::{self, Transport};

pub const FLOWS_MAX: usize = 1024;
const OPENING_MAX: usize = 256;
/// Connections whose bytes are held before they are accepted, and how many of each.
const EARLY_FLOWS: usize = 64;
const EARLY_MAX: usize = 64 * 1024;
/// Bytes of a segment that is given to a resuming stack.
const GIVEN_MAX: usize = 32 * 1024;
/// Acknowledgements that have a peer send again what it lost at once (RFC 5681, 3.2).
const NUDGES: usize = 3;

/// A connection as this side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub local: (IpAddress, u16),
    pub remote: (IpAddress, u16),
}

impl Key {
    pub fn new(local: IpEndpoint, remote: IpEndpoint) -> Self {
        Self { local: (local.addr, local.port), remote: (remote.addr, remote.port) }
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
}

/// All connections over one link.
#[derive(Default)]
pub struct Tap {
    flows: BTreeMap<Key, Flow>,
    /// What resuming stacks are still to be given.
    given: BTreeMap<Key, Given>,
    /// Frames for the stack, to be taken in before others.
    pub to_stack: VecDeque<Vec<u8>>,
    /// Frames for the link.
    pub to_link: Vec<Vec<u8>>,
    opening: usize,
    /// Connections that could not be kept any more.
    pub lost: u64,
}

fn number(value: TcpSeqNumber) -> u32 {
    value.0 as u32
}

fn seq(value: u32) -> TcpSeqNumber {
    TcpSeqNumber(value as i32)
}

/// A frame's TCP segment, if it has one, and where it is.
fn segment(frame: &mut [u8], ethernet: bool) -> Option<(Transport, TcpPacket<&mut [u8]>)> {
    let found = offload::tcp(frame, ethernet)?;
    let segment = frame.get_mut(found.at..found.end)?;
    Some((found, TcpPacket::new_checked(segment).ok()?))
}

impl Tap {
    pub fn flow(&mut self, key: &Key) -> Option<&mut Flow> {
        self.flows.get_mut(key)
    }

    fn make_room(&mut self) -> bool {
        if self.opening >= OPENING_MAX {
            // A flood of SYNs: any will do.
            let old = self.flows.iter().find(|(_, flow)| flow.stage == Stage::Opening);
            if let Some(key) = old.map(|(key, _)| *key) {
                self.forget(&key);
            }
        }
        self.flows.len() < FLOWS_MAX
    }

    fn open(&mut self, key: Key) -> Option<&mut Flow> {
        if !self.flows.contains_key(&key) {
            if !self.make_room() {
                return None;
            }
            let early_max = if self.opening < EARLY_FLOWS { EARLY_MAX } else { 0 };
            self.opening += 1;
            self.flows.insert(key, Flow::opening(early_max));
        }
        self.flows.get_mut(&key)
    }

    /// The connection is established and its bytes are kept in `mirror` from now on. `NoEnt`: its
    /// beginning was not seen.
    pub fn keep(&mut self, key: &Key, mirror: Mirror) -> Result<()> {
        let flow = self.flows.get_mut(key).ok_or(Error::NoEnt)?;
        if flow.stage == Stage::Opening {
            self.opening -= 1;
            flow.stage = Stage::Open;
        }
        flow.keep(mirror)
    }

    pub fn forget(&mut self, key: &Key) {
        self.given.remove(key);
        if let Some(flow) = self.flows.remove(key)
            && flow.stage == Stage::Opening
        {
            self.opening -= 1;
        }
    }

    /// A connection of the last instance: nothing passes until it is [`live`](Self::live). How many bytes
    /// its stack will be given, and whether the peer's end behind them.
    pub fn resume(&mut self, key: Key, left: &Left, mirror: Mirror) -> Result<(usize, bool)> {
        if self.flows.len() >= FLOWS_MAX || self.flows.contains_key(&key) {
            return Err(Error::Limit);
        }
        let (flow, given) = Flow::resume(left, mirror)?;
        let whole = (given.unread.len(), given.ended);
        self.flows.insert(key, flow);
        self.given.insert(key, given);
        Ok(whole)
    }

    /// The stack is where the last one was.
    pub fn live(&mut self, key: &Key) {
        self.given.remove(key);
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.stage = Stage::Open;
        let nudge = core::mem::take(&mut flow.nudge);
        if !nudge.is_empty() {
            self.to_link.extend(vec![nudge; NUDGES]);
        }
    }

    /// A frame of the stack's, changed in place. `sums`: whether the stack has made its TCP checksum.
    pub fn outgoing(&mut self, frame: &mut [u8], ethernet: bool, sums: bool) -> Verdict {
        let Some((found, mut packet)) = segment(frame, ethernet) else { return Verdict::Pass };
        let key = Key {
            local: (found.source, packet.src_port()),
            remote: (found.destination, packet.dst_port()),
        };
        if packet.syn() {
            let first = number(packet.seq_number());
            if self.given.contains_key(&key) {
                let said = Said { syn: Some(first), ack: 0, window: packet.window_len() };
                self.give(&key, &said, ends(frame, ethernet));
                return Verdict::Drop;
            }
            if let Some(flow) = self.open(key)
                && flow.stage == Stage::Opening
            {
                flow.begins(first);
            }
            return Verdict::Pass;
        }
        let Some(flow) = self.flows.get_mut(&key) else { return Verdict::Pass };
        let resuming = flow.stage == Stage::Resuming;
        let shifted = number(packet.seq_number()).wrapping_add(flow.shift);
        packet.set_seq_number(seq(shifted));
        if packet.rst() {
            if sums {
                packet.fill_checksum(&found.source, &found.destination);
            }
            if flow.stage == Stage::Opening {
                self.forget(&key);
            }
            return if resuming { Verdict::Drop } else { Verdict::Pass };
        }
        let (ack, window) = (number(packet.ack_number()), packet.window_len());
        let acked = flow.acknowledges(ack);
        let bare = packet.payload_mut().is_empty() && !packet.fin();
        if let Ok(acked) = acked {
            packet.set_ack_number(seq(acked));
        }
        if sums || resuming {
            packet.fill_checksum(&found.source, &found.destination);
        }
        if resuming {
            if bare {
                flow.nudge = frame.to_vec();
                self.give(&key, &Said { syn: None, ack, window }, ends(frame, ethernet));
            }
            return Verdict::Drop;
        }
        if acked.is_err() {
            self.give_up(&key);
        }
        Verdict::Pass
    }

    /// Memory that cannot be written: better a connection that is not kept.
    pub fn give_up(&mut self, key: &Key) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.give_up();
            self.lost += 1;
        }
    }

    /// A frame for the stack, changed in place.
    pub fn incoming(&mut self, frame: &mut [u8], ethernet: bool) -> Verdict {
        let Some((found, mut packet)) = segment(frame, ethernet) else { return Verdict::Pass };
        let key = Key {
            local: (found.destination, packet.dst_port()),
            remote: (found.source, packet.src_port()),
        };
        let (first, ack) = (number(packet.seq_number()), number(packet.ack_number()));
        if packet.syn() {
            let peer = peer(packet.options_mut());
            let answers = packet.ack();
            if packet.rst() || answers && !self.flows.contains_key(&key) {
                return Verdict::Pass;
            }
            let Some(flow) = self.open(key) else { return Verdict::Pass };
            match flow.stage {
                Stage::Opening => flow.peer_begins(first, peer),
                Stage::Open => {}
                Stage::Resuming => return Verdict::Drop,
            }
            return Verdict::Pass;
        }
        let Some(flow) = self.flows.get_mut(&key) else { return Verdict::Pass };
        if flow.stage == Stage::Resuming {
            return Verdict::Drop;
        }
        if packet.ack() {
            packet.set_ack_number(seq(ack.wrapping_sub(flow.shift)));
        }
        let (answers, fin, rst) = (packet.ack().then_some(ack), packet.fin(), packet.rst());
        if !rst && flow.arrived(first, answers, packet.payload_mut(), fin).is_err() {
            self.give_up(&key);
        }
        Verdict::Pass
    }

    /// What a resuming stack is given next when it has said this: the peer's SYN for its own, then what was
    /// not read, a part at a time as its window has room, then the peer's end.
    fn give(&mut self, key: &Key, said: &Said, ends: Option<(EthernetAddress, EthernetAddress)>) {
        let (Some(flow), Some(given)) = (self.flows.get_mut(key), self.given.get(key)) else {
            return;
        };
        let mut segments = Vec::new();
        let mut blank = TcpRepr {
            src_port: key.remote.1,
            dst_port: key.local.1,
            control: TcpControl::None,
            seq_number: seq(flow.read),
            ack_number: Some(seq(given.unacked.wrapping_sub(flow.shift))),
            window_len: said.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let taken = match said.syn {
            Some(first) => {
                let ours = first.wrapping_add(1);
                flow.shift = given.unacked.wrapping_sub(ours);
                blank.ack_number = Some(seq(ours));
                let Peer { max_segment, scale, sack } = flow.peer;
                segments.push(TcpRepr {
                    control: TcpControl::Syn,
                    seq_number: seq(flow.read.wrapping_sub(1)),
                    window_scale: scale,
                    max_seg_size: max_segment,
                    sack_permitted: sack,
                    window_len: u16::MAX,
                    ..blank
                });
                0
            }
            None => said.ack.wrapping_sub(flow.read) as usize,
        };
        let part = given.unread.get(taken..).unwrap_or_default();
        let part = &part[..part.len().min(GIVEN_MAX)];
        let seq_number = seq(flow.read.wrapping_add(taken as u32));
        if !part.is_empty() {
            segments.push(TcpRepr { seq_number, payload: part, ..blank });
        } else if given.ended && taken == given.unread.len() {
            segments.push(TcpRepr { control: TcpControl::Fin, seq_number, ..blank });
        }
        let (from, to) = (key.remote.0, key.local.0);
        self.to_stack.extend(segments.iter().map(|segment| build(ends, from, to, segment)));
    }
}

/// What a resuming stack said.
struct Said {
    /// The number of its SYN, if it is one.
    syn: Option<u32>,
    ack: u32,
    window: u16,
}

/// The Ethernet addresses of an answer to `frame`, from and to.
fn ends(frame: &[u8], ethernet: bool) -> Option<(EthernetAddress, EthernetAddress)> {
    ethernet.then(|| {
        let head = EthernetFrame::new_unchecked(frame);
        (head.dst_addr(), head.src_addr())
    })
}

/// A whole frame. `ends`: the Ethernet addresses, from and to.
fn build(
    ends: Option<(EthernetAddress, EthernetAddress)>,
    from: IpAddress,
    to: IpAddress,
    segment: &TcpRepr<'_>,
) -> Vec<u8> {
    let sums = ChecksumCapabilities::default();
    let ip = IpRepr::new(from, to, IpProtocol::Tcp, segment.buffer_len(), 64);
    let head = if ends.is_some() { EthernetFrame::<&[u8]>::header_len() } else { 0 };
    let at = head + ip.header_len();
    let mut frame = vec![0; at + segment.buffer_len()];
    if let Some((source, destination)) = ends {
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_src_addr(source);
        ethernet.set_dst_addr(destination);
        ethernet.set_ethertype(match from {
            IpAddress::Ipv4(_) => EthernetProtocol::Ipv4,
            IpAddress::Ipv6(_) => EthernetProtocol::Ipv6,
        });
    }
    ip.emit(&mut frame[head..], &sums);
    segment.emit(&mut TcpPacket::new_unchecked(&mut frame[at..]), &from, &to, &sums);
    frame
}

fn peer(options: &[u8]) -> Peer {
    let (mut peer, mut rest) = (Peer::default(), options);
    while let Ok((left, option)) = TcpOption::parse(rest) {
        match option {
            TcpOption::EndOfList => break,
            TcpOption::MaxSegmentSize(size) => peer.max_segment = Some(size),
            // RFC 7323, 2.3.
            TcpOption::WindowScale(scale) => peer.scale = Some(scale.min(14)),
            TcpOption::SackPermitted => peer.sack = true,
            _ => {}
        }
        rest = left;
        if rest.is_empty() {
            break;
        }
    }
    peer
}
