//! Turns of the stack and answers to those who wait, until nothing is left to do.
//!
//! ```text
//!   turn: frames in and out ──> serve: who can be answered ──somebody was──> turn
//!                                        └──nobody──> sleep until the turn's deadline
//! ```
//! What is sent or taken makes frames, and the turn for those may bring others in. If the last thing done
//! were a turn, somebody could wait for what is here already, until the next frame; which may never come.

use smoltcp::time::Instant;

pub trait Work {
    /// Moves frames. When it wants to be called next, at the latest.
    fn turn(&mut self) -> Option<Instant>;
    /// Answers who can be answered; whether anything was done for anybody. Not true for ever.
    fn serve_waiting(&mut self) -> bool;
}

/// When the stack wants its next turn.
pub fn settle(work: &mut impl Work) -> Option<Instant> {
    loop {
        let due = work.turn();
        if !work.serve_waiting() {
            return due;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Frames that arrive with each turn, and callers that wait for one each.
    struct Busy {
        arrivals: Vec<u32>,
        here: u32,
        waiting: u32,
        turns: u32,
    }

    impl Work for Busy {
        fn turn(&mut self) -> Option<Instant> {
            self.turns += 1;
            self.here += self.arrivals.pop().unwrap_or(0);
            Some(Instant::from_millis(self.turns))
        }
        fn serve_waiting(&mut self) -> bool {
            let served = self.waiting.min(self.here);
            self.waiting -= served;
            self.here -= served;
            served > 0
        }
    }

    #[test]
    fn nobody_waits_for_what_is_here() {
        for arrivals in [vec![], vec![1], vec![1, 1], vec![3, 0], vec![0, 1, 2], vec![1, 1, 1, 1]] {
            let mut busy = Busy { arrivals, here: 0, waiting: 4, turns: 0 };
            let due = settle(&mut busy);
            assert!(busy.waiting == 0 || busy.here == 0);
            assert_eq!(due, Some(Instant::from_millis(busy.turns)), "the last turn's");
        }
    }
}
