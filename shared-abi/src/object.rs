//! Kernel objects: kinds, rights, memory flags.
//!
//! A **handle** is a per-process number (`u32`, 0 is never valid) for a kernel object with rights
//! and, for endpoints, a badge. The number carries a generation: a closed number is not reused at
//! once, so a stale one fails with `BadHandle`.

use bitflags::bitflags;

/// A handle number. As the process argument of a call, `SELF` means the caller's own process.
pub type Handle = u32;
pub const SELF: Handle = 0;

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Process = 1,
    Thread = 2,
    Endpoint = 3,
    Memory = 4,
    Interrupt = 5,
    /// A range of I/O ports.
    Ports = 6,
    /// One PCI function: its DMA domain and bus-master bit.
    Device = 7,
    /// Authority over the machine: makes interrupts, ports, devices, device memory; power.
    Resource = 8,
}

bitflags! {
    /// What a handle allows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rights: u32 {
        /// Endpoint: `call`.
        const SEND = 1 << 0;
        /// Endpoint: `notify`.
        const NOTIFY = 1 << 1;
        /// Endpoint: `receive`, `reply_wait`, `event_next`, minting handles with another badge.
        const RECEIVE = 1 << 2;
        /// Memory: map readable, writable, executable.
        const READ = 1 << 3;
        const WRITE = 1 << 4;
        const EXECUTE = 1 << 5;
        /// The handle may be duplicated, given and sent in messages.
        const TRANSFER = 1 << 6;
        /// Process, thread, device, resource, interrupt, ports: control it.
        const MANAGE = 1 << 7;
    }
}

bitflags! {
    /// Properties of a memory object, fixed at creation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MemoryFlags: u32 {
        /// One physically contiguous run (for DMA).
        const CONTIGUOUS = 1 << 0;
        /// All frames below 4 GiB / 16 MiB.
        const BELOW_4G = 1 << 1;
        const BELOW_16M = 1 << 2;
        /// Aligned to 2 MiB and, where the virtual address allows, mapped with 2 MiB pages.
        const LARGE = 1 << 3;
    }
}

bitflags! {
    /// Access of a mapping. Writable and executable together is refused.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u32 {
        const READ = 1 << 0;
        const WRITE = 1 << 1;
        const EXECUTE = 1 << 2;
    }
}

bitflags! {
    /// How device memory is cached.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceMemoryFlags: u32 {
        /// Ordinary cached memory outside RAM management (the bundle, ACPI tables).
        const CACHED = 1 << 0;
        /// Write-combining (frame buffers). Without either flag: uncached.
        const WRITE_COMBINING = 1 << 1;
    }
}

pub const PAGE_SIZE: usize = 4096;
pub const LARGE_PAGE_SIZE: usize = 2 * 1024 * 1024;

/// User addresses are below this, and at or above [`USER_MIN`].
pub const USER_END: u64 = 0x0000_7FFF_FFFF_F000;
pub const USER_MIN: u64 = 0x1000;
