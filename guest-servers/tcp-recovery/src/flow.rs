//! One connection's outgoing half.
//!
//! ```text
//!          una        rexmit      sacked            end
//!   acked   |  again    |  hole  |######|  in flight  | FIN
//! ```
//! Sequence numbers wrap: they are compared by their distance.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use smoltcp::time::{Duration, Instant};

use crate::Verdict;
use crate::wire::{Segment, Template};

/// What everybody takes (RFC 9293 3.7.1): with IPv4, with IPv6.
const MSS4: u16 = 536;
const MSS6: u16 = 1220;
/// Shortest payload of a segment sent again, whatever the other side says it takes.
const PIECE_MIN: usize = 64;
/// Segments sent again for one acknowledgement.
const PER_ACK: usize = 4;
/// The same where nothing is known of what arrived: they double with each round trip.
const PER_ACK_BLIND: usize = 2;
/// Duplicate acknowledgements that mean a loss (RFC 5681).
const DUPLICATES: u32 = 3;
/// Unanswered probes in a row.
const PROBES_MAX: u32 = 8;
/// Patience before the first round trip was measured, longest, and what is added for timers.
const PATIENCE_FIRST: Duration = Duration::from_millis(250);
const PATIENCE_MAX: Duration = Duration::from_millis(1000);
const PATIENCE_MARGIN: Duration = Duration::from_millis(10);
/// SACKed ranges kept; more are forgotten, which only costs time.
const RANGES_MAX: usize = 64;

#[derive(Debug)]
pub struct Flow {
    una: u32,
    data: VecDeque<u8>,
    fin: bool,
    template: Template,
    mss: u16,
    /// Sorted, apart from each other, above `una`.
    sacked: Vec<(u32, u32)>,
    /// In an episode of recovery up to here.
    recover: Option<u32>,
    /// Everything below has been sent again in this episode.
    rexmit: u32,
    /// The episode began with a probe: what arrived is not known.
    blind: bool,
    duplicates: u32,
    /// Duplicates that the stack has seen in this episode.
    shown: u32,
    window: u16,
    smoothed: Option<(Duration, Duration)>,
    sample: Option<(u32, Instant)>,
    deadline: Option<Instant>,
    probes: u32,
}

/// How far `a` is behind `b`, in the order of sequence numbers.
fn distance(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

fn later(a: u32, b: u32) -> u32 {
    if distance(a, b) >= 0 { a } else { b }
}

impl Flow {
    pub fn new(una: u32, v6: bool) -> Self {
        Self {
            una,
            data: VecDeque::new(),
            fin: false,
            template: Template::default(),
            mss: if v6 { MSS6 } else { MSS4 },
            sacked: Vec::new(),
            recover: None,
            rexmit: una,
            blind: false,
            duplicates: 0,
            shown: 0,
            window: 0,
            smoothed: None,
            sample: None,
            deadline: None,
            probes: 0,
        }
    }

    pub fn held(&self) -> usize {
        self.data.len()
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub fn is_outstanding(&self) -> bool {
        !self.data.is_empty() || self.fin
    }

    fn end(&self) -> u32 {
        self.una.wrapping_add(self.data.len() as u32)
    }

    /// A segment of ours goes out; false: it does not fit what is known.
    pub fn sent(&mut self, now: Instant, frame: &[u8], segment: &Segment<'_>) -> bool {
        if segment.syn {
            let (mss, v6) = (self.mss, segment.is_v6());
            *self = Self { mss, ..Self::new(segment.seq.wrapping_add(1), v6) };
            return true;
        }
        self.template.set(frame, segment);
        let end = self.end();
        let len = segment.payload.len() as u32;
        let known = distance(end, segment.seq);
        if known < 0 {
            return len == 0;
        }
        // What is sent for the second time tells nothing of the round trip.
        if known > 0 && len > 0 {
            self.sample = None;
        }
        if let Some(new) = segment.payload.get(known as usize..)
            && !new.is_empty()
        {
            self.data.extend(new);
            if self.sample.is_none() && known == 0 {
                self.sample = Some((self.end(), now));
            }
        }
        self.fin |= segment.fin;
        if self.deadline.is_none() && self.is_outstanding() {
            self.deadline = Some(now + self.patience());
        }
        true
    }

    /// Something came in.
    pub fn received(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        mtu: usize,
        again: &mut Vec<Vec<u8>>,
    ) -> Verdict {
        if segment.syn {
            self.mss = segment.mss.unwrap_or(self.mss);
            return Verdict::Deliver;
        }
        let Some(ack) = segment.ack else { return Verdict::Deliver };
        let same_window = core::mem::replace(&mut self.window, segment.window) == segment.window;
        let whole = self.data.len() as i32 + i32::from(self.fin);
        let progress = distance(ack, self.una);
        if !(0..=whole).contains(&progress) || !self.is_outstanding() {
            return Verdict::Deliver;
        }
        if progress > 0 {
            self.advance(now, ack);
        }
        for (from, to) in segment.blocks.into_iter().flatten() {
            self.note(from, to);
        }
        let duplicate = progress == 0 && segment.payload.is_empty() && same_window && !segment.fin;
        self.duplicates += u32::from(duplicate);
        let held_above: u32 = self.sacked.iter().map(|(from, to)| to.wrapping_sub(*from)).sum();
        let lost = self.duplicates >= DUPLICATES || held_above >= DUPLICATES * u32::from(self.mss);
        if self.recover.is_none() && lost && self.is_outstanding() {
            (self.recover, self.rexmit, self.blind) = (Some(self.end()), self.una, false);
        }
        if self.recover.is_some() {
            self.fill(mtu, progress > 0, again);
        }
        if !duplicate {
            return Verdict::Deliver;
        }
        self.shown += 1;
        match self.recover {
            Some(_) if self.shown > DUPLICATES => Verdict::Swallow,
            _ => Verdict::Deliver,
        }
    }

    /// Everything in front of `ack` arrived.
    fn advance(&mut self, now: Instant, ack: u32) {
        let count = distance(ack, self.una) as usize;
        if count > self.data.len() {
            self.fin = false;
        }
        self.data.drain(..count.min(self.data.len()));
        self.una = ack;
        self.rexmit = later(self.rexmit, ack);
        for range in &mut self.sacked {
            range.0 = later(range.0, ack);
        }
        self.sacked.retain(|(from, to)| distance(*to, *from) > 0);
        self.duplicates = 0;
        self.probes = 0;
        if let Some((seq, since)) = self.sample
            && distance(ack, seq) >= 0
        {
            self.sample = None;
            self.measure(now - since);
        }
        if self.recover.is_none_or(|recover| distance(ack, recover) >= 0) {
            (self.recover, self.blind, self.shown) = (None, false, 0);
        }
        self.deadline = self.is_outstanding().then(|| now + self.patience());
    }

    /// Smooths a round trip (RFC 6298 2).
    fn measure(&mut self, took: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (took, took / 2),
            Some((mean, deviation)) => {
                let off = if took > mean { took - mean } else { mean - took };
                ((mean * 7 + took) / 8, (deviation * 3 + off) / 4)
            }
        });
    }

    /// How long an answer may take.
    fn patience(&self) -> Duration {
        let base = match self.smoothed {
            None => PATIENCE_FIRST,
            Some((mean, deviation)) => (mean * 2).max(mean + deviation * 4) + PATIENCE_MARGIN,
        };
        (base * (1 << self.probes.min(7))).min(PATIENCE_MAX)
    }

    /// Adds a SACKed range. One that is not in flight is a lie or old.
    fn note(&mut self, from: u32, to: u32) {
        let inside = |at: u32| (0..=self.data.len() as i32).contains(&distance(at, self.una));
        if !inside(from) || !inside(to) || distance(to, from) <= 0 {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.sacked.retain(|&(low, high)| {
            let apart = distance(low, to) > 0 || distance(from, high) > 0;
            if !apart {
                from = if distance(low, from) < 0 { low } else { from };
                to = later(high, to);
            }
            apart
        });
        if self.sacked.len() < RANGES_MAX {
            let place = self.sacked.iter().position(|(low, _)| distance(*low, from) > 0);
            self.sacked.insert(place.unwrap_or(self.sacked.len()), (from, to));
        }
    }

    /// Sends again what is missing, as much as one acknowledgement allows.
    fn fill(&mut self, mtu: usize, progress: bool, again: &mut Vec<Vec<u8>>) {
        let Some(recover) = self.recover else { return };
        // Holes end where the last range that arrived begins; without any, the first segment is one,
        // and after a probe anything may be.
        let limit = match self.sacked.last() {
            _ if self.blind && progress => recover,
            Some((from, _)) => *from,
            None => self.una.wrapping_add(1),
        };
        let budget = if self.blind { PER_ACK_BLIND } else { PER_ACK };
        for _ in 0..budget {
            let at = self.behind_sacked(later(self.rexmit, self.una));
            if distance(limit, at) <= 0 {
                return;
            }
            self.rexmit = self.again(at, mtu, again);
        }
    }

    /// The first byte from `at` on that is not known to have arrived.
    fn behind_sacked(&self, at: u32) -> u32 {
        let holds = |(from, to): &&(u32, u32)| distance(at, *from) >= 0 && distance(*to, at) > 0;
        self.sacked.iter().find(holds).map_or(at, |(_, to)| *to)
    }

    /// One segment from `at`; the number behind it.
    fn again(&mut self, at: u32, mtu: usize, again: &mut Vec<Vec<u8>>) -> u32 {
        let headers = self.template.headers();
        // The size counts options as payload (RFC 6691).
        let taken = usize::from(self.mss).saturating_sub(self.template.options);
        let room = mtu.saturating_sub(headers).min(taken);
        let begin = distance(at, self.una).max(0) as usize;
        let next = self.sacked.iter().find(|(from, _)| distance(*from, at) > 0);
        let hole = next.map_or(self.data.len(), |(from, _)| distance(*from, self.una) as usize);
        let end = hole.min(begin + room.max(PIECE_MIN)).min(self.data.len()).max(begin);
        let fin = self.fin && end == self.data.len();
        let payload = self.data.range(begin.min(self.data.len())..end).copied();
        self.sample = None;
        if let Some(frame) = self.template.make(at, payload, fin) {
            again.push(frame);
        }
        self.una.wrapping_add(end as u32)
    }

    /// Nobody answered in time.
    pub fn probe(&mut self, now: Instant, mtu: usize, again: &mut Vec<Vec<u8>>) {
        self.deadline = None;
        if !self.is_outstanding() || self.probes >= PROBES_MAX {
            return;
        }
        (self.recover, self.blind) = (Some(self.end()), true);
        let at = self.behind_sacked(self.una);
        self.rexmit = self.again(at, mtu, again);
        self.probes += 1;
        self.deadline = Some(now + self.patience());
    }
}
