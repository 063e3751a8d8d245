//! One round: load, faults, judgement.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::load;
use super::machine::{Machine, restarts};
use super::outcome::Outcome;
use super::plan::{Class, Fault, Step};
use crate::ctl::protocol::Request;

/// For the load to end, the slowest recovery included, on a host that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(150);
/// For a process to run that is to be damaged, in milliseconds.
const INJECT_WAIT_MS: u32 = 1000;

/// A fault, what was done, and what became of it.
#[derive(Clone, Debug)]
pub struct Struck {
    pub fault: Fault,
    /// What the machine said it had done; `None`: nothing.
    pub done: Option<String>,
    /// Of a rule.
    rule: Option<u64>,
    pub outcome: Outcome,
}

/// A round, judged.
#[derive(Debug)]
pub struct Judged {
    pub struck: Vec<Struck>,
    /// The machine can go on.
    pub healthy: bool,
    /// What went wrong, for the report.
    pub note: Option<String>,
}

/// Runs these faults on the machine.
pub fn run(machine: &mut Machine, faults: &[Fault], verbose: bool) -> Judged {
    machine.rounds += 1;
    let number = machine.rounds;
    let removal = faults.iter().any(|fault| matches!(fault.step, Step::Removal { .. }));
    machine.say(&load::begin(machine.port, removal));
    let mut struck: Vec<Struck> = Vec::new();
    for fault in faults {
        sleep(Duration::from_millis(fault.wait_ms));
        let one = strike(machine, fault);
        if verbose {
            let done = one.done.as_deref().unwrap_or("not activated");
            eprintln!("{} {} {}: {done}", fault.seed, fault.class.name(), fault.target);
        }
        struck.push(one);
    }
    // Rules whose turn has not come yet must not reach into the next round; those that struck hold
    // nothing back for longer than they say.
    machine.say(&load::end(number));
    let lines = machine.until(&format!("END {number}"), PATIENCE);
    count_rules(machine, &mut struck);
    let Some(lines) = lines else {
        let outcome = machine.crash().unwrap_or(Outcome::Hang);
        return judged(struck, outcome, Some(String::from("the load did not end")));
    };
    let results = lines.iter().position(|line| line == "SERVICES").unwrap_or(lines.len());
    let (results, rest) = lines.split_at(results);
    let told = results.iter().filter(|line| load::judge(line, &machine.sum) == load::Result::Told);
    let told: Vec<&String> = told.collect();
    let wrong = results.iter().find(|line| load::judge(line, &machine.sum) == load::Result::Wrong);
    if let Some(line) = wrong {
        return judged(struck, Outcome::SilentLoss, Some(format!("a wrong result: {line}")));
    }
    let now = match restarts(rest) {
        Ok(now) if !now.is_empty() => now,
        Ok(_) => {
            return judged(struck, Outcome::Hang, Some("the services cannot be listed".into()));
        }
        Err(label) => {
            return judged(struck, Outcome::FailedService, Some(format!("{label} is down")));
        }
    };
    let whole = told.is_empty() && results.len() == load::RESULTS;
    if !whole {
        let first = told.first().map_or("results are missing", |line| line.as_str());
        return judged(struck, Outcome::ReportedLoss, Some(first.to_owned()));
    }
    assign(&mut struck, &machine.restarts, &now);
    machine.restarts = now;
    let used = memory(rest);
    machine.memory = match (machine.memory, used) {
        (Some((first, _)), Some(now)) => Some((first, now)),
        (None, Some(now)) => Some((now, now)),
        (known, None) => known,
    };
    clean(machine, &struck, removal);
    Judged { struck, healthy: true, note: None }
}

fn strike(machine: &mut Machine, fault: &Fault) -> Struck {
    let (mut done, mut rule) = (None, None);
    match &fault.step {
        Step::Guest(line) => {
            machine.say(&format!("{line}\n"));
            done = Some(line.clone());
        }
        Step::Inject(kind) => {
            let request = Request::Inject {
                process: fault.target.into(),
                kind: kind.name().into(),
                seed: fault.seed,
                wait: Some(INJECT_WAIT_MS),
            };
            let answer = machine.control(&request);
            done = answer.and_then(|answer| answer["done"].as_str().map(String::from));
        }
        Step::Rule(text) => {
            // Nothing but an IOMMU keeps a device from writing where it was told to: without one a wrong
            // address is the bus error that an IOMMU makes of it.
            let confine = fault.class == Class::DmaAddress && !machine.confined;
            let text =
                if confine { text.replace("action=corrupt", "action=error") } else { text.clone() };
            let answer = machine.control(&Request::FaultAdd { rule: text.clone() });
            rule = answer.and_then(|answer| answer["id"].as_u64());
            done = rule.map(|_| text);
        }
        Step::Removal { out_ms } => {
            if machine.detach() {
                sleep(Duration::from_millis(*out_ms));
                machine.attach();
                done = Some(format!("pulled out for {out_ms} ms"));
            }
        }
    }
    Struck { fault: fault.clone(), done, rule, outcome: Outcome::NotActivated }
}

/// Looks whether rules struck, and takes them away.
fn count_rules(machine: &Machine, struck: &mut [Struck]) {
    if struck.iter().all(|one| one.rule.is_none()) {
        return;
    }
    let list = machine.control(&Request::FaultList {});
    let hits = |id: u64| -> u64 {
        let all = list.as_ref().and_then(|list| list["faults"].as_array());
        let found = all.into_iter().flatten().find(|fault| fault["id"] == id);
        found.and_then(|fault: &Value| fault["hits"].as_u64()).unwrap_or(0)
    };
    for one in struck.iter_mut() {
        if one.rule.is_some_and(|id| hits(id) == 0) {
            one.done = None;
        }
    }
    machine.control(&Request::FaultClear {});
}

/// Nothing was lost: who recovered of what.
fn assign(struck: &mut [Struck], before: &[(String, u64)], now: &[(String, u64)]) {
    let count = |list: &[(String, u64)], label: &str| {
        list.iter().find(|(own, _)| own == label).map_or(0, |(_, restarts)| *restarts)
    };
    let mut deaths: Vec<(String, u64)> = now
        .iter()
        .map(|(label, restarts)| (label.clone(), restarts.saturating_sub(count(before, label))))
        .collect();
    for one in struck.iter_mut().filter(|one| one.done.is_some()) {
        let service = one.fault.target.split('.').next().unwrap_or("");
        let died = deaths.iter_mut().find(|(label, left)| label == service && *left > 0);
        one.outcome = match (died, &one.fault.step) {
            (Some((_, left)), _) => {
                *left -= 1;
                Outcome::Recovered
            }
            (None, Step::Rule(_) | Step::Removal { .. }) => Outcome::Tolerated,
            (None, Step::Guest(_) | Step::Inject(_)) => Outcome::NoEffect,
        };
    }
}

/// Something was lost: charged to the last fault that struck.
fn judged(mut struck: Vec<Struck>, outcome: Outcome, note: Option<String>) -> Judged {
    for one in struck.iter_mut().filter(|one| one.done.is_some()) {
        one.outcome = Outcome::NoEffect;
    }
    let last = struck.iter_mut().rev().find(|one| one.done.is_some());
    match last {
        Some(last) => last.outcome = outcome,
        None => {
            if let Some(first) = struck.first_mut() {
                first.outcome = outcome;
            }
        }
    }
    Judged { struck, healthy: false, note }
}

/// Restarts what was damaged and went on, so that it does not answer for it in a later round.
fn clean(machine: &mut Machine, struck: &[Struck], removal: bool) {
    let mut damaged: Vec<&str> = struck
        .iter()
        .filter(|one| matches!(one.fault.step, Step::Inject(_)))
        .filter(|one| one.outcome == Outcome::NoEffect)
        .map(|one| one.fault.target)
        .collect();
    damaged.sort_unstable();
    damaged.dedup();
    for label in &damaged {
        machine.say(&format!("service restart {label}\n"));
    }
    if removal {
        // Refused if it is back already.
        machine.attach();
    }
    if !damaged.is_empty() {
        machine.say("service list\necho END CLEAN\n");
        if let Some(lines) = machine.until("END CLEAN", PATIENCE)
            && let Ok(now) = restarts(&lines)
        {
            machine.restarts = now;
        }
    }
}

/// KiB in use, from `free`.
fn memory(lines: &[String]) -> Option<i64> {
    let line = lines.iter().find(|line| line.starts_with("Mem"))?;
    line.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
