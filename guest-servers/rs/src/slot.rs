//! One instance of a service, through all its lives.

use crate::health::Health;
use crate::history::CAUSES;
use crate::spare::Spare;
use crate::update::{ProgramId, Update};
use alloc::vec::Vec;
use xinim_abi::error::Error;
use xinim_abi::interface::Name;
use xinim_abi::ipc::ReplyToken;
use xinim_manifest::Index;

/// Number of a slot. The number in its badges is one more (0 stands for programs).
pub type SlotId = usize;

/// See the diagram in the crate's head. Times are ns since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running and not asked to: stopped by hand, or ended by itself.
    Dead,
    /// For its first use.
    Idle,
    /// For what it needs and wants.
    Waiting,
    /// Has a process that has not announced itself.
    Starting {
        deadline: u64,
    },
    Running,
    /// Asked to end; killed at the deadline.
    Stopping {
        deadline: u64,
        restart: bool,
    },
    /// Died; starts again at this time.
    Crashed {
        until: u64,
    },
    /// As `Starting`, after a crash.
    Recovering {
        deadline: u64,
    },
    /// Will not be started again by itself.
    Failed(Reason),
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Dead => "dead",
            State::Idle => "idle",
            State::Waiting => "waiting",
            State::Starting { .. } => "starting",
            State::Running => "running",
            State::Stopping { .. } => "stopping",
            State::Crashed { .. } => "crashed",
            State::Recovering { .. } => "recovering",
            State::Failed(_) => "failed",
        }
    }

    /// Has a process.
    pub fn is_live(self) -> bool {
        matches!(
            self,
            State::Starting { .. }
                | State::Running
                | State::Stopping { .. }
                | State::Recovering { .. }
        )
    }

    /// Will run sooner or later if nothing goes wrong.
    pub fn is_coming(self) -> bool {
        matches!(
            self,
            State::Waiting
                | State::Starting { .. }
                | State::Crashed { .. }
                | State::Recovering { .. }
                | State::Stopping { restart: true, .. }
        )
    }
}

/// Why a service has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Crashed more often than its manifest allows.
    CrashLoop { crashes: u32 },
    /// It crashed, and its restart policy is `never`.
    Crashed,
    /// Its program cannot be started.
    Program(Error),
    /// A service it needs is not there.
    Needs(Index),
}

/// Of a slot since boot. Times in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Deaths that nobody asked for, or that were asked for as a crash.
    pub crashes: u32,
    /// Without an instance that was up, after a crash, and the longest time at a stretch.
    pub down: u64,
    pub longest_down: u64,
    /// Longest time from a death to RS's hearing of it.
    pub detection: u64,
    /// Deaths by `Cause::number`.
    pub causes: [u32; CAUSES],
    /// System calls of instances that are dead which the kernel refused, and requests that RS refused.
    pub refused: u64,
}

/// Why RS kills an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// It did not announce itself in time.
    StartTimeout,
    /// It did not end in time when it was asked to.
    StopTimeout,
    /// It does not come to its endpoint any more.
    Hung,
    /// It used this much of the processor, percent.
    CpuHog { percent: u32 },
    /// Another service says that it breaks their protocol.
    Complaint { by: Name, code: u32 },
}

/// A `Control` or `Spawn` that is answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub token: ReplyToken,
    pub until: Until,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The service runs: answered with its process id.
    Running,
    /// The instance has ended: answered with its process id.
    Gone,
    /// A spawned instance runs; the spawner's label number.
    Spawned { caller: u64 },
}

/// A look-up that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub token: ReplyToken,
    /// Badge of the handle that will be answered.
    pub badge: u64,
}

/// See [`crate::Core`].
#[derive(Clone, Debug)]
pub struct Slot {
    /// Empty in a slot that is free.
    pub label: Name,
    pub manifest: Index,
    /// Its PCI function, by index into the core's table.
    pub function: Option<usize>,
    pub state: State,
    /// Of the live instance, or 0.
    pub pid: u32,
    /// Instances that were started before this one.
    pub incarnation: u32,
    /// Restarts after a death that nobody asked for, or that was asked for as a crash.
    pub restarts: u32,
    /// When the state was entered.
    pub since: u64,
    /// Crashes in a row, as the restart policy counts them.
    pub(crate) failures: u32,
    /// Processes started in this slot, to tell their obituaries apart.
    pub(crate) launches: u32,
    /// The operator killed this instance, or injected a fault: no fault of the service.
    pub(crate) by_hand: bool,
    /// It is killed for its core.
    pub(crate) dump: bool,
    /// Why RS has killed it.
    pub(crate) doom: Option<Doom>,
    /// It has to run behind the programs: an earlier instance took more of the processor than it may.
    pub(crate) demoted: bool,
    pub(crate) health: Health,
    /// What its instances are started from.
    pub(crate) program: ProgramId,
    pub(crate) update: Option<Update>,
    /// The process of the next instance.
    pub(crate) spare: Spare,
    /// Spares that were lost in a row.
    pub(crate) spare_losses: u32,
    pub statistics: Statistics,
    /// Started by `Spawn`: whose label number; such a slot is freed when it ends.
    pub(crate) spawner: Option<u64>,
    /// The spawner knows it: looked it up, or had it spawned, since its own last start.
    pub(crate) adopted: bool,
    /// Those that need it were restarted for its sake; forgiven with its crashes.
    pub(crate) escalated: bool,
    /// Died and was not up since.
    pub(crate) crashed: bool,
    /// Has announced itself at least once.
    pub(crate) was_up: bool,
    /// Blocks in a `Shutdown` call, so it cannot hear `TERMINATE`.
    pub(crate) shutting_down: bool,
    pub(crate) lookups: Vec<Lookup>,
    pub(crate) waiters: Vec<Waiter>,
}

impl Slot {
    pub(crate) fn new(label: Name, manifest: Index, now: u64) -> Self {
        Slot {
            label,
            manifest,
            function: None,
            state: State::Waiting,
            pid: 0,
            incarnation: 0,
            restarts: 0,
            since: now,
            failures: 0,
            launches: 0,
            by_hand: false,
            dump: false,
            doom: None,
            demoted: false,
            health: Health::default(),
            program: 0,
            update: None,
            spare: Spare::None,
            spare_losses: 0,
            statistics: Statistics::default(),
            spawner: None,
            adopted: false,
            escalated: false,
            crashed: false,
            was_up: false,
            shutting_down: false,
            lookups: Vec::new(),
            waiters: Vec::new(),
        }
    }

    pub(crate) fn enter(&mut self, state: State, now: u64) {
        self.state = state;
        self.since = now;
    }
}
