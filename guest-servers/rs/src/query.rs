//! `Query`: the state of the services as text.

use crate::functions::Location;
use crate::history::{CAUSE_NAMES, Death};
use crate::host::{Host, Usage};
use crate::slot::{Reason, Slot, State};
use crate::system::Core;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::services::rs::query;
use xinim_manifest::Escalate;

impl Core {
    /// The text of a query; at most `room` bytes of it fit. A history that does not fit loses its
    /// oldest lines, other texts their last.
    pub fn query(&self, host: &impl Host, kind: u32, name: &Name, room: usize) -> Result<String> {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = match kind {
            query::LIST => self.list(&mut text),
            query::STATUS => self.status(&mut text, host, name)?,
            query::HISTORY => return self.deaths(name, room, death_line),
            query::RESTARTS => return self.deaths(name, room, restart_line),
            query::CLASSES => self.classes(&mut text),
            query::FUNCTIONS => self.function_list(&mut text),
            query::ALERTS => self.alert_list(&mut text),
            query::GRAPH => self.graph(&mut text),
            query::STATISTICS => self.statistics(&mut text, host),
            _ => return Err(Error::Inval),
        };
        if text.len() > room {
            let end = text[..room].rfind('\n').map_or(0, |at| at + 1);
            text.truncate(end);
        }
        Ok(text)
    }

    fn location(&self, slot: &Slot) -> String {
        slot.function
            .map_or("-".to_string(), |at| Location(self.functions[at].location).to_string())
    }

    fn list(&self, text: &mut String) -> core::fmt::Result {
        writeln!(text, "rs\trunning\t{}\t0\tsbin/rs\t-", self.pid)?;
        for (_, slot) in self.slots() {
            let program = &self.catalog.get(slot.manifest).program;
            let (label, state, location) = (slot.label, slot.state.name(), self.location(slot));
            let (pid, restarts) = (slot.pid, slot.restarts);
            writeln!(text, "{label}\t{state}\t{pid}\t{restarts}\t{program}\t{location}")?;
        }
        Ok(())
    }

    fn status(
        &self,
        text: &mut String,
        host: &impl Host,
        name: &Name,
    ) -> Result<core::fmt::Result> {
        if name.as_str() == "rs" {
            return Ok(write!(text, "label: rs\nstate: running\npid: {}\n", self.pid));
        }
        let id = self.find(name).ok_or(Error::NoEnt)?;
        let usage = match self.slots[id].state.is_live() {
            true => host.usage(id),
            false => Usage::default(),
        };
        let core = host.core_len(&self.slots[id].label);
        let written = self.write_status(text, &self.slots[id], (&usage, core), host.now());
        let spare = self.slots[id].spare;
        let kib = host.spare_usage(id).frames * 4;
        Ok(written.and_then(|()| match spare.pid() {
            Some(pid) => writeln!(text, "spare: {}, process {pid}, {kib} KiB mapped", spare.name()),
            None => writeln!(text, "spare: {}", spare.name()),
        }))
    }

    fn write_status(
        &self,
        text: &mut String,
        slot: &Slot,
        (usage, core): (&Usage, Option<u64>),
        now: u64,
    ) -> core::fmt::Result {
        let manifest = self.catalog.get(slot.manifest);
        writeln!(text, "label: {}", slot.label)?;
        writeln!(text, "state: {}", slot.state.name())?;
        if let State::Failed(reason) = slot.state {
            writeln!(text, "reason: {}", self.explain(reason))?;
        }
        writeln!(text, "since: {} us", slot.since / 1000)?;
        writeln!(text, "for: {} us", now.saturating_sub(slot.since) / 1000)?;
        writeln!(text, "pid: {}", slot.pid)?;
        writeln!(text, "incarnation: {}", slot.incarnation)?;
        writeln!(text, "restarts: {}", slot.restarts)?;
        writeln!(text, "crashes in a row: {} of {}", slot.failures, manifest.restart.limit)?;
        let statistics = &slot.statistics;
        writeln!(text, "crashes: {}", statistics.crashes)?;
        writeln!(text, "causes: {}", or_dash(&causes(slot)))?;
        match core {
            Some(len) => writeln!(text, "core: {len} bytes, see service core {}", slot.label)?,
            None => writeln!(text, "core: none")?,
        }
        writeln!(text, "down: {} us", statistics.down / 1000)?;
        writeln!(text, "longest down: {} us", statistics.longest_down / 1000)?;
        writeln!(text, "longest detection: {} us", statistics.detection / 1000)?;
        match (manifest.heartbeat, slot.state) {
            (0, _) => writeln!(text, "heartbeat: none")?,
            (ms, State::Running) => {
                let ago = now.saturating_sub(slot.health.beat) / 1000;
                writeln!(text, "heartbeat: within {ms} ms, last {ago} us ago")?;
            }
            (ms, _) => writeln!(text, "heartbeat: within {ms} ms")?,
        }
        let limit =
            |limit: Option<u32>| limit.map_or("none".to_string(), |mib| format!("{mib} MiB"));
        writeln!(text, "memory: {} KiB, limit {}", usage.frames * 4, limit(manifest.memory))?;
        writeln!(text, "dma limit: {}", limit(manifest.dma))?;
        let budget = manifest.cpu.map_or("no limit".to_string(), |cpu| {
            format!("limit {} % of {} ms", cpu.percent, cpu.window)
        });
        writeln!(text, "cpu: {} us, {budget}", usage.cpu / 1000)?;
        writeln!(text, "handles: {} of {}", usage.handles, manifest.handles)?;
        writeln!(text, "threads: {}", usage.threads)?;
        writeln!(text, "refused: {}", statistics.refused + usage.refused)?;
        let escalate = match manifest.escalate {
            Escalate::None => "none",
            Escalate::RestartDependents => "restart-dependents",
            Escalate::Alert => "alert",
            Escalate::SafeMode => "safe-mode",
            Escalate::Reboot => "reboot",
        };
        writeln!(text, "escalate: {escalate}")?;
        writeln!(text, "safe: {}", manifest.safe)?;
        for alert in self.alerts.iter().filter(|alert| alert.text.contains(slot.label.as_str())) {
            writeln!(text, "alert: {} us, {}", alert.time / 1000, alert.text)?;
        }
        writeln!(text, "program: {}", manifest.program)?;
        writeln!(text, "class: {}", manifest.class.as_deref().unwrap_or("-"))?;
        writeln!(text, "location: {}", self.location(slot))?;
        let demoted = if slot.demoted { ", behind the programs after a hog" } else { "" };
        writeln!(text, "priority: {}{demoted}", manifest.priority)?;
        for (key, list) in
            [("needs", &manifest.needs), ("wants", &manifest.wants), ("calls", &manifest.calls)]
        {
            writeln!(text, "{key}: {}", or_dash(&list.join(" ")))?;
        }
        if let Some(death) = self.history.iter().rfind(|death| death.label == slot.label) {
            let (time, cause) = (death.time / 1000, death.cause);
            writeln!(text, "last death: {time} us, {}, {cause}", cause.name())?;
        }
        Ok(())
    }

    /// A line for each death, of one service or (empty name) of all.
    fn deaths(&self, name: &Name, room: usize, line: fn(&Death) -> String) -> Result<String> {
        if !name.as_str().is_empty()
            && self.find(name).is_none()
            && !self.history.iter().any(|death| death.label == *name)
        {
            return Err(Error::NoEnt);
        }
        let mut lines = alloc::vec::Vec::new();
        let mut len = 0;
        for death in self.history.iter().rev() {
            if !name.as_str().is_empty() && death.label != *name {
                continue;
            }
            let line = line(death);
            len += line.len();
            if len > room {
                break;
            }
            lines.push(line);
        }
        lines.reverse();
        Ok(lines.concat())
    }

    fn alert_list(&self, text: &mut String) -> core::fmt::Result {
        self.alerts.iter().try_for_each(|a| writeln!(text, "{}\t{}", a.time / 1000, a.text))
    }

    fn graph(&self, text: &mut String) -> core::fmt::Result {
        for &index in self.catalog.order() {
            let from = &self.catalog.get(index).label;
            for (kind, targets) in self.catalog.relations(index) {
                for target in targets {
                    writeln!(text, "{from}\t{kind}\t{}", self.catalog.get(target).label)?;
                }
            }
        }
        Ok(())
    }

    fn statistics(&self, text: &mut String, host: &impl Host) -> core::fmt::Result {
        let now = host.now();
        for (id, slot) in self.slots() {
            let usage = if slot.state.is_live() { host.usage(id) } else { Usage::default() };
            let (label, state, pid, statistics) =
                (slot.label, slot.state.name(), slot.pid, &slot.statistics);
            let (crashes, restarts) = (statistics.crashes, slot.restarts);
            let us = |ns: u64| ns / 1000;
            let (down, longest) = (us(statistics.down), us(statistics.longest_down));
            let (detection, cpu) = (us(statistics.detection), us(usage.cpu));
            let (memory, refused) = (usage.frames * 4, statistics.refused + usage.refused);
            let watched = slot.state == State::Running && slot.health.next != u64::MAX;
            let beat = match watched {
                true => us(now.saturating_sub(slot.health.beat)).to_string(),
                false => "-".to_string(),
            };
            let causes = causes(slot);
            let causes = or_dash(&causes);
            writeln!(
                text,
                "{label}\t{state}\t{pid}\t{crashes}\t{restarts}\t{down}\t{longest}\t{detection}\t\
                 {cpu}\t{memory}\t{beat}\t{refused}\t{causes}"
            )?;
        }
        Ok(())
    }

    fn classes(&self, text: &mut String) -> core::fmt::Result {
        // One that died and comes back is there: a look-up waits for it.
        let there =
            |slot: &Slot| slot.state == State::Running || slot.was_up && slot.state.is_coming();
        for (_, slot) in self.slots().filter(|(_, slot)| there(slot)) {
            if let Some(class) = &self.catalog.get(slot.manifest).class {
                writeln!(text, "{class}\t{}", slot.label)?;
            }
        }
        Ok(())
    }

    fn function_list(&self, text: &mut String) -> core::fmt::Result {
        for function in &self.functions {
            let label = match function.slot {
                Some(slot) => self.slots[slot].label.to_string(),
                None => "-".to_string(),
            };
            let (vendor, device) = (function.id & 0xFFFF, function.id >> 16);
            writeln!(
                text,
                "{}\t{vendor:04x}:{device:04x}\t{:06x}\t{label}",
                Location(function.location),
                function.class
            )?;
        }
        Ok(())
    }

    /// A reason in words.
    pub(crate) fn explain(&self, reason: Reason) -> String {
        match reason {
            Reason::CrashLoop { crashes } => format!("crashed {crashes} times in a row"),
            Reason::Crashed => "crashed, and is not to be restarted".to_string(),
            Reason::Program(error) => format!("its program cannot be started: {error}"),
            Reason::Needs(target) => {
                format!("needs {}, which is not running", self.catalog.get(target).label)
            }
        }
    }
}

fn death_line(death: &Death) -> String {
    let (time, cause, down) = (death.time / 1000, death.cause, span(death.down));
    format!("{time}\t{}\t{}\t{cause}\t{down}\n", death.label, cause.name())
}

/// From the death to RS's hearing of it, on to the start, its length, on to the announcement; the sum.
fn restart_line(death: &Death) -> String {
    let (time, heard) = (death.time / 1000, death.time + death.detected);
    let launch = death.launch;
    let made = launch.map_or("-", |launch| launch.made.name());
    let waited = span(launch.map(|launch| launch.begun.saturating_sub(heard)));
    let launching = span(launch.map(|launch| launch.done.saturating_sub(launch.begun)));
    let up = launch
        .zip(death.down)
        .map(|(launch, down)| (death.time + down).saturating_sub(launch.done));
    let (heard, up, down) = (death.detected / 1000, span(up), span(death.down));
    format!("{time}\t{}\t{made}\t{heard}\t{waited}\t{launching}\t{up}\t{down}\n", death.label)
}

/// A time in us, if there is one.
fn span(ns: Option<u64>) -> String {
    ns.map_or("-".to_string(), |ns| (ns / 1000).to_string())
}

/// What a slot's instances died of: `fault 2, hung 1`.
fn causes(slot: &Slot) -> String {
    let counts = CAUSE_NAMES.iter().zip(slot.statistics.causes).filter(|(_, count)| *count > 0);
    let texts: alloc::vec::Vec<String> =
        counts.map(|(name, count)| format!("{name} {count}")).collect();
    texts.join(", ")
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
