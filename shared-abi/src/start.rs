//! How a new process learns its arguments and handles: the start block.
//!
//! The loader puts it into the new process's stack region, page-aligned; the first thread starts
//! with its address in `rdi`. All offsets are from the block's start; the whole block is
//! [`StartBlock::total`] bytes, at most [`MAX_LEN`].
//!
//! ```text
//! StartBlock | handle_count x StartHandle | argc + envc NUL-terminated strings (args, then env)
//! ```

pub const START_MAGIC: u32 = 0x5452_5358;
pub const MAX_LEN: usize = 128 * 1024;
pub const MAX_HANDLES: usize = 32;

#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct StartBlock {
    pub magic: u32,
    pub total: u32,
    pub handle_count: u32,
    pub argc: u32,
    pub envc: u32,
    /// Offset of the first string.
    pub strings: u32,
    /// Process id of this process.
    pub pid: u32,
    /// Non-zero when RS restarts a crashed service: the instance's number (1 = first restart).
    pub incarnation: u32,
    /// See [`flag`].
    pub flags: u32,
    /// Bytes of the stack, which ends where this block begins.
    pub stack: u32,
}

/// Flags of a start block.
pub mod flag {
    /// Made ahead for the next instance of a service: it makes itself ready as far as it can without
    /// touching what the present instance uses, then asks RS to `Standby`, and goes on when that is
    /// answered.
    pub const STANDBY: u32 = 1;
}

/// A handle and what it is for.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct StartHandle {
    /// See [`role`].
    pub role: u32,
    pub handle: u32,
}

/// Roles of handles in a start block.
pub mod role {
    /// Endpoint of RS: look-up of names, announcements. Every process has it.
    pub const RS: u32 = 1;
    /// Endpoint of VFS (programs started by the process manager).
    pub const VFS: u32 = 2;
    /// Endpoint of the process manager (programs started by it).
    pub const PM: u32 = 3;
    /// A service's own endpoint with all rights; RS keeps a handle to the same endpoint.
    pub const SERVICE: u32 = 4;
    /// The machine's authority object (RS at boot; pci and a few others through RS).
    pub const RESOURCE: u32 = 5;
    /// The system bundle as read-only memory.
    pub const BUNDLE: u32 = 6;
    /// The PCI function this driver is for.
    pub const DEVICE: u32 = 7;
    /// Ports granted by the manifest, in its order.
    pub const PORTS: u32 = 8;
    /// Interrupts granted by the manifest, in its order; bound to SERVICE's notification bit n.
    pub const INTERRUPT: u32 = 9;
    /// Memory with copies of the ACPI tables that the root table names, one behind the other at
    /// multiples of 8 bytes, ended by zeros (RS at boot).
    pub const ACPI: u32 = 10;
    /// Endpoint of the pci service, badged for one function (drivers).
    pub const PCI: u32 = 11;
}

const _: () = assert!(size_of::<StartBlock>() == 40);
const _: () = assert!(size_of::<StartHandle>() == 8);
