//! `Query`: the state of the services as text.

use crate::functions::Location;
use crate::slot::{Reason, Slot, State};
use crate::system::Core;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::services::rs::query;

impl Core {
    /// The text of a query; at most `room` bytes of it fit. A history that does not fit loses its
    /// oldest lines, other texts their last.
    pub fn query(&self, kind: u32, name: &Name, room: usize, now: u64) -> Result<String> {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = match kind {
            query::LIST => self.list(&mut text),
            query::STATUS => self.status(&mut text, name, now)?,
            query::HISTORY => return self.deaths(name, room),
            query::CLASSES => self.classes(&mut text),
            query::FUNCTIONS => self.function_list(&mut text),
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

    fn status(&self, text: &mut String, name: &Name, now: u64) -> Result<core::fmt::Result> {
        if name.as_str() == "rs" {
            return Ok(write!(text, "label: rs\nstate: running\npid: {}\n", self.pid));
        }
        let slot = &self.slots[self.find(name).ok_or(Error::NoEnt)?];
        Ok(self.write_status(text, slot, now))
    }

    fn write_status(&self, text: &mut String, slot: &Slot, now: u64) -> core::fmt::Result {
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
        writeln!(text, "program: {}", manifest.program)?;
        writeln!(text, "class: {}", manifest.class.as_deref().unwrap_or("-"))?;
        writeln!(text, "location: {}", self.location(slot))?;
        writeln!(text, "priority: {}", manifest.priority)?;
        for (key, list) in
            [("needs", &manifest.needs), ("wants", &manifest.wants), ("calls", &manifest.calls)]
        {
            writeln!(
                text,
                "{key}: {}",
                if list.is_empty() { "-".to_string() } else { list.join(" ") }
            )?;
        }
        if let Some(death) = self.history.iter().rfind(|death| death.label == slot.label) {
            let (time, cause) = (death.time / 1000, death.cause);
            writeln!(text, "last death: {time} us, {}, {cause}", cause.name())?;
        }
        Ok(())
    }

    fn deaths(&self, name: &Name, room: usize) -> Result<String> {
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
            let (time, cause) = (death.time / 1000, death.cause);
            let down = death.down.map_or("-".to_string(), |down| (down / 1000).to_string());
            let line = format!("{time}\t{}\t{}\t{cause}\t{down}\n", death.label, cause.name());
            len += line.len();
            if len > room {
                break;
            }
            lines.push(line);
        }
        lines.reverse();
        Ok(lines.concat())
    }

    fn classes(&self, text: &mut String) -> core::fmt::Result {
        for (_, slot) in self.slots().filter(|(_, slot)| slot.state == State::Running) {
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
