//! The strict checker in a running machine: reports are made with the guest's stack, and end the
//! machine where that is asked for.
//!
//! A rule is found broken with the device locked and the vCPU's registers out of reach. So the
//! report waits until the access is over and the thread of the vCPU that made it looks
//! ([`Strict::flush`]): that vCPU has not gone on by then, and its stack is what it was. What no vCPU did,
//! or did some time ago, is reported by whoever looks first, without a stack.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use xinim_devices::bus::lock;
use xinim_devices::dma::Dma;
use xinim_devices::strict::{Checker, Report, Violation};
use xinim_devices::trace::Hub;
use xinim_machine::{End, Notices, StrictCount, StrictMode, StrictStats};

use crate::backtrace::Place;
use crate::memory::GuestRam;
use crate::shared::Ending;
use crate::symbols::Images;
use crate::walk::{Linear, Paging};

/// Frames of a guest's stack in a report.
const FRAMES_MAX: usize = 16;
/// Reports that wait at one time; an access breaks a few rules at most.
const WAITING_MAX: usize = 64;

/// Registers from which a stack is walked.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    pub rip: u64,
    pub rsp: u64,
    pub paging: Paging,
}

/// See the module's head.
pub struct Strict {
    mode: StrictMode,
    checker: Arc<Checker>,
    waiting: Arc<Waiting>,
    notices: Notices,
    ending: Arc<Ending>,
}

/// Reports that their thread has not looked at yet.
#[derive(Default)]
struct Waiting(Mutex<Vec<Violation>>);

impl Report for Waiting {
    fn violation(&self, violation: &Violation) {
        let mut waiting = lock(&self.0);
        if waiting.len() < WAITING_MAX {
            waiting.push(violation.clone());
        }
    }
}

impl Strict {
    /// Listens at `hub` from now on.
    pub fn new(
        mode: StrictMode,
        hub: &Arc<Hub>,
        dma: Arc<dyn Dma>,
        notices: Notices,
        ending: Arc<Ending>,
    ) -> Self {
        let waiting = Arc::new(Waiting::default());
        let checker = Checker::listen(dma, waiting.clone(), hub);
        Self { mode, checker, waiting, notices, ending }
    }

    pub fn checker(&self) -> Arc<Checker> {
        self.checker.clone()
    }

    /// The guest's own events of before `until_ns` have been passed on, but for those `lost`.
    pub fn settle(&self, until_ns: u64, lost: u64) {
        self.checker.settle(until_ns, lost > 0);
    }

    /// Makes the reports that wait for this vCPU's thread, or for any (`None`: the caller is no
    /// vCPU's). `stack` is asked for only if there are any.
    pub fn flush(
        &self,
        vcpu: Option<u32>,
        ram: &GuestRam,
        images: &Images,
        stack: impl FnOnce() -> Option<Stack>,
    ) {
        let waiting: Vec<Violation> = {
            let mut waiting = lock(&self.waiting.0);
            if waiting.is_empty() {
                return;
            }
            waiting
                .extract_if(.., |violation| stood(violation).is_none_or(|at| Some(at) == vcpu))
                .collect()
        };
        if waiting.is_empty() {
            return;
        }
        let stack =
            waiting.iter().any(|violation| stood(violation).is_some()).then(stack).flatten();
        for violation in &waiting {
            let process = violation.origin.process.as_ref().map(|process| process.name());
            let stack = stack.filter(|_| stood(violation).is_some());
            let places = stack.map(|stack| places(ram, images, process, &stack));
            let text = words(violation, places.as_deref());
            self.notices.tell(&text);
        }
        if self.mode == StrictMode::Stop {
            self.ending.finish(Ok(End::Strict));
        }
    }

    /// What was found in the whole run.
    pub fn stats(&self) -> StrictStats {
        let count = |found: xinim_devices::strict::Count| StrictCount {
            device: found.device,
            rule: found.rule.to_owned(),
            count: found.count,
        };
        StrictStats {
            accesses: self.checker.accesses(),
            broken: self.checker.counts().into_iter().map(count).collect(),
        }
    }
}

/// The vCPU that is still where it broke the rule.
fn stood(violation: &Violation) -> Option<u32> {
    if violation.late { None } else { violation.origin.vcpu }
}

fn words(violation: &Violation, stack: Option<&[String]>) -> String {
    let mut text = format!("{violation}\n");
    for line in &violation.history {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {line}");
    }
    if let Some(stack) = stack {
        let _ = writeln!(text, "    guest stack:");
        for (number, place) in stack.iter().enumerate() {
            let _ = writeln!(text, "      #{number:<2} {place}");
        }
    }
    let _ = writeln!(text, "    more: xinim-vmm explain {}", violation.rule.id);
    text
}

/// The innermost place and its callers, with names.
fn places(ram: &GuestRam, images: &Images, process: Option<&str>, stack: &Stack) -> Vec<String> {
    let Stack { rip, rsp, paging } = *stack;
    let place = Place { memory: &Linear { ram, paging }, rip, rsp, images, process };
    place.lines(FRAMES_MAX)
}

#[cfg(test)]
#[path = "strict_tests.rs"]
mod tests;
