//! What an expression sees of an event.

use xinim_abi::hw::register::touched;
use xinim_devices::device::Op;
use xinim_devices::trace::{Event, EventKind, Interest, Owner, Space};

use super::{Compare, Glob, Node};

/// Fields that are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Device,
    Direction,
    Register,
    Process,
    Rule,
}

/// Fields that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Pid,
    Vcpu,
    Time,
    Queue,
    Head,
    Port,
    Slot,
    Vector,
    Lba,
    Length,
    Address,
    Value,
    Cost,
}

/// All fields, for messages.
pub const FIELDS: &str = "device, kind, direction, register, process, rule, pid, vcpu, time, queue, \
                          head, port, slot, vector, lba, length, address, value, cost, error";

pub(crate) fn text_field(name: &str) -> Option<Text> {
    Some(match name {
        "device" => Text::Device,
        "direction" | "dir" => Text::Direction,
        "register" | "reg" => Text::Register,
        "process" => Text::Process,
        "rule" => Text::Rule,
        _ => return None,
    })
}

pub(crate) fn number_field(name: &str) -> Option<Number> {
    Some(match name {
        "pid" => Number::Pid,
        "vcpu" | "cpu" => Number::Vcpu,
        "time" => Number::Time,
        "queue" => Number::Queue,
        "head" => Number::Head,
        "port" => Number::Port,
        "slot" => Number::Slot,
        "vector" => Number::Vector,
        "lba" | "sector" => Number::Lba,
        "length" => Number::Length,
        "address" => Number::Address,
        "value" => Number::Value,
        "cost" => Number::Cost,
        _ => return None,
    })
}

/// Names of kinds, each with the group it is in.
const KINDS: [(&str, &str); 25] = [
    ("access", "access"),
    ("config", "config"),
    ("notify", "queue"),
    ("publish", "queue"),
    ("pop", "queue"),
    ("push", "queue"),
    ("suppress", "queue"),
    ("broken", "queue"),
    ("dma", "dma"),
    ("msi", "irq"),
    ("mask", "irq"),
    ("line", "irq"),
    ("fis", "ata"),
    ("command", "ata"),
    ("end", "ata"),
    ("descriptor", "descriptor"),
    ("frame", "frame"),
    ("host", "host"),
    ("request", "request"),
    ("exit", "exit"),
    ("guest", "guest"),
    ("fault", "fault"),
    ("iommu", "iommu"),
    ("refused", "iommu"),
    ("violation", "strict"),
];

/// Every name `kind=` takes: kinds, then groups.
pub fn names() -> impl Iterator<Item = &'static str> {
    let mut seen: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    for (_, group) in KINDS {
        if !seen.contains(&group) {
            seen.push(group);
        }
    }
    seen.into_iter()
}

/// The name of an event's kind.
pub fn kind_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Access { space: Space::Config, .. } => "config",
        EventKind::Access { .. } => "access",
        EventKind::QueueNotify { .. } => "notify",
        EventKind::QueuePublish { .. } => "publish",
        EventKind::QueuePop { .. } => "pop",
        EventKind::QueuePush { .. } => "push",
        EventKind::QueueSuppress { .. } => "suppress",
        EventKind::QueueBroken { .. } => "broken",
        EventKind::Dma { .. } => "dma",
        EventKind::Msi { .. } => "msi",
        EventKind::MsiMask { .. } => "mask",
        EventKind::Line { .. } => "line",
        EventKind::Fis { .. } => "fis",
        EventKind::AtaCommand { .. } => "command",
        EventKind::AtaEnd { .. } => "end",
        EventKind::Descriptor { .. } => "descriptor",
        EventKind::Frame { .. } => "frame",
        EventKind::HostIo { .. } => "host",
        EventKind::BlockRequest { .. } => "request",
        EventKind::Exit { .. } => "exit",
        EventKind::Guest(_) => "guest",
        EventKind::Fault { .. } => "fault",
        EventKind::Violation { .. } => "violation",
        EventKind::IommuRequest(_) => "iommu",
        EventKind::IommuFault { .. } => "refused",
    }
}

fn group(kind: &str) -> &'static str {
    KINDS.iter().find(|(name, _)| *name == kind).map_or("", |(_, group)| group)
}

/// The groups of events by the names of ours.
const GROUPS: [(&str, Interest); 15] = [
    ("access", Interest::ACCESS),
    ("config", Interest::CONFIG),
    ("queue", Interest::QUEUE),
    ("dma", Interest::DMA),
    ("irq", Interest::IRQ),
    ("ata", Interest::ATA),
    ("descriptor", Interest::DESCRIPTOR),
    ("frame", Interest::FRAME),
    ("request", Interest::REQUEST),
    ("host", Interest::HOST_IO),
    ("exit", Interest::EXIT),
    ("guest", Interest::GUEST),
    ("fault", Interest::FAULT),
    ("iommu", Interest::IOMMU),
    ("strict", Interest::STRICT),
];

impl Node {
    /// Never too little; too much costs time only.
    pub fn interest(&self) -> Interest {
        match self {
            Node::Or(a, b) => a.interest() | b.interest(),
            Node::And(a, b) => a.interest() & b.interest(),
            Node::Kind { equal: true, glob } => {
                let known = KINDS.iter().filter(|(k, g)| glob.matches(k) || glob.matches(g));
                known.fold(Interest::empty(), |sum, (_, group)| {
                    let found = GROUPS.iter().find(|(name, _)| name == group);
                    sum | found.map_or(Interest::all(), |(_, interest)| *interest)
                })
            }
            Node::Text { field: Text::Rule, equal: true, .. } => Interest::FAULT | Interest::STRICT,
            Node::Text { field: Text::Register, equal: true, .. } => {
                Interest::ACCESS | Interest::CONFIG
            }
            _ => Interest::all(),
        }
    }

    pub fn accepts(&self, event: &Event<'_>) -> bool {
        match self {
            Node::Or(a, b) => a.accepts(event) || b.accepts(event),
            Node::And(a, b) => a.accepts(event) && b.accepts(event),
            Node::Not(a) => !a.accepts(event),
            Node::Text { field, equal, glob } => text(event, *field, glob) == *equal,
            Node::Kind { equal, glob } => {
                let kind = kind_name(&event.kind);
                (glob.matches(kind) || glob.matches(group(kind))) == *equal
            }
            Node::Number { field, compare, value } => match (number(event, *field), compare) {
                (None, Compare::Unequal) => true,
                (None, _) => false,
                (Some(found), Compare::Equal) => found == *value,
                (Some(found), Compare::Unequal) => found != *value,
                (Some(found), Compare::Less) => found < *value,
                (Some(found), Compare::LessEqual) => found <= *value,
                (Some(found), Compare::Greater) => found > *value,
                (Some(found), Compare::GreaterEqual) => found >= *value,
            },
            Node::Error(wanted) => is_error(&event.kind) == *wanted,
        }
    }
}

fn text(event: &Event<'_>, field: Text, glob: &Glob) -> bool {
    match field {
        Text::Device => glob.matches(event.device),
        Text::Rule => match event.kind {
            EventKind::Fault { rule } => glob.matches(&rule.to_string()),
            EventKind::Violation { rule } => glob.matches(rule),
            _ => false,
        },
        Text::Process => event.origin.process.is_some_and(|process| glob.matches(process.name())),
        Text::Direction => {
            let write = match event.kind {
                EventKind::Access { op, .. } => matches!(op, Op::Write(_)),
                EventKind::Dma { write, .. } | EventKind::IommuFault { write, .. } => write,
                EventKind::Frame { sent, .. } => sent,
                EventKind::Descriptor { send, .. } => send,
                _ => return false,
            };
            glob.matches(if write { "write" } else { "read" })
        }
        Text::Register => {
            let EventKind::Access { decode: Some(decode), size, op, .. } = event.kind else {
                return false;
            };
            let write = matches!(op, Op::Write(_));
            touched(decode.table, decode.offset, size, write).any(|r| glob.matches(r.name))
        }
    }
}

fn owned(owner: Owner, field: Number) -> Option<u64> {
    match (owner, field) {
        (Owner::Queue { queue, .. }, Number::Queue) => Some(queue.into()),
        (Owner::Queue { head, .. }, Number::Head) => Some(head.into()),
        (Owner::Slot { port, .. }, Number::Port) => Some(port.into()),
        (Owner::Slot { slot, .. }, Number::Slot) => Some(slot.into()),
        (Owner::Ring { queue, .. }, Number::Queue) => Some(queue.into()),
        (Owner::Ring { index, .. }, Number::Head) => Some(index.into()),
        _ => None,
    }
}

fn number(event: &Event<'_>, field: Number) -> Option<u64> {
    match field {
        Number::Pid => return event.origin.process.map(|process| process.pid.into()),
        Number::Vcpu => return event.origin.vcpu.map(u64::from),
        Number::Time => return Some(event.origin.time_ns),
        _ => {}
    }
    match (event.kind, field) {
        (EventKind::Access { address, .. }, Number::Address) => Some(address),
        (EventKind::Access { size, .. }, Number::Length) => Some(size.into()),
        (EventKind::Access { op: Op::Write(value), .. }, Number::Value) => Some(value),
        (EventKind::Access { value, .. }, Number::Value) => Some(value),
        (
            EventKind::QueueNotify { queue }
            | EventKind::QueuePublish { queue, .. }
            | EventKind::QueuePop { queue, .. }
            | EventKind::QueuePush { queue, .. }
            | EventKind::QueueSuppress { queue, .. }
            | EventKind::QueueBroken { queue, .. }
            | EventKind::BlockRequest { queue, .. },
            Number::Queue,
        ) => Some(queue.into()),
        (
            EventKind::QueuePop { head, .. }
            | EventKind::QueuePush { head, .. }
            | EventKind::BlockRequest { head, .. },
            Number::Head,
        ) => Some(head.into()),
        (EventKind::QueuePop { readable, writable, .. }, Number::Length) => {
            Some(readable.saturating_add(writable))
        }
        (EventKind::QueuePush { written, .. }, Number::Length) => Some(written.into()),
        (EventKind::Dma { address, .. } | EventKind::Exit { address, .. }, Number::Address) => {
            Some(address)
        }
        (
            EventKind::Dma { length, .. }
            | EventKind::HostIo { length, .. }
            | EventKind::BlockRequest { length, .. },
            Number::Length,
        ) => Some(length),
        (EventKind::Dma { owner, .. } | EventKind::HostIo { owner, .. }, _) => owned(owner, field),
        (EventKind::Msi { vector, .. } | EventKind::MsiMask { vector, .. }, Number::Vector) => {
            Some(vector.into())
        }
        (EventKind::Msi { message, .. }, Number::Address) => Some(message.address),
        (
            EventKind::Fis { port, .. }
            | EventKind::AtaCommand { port, .. }
            | EventKind::AtaEnd { port, .. },
            Number::Port,
        ) => Some(port.into()),
        (EventKind::AtaCommand { slot, .. } | EventKind::AtaEnd { slot, .. }, Number::Slot) => {
            Some(slot.into())
        }
        (EventKind::AtaCommand { lba, .. }, Number::Lba) => Some(lba),
        (EventKind::AtaCommand { count, .. }, Number::Length) => Some(u64::from(count) * 512),
        (EventKind::BlockRequest { sector, .. }, Number::Lba) => Some(sector),
        (EventKind::Descriptor { queue, .. }, Number::Queue) => Some(queue.into()),
        (EventKind::Descriptor { index, .. }, Number::Head) => Some(index.into()),
        (EventKind::Descriptor { address, .. }, Number::Address) => Some(address),
        (EventKind::Descriptor { length, .. }, Number::Length) => Some(length.into()),
        (EventKind::Frame { length, .. }, Number::Length) => Some(length.into()),
        (EventKind::IommuFault { address, .. }, Number::Address) => Some(address),
        (EventKind::IommuRequest(request), Number::Address) => Some(request.start),
        (EventKind::Exit { nanos, .. }, Number::Cost) => Some(nanos),
        _ => None,
    }
}

/// A mistake of the driver, or something that failed.
pub fn is_error(kind: &EventKind) -> bool {
    match *kind {
        EventKind::Access { error, .. } => error.is_some(),
        EventKind::QueueBroken { .. } => true,
        EventKind::Dma { ok, .. } => !ok,
        EventKind::AtaEnd { status, errno, .. } => errno != 0 || status & 1 != 0,
        EventKind::BlockRequest { status, errno, .. } => errno != 0 || status != 0,
        EventKind::HostIo { errno, .. } => errno != 0,
        EventKind::IommuRequest(request) => request.status != 0,
        EventKind::IommuFault { .. } | EventKind::Violation { .. } => true,
        _ => false,
    }
}
