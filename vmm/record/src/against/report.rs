//! What was compared and what was different.

use super::known::{Known, known};

/// Kinds of differences that are kept; there are a handful.
const KINDS: usize = 256;

/// Something that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What: a register read, memory, an interrupt, in words without numbers that vary.
    pub what: String,
    /// Of a register: the bits that differ.
    pub bits: Option<u64>,
    pub ours: String,
    pub theirs: String,
    /// The call at which it was first seen.
    pub call: String,
    pub count: u64,
}

impl Difference {
    pub fn new(what: String, ours: String, theirs: String) -> Self {
        Self { what, bits: None, ours, theirs, call: String::new(), count: 1 }
    }

    pub fn bits(mut self, bits: u64) -> Self {
        self.bits = Some(bits);
        self
    }
}

/// The sums of one device's comparison.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Register reads and bytes of memory.
    pub compared: u64,
    pub completions: u64,
    pub requests: u64,
    pub frames: u64,
    pub interrupts: u64,
    /// Reads of registers that tell of work under way, while one side was ahead.
    pub ahead: u64,
    pub differences: Vec<Difference>,
}

impl Report {
    /// Notes a difference found in a call.
    pub fn differ(&mut self, call: &str, mut found: Difference) {
        let room = self.differences.len() < KINDS;
        match self.differences.iter_mut().find(|d| d.what == found.what) {
            Some(known) => {
                known.count += 1;
                if let (Some(all), Some(bits)) = (&mut known.bits, found.bits) {
                    *all |= bits;
                }
            }
            None if room => {
                found.call = call.to_owned();
                self.differences.push(found);
            }
            None => {}
        }
    }

    pub fn has_seen(&self, what: &str) -> bool {
        self.differences.iter().any(|d| d.what == what)
    }

    /// Each difference with what is known of it, by the PCI device id.
    pub fn explained(&self, device: u16) -> Vec<(&Difference, Option<&'static Known>)> {
        self.differences.iter().map(|d| (d, known(device, d))).collect()
    }
}
