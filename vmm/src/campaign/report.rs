//! The report: a table for people, JSON for programs; and several of them added up (`--merge`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::MachineEnd;
use super::outcome::Outcome;
use super::plan::{Class, Fault};
use super::round::Judged;
use crate::cli::CampaignArgs;

/// Failures described in full at most; all are counted.
const FAILURES_MAX: usize = 200;
/// Of a machine's last words, the guest's log among them: kept, and lines shown at once.
const TEXT_MAX: usize = 8000;
const LINES_SHOWN: usize = 25;

/// Something that went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub seed: u64,
    pub class: String,
    pub target: String,
    pub outcome: Outcome,
    /// What was done to the machine.
    pub done: Option<String>,
    pub note: Option<String>,
    /// What its machine said on standard error by then: the guest's log, above all.
    pub text: String,
    /// What the guest's threads waited for, where the machine could not go on.
    #[serde(default)]
    pub threads: String,
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
    /// `faults`: those the round was made of; rules of earlier ones may be judged in it.
    pub fn round(&mut self, args: &CampaignArgs, faults: &[Fault], judged: &Judged) {
        self.rounds += 1;
        for one in &judged.struck {
            *self.counts.entry((one.fault.class, one.outcome)).or_default() += 1;
        }
        let Some(first) = faults.first() else { return };
        let classes: String = args.class.iter().map(|class| format!(" --class {class}")).collect();
        let (count, seed) = (faults.len(), first.seed);
        let command = format!(
            "xinim-vmm campaign --faults {count} --seed {seed} --burst {count} --jobs 1{classes}"
        );
        for lost in judged.struck.iter().filter(|one| one.outcome >= Outcome::ReportedLoss) {
            let failure = Failure {
                seed: lost.fault.seed,
                class: lost.fault.class.name().to_owned(),
                target: lost.fault.target.to_owned(),
                outcome: lost.outcome,
                done: lost.done.clone(),
                note: lost.note.clone(),
                text: tail(&judged.said).to_owned(),
                threads: match lost.outcome {
                    Outcome::Hang | Outcome::FailedService => judged.threads.clone(),
                    _ => String::new(),
                },
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
        let text = tail(&end.text).to_owned();
        if healthy && end.outcome.is_some() {
            eprintln!("xinim-vmm: a machine crashed at its end: {text}");
            self.late.push(text);
        } else if !healthy && let Some(failure) = self.failures.last_mut() {
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            eprintln!("xinim-vmm: that machine's last words:\n  {}", last.join("\n  "));
            failure.text = text;
        }
    }
}

/// The last [`TEXT_MAX`] bytes, or a little less.
fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(TEXT_MAX);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[start.unwrap_or(text.len())..]
}

impl Tally {
    /// Adds what another campaign's report, as JSON, counted. Errors say what is wrong with it.
    pub fn merge(&mut self, text: &str) -> Result<(), String> {
        let report: Value = serde_json::from_str(text).map_err(|e| format!("is no report: {e}"))?;
        let number = |value: &Value| value.as_u64().ok_or("is no report: a number is missing");
        let classes = report["classes"].as_object().ok_or("is no report: it has no classes")?;
        for (name, counts) in classes {
            let known = Class::ALL.into_iter().find(|class| class.name() == name);
            let class = known.ok_or_else(|| format!("has a class `{name}`, which is unknown"))?;
            for outcome in Outcome::ALL {
                let count = number(&counts[outcome.name()])?;
                *self.counts.entry((class, outcome)).or_default() += count;
            }
        }
        self.rounds += number(&report["rounds"])?;
        self.machines += number(&report["machines"])?;
        self.late.extend(list::<String>(&report["crashes_at_the_end"])?);
        self.leaks.extend(list::<i64>(&report["memory_growth_kib"])?);
        let failures = list::<Failure>(&report["failures"])?;
        let room = FAILURES_MAX.saturating_sub(self.failures.len());
        self.failures.extend(failures.into_iter().take(room));
        Ok(())
    }
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Result<Vec<T>, String> {
    serde_json::from_value(value.clone()).map_err(|e| format!("is no report: {e}"))
}

/// The whole campaign, or several.
#[derive(Debug)]
pub struct Report<'a> {
    /// Faults wanted and the first seed; `None`: of several campaigns.
    wanted: Option<(u64, u64)>,
    tally: &'a Tally,
}

impl<'a> Report<'a> {
    pub fn new(args: &CampaignArgs, tally: &'a Tally) -> Self {
        Self { wanted: Some((args.faults, args.seed)), tally }
    }

    /// Of several campaigns.
    pub fn merged(tally: &'a Tally) -> Self {
        Self { wanted: None, tally }
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
            let say = |rate: Option<f64>| rate.map_or("-".into(), |rate| format!("{rate:.2} %"));
            text.push_str(&format!(" {:>8}\n", say(self.rate(class))));
        };
        for class in Class::ALL {
            if self.tally.counts.keys().any(|(own, _)| *own == class) {
                row(class.name(), Some(class));
            }
        }
        row("all", None);
        let (rounds, machines) = (self.tally.rounds, self.tally.machines);
        let what = match self.wanted {
            Some((faults, seed)) => format!("{faults} faults from seed {seed}"),
            None => format!("{} faults", self.tally.counts.values().sum::<u64>()),
        };
        text.push_str(&format!(
            "{what}, in {rounds} rounds on {machines} machines; {}\n",
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
            "wanted": self.wanted.map(|(faults, _)| faults),
            "seed": self.wanted.map(|(_, seed)| seed),
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

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
