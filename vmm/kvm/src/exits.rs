//! The last VM exits, always kept, and how many of each kind there were.
//!
//! Equal exits in a row (a guest polling a register) and text for the debug console are one record
//! with a count, so that they do not push out what led to them.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use xinim_abi::platform::PORT_DEBUGCON;

/// Records kept.
pub const KEPT: usize = 32;

/// What made the vCPU leave the guest, or a doorbell caught without an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    PortIn,
    PortOut,
    MmioRead,
    MmioWrite,
    Doorbell,
    Interrupted,
    Halt,
    Other,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::PortIn,
        Kind::PortOut,
        Kind::MmioRead,
        Kind::MmioWrite,
        Kind::Doorbell,
        Kind::Interrupted,
        Kind::Halt,
        Kind::Other,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::PortIn => "port-in",
            Kind::PortOut => "port-out",
            Kind::MmioRead => "mmio-read",
            Kind::MmioWrite => "mmio-write",
            Kind::Doorbell => "doorbell",
            Kind::Interrupted => "interrupted",
            Kind::Halt => "halt",
            Kind::Other => "other",
        }
    }
}

/// One exit, or several equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Since the start of the machine; of the last one.
    pub time: Duration,
    /// `None`: the I/O thread.
    pub vcpu: Option<u32>,
    pub kind: Kind,
    pub address: u64,
    pub size: u8,
    pub value: u64,
    pub rip: u64,
    pub count: u64,
}

impl Record {
    fn same(&self, other: &Self) -> bool {
        let key =
            |record: &Self| (record.vcpu, record.kind, record.address, record.size, record.rip);
        // What goes to the debug console is printed anyway.
        let text = self.kind == Kind::PortOut && self.address == u64::from(PORT_DEBUGCON);
        key(self) == key(other) && (text || self.value == other.value)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.time.as_secs_f64() * 1e3;
        write!(f, "{milliseconds:12.3} ms  ")?;
        match self.vcpu {
            Some(vcpu) => write!(f, "cpu{vcpu}  ")?,
            None => write!(f, "io    ")?,
        }
        let digits = 2 * usize::from(self.size.min(8));
        write!(f, "{:<11} {:#x}", self.kind.name(), self.address)?;
        if self.kind == Kind::Doorbell {
            write!(f, " queue {}", self.value)?;
        } else {
            write!(f, " = {:0digits$x}", self.value)?;
        }
        if self.vcpu.is_some() {
            write!(f, "  rip {:016x}", self.rip)?;
        }
        if self.count > 1 {
            write!(f, "  ({} times)", self.count)?;
        }
        Ok(())
    }
}

/// The newest [`KEPT`] records.
#[derive(Debug, Default)]
pub struct Ring {
    records: VecDeque<Record>,
}

impl Ring {
    pub fn push(&mut self, record: Record) {
        if let Some(last) = self.records.back_mut()
            && last.same(&record)
        {
            last.count += 1;
            last.time = record.time;
            return;
        }
        if self.records.len() == KEPT {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }
}

/// Exits by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts([u64; Kind::ALL.len()]);

impl Counts {
    pub fn add(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    pub fn merge(&mut self, other: &Counts) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// Kinds that occurred, by name.
    pub fn named(&self) -> Vec<(String, u64)> {
        Kind::ALL
            .iter()
            .map(|kind| (kind.name().to_owned(), self.0[*kind as usize]))
            .filter(|(_, count)| *count != 0)
            .collect()
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
