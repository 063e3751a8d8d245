//! The process manager: programs, their arguments, statuses and deaths.
//!
//! A status word is the exit status (0..=255), or 128 + signal number for a killed program; a CPU
//! exception counts as the signal it would be elsewhere (see [`signal`]).

crate::interface! {
    /// Operations of the process manager.
    pub mod pm = 0x02 {
        /// Shares the caller's window; needed before `Spawn`. `len` bytes of `window`.
        1 idempotent Connect { len: u64; window: handle } -> Connected { }
        /// Starts the program that the first `len` bytes of the window describe: a
        /// [`super::SpawnHeader`] and what it announces. Answers with the process id.
        2 once Spawn { len: u32 } -> Spawned { pid: u32 }
        /// Waits until child `pid` (0: any) has ended. `Child`: there is none. With `poll`, `Again`
        /// instead of waiting. A child's end is reported once.
        3 once Wait { pid: u32, poll: bool } -> Ended { pid: u32, status: u32 }
        /// Ends a program. `signal` is reported in the status; there are no handlers yet. Services
        /// cannot be killed here (`Perm`), nor can another user's programs, but by root.
        4 idempotent Kill { pid: u32, signal: u32 } -> Killed { }
        /// The child that Ctrl-C of the terminal ends (0: nobody, the shell itself is there).
        5 idempotent Foreground { pid: u32 } -> ForegroundSet { }
        /// User ids of the caller, or (`group`) group ids; `vfs::KEEP_ID` leaves one. Programs that are
        /// not root's may only choose among the ids they have (`Perm`).
        6 once SetIds { group: bool, real: u32, effective: u32, saved: u32 } -> IdsSet { }
        /// User or group ids of a program (0: the caller), and how many supplementary groups; these go
        /// to the start of the caller's window as `u32` if it is shared.
        7 idempotent GetIds { pid: u32, group: bool }
            -> Ids { real: u32, effective: u32, saved: u32, groups: u32 }
        /// `count` supplementary groups from the start of the window. Root only.
        8 once SetGroups { count: u32 } -> GroupsSet { }
    }
}

/// Head of a spawn request in the window: then `path`, `argc` strings, `envc` strings (each NUL
/// terminated), then `fd_count` times [`FdMap`] (unaligned). A relative path is resolved against
/// the caller's working directory, which the child inherits.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
pub struct SpawnHeader {
    pub argc: zerocopy::little_endian::U32,
    pub envc: zerocopy::little_endian::U32,
    pub fd_count: zerocopy::little_endian::U32,
    pub reserved: zerocopy::little_endian::U32,
}

/// The child's descriptor `child` is a duplicate of the caller's `parent`.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
pub struct FdMap {
    pub child: zerocopy::little_endian::U32,
    pub parent: zerocopy::little_endian::U32,
}

/// Signal numbers that appear in statuses (POSIX numbering).
pub mod signal {
    pub const INT: u32 = 2;
    pub const ILL: u32 = 4;
    pub const TRAP: u32 = 5;
    pub const FPE: u32 = 8;
    pub const KILL: u32 = 9;
    pub const SEGV: u32 = 11;
    pub const TERM: u32 = 15;
}
