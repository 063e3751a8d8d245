//! When things happened in a run, for `bench`: written as JSON to the file of `--stats`.
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`, which a parent process can subtract its own from.

use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use xinim_machine::RunStats;

use crate::error::Error;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunLog {
    pub engine: String,
    /// `main` began.
    pub started_ns: u64,
    /// The (last) machine was handed to the engine.
    pub engine_called_ns: u64,
    /// Just before the first vCPU instruction; `None` where the engine cannot tell.
    pub first_instruction_ns: Option<u64>,
    pub ended_ns: u64,
    /// VM exits to user space by kind.
    pub exits: Vec<(String, u64)>,
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl RunLog {
    pub fn start() -> Self {
        Self { started_ns: now_ns(), ..Self::default() }
    }

    pub fn engine(&mut self, name: &str) {
        self.engine = name.to_owned();
    }

    pub fn engine_called(&mut self) {
        self.engine_called_ns = now_ns();
    }

    pub fn ended(&mut self, stats: &RunStats) {
        self.ended_ns = now_ns();
        let after = stats.to_first_instruction.map(|time| time.as_nanos() as u64);
        self.first_instruction_ns = after.map(|after| self.engine_called_ns + after);
        self.exits = stats.exits.clone();
    }

    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        std::fs::write(path, text).map_err(|e| Error::file("write", path, e))
    }
}
