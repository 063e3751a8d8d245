//! Records of the `info` system call, for procfs, `ps`, `free` and leak tests.

/// What to read; the argument after it is an index where "n" is said.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`SystemInfo`], index ignored.
    System = 1,
    /// [`ProcessInfo`] of the first live process whose pid is at least the index; `NoEnt` past
    /// the last.
    Process = 2,
    /// [`InterruptInfo`] of the first interrupt in use whose vector is at least the index.
    Interrupt = 3,
}

impl Kind {
    pub fn from_u64(value: u64) -> Option<Self> {
        Some(match value {
            1 => Kind::System,
            2 => Kind::Process,
            3 => Kind::Interrupt,
            _ => return None,
        })
    }
}

/// Frames, objects and totals. Frames are 4 KiB.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct SystemInfo {
    pub frames_total: u64,
    pub frames_free: u64,
    /// Held for the devices of dead drivers.
    pub frames_quarantined: u64,
    /// Used by the kernel itself: tables, page tables, stacks.
    pub frames_kernel: u64,
    pub processes: u32,
    pub threads: u32,
    pub endpoints: u32,
    pub memory_objects: u32,
    pub interrupts: u32,
    pub devices: u32,
    pub idle_ns: u64,
    pub uptime_ns: u64,
    pub context_switches: u64,
    pub system_calls: u64,
}

#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct ProcessInfo {
    pub pid: u32,
    pub parent: u32,
    pub threads: u32,
    pub handles: u32,
    /// State of the first thread: see [`state`].
    pub state: u32,
    pub priority: u32,
    pub cpu_ns: u64,
    /// Frames mapped, including shared ones.
    pub frames: u64,
    /// System calls that were refused: handles it does not have, rights it lacks, addresses that are not
    /// its own, calls that do not exist.
    pub refused: u64,
    pub name: [u8; 32],
}

/// What a server does that did not come to fetch its bits, for [`PROBE`](crate::syscall::PROBE).
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct Pulse {
    /// See [`state`]: of a thread that waits for somebody, else of the first.
    pub doing: u32,
    /// Process that such a thread has called, or 0.
    pub waits_for: u32,
    /// System calls of its process so far.
    pub system_calls: u64,
    /// Time its process ran so far.
    pub cpu_ns: u64,
    /// Of a process of several threads: the longest time that one of them has run since it was found with
    /// the system call behind it that is still its last.
    pub spinning_ns: u64,
}

/// Answers of [`PROBE`](crate::syscall::PROBE).
pub mod pulse {
    /// A thread waits at the endpoint; nothing was raised.
    pub const WAITING: u64 = 0;
    /// Nobody waits there; the bits are raised now.
    pub const RAISED: u64 = 1;
    /// Nobody waits there, and the bits that were raised before are still not fetched.
    pub const PENDING: u64 = 2;
}

pub mod state {
    pub const RUNNING: u32 = 1;
    pub const READY: u32 = 2;
    pub const RECEIVING: u32 = 3;
    pub const SENDING: u32 = 4;
    pub const AWAITING_REPLY: u32 = 5;
    pub const SLEEPING: u32 = 6;
    pub const DEAD: u32 = 7;
}

#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct InterruptInfo {
    pub vector: u32,
    /// Global system interrupt, or `u32::MAX` for a message-signalled one.
    pub gsi: u32,
    /// Process that holds the object.
    pub pid: u32,
    pub reserved: u32,
    pub count: u64,
}
