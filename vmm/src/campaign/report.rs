//! The report: a table for people, JSON for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::MachineEnd;
use super::outcome::Outcome;
use super::plan::Class;
use super::round::Judged;
use crate::cli::CampaignArgs;

/// Failures described in full at most; all are counted.
const FAILURES_MAX: usize = 200;
/// Of a machine's last words.
const TEXT_MAX: usize = 2000;

/// Something that went wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub seed: u64,
    pub class: &'static str,
    pub target: &'static str,
    pub outcome: Outcome,
    /// What was done to the machine.
    pub done: Option<String>,
    pub note: Option<String>,
    /// What its machine said at the end.
    pub text: String,
    /// Repeats its round.
    pub command: String,
}

/// What is known so far.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<(Class, Outcome), u64>,
    failures: Vec<Failure>,
    rounds: u64,
    machines: u64,
    leaks: Vec<i64>,
    /// Machines that crashed when they were ended after good rounds: what they said.
    late: Vec<String>,
    pub gave_up: Option<String>,
}

impl Tally {
    pub fn round(&mut self, args: &CampaignArgs, judged: &Judged) {
        self.rounds += 1;
        for one in &judged.struck {
            *self.counts.entry((one.fault.class, one.outcome)).or_default() += 1;
        }
        let Some(first) = judged.struck.first() else { return };
        let classes: String = args.class.iter().map(|class| format!(" --class {class}")).collect();
        let (count, seed) = (judged.struck.len(), first.fault.seed);
        let command = format!(
            "xinim-vmm campaign --faults {count} --seed {seed} --burst {count} --jobs 1{classes}"
        );
        for lost in judged.struck.iter().filter(|one| one.outcome >= Outcome::ReportedLoss) {
            let failure = Failure {
                seed: lost.fault.seed,
                class: lost.fault.class.name(),
                target: lost.fault.target,
                outcome: lost.outcome,
                done: lost.done.clone(),
                note: lost.note.clone(),
                text: String::new(),
                command: command.clone(),
            };
            eprintln!(
                "xinim-vmm: {} by {} at {} (seed {}): {}; repeat with: {command}",
                failure.outcome.name(),
                failure.class,
                failure.target,
                failure.seed,
                failure.note.as_deref().unwrap_or("")
            );
            if self.failures.len() < FAILURES_MAX {
                self.failures.push(failure);
            }
        }
    }

    /// A machine has ended, after a round that went well or not.
    pub fn machine(&mut self, healthy: bool, end: MachineEnd) {
        self.machines += 1;
        self.leaks.extend(end.leaked_kib);
        for one in &end.waiting {
            *self.counts.entry((one.fault.class, Outcome::NotActivated)).or_default() += 1;
        }
        let start = end.text.len().saturating_sub(TEXT_MAX);
        let text = end.text.get(start..).unwrap_or("").to_owned();
        if healthy && end.outcome.is_some() {
            eprintln!("xinim-vmm: a machine crashed at its end: {text}");
            self.late.push(text);
        } else if !healthy && let Some(failure) = self.failures.last_mut() {
            failure.text = text;
        }
    }
}

/// The whole campaign.
#[derive(Debug)]
pub struct Report<'a> {
    faults: u64,
    seed: u64,
    tally: &'a Tally,
}

impl<'a> Report<'a> {
    pub fn new(args: &CampaignArgs, tally: &'a Tally) -> Self {
        Self { faults: args.faults, seed: args.seed, tally }
    }

    fn count(&self, class: Option<Class>, outcome: Outcome) -> u64 {
        let all = self.tally.counts.iter();
        let own = all.filter(|((c, o), _)| class.is_none_or(|class| class == *c) && *o == outcome);
        own.map(|(_, count)| count).sum()
    }

    /// Of the faults that showed, the part after which nothing was lost, in percent.
    fn rate(&self, class: Option<Class>) -> Option<f64> {
        let sum = |which: fn(Outcome) -> bool| -> u64 {
            Outcome::ALL.into_iter().filter(|o| which(*o)).map(|o| self.count(class, o)).sum()
        };
        let shown = sum(Outcome::shows);
        (shown > 0).then(|| 100.0 * sum(Outcome::is_whole) as f64 / shown as f64)
    }

    pub fn passed(&self) -> bool {
        let forbidden = Outcome::ALL.into_iter().filter(|outcome| outcome.is_forbidden());
        forbidden.map(|outcome| self.count(None, outcome)).sum::<u64>() == 0
            && self.tally.late.is_empty()
    }

    pub fn table(&self) -> String {
        let mut text = format!("{:<14}", "class");
        for outcome in Outcome::ALL {
            text.push_str(&format!(" {:>14}", outcome.name()));
        }
        text.push_str("    whole\n");
        let mut row = |name: &str, class| {
            text.push_str(&format!("{name:<14}"));
            for outcome in Outcome::ALL {
                text.push_str(&format!(" {:>14}", self.count(class, outcome)));
            }
            let rate = self.rate(class).map_or("-".into(), |rate| format!("{rate:.2} %"));
            text.push_str(&format!(" {rate:>8}\n"));
        };
        for class in Class::ALL {
            if self.tally.counts.keys().any(|(own, _)| *own == class) {
                row(class.name(), Some(class));
            }
        }
        row("all", None);
        let (rounds, machines) = (self.tally.rounds, self.tally.machines);
        text.push_str(&format!(
            "{} faults from seed {}, in {rounds} rounds on {machines} machines; {}\n",
            self.faults,
            self.seed,
            if self.passed() {
                "no kernel crash, no VMM crash, nothing lost in silence"
            } else {
                "FAILED: a crash, or something lost in silence"
            }
        ));
        text
    }

    pub fn json(&self) -> String {
        let counts = |class: Option<Class>| -> serde_json::Map<String, serde_json::Value> {
            let all = Outcome::ALL.into_iter();
            all.map(|o| (o.name().to_owned(), self.count(class, o).into())).collect()
        };
        let classes: serde_json::Map<_, _> = Class::ALL
            .into_iter()
            .filter(|class| self.tally.counts.keys().any(|(own, _)| own == class))
            .map(|class| {
                let mut object = counts(Some(class));
                object.insert("whole_percent".into(), self.rate(Some(class)).into());
                (class.name().to_owned(), object.into())
            })
            .collect();
        let report = json!({
            "faults": self.tally.counts.values().sum::<u64>(),
            "wanted": self.faults,
            "seed": self.seed,
            "passed": self.passed(),
            "rounds": self.tally.rounds,
            "machines": self.tally.machines,
            "all": counts(None),
            "whole_percent": self.rate(None),
            "classes": classes,
            "crashes_at_the_end": self.tally.late,
            "memory_growth_kib": self.tally.leaks,
            "failures": self.tally.failures,
        });
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    }
}
