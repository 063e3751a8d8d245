//! Deaths of services: when, of what, and how long each was down.

use crate::HISTORY_MAX;
use crate::slot::Doom;
use alloc::collections::VecDeque;
use core::fmt;
use xinim_abi::event::{Obituary, cause};
use xinim_abi::interface::Name;

/// What an instance died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Exit {
        status: i64,
    },
    Fault {
        vector: u64,
        address: u64,
        rip: u64,
    },
    /// By the operator (`service kill`).
    Killed,
    /// A fault that the operator injected.
    Injected {
        address: u64,
        rip: u64,
    },
    /// Did not announce itself in time.
    StartTimeout,
    /// Did not come to its endpoint any more.
    Hung,
    /// Used more of the processor than its manifest allows.
    CpuHog {
        percent: u32,
    },
    /// Broke its protocol, another service says.
    Complaint {
        by: Name,
        code: u32,
    },
    /// Asked to end, by `service stop` or `restart`; status.
    Stopped {
        status: i64,
    },
    /// Asked to end, and killed because it did not.
    StopTimeout,
}

impl Cause {
    /// As the kernel tells it; `by_hand`: the operator had a hand in it.
    pub(crate) fn of(obituary: &Obituary, by_hand: bool) -> Self {
        let (address, rip) = (obituary.address, obituary.registers.rip);
        match obituary.cause {
            cause::FAULT if by_hand => Cause::Injected { address, rip },
            cause::FAULT => Cause::Fault { vector: obituary.vector, address, rip },
            cause::KILLED => Cause::Killed,
            _ => Cause::Exit { status: obituary.code },
        }
    }

    /// Causes are counted by this number.
    pub(crate) fn number(&self) -> usize {
        CAUSE_NAMES.iter().position(|name| *name == self.name()).unwrap_or(0)
    }

    /// Nobody asked for this end, or it was asked for as a crash.
    pub(crate) fn is_crash(&self) -> bool {
        !matches!(self, Cause::Stopped { .. } | Cause::StopTimeout | Cause::Exit { status: 0 })
    }

    /// It kept the processor from others.
    pub(crate) fn is_hog(&self) -> bool {
        matches!(self, Cause::CpuHog { .. } | Cause::StartTimeout)
    }

    /// Where it was tells something: it crashed, or was killed for what it did.
    pub(crate) fn leaves_core(&self) -> bool {
        self.is_crash() && !matches!(self, Cause::Exit { .. } | Cause::Killed)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Cause::Exit { .. } => "exit",
            Cause::Fault { .. } => "fault",
            Cause::Killed => "killed",
            Cause::Injected { .. } => "injected",
            Cause::StartTimeout => "start-timeout",
            Cause::Stopped { .. } => "stopped",
            Cause::StopTimeout => "stop-timeout",
            Cause::Hung => "hung",
            Cause::CpuHog { .. } => "cpu-hog",
            Cause::Complaint { .. } => "complaint",
        }
    }
}

/// Kinds of causes.
pub(crate) const CAUSES: usize = CAUSE_NAMES.len();
pub(crate) const CAUSE_NAMES: [&str; 10] = [
    "exit",
    "fault",
    "killed",
    "injected",
    "start-timeout",
    "hung",
    "cpu-hog",
    "complaint",
    "stopped",
    "stop-timeout",
];

impl From<Doom> for Cause {
    fn from(doom: Doom) -> Self {
        match doom {
            Doom::StartTimeout => Cause::StartTimeout,
            Doom::StopTimeout => Cause::StopTimeout,
            Doom::Hung => Cause::Hung,
            Doom::CpuHog { percent } => Cause::CpuHog { percent },
            Doom::Complaint { by, code } => Cause::Complaint { by, code },
        }
    }
}

/// The detail behind [`Cause::name`].
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Exit { status } | Cause::Stopped { status } => write!(f, "status {status}"),
            Cause::Fault { vector, address, rip } => {
                let name = exception(*vector);
                match vector {
                    14 => write!(f, "{name} at {address:#x}, rip {rip:#x}"),
                    _ => write!(f, "{name}, rip {rip:#x}"),
                }
            }
            Cause::Injected { address, rip } => {
                write!(f, "page fault at {address:#x}, rip {rip:#x}")
            }
            Cause::CpuHog { percent } => write!(f, "{percent} % of the processor"),
            Cause::Complaint { by, code } => write!(f, "by {by}, code {code}"),
            Cause::Killed | Cause::StartTimeout | Cause::StopTimeout | Cause::Hung => {
                f.write_str("-")
            }
        }
    }
}

/// Names of the exceptions a user program can raise (SDM vol. 3, table 7-1).
fn exception(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "no FPU",
        10..=12 => "segment fault",
        13 => "general protection fault",
        14 => "page fault",
        16 | 19 => "floating-point error",
        17 => "alignment check",
        _ => "exception",
    }
}

/// One death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// ns since boot.
    pub time: u64,
    pub label: Name,
    pub pid: u32,
    pub cause: Cause,
    /// ns from the death to RS's hearing of it.
    pub detected: u64,
    /// How the next instance was started, once it was.
    pub launch: Option<Launched>,
    /// ns until the next instance announced itself; `None` while there is none.
    pub down: Option<u64>,
}

/// What a new instance's process was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Made then.
    New,
    /// Made ahead, and started then.
    Ahead,
    /// Made ahead, and standing by.
    Spare,
}

impl Made {
    pub fn name(self) -> &'static str {
        match self {
            Made::New => "new",
            Made::Ahead => "ahead",
            Made::Spare => "spare",
        }
    }
}

/// The start of an instance after a death. Times are ns since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    pub made: Made,
    /// RS turned to it.
    pub begun: u64,
    /// Its process was there and could run.
    pub done: u64,
}

/// The last [`HISTORY_MAX`] deaths.
#[derive(Clone, Debug, Default)]
pub struct History {
    deaths: VecDeque<Death>,
    total: u64,
}

impl History {
    /// With the memory for all it will ever keep: what a system holds then does not depend on how many
    /// have died.
    pub(crate) fn with_room() -> Self {
        Self { deaths: VecDeque::with_capacity(HISTORY_MAX), total: 0 }
    }

    pub fn add(&mut self, death: Death) {
        if self.deaths.len() == HISTORY_MAX {
            self.deaths.pop_front();
        }
        self.deaths.push_back(death);
        self.total += 1;
    }

    /// An instance was started: the service's last death, if that is open, is told how.
    pub fn launched(&mut self, label: Name, launch: Launched) {
        let mut deaths = self.deaths.iter_mut().rev();
        if let Some(death) = deaths.find(|death| death.label == label)
            && death.down.is_none()
        {
            death.launch = Some(launch);
        }
    }

    /// The service is up again: its open deaths get their down time. The last one's.
    pub fn recovered(&mut self, label: Name, now: u64) -> Option<u64> {
        let mut last = None;
        for death in self.deaths.iter_mut().rev().filter(|death| death.label == label) {
            if death.down.is_some() {
                break;
            }
            let down = now.saturating_sub(death.time);
            death.down = Some(down);
            last = last.or(Some(down));
        }
        last
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Death> {
        self.deaths.iter()
    }

    /// Deaths since boot.
    pub fn total(&self) -> u64 {
        self.total
    }
}
