//! What a rule is: whom it concerns, what it matches, when its turn is, and what it does.

use std::time::Duration;

/// What a rule is about. The value is its bit in the mask of kinds that have rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request of a disk.
    Request,
    /// An Ethernet frame.
    Packet,
    /// An access to a register of a PCI function.
    Register,
    /// A device's access to guest memory.
    Dma,
    /// An interrupt about to be raised.
    Interrupt,
    /// A virtqueue's notification by the driver.
    Doorbell,
    /// A moment: `after`, or when the rule is added.
    Time,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Request,
        Self::Packet,
        Self::Register,
        Self::Dma,
        Self::Interrupt,
        Self::Doorbell,
        Self::Time,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Packet => "packet",
            Self::Register => "register",
            Self::Dma => "dma",
            Self::Interrupt => "interrupt",
            Self::Doorbell => "doorbell",
            Self::Time => "time",
        }
    }

    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Flush,
    Discard,
    Zeroes,
}

/// Of a frame, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Arp,
    Ipv4,
    Ipv6,
    Icmp,
    Tcp,
    Udp,
}

/// From the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: u64,
    pub last: u64,
}

impl Span {
    pub const fn contains(&self, value: u64) -> bool {
        self.first <= value && value <= self.last
    }

    /// Whether `count` things from `first` on have one in here; with none, whether `first` is.
    pub const fn overlaps(&self, first: u64, count: u64) -> bool {
        let last = if count == 0 { first } else { first.saturating_add(count - 1) };
        first <= self.last && self.first <= last
    }
}

/// See `docs/faults.md` for what each does to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Error,
    Delay,
    Drop,
    Duplicate,
    Reorder,
    Corrupt,
    Stick,
    Unplug,
    LinkDown,
    IrqLost,
    IrqLate,
    IrqDuplicate,
}

impl Action {
    pub const ALL: [Self; 12] = [
        Self::Error,
        Self::Delay,
        Self::Drop,
        Self::Duplicate,
        Self::Reorder,
        Self::Corrupt,
        Self::Stick,
        Self::Unplug,
        Self::LinkDown,
        Self::IrqLost,
        Self::IrqLate,
        Self::IrqDuplicate,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Delay => "delay",
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Corrupt => "corrupt",
            Self::Stick => "stick",
            Self::Unplug => "unplug",
            Self::LinkDown => "link-down",
            Self::IrqLost => "irq-lost",
            Self::IrqLate => "irq-late",
            Self::IrqDuplicate => "irq-duplicate",
        }
    }

    /// Whether this can happen to that.
    pub const fn suits(self, kind: Kind) -> bool {
        use Kind::{Dma, Doorbell, Interrupt, Packet, Register, Request, Time};
        let alone = match self {
            Self::Error => matches!(kind, Request | Register | Dma),
            Self::Delay => matches!(kind, Request | Packet | Doorbell),
            Self::Drop => matches!(kind, Request | Packet | Register | Dma | Doorbell),
            Self::Duplicate => matches!(kind, Request | Packet | Register | Doorbell),
            Self::Reorder => matches!(kind, Request | Packet),
            Self::Corrupt => matches!(kind, Request | Packet | Register | Dma),
            Self::Stick => matches!(kind, Request | Packet | Register | Interrupt | Doorbell),
            Self::Unplug | Self::LinkDown => true,
            Self::IrqLost | Self::IrqLate | Self::IrqDuplicate => matches!(kind, Interrupt),
        };
        // `Time` suits the two that need no event.
        alone && (!matches!(kind, Time) || matches!(self, Self::Unplug | Self::LinkDown))
    }
}

/// One rule. `None` matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub device: Option<String>,
    pub kind: Kind,
    // What it matches
    pub operation: Option<Operation>,
    pub sector: Option<Span>,
    pub length: Option<Span>,
    pub direction: Option<Direction>,
    pub protocol: Option<Protocol>,
    pub port: Option<Span>,
    /// By table name, and which of several equal ones.
    pub register: Option<(String, Option<u16>)>,
    pub value: Option<Span>,
    pub address: Option<Span>,
    pub queue: Option<Span>,
    pub vector: Option<Span>,
    // When its turn is
    pub nth: Option<u64>,
    pub every: Option<u64>,
    /// In millionths.
    pub probability: Option<u32>,
    pub seed: u64,
    pub after: Option<Duration>,
    pub until: Option<Duration>,
    pub count: Option<u64>,
    // What it does
    pub action: Action,
    pub time: Option<Duration>,
    pub errno: i32,
}

/// What passed an adapter.
#[derive(Clone, Copy, Debug)]
pub enum Point<'a> {
    /// Sectors of 512 bytes; `length` in bytes.
    Request {
        operation: Operation,
        sector: u64,
        length: u64,
    },
    Packet {
        direction: Direction,
        frame: &'a [u8],
    },
    Register {
        name: &'a str,
        index: Option<u16>,
        write: Option<u64>,
    },
    Dma {
        write: bool,
        address: u64,
        length: u64,
    },
    Interrupt {
        vector: u16,
    },
    Doorbell {
        queue: u16,
    },
}

impl Point<'_> {
    pub const fn kind(&self) -> Kind {
        match self {
            Point::Request { .. } => Kind::Request,
            Point::Packet { .. } => Kind::Packet,
            Point::Register { .. } => Kind::Register,
            Point::Dma { .. } => Kind::Dma,
            Point::Interrupt { .. } => Kind::Interrupt,
            Point::Doorbell { .. } => Kind::Doorbell,
        }
    }
}

fn within(span: Option<Span>, value: u64) -> bool {
    span.is_none_or(|span| span.contains(value))
}

impl Rule {
    /// Whether a device with one of these names is meant: the name itself, the part before its
    /// dot, or a pattern that ends with `*`.
    pub fn concerns(&self, names: &[String]) -> bool {
        let Some(wanted) = &self.device else { return true };
        names.iter().any(|name| match wanted.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == wanted || name.split('.').next() == Some(wanted),
        })
    }

    pub fn matches(&self, point: &Point<'_>) -> bool {
        if self.kind != point.kind() {
            return false;
        }
        let read_or_write = |write: bool| {
            let own = if write { Operation::Write } else { Operation::Read };
            self.operation.is_none_or(|operation| operation == own)
        };
        match *point {
            Point::Request { operation, sector, length } => {
                self.operation.is_none_or(|wanted| wanted == operation)
                    && self.sector.is_none_or(|s| s.overlaps(sector, length.div_ceil(512)))
                    && within(self.length, length)
            }
            Point::Packet { direction, frame } => {
                self.direction.is_none_or(|wanted| wanted == direction)
                    && within(self.length, frame.len() as u64)
                    && super::net::is(self.protocol, self.port, frame)
            }
            Point::Register { name, index, write } => {
                read_or_write(write.is_some())
                    && self.register.as_ref().is_none_or(|(wanted, number)| {
                        wanted.eq_ignore_ascii_case(name) && (number.is_none() || *number == index)
                    })
                    && (self.value.is_none() || write.is_some_and(|v| within(self.value, v)))
            }
            Point::Dma { write, address, length } => {
                read_or_write(write)
                    && self.address.is_none_or(|span| span.overlaps(address, length))
                    && within(self.length, length)
            }
            Point::Interrupt { vector } => within(self.vector, vector.into()),
            Point::Doorbell { queue } => within(self.queue, queue.into()),
        }
    }
}
