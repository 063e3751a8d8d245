//! TCP segments in frames: read, and made anew from the headers of an earlier one.

use alloc::vec::Vec;

use smoltcp::wire::{
    IpAddress, IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket, TcpSeqNumber,
};

/// What of a segment matters here.
#[derive(Debug)]
pub struct Segment<'a> {
    pub source: (IpAddress, u16),
    pub destination: (IpAddress, u16),
    pub seq: u32,
    pub ack: Option<u32>,
    pub window: u16,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// Largest segment its sender takes, where it says so.
    pub mss: Option<u16>,
    /// SACK blocks (RFC 2018): first byte, and the one behind the last.
    pub blocks: [Option<(u32, u32)>; 3],
    /// Where IP begins in the frame, and TCP.
    pub ip: usize,
    pub tcp: usize,
    /// Bytes in front of the payload, whatever comes before IP included.
    pub headers: usize,
    /// Bytes of TCP's options.
    pub options: usize,
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// `None`: not a TCP segment, or a part of one.
    pub fn parse(frame: &'a [u8], at: usize) -> Option<Self> {
        let packet = frame.get(at..).filter(|packet| !packet.is_empty())?;
        let (source, destination, ip) = match IpVersion::of_packet(packet).ok()? {
            IpVersion::Ipv4 => {
                let ip = Ipv4Packet::new_checked(packet).ok()?;
                if ip.next_header() != IpProtocol::Tcp || ip.more_frags() || ip.frag_offset() != 0 {
                    return None;
                }
                let addresses = (ip.src_addr().into(), ip.dst_addr().into());
                (addresses.0, addresses.1, usize::from(ip.header_len())..ip.total_len().into())
            }
            IpVersion::Ipv6 => {
                let ip = Ipv6Packet::new_checked(packet).ok()?;
                if ip.next_header() != IpProtocol::Tcp {
                    return None;
                }
                let addresses: (IpAddress, IpAddress) =
                    (ip.src_addr().into(), ip.dst_addr().into());
                (addresses.0, addresses.1, ip.header_len()..ip.total_len())
            }
        };
        let begin = at + ip.start;
        let bytes = packet.get(ip)?;
        let tcp = TcpPacket::new_checked(bytes).ok()?;
        let seq = |number: TcpSeqNumber| number.0 as u32;
        let (mut mss, mut blocks) = (None, [None; 3]);
        let mut options = tcp.options();
        while !options.is_empty() {
            let Ok((rest, option)) = TcpOption::parse(options) else { break };
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(size) => mss = Some(size),
                TcpOption::SackRange(ranges) => blocks = ranges,
                _ => {}
            }
            if rest.len() >= options.len() {
                break;
            }
            options = rest;
        }
        let header = usize::from(tcp.header_len());
        Some(Self {
            source: (source, tcp.src_port()),
            destination: (destination, tcp.dst_port()),
            seq: seq(tcp.seq_number()),
            ack: tcp.ack().then(|| seq(tcp.ack_number())),
            window: tcp.window_len(),
            syn: tcp.syn(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            mss,
            blocks,
            ip: at,
            tcp: begin,
            headers: begin + header,
            options: header.saturating_sub(20),
            payload: bytes.get(header..)?,
        })
    }

    pub fn is_v6(&self) -> bool {
        matches!(self.source.0, IpAddress::Ipv6(_))
    }
}

/// Headers of the last frame that went out: whatever comes before IP, IP, TCP.
#[derive(Clone, Debug, Default)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where IP begins.
    ip: usize,
    /// Bytes of TCP's options.
    pub options: usize,
}

impl Template {
    pub fn set(&mut self, frame: &[u8], segment: &Segment<'_>) {
        self.bytes.clear();
        self.bytes.extend_from_slice(frame.get(..segment.headers).unwrap_or(&[]));
        (self.ip, self.options) = (segment.ip, segment.options);
    }

    /// Bytes of IP's and TCP's headers.
    pub fn headers(&self) -> usize {
        self.bytes.len().saturating_sub(self.ip)
    }

    /// A whole frame with its checksums. `None`: there was no frame yet.
    pub fn make(&self, seq: u32, payload: impl Iterator<Item = u8>, fin: bool) -> Option<Vec<u8>> {
        let mut frame = self.bytes.clone();
        frame.extend(payload);
        let packet = frame.get_mut(self.ip..)?;
        let length = packet.len();
        let (source, destination, start) = match IpVersion::of_packet(packet).ok()? {
            IpVersion::Ipv4 => {
                let mut ip = Ipv4Packet::new_unchecked(&mut *packet);
                ip.set_total_len(length as u16);
                ip.fill_checksum();
                (ip.src_addr().into(), ip.dst_addr().into(), usize::from(ip.header_len()))
            }
            IpVersion::Ipv6 => {
                let mut ip = Ipv6Packet::new_unchecked(&mut *packet);
                ip.set_payload_len(length.checked_sub(40)? as u16);
                let addresses: (IpAddress, IpAddress) =
                    (ip.src_addr().into(), ip.dst_addr().into());
                (addresses.0, addresses.1, 40)
            }
        };
        let mut tcp = TcpPacket::new_checked(packet.get_mut(start..)?).ok()?;
        tcp.set_seq_number(TcpSeqNumber(seq as i32));
        tcp.set_syn(false);
        tcp.set_psh(true);
        tcp.set_fin(fin);
        tcp.fill_checksum(&source, &destination);
        Some(frame)
    }
}

/// Takes the end of a stream from a received segment with bytes, in a frame whose IP packet begins at `at`; what
/// comes back has the stack take it in behind them.
///
/// A window that is scaled shrinks by some bytes as it fills up (RFC 7323, 2.4), so that it may cut off the
/// last bytes of a segment that was under way. smoltcp 0.14 takes such a segment's end all the same, and the
/// stream ends without them. An end behind a hole it leaves alone.
pub fn part_end(frame: &mut [u8], at: usize) -> Option<Vec<u8>> {
    let segment = Segment::parse(frame, at)?;
    if !segment.fin || segment.syn || segment.payload.is_empty() {
        return None;
    }
    let (source, destination) = (segment.source.0, segment.destination.0);
    let behind = segment.seq.wrapping_add(segment.payload.len() as u32);
    let (start, end) = (segment.tcp, segment.headers + segment.payload.len());
    let mut template = Template::default();
    template.set(frame, &segment);
    let alone = template.make(behind, core::iter::empty(), true)?;
    let mut tcp = TcpPacket::new_checked(frame.get_mut(start..end)?).ok()?;
    tcp.set_fin(false);
    tcp.fill_checksum(&source, &destination);
    Some(alone)
}
