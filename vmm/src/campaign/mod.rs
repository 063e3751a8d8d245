//! `xinim-vmm campaign`: seeded faults against a live system under load, and what became of each.
//!
//! ```text
//!   seed --> faults (plan.rs) --> rounds of some faults --> machines, J at a time (machine.rs)
//!                                   load never stops, faults go in, all of it comes through (round.rs)
//!                                   checksums, services --> outcomes (outcome.rs)
//!   all outcomes --> table on standard output, JSON in a file (report.rs)
//! ```
//! Fault number N of seed S is fault 0 of seed S + N, so that any run of faults can be had again with
//! `--faults COUNT --seed S+N`. What went wrong in a round is charged to the last of its faults that struck
//! something on the way of what failed (round.rs), and the command that repeats the round is printed. Between rounds
//! services that were damaged and went on are restarted, so that a round answers for its own faults.
//! A machine lives until it cannot go on, or for [`ROUNDS_MAX`] rounds.

mod load;
mod machine;
mod outcome;
mod patience;
mod plan;
mod report;
mod round;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cli::CampaignArgs;
use crate::error::Error;
use crate::output;
use load::Source;
use machine::Machine;
use outcome::Outcome;
use plan::{Class, Fault};
use report::{Report, Tally};

/// Rounds of one machine; then a new one is booted.
const ROUNDS_MAX: u64 = 60;
/// Boots in a row that may fail before a worker gives up.
const BOOTS_MAX: u32 = 3;

/// Runs the campaign; 0 when no kernel and no VMM crashed and nothing was lost in silence.
pub fn campaign(args: &CampaignArgs) -> Result<u8, Error> {
    if !args.merge.is_empty() {
        return merge(args);
    }
    let classes = plan::choose(&args.class).map_err(Error::Usage)?;
    if let Some(path) = &args.report {
        // Better to know before hours of work than after.
        std::fs::write(path, "").map_err(|e| Error::file("write", path, e))?;
    }
    let source =
        Source::start().map_err(|e| Error::file("serve the load from", Path::new("."), e))?;
    let shared = Shared {
        args,
        classes,
        source,
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        tally: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| shared.work());
        }
    });
    let tally = shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(why) = &tally.gave_up {
        return Err(Error::Usage(format!("no machine could be started: {why}")));
    }
    let report = Report::new(args, &tally);
    output::print(&if args.json { report.json() + "\n" } else { report.table() })?;
    if let Some(path) = &args.report {
        std::fs::write(path, report.json()).map_err(|e| Error::file("write", path, e))?;
    }
    Ok(if report.passed() { 0 } else { 1 })
}

/// Adds reports up: the table of all, and with `--report` its JSON.
fn merge(args: &CampaignArgs) -> Result<u8, Error> {
    let mut tally = Tally::default();
    for path in &args.merge {
        let text = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
        let added = tally.merge(&text);
        added.map_err(|why| Error::Usage(format!("{} {why}", path.display())))?;
    }
    let report = Report::merged(&tally);
    print!("{}", report.table());
    if let Some(path) = &args.report {
        std::fs::write(path, report.json()).map_err(|e| Error::file("write", path, e))?;
    }
    Ok(if report.passed() { 0 } else { 1 })
}

struct Shared<'a> {
    args: &'a CampaignArgs,
    classes: Vec<Class>,
    source: Source,
    /// The next fault that nobody has taken.
    next: AtomicU64,
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

impl Shared<'_> {
    fn tally(&self, work: impl FnOnce(&mut Tally)) {
        work(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes down what is known so far: a campaign of hours may be ended before its time.
    fn write(&self) {
        let Some(path) = &self.args.report else { return };
        self.tally(|tally| {
            let report = Report::new(self.args, tally).json();
            // The last one tells of a disk that is full.
            let _ = std::fs::write(path, report);
        });
    }

    /// The faults of the next round.
    fn take(&self) -> Option<Vec<Fault>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let (all, burst) = (self.args.faults, self.args.burst.max(1));
        let first = self.next.fetch_add(burst, Ordering::Relaxed);
        if first >= all {
            return None;
        }
        let seeds = (first..all.min(first + burst)).map(|n| self.args.seed.wrapping_add(n));
        Some(seeds.map(|seed| Fault::new(seed, &self.classes)).collect())
    }

    /// One worker: machines one after the other.
    fn work(&self) {
        let mut machine: Option<Machine> = None;
        let mut failed = 0;
        while let Some(faults) = self.take() {
            let mut current = match machine.take() {
                Some(machine) => machine,
                None => match self.boot(&mut failed) {
                    Some(machine) => machine,
                    None => return,
                },
            };
            let judged = round::run(&mut current, &faults, self.args.verbose > 0);
            let healthy = judged.healthy;
            self.tally(|tally| tally.round(self.args, &faults, &judged));
            if healthy && current.rounds < ROUNDS_MAX {
                machine = Some(current);
            } else {
                let end = current.finish();
                self.tally(|tally| tally.machine(healthy, end));
                self.write();
            }
        }
        if let Some(machine) = machine {
            let end = machine.finish();
            self.tally(|tally| tally.machine(true, end));
        }
    }

    fn boot(&self, failed: &mut u32) -> Option<Machine> {
        loop {
            match Machine::boot(self.args, &self.source) {
                Ok(machine) => {
                    *failed = 0;
                    return Some(machine);
                }
                Err(why) => {
                    *failed += 1;
                    if *failed < BOOTS_MAX {
                        continue;
                    }
                    self.stop.store(true, Ordering::Relaxed);
                    self.tally(|tally| tally.gave_up = Some(why));
                    return None;
                }
            }
        }
    }
}

/// How a machine ended.
#[derive(Debug)]
pub struct MachineEnd {
    /// What its process said on standard error.
    pub text: String,
    /// Frames in use more than after the first round, if it could still tell.
    pub leaked_kib: Option<i64>,
    pub outcome: Option<Outcome>,
    /// Rules whose turn has never come.
    pub waiting: Vec<round::Struck>,
}
