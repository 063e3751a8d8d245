//! One round: faults go into a machine whose load never stops, then judgement.
//!
//! ```text
//! mark F 7, fault | pause | mark F 8, fault | ... | rules counted | mark END | each part once more, right | list
//! ```
//! What the machine says comes in order, so a piece of work that failed is charged to the last fault before its
//! line that struck something it goes through. A round is over when every part of the load has done a piece of
//! work, begun after the last fault, right.

use std::time::Duration;

use serde_json::Value;

use super::load::{self, Part, Verdict, Work};
use super::machine::{Machine, Restarts, restarts};
use super::outcome::Outcome;
use super::plan::{Class, Fault, Step};
use crate::ctl::protocol::Request;

/// For the load to come through, the slowest recovery included, on a host that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(45);
/// Errors in a row after which a part of the load will not come right by itself.
const REFUSALS_MAX: u32 = 30;
/// For a service to come back that waits out its back-off.
const BACK_OFF: Duration = Duration::from_secs(15);
/// For a process to run that is to be damaged, in milliseconds.
const INJECT_WAIT_MS: u32 = 100;
const DRIVERS: [&str; 3] = ["virtio-blk", "virtio-net", "ahci"];
/// For how many rounds a rule may wait for its turn.
const ROUNDS_WAITED: u64 = 5;
/// Failures of one round that are told apart.
const LOSSES_MAX: usize = 8;

/// A fault, what was done, and what became of it.
#[derive(Clone, Debug)]
pub struct Struck {
    pub fault: Fault,
    /// What the machine said it had done; `None`: nothing.
    pub done: Option<String>,
    /// Of a rule.
    pub rule: Option<u64>,
    /// Rounds a rule has waited for its turn.
    pub rounds: u64,
    pub outcome: Outcome,
    /// What went wrong, where something did.
    pub note: Option<String>,
}

/// A round, judged.
#[derive(Debug)]
pub struct Judged {
    pub struck: Vec<Struck>,
    /// The machine can go on.
    pub healthy: bool,
    /// Of one that cannot: its threads, and what they wait for.
    pub threads: String,
    /// What the machine said by then, where something was lost.
    pub said: String,
}

/// A line of the machine that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// The fault of this seed is about to strike.
    Mark(u64),
    Work(Work, String),
}

/// Runs these faults on the machine.
pub fn run(machine: &mut Machine, faults: &[Fault], verbose: bool) -> Judged {
    let mut judged = judge(machine, faults, verbose);
    if judged.struck.iter().any(|one| one.outcome >= Outcome::ReportedLoss) {
        judged.said = machine.said();
    }
    judged
}

fn judge(machine: &mut Machine, faults: &[Fault], verbose: bool) -> Judged {
    machine.rounds += 1;
    let sum = machine.sum.clone();
    let mut struck: Vec<Struck> = Vec::new();
    let mut events = Vec::new();
    for fault in faults {
        machine.pause(Duration::from_millis(fault.wait_ms));
        if matches!(fault.step, Step::Guest(_)) {
            // The guest carries it out when its turn comes.
            machine.say(&format!("mark F {}\n", fault.seed));
        } else {
            let before = std::iter::from_fn(|| machine.line_there());
            events.extend(before.filter_map(|line| event(&line, &sum)));
            events.push(Event::Mark(fault.seed));
        }
        let one = strike(machine, fault);
        if verbose {
            let done = one.done.as_deref().unwrap_or("not activated");
            eprintln!("{} {} {}: {done}", fault.seed, fault.class.name(), fault.target);
        }
        struck.push(one);
    }
    machine.put_back();
    count_rules(machine, &mut struck);
    let mut through = come_through(machine, &mut events);
    if matches!(through, Err(Stuck::Refused(_))) {
        // A service that was damaged answers with errors from then on: that is told, and not a hang. With a
        // new instance all must come right.
        clean(machine, &struck);
        through = come_through(machine, &mut events);
    }
    let mut threads = String::new();
    if let Err(Stuck::Parts(parts)) = &through
        && struck.iter().any(is_damage)
    {
        // A service that was damaged stands still, unnoticed. That is a hang; a new instance may end it.
        threads = machine.threads();
        let stuck = Stuck::Parts(parts.clone());
        clean(machine, &struck);
        let again = come_through(machine, &mut events);
        if again.is_ok() {
            hung(&mut struck, Outcome::Hang, &stuck);
            through = again;
        }
    }
    charge(&mut struck, &events);
    if let Err(stuck) = through {
        let threads = if threads.is_empty() { machine.threads() } else { threads };
        let outcome = machine.crash().unwrap_or(Outcome::Hang);
        let why = Stuck::Service(format!("{stuck}{}", machine.ending()));
        return Judged { threads, ..failed(struck, outcome, &if_parts(stuck, why)) };
    }
    if struck.iter().any(|one| one.outcome == Outcome::SilentLoss) {
        return Judged { struck, healthy: false, threads, said: String::new() };
    }
    let now = match services(machine) {
        Ok(now) => now,
        Err(why) => {
            let threads = machine.threads();
            let outcome = machine.crash().unwrap_or(Outcome::FailedService);
            let why = Stuck::Service(why + &machine.ending());
            return Judged { threads, ..failed(struck, outcome, &why) };
        }
    };
    assign(&mut struck, &machine.restarts, &now);
    machine.restarts = now;
    clean(machine, &struck);
    Judged { struck, healthy: true, threads, said: String::new() }
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
            machine.put_back();
            if machine.pull_out(Duration::from_millis(*out_ms)) {
                done = Some(format!("pulled out for {out_ms} ms"));
            }
        }
    }
    Struck {
        fault: fault.clone(),
        done,
        rule,
        rounds: 0,
        outcome: Outcome::NotActivated,
        note: None,
    }
}

/// Looks whether rules struck. One whose turn has not come yet stays, for a few rounds, and counts in the round
/// in which it strikes: then it comes first, as it has been there from the beginning.
fn count_rules(machine: &mut Machine, struck: &mut Vec<Struck>) {
    let mut waiting = std::mem::take(&mut machine.waiting);
    let old = std::mem::take(&mut machine.spent);
    if waiting.is_empty() && old.is_empty() && struck.iter().all(|one| one.rule.is_none()) {
        return;
    }
    let list = machine.control(&Request::FaultList {});
    let hits = |id: u64| -> u64 {
        let all = list.as_ref().and_then(|list| list["faults"].as_array());
        let found = all.into_iter().flatten().find(|fault| fault["id"] == id);
        found.and_then(|fault: &Value| fault["hits"].as_u64()).unwrap_or(0)
    };
    // Those that struck a round ago hold nothing back any more.
    let mut gone = old;
    let mut own = std::mem::take(struck);
    let did = |one: &Struck| one.rule.is_none_or(|id| hits(id) > 0);
    let (now, later): (Vec<_>, Vec<_>) = waiting.drain(..).partition(|one| did(one));
    let (mine, mut next): (Vec<_>, Vec<_>) = own.drain(..).partition(|one| did(one));
    *struck = now.into_iter().chain(mine).collect();
    // A wire that loses frames would go on with it for as long as there are few, as while an address is asked for:
    // several of them together keep a network away that nobody has damaged.
    let (wires, others): (Vec<&Struck>, Vec<&Struck>) =
        struck.iter().partition(|one| one.fault.class == Class::Packet);
    machine.spent = others.iter().filter_map(|one| one.rule).collect();
    gone.extend(wires.iter().filter_map(|one| one.rule));
    for mut one in later {
        one.rounds += 1;
        if one.rounds < ROUNDS_WAITED {
            machine.waiting.push(one);
        } else {
            gone.extend(one.rule);
            one.done = None;
            struck.push(one);
        }
    }
    machine.waiting.append(&mut next);
    for id in gone {
        machine.control(&Request::FaultRemove { id: id as u32 });
    }
}

/// Why a round does not end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stuck {
    /// The guest does not even answer.
    Silent,
    /// These parts of the load do not go on.
    Parts(Vec<Part>),
    /// All that does not come right says so, as in this line.
    Refused(String),
    /// What is wrong with a service.
    Service(String),
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent => f.write_str("the guest does not take commands any more"),
            Self::Service(why) => f.write_str(why),
            Self::Refused(line) => write!(f, "the load ends with errors, again and again: {line}"),
            Self::Parts(parts) => {
                let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
                write!(f, "the load does not go on: {}", names.join(", "))
            }
        }
    }
}

/// Parts say where to look; all else is told with how the machine ended.
fn if_parts(stuck: Stuck, told: Stuck) -> Stuck {
    if matches!(stuck, Stuck::Parts(_)) { stuck } else { told }
}

/// Waits until every part of the load has done a piece of work right that was begun after the last fault.
fn come_through(machine: &mut Machine, events: &mut Vec<Event>) -> Result<(), Stuck> {
    machine.marks += 1;
    let end = format!("END {} ", machine.marks);
    machine.say(&format!("mark {}\n", end.trim_end()));
    let patience = machine.patience(PATIENCE);
    let mut ended = None;
    let mut missing: Vec<Part> = Part::ALL.to_vec();
    let mut refusal = String::new();
    let mut told = [0u32; Part::ALL.len()];
    while !missing.is_empty() || ended.is_none() {
        let Some(line) = machine.line(&patience) else {
            return Err(if ended.is_none() { Stuck::Silent } else { Stuck::Parts(missing) });
        };
        if let Some(time) = line.strip_prefix(&end) {
            ended = time.parse::<u64>().ok();
        } else if let Some(event) = event(&line, &machine.sum) {
            if let (Event::Work(work, _), Some(ended)) = (&event, ended)
                && work.began >= ended
            {
                match work.verdict {
                    Verdict::Right => missing.retain(|part| *part != work.part),
                    _ => {
                        told[work.part as usize] += 1;
                        refusal.clone_from(&line);
                    }
                }
            }
            events.push(event);
        }
        if !missing.is_empty() && missing.iter().all(|part| told[*part as usize] >= REFUSALS_MAX) {
            return Err(Stuck::Refused(refusal));
        }
    }
    Ok(())
}

fn event(line: &str, sum: &str) -> Option<Event> {
    if let Some(rest) = line.strip_prefix("F ") {
        return rest.split_once(' ')?.0.parse().ok().map(Event::Mark);
    }
    load::work(line, sum).map(|work| Event::Work(work, line.to_owned()))
}

/// Charges what went wrong to faults.
fn charge(struck: &mut [Struck], events: &[Event]) {
    let marked = |one: &Struck| {
        events.iter().any(|event| matches!(event, Event::Mark(seed) if *seed == one.fault.seed))
    };
    // Rules that were there before the round come before its first mark. After that faults are taken as their
    // marks come: the guest may be late with its own while we go on with ours.
    let mut begun: Vec<usize> = (0..struck.len()).filter(|at| !marked(&struck[*at])).collect();
    let mut losses = 0;
    for event in events {
        let (work, line) = match event {
            Event::Mark(seed) => {
                begun.extend(struck.iter().position(|one| one.fault.seed == *seed));
                continue;
            }
            Event::Work(work, line) => (work, line),
        };
        let outcome = match work.verdict {
            Verdict::Right => continue,
            Verdict::Told => Outcome::ReportedLoss,
            Verdict::Wrong => Outcome::SilentLoss,
        };
        let before = || begun.iter().rev().copied().filter(|at| did_strike(&struck[*at]));
        // A disk that is not there cannot be read: that belongs to the fault.
        let removed = |at: &usize| matches!(struck[*at].fault.step, Step::Removal { .. });
        if outcome == Outcome::ReportedLoss
            && work.part == Part::Read
            && before().any(|at| removed(&at))
        {
            continue;
        }
        let near = before().find(|at| work.part.uses(struck[*at].fault.target));
        let Some(at) = near.or_else(|| before().next()) else { continue };
        losses += 1;
        if struck[at].outcome < outcome && losses <= LOSSES_MAX {
            struck[at].outcome = outcome;
            struck[at].note = Some(line.clone());
        }
    }
}

/// Damage to a process that may go on with it.
fn is_damage(one: &Struck) -> bool {
    matches!(one.fault.step, Step::Inject(_)) && did_strike(one)
}

fn did_strike(one: &Struck) -> bool {
    one.done.is_some()
}

/// Restarts of each service, once all are well again.
fn services(machine: &mut Machine) -> Result<Restarts, String> {
    let patience = machine.patience(BACK_OFF);
    loop {
        let lines = machine.ask("list").ok_or("the services cannot be listed")?;
        match restarts(&lines) {
            Ok(now) if now.is_empty() => return Err("the services cannot be listed".into()),
            Ok(now) => return Ok(now),
            Err(label) if patience.left().is_zero() => return Err(format!("{label} is down")),
            Err(_) => machine.pause(Duration::from_millis(100)),
        }
    }
}

/// What became of the faults after which nothing was lost.
fn assign(struck: &mut [Struck], before: &[(String, u64)], now: &[(String, u64)]) {
    let count = |list: &[(String, u64)], label: &str| {
        list.iter().find(|(own, _)| own == label).map_or(0, |(_, restarts)| *restarts)
    };
    let mut deaths: Vec<(String, u64)> = now
        .iter()
        .map(|(label, restarts)| (label.clone(), restarts.saturating_sub(count(before, label))))
        .collect();
    for one in struck.iter_mut().filter(|one| did_strike(one)) {
        let service = one.fault.target.split('.').next().unwrap_or("");
        let died = deaths.iter_mut().find(|(label, left)| label == service && *left > 0);
        let outcome = match (died, &one.fault.step) {
            (Some((_, left)), _) => {
                *left -= 1;
                Outcome::Recovered
            }
            (None, Step::Rule(_) | Step::Removal { .. }) => Outcome::Tolerated,
            (None, Step::Guest(_) | Step::Inject(_)) => Outcome::NoEffect,
        };
        one.outcome = one.outcome.max(outcome);
    }
}

/// Charges what did not go on to the last fault that struck something on its way, or else to the last.
fn hung(struck: &mut [Struck], outcome: Outcome, why: &Stuck) {
    let parts = match why {
        Stuck::Parts(parts) => parts.as_slice(),
        _ => &[],
    };
    let near = |one: &Struck| parts.iter().any(|part| part.uses(one.fault.target));
    let near = struck.iter().rposition(|one| did_strike(one) && near(one));
    let last = near.or_else(|| struck.iter().rposition(did_strike)).unwrap_or(0);
    if let Some(last) = struck.get_mut(last) {
        last.outcome = outcome;
        last.note = Some(why.to_string());
    }
}

/// The machine cannot go on.
fn failed(mut struck: Vec<Struck>, outcome: Outcome, why: &Stuck) -> Judged {
    for one in struck.iter_mut().filter(|one| did_strike(one)) {
        one.outcome = one.outcome.max(Outcome::NoEffect);
    }
    hung(&mut struck, outcome, why);
    Judged { struck, healthy: false, threads: String::new(), said: String::new() }
}

/// Restarts what was damaged and went on, so that it does not answer for it in a later round.
fn clean(machine: &mut Machine, struck: &[Struck]) {
    let mut damaged: Vec<&str> = struck
        .iter()
        .filter(|one| is_damage(one))
        .filter(|one| one.outcome != Outcome::Recovered)
        .map(|one| one.fault.target)
        .collect();
    damaged.sort_unstable();
    damaged.dedup();
    let before = (!damaged.is_empty()).then(|| services(machine).ok()).flatten();
    for label in &damaged {
        // Those that keep nothing come back as they do from a crash, so that nobody above them notices.
        let how = if DRIVERS.contains(label) { "kill" } else { "restart" };
        machine.say(&format!("{how} {label}\n"));
    }
    if !damaged.is_empty()
        && let (Some(before), Ok(now)) = (before, services(machine))
    {
        // What died before is still to be counted in this round.
        machine.restarts = forgiven(&machine.restarts, &before, &now);
    }
    machine.count();
}

/// `counted` with the restarts that came between `before` and `now`.
fn forgiven(counted: &Restarts, before: &Restarts, now: &Restarts) -> Restarts {
    let of = |list: &Restarts, label: &str| list.iter().find(|one| one.0 == label).map(|one| one.1);
    let own = |(label, now): &(String, u64)| {
        let new = now.saturating_sub(of(before, label).unwrap_or(*now));
        (label.clone(), of(counted, label).unwrap_or(*now - new) + new)
    };
    now.iter().map(own).collect()
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
