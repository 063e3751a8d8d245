//! One TCP connection as it passes between the stack and its link.
//!
//! ```text
//! opening ──keep()──> open ──────────────(the server dies)──────────────> resuming ──live()──> open
//!  SYNs seen, what     bytes that come in go to the mirror,               nothing passes while the new
//!  comes is held       acknowledgements go out for what is there          stack is given what was there
//! ```
//! Numbers are the wire's. The stack of a later instance has begun with another number of its own;
//! `shift` is what the wire's are more.

use alloc::vec::Vec;

use xinim_abi::error::Result;

use super::mirror::{ACKED, FIN, Mirror, UNACKED, Way};

/// Ranges beyond a hole; what comes for more is not acknowledged and so comes again.
const RANGES_MAX: usize = 64;

/// `a` comes before `b` (RFC 9293, 3.4).
pub fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// The later one.
pub fn later(a: u32, b: u32) -> u32 {
    if is_before(a, b) { b } else { a }
}

/// The earlier one.
pub fn earlier(a: u32, b: u32) -> u32 {
    if is_before(a, b) { a } else { b }
}

/// What the peer's SYN said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub max_segment: Option<u16>,
    /// `None`: windows are not scaled.
    pub scale: Option<u8>,
    pub sack: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Opening,
    Open,
    Resuming,
}

enum Bytes {
    /// From number `theirs` on.
    Early(Vec<u8>),
    Kept(Mirror),
    /// It ends with the server.
    Gone,
}

pub struct Flow {
    pub stage: Stage,
    pub peer: Peer,
    /// See the module's head.
    pub shift: u32,
    /// Our next byte to be written by the program; while it opens, our first.
    pub written: u32,
    /// The peer's first byte.
    theirs: u32,
    /// The first byte that was not read by the program.
    pub read: u32,
    /// All before it is in `bytes`.
    covered: u32,
    /// Ranges beyond it that are, too: apart from each other, in no order.
    ranges: Vec<(u32, u32)>,
    /// The number of the peer's end, once seen.
    fin: Option<u32>,
    /// The last acknowledgement that went out.
    acked: u32,
    unacked: u32,
    /// Bytes held while it opens. What comes beyond is not acknowledged before it is open.
    early_max: usize,
    bytes: Bytes,
    /// An acknowledgement of the resuming stack, as a frame.
    pub nudge: Vec<u8>,
}

/// What the last instance left of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub peer: Peer,
    pub written: u32,
    pub read: u32,
}

/// What a resuming stack is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Number of the first byte that it sends, on the wire.
    pub unacked: u32,
    /// What was not read, from number `read` on.
    pub unread: Vec<u8>,
    /// The peer has ended its half behind that.
    pub ended: bool,
}

impl Flow {
    /// Of a first SYN, ours or theirs. So many bytes may be held while nobody has accepted it.
    pub fn opening(early_max: usize) -> Self {
        Self {
            stage: Stage::Opening,
            peer: Peer::default(),
            shift: 0,
            written: 0,
            theirs: 0,
            read: 0,
            covered: 0,
            ranges: Vec::new(),
            fin: None,
            acked: 0,
            unacked: 0,
            early_max,
            bytes: Bytes::Early(Vec::new()),
            nudge: Vec::new(),
        }
    }

    /// Our SYN went out with this number.
    pub fn begins(&mut self, number: u32) {
        self.written = number.wrapping_add(1);
        self.unacked = self.written;
    }

    /// Their SYN came.
    pub fn peer_begins(&mut self, number: u32, peer: Peer) {
        let theirs = number.wrapping_add(1);
        if theirs == self.theirs && self.covered != theirs {
            // The same again, late.
            return;
        }
        self.theirs = theirs;
        (self.read, self.covered, self.acked) = (self.theirs, self.theirs, self.theirs);
        self.ranges.clear();
        self.fin = None;
        self.bytes = Bytes::Early(Vec::new());
        self.peer = peer;
    }

    /// From now on everything is in `mirror`.
    pub fn keep(&mut self, mirror: Mirror) -> Result<()> {
        let Bytes::Early(early) = &self.bytes else { return Ok(()) };
        mirror.put(Way::In, self.theirs, early)?;
        mirror.set(UNACKED, self.unacked)?;
        mirror.set(FIN, 0)?;
        mirror.set(ACKED, self.acked)?;
        self.bytes = Bytes::Kept(mirror);
        // The end may have been acknowledged by now.
        self.note_acked(self.acked)
    }

    /// Nothing of it is kept any more.
    pub fn give_up(&mut self) {
        self.bytes = Bytes::Gone;
    }

    pub fn is_kept(&self) -> bool {
        matches!(self.bytes, Bytes::Kept(_))
    }

    /// A connection of the last instance. Errors: what is there makes no sense.
    pub fn resume(left: &Left, mirror: Mirror) -> Result<(Self, Given)> {
        use xinim_abi::error::Error::BadMessage;
        // The program may have read what could not be acknowledged yet.
        let acked = later(mirror.word(ACKED)?, left.read);
        let ended = mirror.word(FIN)? == 1;
        // An end that the peer has acknowledged counts as a byte, and is sent again.
        let unacked = earlier(mirror.word(UNACKED)?, left.written);
        let unread = acked.wrapping_sub(left.read) as usize;
        let unsent = left.written.wrapping_sub(unacked) as usize;
        if unread > mirror.capacity(Way::In) || unsent > mirror.capacity(Way::Out) {
            return Err(BadMessage);
        }
        let given = Given { unacked, unread: mirror.get(Way::In, left.read, unread)?, ended };
        let flow = Self {
            stage: Stage::Resuming,
            peer: left.peer,
            written: left.written,
            theirs: left.read,
            read: left.read,
            covered: acked,
            fin: ended.then_some(acked),
            acked: acked.wrapping_add(ended.into()),
            unacked,
            bytes: Bytes::Kept(mirror),
            ..Self::opening(0)
        };
        Ok((flow, given))
    }

    /// What was written and is not acknowledged.
    pub fn unsent(&self) -> Result<Vec<u8>> {
        let count = self.written.wrapping_sub(self.unacked) as usize;
        match &self.bytes {
            Bytes::Kept(mirror) => mirror.get(Way::Out, self.unacked, count),
            Bytes::Early(_) | Bytes::Gone => Ok(Vec::new()),
        }
    }

    /// The program wrote; the stack has room for it.
    pub fn wrote(&mut self, bytes: &[u8]) -> Result<()> {
        if let Bytes::Kept(mirror) = &self.bytes {
            mirror.put(Way::Out, self.written, bytes)?;
        }
        self.written = self.written.wrapping_add(bytes.len() as u32);
        Ok(())
    }

    /// The program read so many bytes.
    pub fn was_read(&mut self, count: usize) {
        self.read = self.read.wrapping_add(count as u32);
    }

    /// A segment came in, its acknowledgement on the wire's numbers.
    pub fn arrived(
        &mut self,
        number: u32,
        ack: Option<u32>,
        bytes: &[u8],
        fin: bool,
    ) -> Result<()> {
        if let Some(ack) = ack
            && is_before(self.unacked, ack)
            // An end that was sent counts as a byte.
            && !is_before(self.written.wrapping_add(1), ack)
        {
            self.unacked = ack;
            if let Bytes::Kept(mirror) = &self.bytes {
                mirror.set(UNACKED, ack)?;
            }
        }
        let end = number.wrapping_add(bytes.len() as u32);
        if fin && !is_before(end, self.covered) {
            self.fin = Some(end);
        }
        self.take_in(number, bytes)
    }

    fn take_in(&mut self, number: u32, bytes: &[u8]) -> Result<()> {
        let room = match &self.bytes {
            Bytes::Early(_) => self.early_max,
            Bytes::Kept(mirror) => mirror.capacity(Way::In),
            Bytes::Gone => return Ok(()),
        };
        let end = number.wrapping_add(bytes.len() as u32);
        let (from, to) =
            (later(number, self.covered), earlier(end, self.read.wrapping_add(room as u32)));
        if !is_before(from, to) || self.ranges.len() >= RANGES_MAX && from != self.covered {
            return Ok(());
        }
        let part = from.wrapping_sub(number) as usize..to.wrapping_sub(number) as usize;
        let Some(part) = bytes.get(part) else { return Ok(()) };
        match &mut self.bytes {
            Bytes::Early(early) => {
                let at = from.wrapping_sub(self.theirs) as usize;
                if early.len() < at + part.len() {
                    early.resize(at + part.len(), 0);
                }
                early[at..at + part.len()].copy_from_slice(part);
            }
            Bytes::Kept(mirror) => mirror.put(Way::In, from, part)?,
            Bytes::Gone => {}
        }
        self.cover(from, to);
        Ok(())
    }

    fn cover(&mut self, from: u32, to: u32) {
        let (mut from, mut to) = (from, to);
        // Those that touch become one.
        self.ranges.retain(|&(start, end)| {
            let apart = is_before(end, from) || is_before(to, start);
            if !apart {
                (from, to) = (earlier(from, start), later(to, end));
            }
            apart
        });
        if is_before(self.covered, from) {
            self.ranges.push((from, to));
        } else {
            self.covered = later(self.covered, to);
        }
    }

    /// What may be acknowledged when the stack acknowledges `ack`: nothing that the next instance would
    /// not have.
    pub fn acknowledges(&mut self, ack: u32) -> Result<u32> {
        if matches!(self.bytes, Bytes::Gone) {
            return Ok(ack);
        }
        let all = match self.fin {
            Some(fin) if fin == self.covered => fin.wrapping_add(1),
            _ => self.covered,
        };
        let ack = later(earlier(ack, all), self.acked);
        if ack != self.acked {
            self.note_acked(ack)?;
        }
        Ok(ack)
    }

    fn note_acked(&mut self, ack: u32) -> Result<()> {
        self.acked = ack;
        if let Bytes::Kept(mirror) = &self.bytes {
            let ended = self.fin.is_some_and(|fin| fin.wrapping_add(1) == ack);
            mirror.set(ACKED, ack.wrapping_sub(ended.into()))?;
            // Behind it: an end without the bytes before it would be the wrong one.
            if ended {
                mirror.set(FIN, 1)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lasting::mirror;
    use crate::tests::vault::Memory;
    use alloc::boxed::Box;
    use proptest::prelude::*;
    use std::vec;

    const PEER: Peer = Peer { max_segment: Some(1460), scale: Some(7), sack: true };
    const BUFFER: usize = 4096;

    fn flow(ours: u32, theirs: u32) -> (Memory, Flow) {
        let memory = Memory::new(mirror::len(BUFFER, BUFFER));
        let mut flow = Flow::opening(0);
        flow.begins(ours);
        flow.peer_begins(theirs, PEER);
        flow.keep(mirror_in(&memory)).unwrap();
        (memory, flow)
    }

    fn mirror_in(memory: &Memory) -> Mirror {
        Mirror::new(Box::new(memory.clone()), BUFFER, BUFFER).unwrap()
    }

    fn again(memory: &Memory, flow: &Flow) -> Given {
        let left = Left { peer: PEER, written: flow.written, read: flow.read };
        Flow::resume(&left, mirror_in(memory)).unwrap().1
    }

    #[test]
    fn what_was_read_and_not_acknowledged_is_not_given_again() {
        let (memory, mut flow) = flow(99, 199);
        flow.arrived(200, Some(100), b"abcdef", false).unwrap();
        flow.acknowledges(203).unwrap();
        flow.was_read(5);
        let given = again(&memory, &flow);
        assert_eq!((given.unread, given.ended), (vec![], false));
    }

    #[test]
    fn a_syn_that_comes_again_takes_nothing_back() {
        let (memory, mut flow) = flow(99, 199);
        flow.arrived(200, Some(100), b"abc", false).unwrap();
        flow.acknowledges(203).unwrap();
        flow.peer_begins(199, PEER);
        assert_eq!(again(&memory, &flow).unread, b"abc");
        assert_eq!(flow.acknowledges(203), Ok(203));
    }

    #[test]
    fn what_is_not_kept_is_acknowledged_as_the_stack_does() {
        let (_, mut flow) = flow(99, 199);
        flow.give_up();
        flow.arrived(200, Some(100), b"abc", false).unwrap();
        assert_eq!((flow.acknowledges(203), flow.is_kept()), (Ok(203), false));
    }

    #[test]
    fn an_end_counts_when_it_was_acknowledged() {
        let (memory, mut flow) = flow(u32::MAX - 1, u32::MAX - 3);
        flow.arrived(u32::MAX - 2, None, b"abcdef", true).unwrap();
        assert_eq!(flow.acknowledges(3), Ok(3));
        assert_eq!(again(&memory, &flow).unread, b"abcdef");
        assert!(!again(&memory, &flow).ended);
        assert_eq!(flow.acknowledges(4), Ok(4));
        assert!(again(&memory, &flow).ended);
        assert_eq!(flow.acknowledges(5), Ok(4), "more than there was");
    }

    proptest! {
        /// Segments in any order, overlapping and beyond the buffer: nothing is acknowledged that is
        /// not there, and what is there comes back.
        #[test]
        fn what_is_acknowledged_is_there(
            start in any::<u32>(),
            parts in prop::collection::vec((0usize..6000, 0usize..1500, 0usize..3), 1..120),
        ) {
            let stream: Vec<u8> = (0..8000u32).map(|i| ((i * 7) >> 3) as u8).collect();
            let (memory, mut flow) = flow(1, start.wrapping_sub(1));
            let mut read = 0;
            for (at, len, what) in parts {
                let part = &stream[at..at + len];
                flow.arrived(start.wrapping_add(at as u32), None, part, false).unwrap();
                let acked = flow.acknowledges(start.wrapping_add(7777)).unwrap();
                let there = acked.wrapping_sub(start) as usize;
                prop_assert!(there <= read + BUFFER);
                if what == 0 {
                    flow.was_read((there - read) / 2);
                    read += (there - read) / 2;
                }
                prop_assert_eq!(again(&memory, &flow).unread, &stream[read..there]);
            }
        }
    }
}
