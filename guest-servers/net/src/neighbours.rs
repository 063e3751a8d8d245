//! Neighbours that smoltcp forgets.
//!
//! smoltcp 0.14 forgets every neighbour's address when it hears a router's advertisement or an address of
//! its own changes, and asks for the next one a second after the last at the earliest: whoever sends
//! something in that second waits. So answers are remembered here and given to it once more.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use smoltcp::time::{Duration, Instant};

/// Answers that are remembered; smoltcp has as many neighbours.
const ANSWERS_MAX: usize = 8;
/// How long an answer holds, as in smoltcp.
const LIFETIME: Duration = Duration::from_secs(60);

/// Where things are in an Ethernet frame (RFC 826, RFC 4861 4.2 and 4.4).
const TYPE: Range<usize> = 12..14;
const ARP: [u8; 2] = [0x08, 0x06];
const ARP_OPERATION: Range<usize> = 20..22;
const ARP_SENDER: Range<usize> = 28..32;
const IPV6: [u8; 2] = [0x86, 0xDD];
const NEXT_HEADER: usize = 20;
const ICMPV6: u8 = 58;
const ICMPV6_TYPE: usize = 54;
const NDISC_TARGET: Range<usize> = 62..78;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

#[derive(Debug, Default)]
pub struct Neighbours {
    answers: VecDeque<(Instant, Vec<u8>)>,
    forgotten: bool,
}

enum Kind<'a> {
    /// Of whom.
    Answer(&'a [u8]),
    Router,
}

fn kind(frame: &[u8]) -> Option<Kind<'_>> {
    let ethernet = frame.get(TYPE)?;
    if ethernet == ARP {
        let is_reply = frame.get(ARP_OPERATION)? == [0, 2];
        return if is_reply { frame.get(ARP_SENDER).map(Kind::Answer) } else { None };
    }
    if ethernet != IPV6 || *frame.get(NEXT_HEADER)? != ICMPV6 {
        return None;
    }
    match *frame.get(ICMPV6_TYPE)? {
        ROUTER_ADVERTISEMENT => Some(Kind::Router),
        NEIGHBOUR_ADVERTISEMENT => frame.get(NDISC_TARGET).map(Kind::Answer),
        _ => None,
    }
}

impl Neighbours {
    /// smoltcp takes in an Ethernet frame.
    pub fn see(&mut self, now: Instant, frame: &[u8]) {
        match kind(frame) {
            None => {}
            Some(Kind::Router) => self.forgotten = true,
            Some(Kind::Answer(whose)) => {
                self.answers.retain(
                    |(_, old)| !matches!(kind(old), Some(Kind::Answer(other)) if other == whose),
                );
                if self.answers.len() >= ANSWERS_MAX {
                    self.answers.pop_front();
                }
                self.answers.push_back((now, frame.to_vec()));
            }
        }
    }

    /// An own address changes.
    pub fn forget(&mut self) {
        self.forgotten = true;
    }

    /// What smoltcp has forgotten by now: frames for it.
    pub fn remind(&mut self, now: Instant) -> impl Iterator<Item = Vec<u8>> {
        self.answers.retain(|(at, _)| now < *at + LIFETIME);
        let count = if core::mem::take(&mut self.forgotten) { self.answers.len() } else { 0 };
        self.answers.iter().take(count).map(|(_, frame)| frame.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn answer(last: u8, mac: u8) -> Vec<u8> {
        let mut frame = vec![0; 42];
        frame[TYPE].copy_from_slice(&ARP);
        frame[ARP_OPERATION].copy_from_slice(&[0, 2]);
        frame[ARP_SENDER].copy_from_slice(&[10, 0, 0, last]);
        frame[22] = mac;
        frame
    }

    #[test]
    fn the_last_answers_are_given_once_after_it_forgot() {
        let now = Instant::from_millis(5);
        let mut neighbours = Neighbours::default();
        for (last, mac) in [(1, 1), (2, 2), (1, 3)] {
            neighbours.see(now, &answer(last, mac));
        }
        assert_eq!(neighbours.remind(now).count(), 0);
        neighbours.forget();
        let frames: Vec<_> = neighbours.remind(now).collect();
        assert_eq!(frames, [answer(2, 2), answer(1, 3)]);
        assert_eq!(neighbours.remind(now).count(), 0);
        neighbours.forget();
        assert_eq!(neighbours.remind(now + LIFETIME).count(), 0);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut neighbours = Neighbours::default();
        for last in 0..100 {
            neighbours.see(Instant::ZERO, &answer(last, 1));
        }
        neighbours.forget();
        assert_eq!(neighbours.remind(Instant::ZERO).count(), ANSWERS_MAX);
    }

    #[test]
    fn a_router_has_it_forget_and_short_frames_are_nothing() {
        let mut frame = [0; 80];
        frame[TYPE].copy_from_slice(&IPV6);
        (frame[NEXT_HEADER], frame[ICMPV6_TYPE]) = (ICMPV6, ROUTER_ADVERTISEMENT);
        let mut neighbours = Neighbours::default();
        neighbours.see(Instant::ZERO, &answer(1, 1));
        for len in 0..=80 {
            neighbours.see(Instant::ZERO, &frame[..len]);
            assert_eq!(neighbours.remind(Instant::ZERO).count(), usize::from(len > ICMPV6_TYPE));
        }
    }
}
