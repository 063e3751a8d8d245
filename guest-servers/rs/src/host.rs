//! What the logic asks of the system around it.

use crate::core_file::Dead;
use crate::{Function, ProgramId, SlotId};
use core::fmt;
use xinim_abi::error::{Error, Result};
use xinim_abi::info::Pulse;
use xinim_abi::interface::Name;
use xinim_abi::ipc::ReplyToken;
use xinim_abi::object::Handle;
use xinim_manifest::Manifest;

/// A new instance of a service.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    pub slot: SlotId,
    /// Comes back in the obituary, see [`crate::Core::died`].
    pub cookie: u64,
    pub label: Name,
    pub manifest: &'a Manifest,
    pub function: Option<&'a Function>,
    /// Instead of the manifest's program, where not 0.
    pub program: ProgramId,
    /// Highest one of its threads.
    pub priority: u8,
    pub incarnation: u32,
    /// Of the service's handle to RS.
    pub badge: u64,
}

/// What a caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The endpoint of a slot's instance, to be minted with `badge`.
    Found {
        slot: SlotId,
        pid: u32,
        badge: u64,
    },
    /// RS's own endpoint as programs get it.
    FoundRs,
    Announced,
    /// To a spare: it is the instance now.
    Started,
    Controlled {
        pid: u32,
    },
    Spawned {
        slot: SlotId,
        pid: u32,
        label: Name,
        badge: u64,
    },
    FunctionAdded,
    FunctionsDone,
    Complained,
    Updated {
        pid: u32,
        rolled_back: bool,
    },
    Error(Error),
}

/// How the system ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    PowerOff,
    Reboot,
    /// RS itself is to die; the kernel does what is left to do.
    Fall,
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time it ran, ns.
    pub cpu: u64,
    /// Frames mapped.
    pub frames: u64,
    pub handles: u32,
    pub threads: u32,
    /// System calls that the kernel refused.
    pub refused: u64,
}

/// System calls, as the logic sees them. None may block.
pub trait Host {
    /// Nanoseconds since boot.
    fn now(&self) -> u64;
    /// Makes endpoint and process of an instance and starts it; its process id. `NoEnt`, `NoExec`:
    /// the program is not there or none, trying again is of no use.
    fn launch(&mut self, launch: &Launch<'_>) -> Result<u32>;
    /// Makes the process of an instance that will be launched later with the same words, and (`standby`)
    /// starts it, so that it gets ready and asks to `Standby`; its process id. It belongs to the slot until
    /// it is launched, or given up with [`Host::drop_spare`] or [`Host::discard`]; one that does not fit its
    /// launch is ended there.
    fn prepare(&mut self, launch: &Launch<'_>, standby: bool) -> Option<u32>;
    /// The slot's spare is ready: the request is answered when it is launched.
    fn stand_by(&mut self, slot: SlotId, token: ReplyToken);
    /// The slot's spare is not wanted, or dead.
    fn drop_spare(&mut self, slot: SlotId);
    /// What a spare uses; zeros where there is none.
    fn spare_usage(&self, slot: SlotId) -> Usage {
        let _ = slot;
        Usage::default()
    }
    /// So little memory is free that there should be no spares.
    fn memory_is_short(&self) -> bool {
        false
    }
    /// Ends the instance's process; the obituary comes later.
    fn kill(&mut self, slot: SlotId);
    /// Raises bits on the instance's endpoint.
    fn notify(&mut self, slot: SlotId, bits: u64);
    /// Asks whether the instance still comes to its endpoint, see `syscall::PROBE`. `None`: it is dead,
    /// its obituary is on its way.
    fn probe(&mut self, slot: SlotId) -> Option<(u64, Pulse)>;
    /// What the instance uses; zeros for one that is dead.
    fn usage(&self, slot: SlotId) -> Usage;
    /// The instance is dead: closes the handles to it.
    fn forget(&mut self, slot: SlotId);
    /// Keeps the memory of the dead instance for a core, and forgets the rest of it.
    fn keep_core(&mut self, slot: SlotId, dead: &Dead<'_>) {
        let _ = dead;
        self.forget(slot);
    }
    /// Bytes of the newest core of a service, if one is kept.
    fn core_len(&self, label: &Name) -> Option<u64> {
        let _ = label;
        None
    }
    /// The slot is gone: closes what was kept for its next instance.
    fn retire(&mut self, slot: SlotId);
    /// The memory kept for the slot's instances is not for the next one.
    fn discard(&mut self, slot: SlotId);
    /// Nobody is started from this program any more (0: nothing to do).
    fn drop_program(&mut self, program: ProgramId);
    /// A handle is not needed any more.
    fn close(&mut self, handle: Handle);
    fn answer(&mut self, token: ReplyToken, answer: Answer);
    /// To the log, and wherever an operator may look.
    fn alert(&mut self, text: &str);
    fn log(&mut self, line: fmt::Arguments<'_>);
    /// A service has come to `what` (`xinim_abi::trace::life`); for a trace.
    fn life(&mut self, label: Name, what: u16) {
        let _ = (label, what);
    }
    fn end(&mut self, end: End);
}
