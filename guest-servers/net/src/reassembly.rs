//! IP fragments put together before anybody looks at what they carry (RFC 791, 3.2; RFC 8200, 4.5): checksums,
//! [`tap`](crate::lasting::tap), loss recovery and the stack see whole packets.
//!
//! ```text
//! link ──frame──> take() ──Whole, Assembled──> checksum, recovery, tap, stack
//!                   └─ Held: until the others are here, TIMEOUT has passed, or a newer packet needs the room
//! ```
//! Fragments that contradict each other cannot be of one packet. IPv6 forbids them (RFC 5722): all are
//! dropped. In IPv4 a sender that goes through its 16-bit identifications, or has only one (segmentation in
//! some emulated cards), makes them by losing a fragment: the newer one begins anew.
//!
//! Limits: [`PACKETS_MAX`] packets of 64 KiB at a time, the oldest gives way. IPv6's fragment header is
//! found directly behind the fixed header only. No "time exceeded" is sent.

use alloc::vec::Vec;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet};

use crate::offload;

/// From the first fragment that came (RFC 8200, 4.5; RFC 1122, 3.3.2).
const TIMEOUT: Duration = Duration::from_secs(60);
const PACKETS_MAX: usize = 16;
/// Parts of a packet with holes between them; more, and it is given up.
const RANGES_MAX: usize = 64;
/// Bytes of a whole packet: IPv4's with its header, IPv6's behind it.
const LENGTH_MAX: usize = 65535;
const IPV6_HEADER: usize = 40;
/// Next header, reserved, offset and flag, identification.
const FRAGMENT_HEADER: usize = 8;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// No fragment: as it was.
    Whole,
    /// The last fragment that was missing: now the whole packet, whose checksum nobody has looked at.
    Assembled,
    /// Kept, or of no use.
    Held,
    /// Its header's checksum is wrong.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: IpAddress,
    destination: IpAddress,
    /// IPv4 only (RFC 8200 leaves it out).
    protocol: Option<IpProtocol>,
    ident: u32,
}

struct Fragment<'a> {
    key: Key,
    /// Everything before the payload; without IPv6's fragment header.
    head: &'a [u8],
    /// What the whole carries.
    next: IpProtocol,
    from: usize,
    payload: &'a [u8],
    more: bool,
    /// Most bytes of payload of the whole.
    limit: usize,
}

struct Packet {
    key: Key,
    since: Instant,
    /// The first fragment's; empty until that is here.
    head: Vec<u8>,
    next: IpProtocol,
    bytes: Vec<u8>,
    /// What is there: apart from each other, in order.
    ranges: Vec<(usize, usize)>,
    /// Where it ends, once that is known.
    end: Option<usize>,
}

#[derive(Default)]
pub struct Reassembly {
    packets: Vec<Packet>,
}

/// Is it a fragment? What cannot be read is none: the stack will say so.
fn is_fragment(ip: &[u8]) -> bool {
    match ip.first().map(|byte| byte >> 4) {
        Some(4) => Ipv4Packet::new_checked(ip)
            .is_ok_and(|packet| packet.more_frags() || packet.frag_offset() != 0),
        Some(6) => Ipv6Packet::new_checked(ip)
            .is_ok_and(|packet| packet.next_header() == IpProtocol::Ipv6Frag),
        _ => false,
    }
}

impl<'a> Fragment<'a> {
    /// Of a frame with an IP header at `base`. `Held`: of no use.
    fn parse(frame: &'a [u8], base: usize) -> Result<Self, Taken> {
        let (link, ip) = frame.split_at_checked(base).ok_or(Taken::Held)?;
        let fragment = match ip.first().map(|byte| byte >> 4) {
            Some(4) => Self::v4(frame, link.len(), ip)?,
            _ => Self::v6(frame, link.len(), ip).ok_or(Taken::Held)?,
        };
        let len = fragment.payload.len();
        // All but the last are multiples of the unit in which offsets are given.
        let fits = fragment.from + len <= fragment.limit && (!fragment.more || len % 8 == 0);
        if fits && len > 0 { Ok(fragment) } else { Err(Taken::Held) }
    }

    fn v4(frame: &'a [u8], base: usize, ip: &'a [u8]) -> Result<Self, Taken> {
        let packet = Ipv4Packet::new_checked(ip).map_err(|_| Taken::Held)?;
        if !packet.verify_checksum() {
            return Err(Taken::Bad);
        }
        let header = usize::from(packet.header_len());
        Ok(Self {
            key: Key {
                source: packet.src_addr().into(),
                destination: packet.dst_addr().into(),
                protocol: Some(packet.next_header()),
                ident: packet.ident().into(),
            },
            head: &frame[..base + header],
            next: packet.next_header(),
            from: packet.frag_offset().into(),
            payload: &ip[header..usize::from(packet.total_len())],
            more: packet.more_frags(),
            limit: LENGTH_MAX - header,
        })
    }

    fn v6(frame: &'a [u8], base: usize, ip: &'a [u8]) -> Option<Self> {
        let packet = Ipv6Packet::new_checked(ip).ok()?;
        let carried = ip.get(IPV6_HEADER..)?.get(..usize::from(packet.payload_len()))?;
        let (&[next, _, high, low, i0, i1, i2, i3], payload) =
            carried.split_first_chunk::<FRAGMENT_HEADER>()?;
        Some(Self {
            key: Key {
                source: packet.src_addr().into(),
                destination: packet.dst_addr().into(),
                protocol: None,
                ident: u32::from_be_bytes([i0, i1, i2, i3]),
            },
            head: &frame[..base + IPV6_HEADER],
            next: next.into(),
            from: usize::from(u16::from_be_bytes([high, low]) & !7),
            payload,
            more: low & 1 != 0,
            limit: LENGTH_MAX,
        })
    }

    fn range(&self) -> (usize, usize) {
        (self.from, self.from + self.payload.len())
    }
}

/// What a fragment is to those that are there.
enum Fit {
    New,
    Again,
    Contradicts,
}

impl Packet {
    fn new(key: Key, since: Instant) -> Self {
        let (head, bytes, ranges) = (Vec::new(), Vec::new(), Vec::new());
        Self { key, since, head, next: IpProtocol::Tcp, bytes, ranges, end: None }
    }

    fn fit(&self, fragment: &Fragment<'_>) -> Fit {
        let (from, to) = fragment.range();
        let longest = self.ranges.last().map_or(0, |range| range.1);
        let ends = match (self.end, fragment.more) {
            (Some(end), true) => to <= end,
            (Some(end), false) => to == end,
            (None, true) => true,
            (None, false) => longest <= to,
        };
        let mut touched = self.ranges.iter().filter(|(low, high)| *low < to && from < *high);
        match touched.next() {
            _ if !ends => Fit::Contradicts,
            None => Fit::New,
            Some((low, high)) if *low <= from && to <= *high => {
                let same = self.bytes.get(from..to) == Some(fragment.payload);
                if same { Fit::Again } else { Fit::Contradicts }
            }
            Some(_) => Fit::Contradicts,
        }
    }

    /// A fragment that fits. Whether there are too many holes now.
    fn add(&mut self, fragment: &Fragment<'_>) -> bool {
        let (from, to) = fragment.range();
        if self.bytes.len() < to {
            self.bytes.resize(to, 0);
        }
        self.bytes[from..to].copy_from_slice(fragment.payload);
        if from == 0 {
            self.head = fragment.head.to_vec();
            self.next = fragment.next;
        }
        if !fragment.more {
            self.end = Some(to);
        }
        let at = self.ranges.partition_point(|range| range.0 < from);
        self.ranges.insert(at, (from, to));
        self.ranges.dedup_by(|next, last| {
            let touches = last.1 == next.0;
            if touches {
                last.1 = next.1;
            }
            touches
        });
        self.ranges.len() > RANGES_MAX
    }

    fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.ranges == [(0, end)])
    }

    /// Makes `frame` the whole packet. `None`: with the first fragment's options it is too long.
    fn build(&self, base: usize, frame: &mut Vec<u8>) -> Option<()> {
        let (header, payload) = (self.head.len() - base, self.bytes.len());
        let is_v4 = self.key.protocol.is_some();
        let len = u16::try_from(if is_v4 { header + payload } else { payload }).ok()?;
        frame.clear();
        frame.extend_from_slice(&self.head);
        frame.extend_from_slice(&self.bytes);
        let ip = &mut frame[base..];
        if is_v4 {
            let mut packet = Ipv4Packet::new_unchecked(ip);
            packet.set_total_len(len);
            packet.set_more_frags(false);
            packet.set_frag_offset(0);
            packet.fill_checksum();
        } else {
            let mut packet = Ipv6Packet::new_unchecked(ip);
            packet.set_payload_len(len);
            packet.set_next_header(self.next);
        }
        Some(())
    }
}

impl Reassembly {
    /// Looks at a frame that came in and changes it to the whole packet when it was the last part of it.
    pub fn take(&mut self, now: Instant, frame: &mut Vec<u8>, ethernet: bool) -> Taken {
        let Some(base) = offload::packet_at(frame, ethernet) else { return Taken::Whole };
        if !frame.get(base..).is_some_and(is_fragment) {
            return Taken::Whole;
        }
        let fragment = match Fragment::parse(frame, base) {
            Ok(fragment) => fragment,
            Err(taken) => return taken,
        };
        let Some(at) = self.place(now, &fragment) else { return Taken::Held };
        if self.packets[at].add(&fragment) {
            self.packets.remove(at);
        } else if self.packets[at].is_complete() {
            let built = self.packets.remove(at).build(base, frame);
            return built.map_or(Taken::Held, |()| Taken::Assembled);
        }
        Taken::Held
    }

    /// The packet that the fragment is to be added to.
    fn place(&mut self, now: Instant, fragment: &Fragment<'_>) -> Option<usize> {
        self.packets.retain(|packet| now < packet.since + TIMEOUT);
        // RFC 6946: one that is whole by itself is of no other.
        let atomic = fragment.from == 0 && !fragment.more;
        let known = self.packets.iter().position(|packet| packet.key == fragment.key && !atomic);
        if let Some(at) = known {
            match self.packets[at].fit(fragment) {
                Fit::New => return Some(at),
                Fit::Again => return None,
                Fit::Contradicts => drop(self.packets.remove(at)),
            }
            // IPv6: nothing of it is used.
            fragment.key.protocol?;
        }
        if self.packets.len() == PACKETS_MAX {
            // In the order in which they began.
            self.packets.remove(0);
        }
        self.packets.push(Packet::new(fragment.key, now));
        Some(self.packets.len() - 1)
    }
}

#[cfg(test)]
pub mod tests;
