//! What can happen: the events' types, their names and their groups.

use crate::device::{Decode, GuestError, Op};
use crate::irq::MsiMessage;
use xinim_abi::trace::kind;

/// Where an address lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// I/O ports.
    Pio,
    /// Guest-physical memory.
    Mmio,
    /// PCI configuration space; the address is the requester id times 4096 plus the offset, as
    /// in ECAM.
    Config,
}

/// Whose work a transfer belongs to, as the device knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The device does not say.
    #[default]
    Unknown,
    /// A chain of a virtqueue, by its head descriptor.
    Queue { queue: u16, head: u16 },
    /// A command of a SATA drive.
    Slot { port: u8, slot: u8 },
    /// A descriptor of an Ethernet controller's ring.
    Ring { send: bool, queue: u8, index: u16 },
}

/// What keeps a side of a virtqueue from telling the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppress {
    /// The device polls and wants no notification.
    NotifyOff,
    /// The device wants to be notified of the next chain.
    NotifyOn,
    /// The driver wants no interrupt for what was pushed.
    Interrupt,
}

/// Why a virtual CPU came back to the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    PortIn,
    PortOut,
    MmioRead,
    MmioWrite,
    Halt,
    Interrupted,
    Other,
}

impl ExitReason {
    pub const ALL: [Self; 7] = [
        Self::PortIn,
        Self::PortOut,
        Self::MmioRead,
        Self::MmioWrite,
        Self::Halt,
        Self::Interrupted,
        Self::Other,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::PortIn => "port-in",
            Self::PortOut => "port-out",
            Self::MmioRead => "mmio-read",
            Self::MmioWrite => "mmio-write",
            Self::Halt => "halt",
            Self::Interrupted => "interrupted",
            Self::Other => "other",
        }
    }
}

/// What a device asks its back end for: the operation, the first byte, how many bytes.
pub type Asked = (HostOp, u64, u64);

/// What a back end is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOp {
    Read,
    Write,
    Flush,
    Discard,
    Zero,
}

impl HostOp {
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Flush, Self::Discard, Self::Zero];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::Zero => "zero",
        }
    }
}

/// An event the guest wrote into its trace ring (`xinim_abi::trace`); all of it is guest data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// `xinim_abi::trace::kind`.
    pub kind: u16,
    /// What `kind` says: a name, an operation.
    pub name: u16,
    pub a: u64,
    pub b: u64,
}

impl Guest {
    /// Memory was given to a device, or taken back.
    pub const fn is_grant(&self) -> bool {
        self.kind == kind::DMA_GRANT as u16 || self.kind == kind::DMA_REVOKE as u16
    }
}

/// A request to an IOMMU, as far as its fields are of its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IommuRequest {
    /// `xinim_abi::hw::virtio_iommu::request`.
    pub kind: u8,
    /// How it ended, 0 is good.
    pub status: u8,
    pub domain: u32,
    pub endpoint: u32,
    /// Of ATTACH or MAP.
    pub flags: u32,
    pub start: u64,
    /// The last byte.
    pub end: u64,
    pub physical: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum EventKind {
    Access {
        space: Space,
        address: u64,
        size: u8,
        op: Op,
        /// Value read; for a write see `op`.
        value: u64,
        /// What the register held before a write, where the device can say without side effects.
        old: Option<u64>,
        decode: Option<Decode>,
        error: Option<GuestError>,
    },
    /// The driver rang a virtqueue's doorbell (also seen when it came through an ioeventfd).
    QueueNotify { queue: u16 },
    /// The device saw that the driver had made `count` chains available; `index` is behind them.
    QueuePublish { queue: u16, index: u16, count: u16 },
    /// The device took a chain from the available ring.
    QueuePop { queue: u16, head: u16, segments: u16, readable: u64, writable: u64 },
    /// The device put a chain on the used ring.
    QueuePush { queue: u16, head: u16, written: u32 },
    /// A side of a virtqueue is not (or is again) to be told of work.
    QueueSuppress { queue: u16, what: Suppress },
    /// A virtqueue broke its rules; the device now needs a reset.
    QueueBroken { queue: u16, error: GuestError },
    /// The device moved data (rings and descriptors are not reported).
    Dma { write: bool, address: u64, length: u64, ok: bool, owner: Owner },
    /// A message-signalled interrupt; `pending`: masked, so it waits.
    Msi { vector: u16, message: MsiMessage, pending: bool },
    /// A message-signalled interrupt was masked or unmasked, in whatever way.
    MsiMask { vector: u16, masked: bool },
    /// An interrupt line changed.
    Line { level: bool },
    /// A frame from a SATA drive was posted to memory; `kind` is its type.
    Fis { port: u8, kind: u8 },
    /// A SATA drive got a command.
    AtaCommand { port: u8, slot: u8, command: u8, lba: u64, count: u16 },
    /// A SATA drive's command ended. `errno`: the host's, if it was the host that failed.
    AtaEnd { port: u8, slot: u8, status: u8, error: u8, errno: i32 },
    /// An Ethernet controller took a descriptor (`done`: gave it back). `flags`: command or status
    /// and errors as they are in it.
    Descriptor {
        send: bool,
        queue: u8,
        index: u16,
        address: u64,
        length: u16,
        flags: u32,
        done: bool,
    },
    /// An Ethernet frame left the guest (`sent`) or came in; bytes without CRC. Its bytes are the
    /// event's data.
    Frame { sent: bool, length: u32 },
    /// A device asked its back end, or (`done`) was answered. `errno`: of the answer, 0 if good.
    HostIo { op: HostOp, offset: u64, length: u64, owner: Owner, done: bool, errno: i32 },
    /// A block request was carried out.
    /// `errno`: the host's, if it was the host that failed.
    BlockRequest {
        queue: u16,
        head: u16,
        kind: u32,
        sector: u64,
        length: u64,
        status: u8,
        errno: i32,
    },
    /// A virtual CPU left the guest; the VMM took `nanos` until it went back in.
    Exit { reason: ExitReason, address: u64, nanos: u64 },
    /// The guest's own.
    Guest(Guest),
    /// A fault rule struck: its number, as `ctl fault list` shows it. The rule's text is the event's
    /// data.
    Fault { rule: u32 },
    /// The driver broke a rule of the strict checker: its id. What exactly happened is the event's
    /// data, in words.
    Violation { rule: &'static str },
    /// An IOMMU carried out a request, or refused it.
    IommuRequest(IommuRequest),
    /// An IOMMU refused a device's access at this address. `endpoint`: the device's requester id;
    /// not `attached`: it is in no domain.
    IommuFault { endpoint: u16, address: u64, write: bool, attached: bool },
}

bitflags::bitflags! {
    /// Groups of events, for sinks that want some only.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Interest: u32 {
        /// Registers, by ports and memory.
        const ACCESS = 1 << 0;
        const CONFIG = 1 << 1;
        /// All steps of virtqueues.
        const QUEUE = 1 << 2;
        const DMA = 1 << 3;
        const IRQ = 1 << 4;
        /// Commands of SATA drives and their frames.
        const ATA = 1 << 5;
        const DESCRIPTOR = 1 << 6;
        const FRAME = 1 << 7;
        const REQUEST = 1 << 8;
        const HOST_IO = 1 << 9;
        const EXIT = 1 << 10;
        const GUEST = 1 << 11;
        /// Fault rules that struck.
        const FAULT = 1 << 12;
        /// Requests to an IOMMU, and what it refused.
        const IOMMU = 1 << 13;
        /// The guest's own, as far as they tell which memory devices may reach; the others of GUEST
        /// need not come.
        const GRANT = 1 << 14;
        /// Rules of the strict checker that were broken.
        const STRICT = 1 << 15;
        /// Not of any event: doorbells are to be accesses, so that each shows who rang it, which
        /// costs an exit.
        const ATTRIBUTED = 1 << 31;
    }
}

impl EventKind {
    /// The group it belongs to.
    pub const fn interest(&self) -> Interest {
        match self {
            Self::Access { space: Space::Config, .. } => Interest::CONFIG,
            Self::Access { .. } => Interest::ACCESS,
            Self::QueueNotify { .. }
            | Self::QueuePublish { .. }
            | Self::QueuePop { .. }
            | Self::QueuePush { .. }
            | Self::QueueSuppress { .. }
            | Self::QueueBroken { .. } => Interest::QUEUE,
            Self::Dma { .. } => Interest::DMA,
            Self::Msi { .. } | Self::MsiMask { .. } | Self::Line { .. } => Interest::IRQ,
            Self::Fis { .. } | Self::AtaCommand { .. } | Self::AtaEnd { .. } => Interest::ATA,
            Self::Descriptor { .. } => Interest::DESCRIPTOR,
            Self::Frame { .. } => Interest::FRAME,
            Self::BlockRequest { .. } => Interest::REQUEST,
            Self::HostIo { .. } => Interest::HOST_IO,
            Self::Exit { .. } => Interest::EXIT,
            Self::Guest(guest) if guest.is_grant() => Interest::GUEST.union(Interest::GRANT),
            Self::Guest(_) => Interest::GUEST,
            Self::Fault { .. } => Interest::FAULT,
            Self::Violation { .. } => Interest::STRICT,
            Self::IommuRequest(_) | Self::IommuFault { .. } => Interest::IOMMU,
        }
    }
}
