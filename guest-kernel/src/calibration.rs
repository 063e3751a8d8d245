//! How fast the TSC and the timer count, measured against something that takes a known time.
//!
//! ```text
//!  tsc  opened    begun                  before       asked         seen
//!         │ begin() │ is_over() no ... no  │ is_over() no │ is_over() yes │
//!         └─────────┴──────────────────────┴──────────────┴───────────────┘
//!   it began in here     surely under way        it ended in here
//! ```
//! Where the processor is a thread of a busy host, it may stand still between any two instructions while
//! everything else goes on: between the beginning and the first look at the TSC, which makes for too few ticks,
//! as well as before the end is seen. The time that passed around both ends bounds the error; of several runs
//! the one with the smallest bound counts, and there are more of them while that is too large.

/// What is measured, and against what.
pub trait Reference {
    fn tsc(&mut self) -> u64;
    /// The known time can begin at once.
    fn prepare(&mut self);
    /// The timer counts from now on.
    fn start_timer(&mut self);
    /// Ticks of the timer since then.
    fn timer(&mut self) -> u64;
    /// The known time begins.
    fn begin(&mut self);
    /// Has it passed?
    fn is_over(&mut self) -> bool;
}

/// Runs in any case, and at most.
const RUNS: u32 = 4;
const RUNS_MAX: u32 = 64;
/// The bound of the error is to be no more than this part of what was measured.
const DOUBT: u64 = 64;

/// Ticks in the known time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    pub tsc: u64,
    pub timer: u64,
    /// By how much `tsc` may be wrong, and what the timer's part adds, in ticks of the TSC.
    pub doubt: u64,
}

/// The best of several runs. `polls`: questions after which a run is given up. `None`: it is never over.
pub fn measure(reference: &mut impl Reference, polls: u32) -> Option<Measured> {
    let mut best: Option<Measured> = None;
    for run in 0..RUNS_MAX {
        if run >= RUNS && best.is_none_or(|best| best.doubt <= best.tsc / DOUBT) {
            break;
        }
        let Some(measured) = once(reference, polls) else { continue };
        if best.is_none_or(|best| measured.doubt < best.doubt) {
            best = Some(measured);
        }
    }
    best
}

fn once(reference: &mut impl Reference, polls: u32) -> Option<Measured> {
    reference.prepare();
    let timer_before = reference.tsc();
    reference.start_timer();
    let opened = reference.tsc();
    reference.begin();
    let begun = reference.tsc();
    let (mut before, mut asked, mut seen) = (begun, begun, begun);
    let over = (0..polls).any(|_| {
        (before, asked) = (asked, seen);
        let over = reference.is_over();
        seen = reference.tsc();
        over
    });
    let timer = reference.timer();
    let timer_after = reference.tsc();
    let (least, most) = (before - begun, seen - opened);
    let tsc = least.midpoint(most);
    if !over || most == 0 {
        return None;
    }
    let scaled = u128::from(timer) * u128::from(tsc) / u128::from(most);
    let around_timer = (opened - timer_before) + (timer_after - seen);
    Some(Measured { tsc, timer: scaled as u64, doubt: (most - least) + around_timer })
}

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod tests;
