//! Obituaries: what the kernel tells a supervisor or watcher about a dead process.

/// One obituary, fetched by `event_next`.
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
pub struct Obituary {
    /// Chosen by the supervisor or watcher when it registered.
    pub cookie: u64,
    pub pid: u32,
    /// See [`cause`].
    pub cause: u32,
    /// Exit status for [`cause::EXIT`], killer's code for [`cause::KILLED`].
    pub code: i64,
    /// For [`cause::FAULT`]: the CPU exception's vector and error code, and the address (CR2).
    pub vector: u64,
    pub error_code: u64,
    pub address: u64,
    /// Of the thread that faulted; for [`cause::KILLED`] of the first thread, as it was last in user
    /// space.
    pub registers: Registers,
    /// Nanoseconds since boot at which the process ended.
    pub time: u64,
    /// Its system calls that were refused, see [`ProcessInfo`](crate::info::ProcessInfo::refused).
    pub refused: u64,
}

pub mod cause {
    /// The process called `process_exit`, or its last thread ended.
    pub const EXIT: u32 = 1;
    /// A CPU exception that the process could not handle.
    pub const FAULT: u32 = 2;
    /// `process_kill`.
    pub const KILLED: u32 = 3;
}

/// User registers of a thread.
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
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}
