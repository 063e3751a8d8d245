//! Where somebody outside (the VMM, a debugger) finds the kernel's threads in its memory.
//!
//! ```text
//!   symbol THREADS --> [pointer; slots]     0: no thread
//!                          |
//!                          v                symbol THREAD_LAYOUT: at which offsets
//!                        thread: state, priority, frame (rip, rsp), ticks, ...
//!                          | process               | endpoint (where it waits, or 0)
//!                          v                       v
//!                        pid, name, tables       bits, owner (a process, or 0)
//! ```
//! Pointers are kernel addresses of eight bytes. Nothing is kept for this: the kernel's own records are
//! read, while it stands still.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Symbols of the kernel's image.
pub const THREADS: &str = "xinim_threads";
pub const THREAD_LAYOUT: &str = "xinim_thread_layout";
/// First word of a layout as this version has it.
pub const LAYOUT_MAGIC: u32 = 0x3144_4854;

/// Offsets in the kernel's records.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ThreadLayout {
    pub magic: u32,
    /// Entries of the table of threads.
    pub slots: u32,
    /// Of a thread. Its state is one of [`crate::info::state`], of four bytes like its priority.
    pub state: u32,
    pub priority: u32,
    pub rip: u32,
    pub rsp: u32,
    /// TSC ticks that it has run, and system calls that it has made.
    pub ticks: u32,
    pub system_calls: u32,
    pub process: u32,
    pub endpoint: u32,
    /// Of a process: its number, its name of 32 bytes, its page tables' physical address.
    pub pid: u32,
    pub name: u32,
    pub tables: u32,
    /// Of an endpoint: notification bits that nobody has fetched, the process that serves it.
    pub bits: u32,
    pub owner: u32,
    pub reserved: u32,
}
