//! Events of every kind.

use proptest::prelude::*;
use xinim_abi::hw::{pci, virtio};
use xinim_devices::device::{Decode, GuestError, Op, Origin, Process};
use xinim_devices::irq::MsiMessage;
use xinim_devices::trace::{
    Event, EventKind, ExitReason, Guest, HostOp, IommuRequest, Owner, Space, Suppress,
};
use xinim_devices::virtio::RingError;

pub fn process(pid: u32, name: &str) -> Process {
    let mut bytes = [0; 28];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Process { pid, name: bytes }
}

pub fn event(time_ns: u64, device: &'static str, kind: EventKind) -> Event<'static> {
    Event { origin: Origin::host(time_ns), device, kind, data: &[] }
}

pub fn access(
    time_ns: u64,
    table: &'static [xinim_abi::hw::register::Register],
    offset: u32,
    op: Op,
    value: u64,
) -> Event<'static> {
    let decode = Some(Decode { table, offset, index: None });
    let kind = EventKind::Access {
        space: Space::Mmio,
        address: 0xFE00_0000 + u64::from(offset),
        size: 1,
        op,
        value,
        old: None,
        decode,
        error: None,
    };
    let origin =
        Origin { time_ns, vcpu: Some(0), rip: 0x40_1000, process: Some(process(7, "virtio-blk")) };
    Event { origin, device: "virtio-blk.0", kind, data: &[] }
}

/// At least one of each kind.
pub fn all() -> Vec<Event<'static>> {
    let owner = Owner::Queue { queue: 1, head: 2 };
    let message = MsiMessage { address: 0xFEE0_0000, data: 0x41 };
    let ring = GuestError::Ring(RingError::AvailIndex { seen: 9, expected: 1 });
    let kinds = [
        EventKind::QueueNotify { queue: 3 },
        EventKind::QueuePublish { queue: 3, index: 65535, count: 2 },
        EventKind::QueuePop { queue: 3, head: 4, segments: 3, readable: 16, writable: 4097 },
        EventKind::QueuePush { queue: 3, head: 4, written: 4097 },
        EventKind::QueueSuppress { queue: 3, what: Suppress::NotifyOff },
        EventKind::QueueSuppress { queue: 3, what: Suppress::NotifyOn },
        EventKind::QueueSuppress { queue: 3, what: Suppress::Interrupt },
        EventKind::QueueBroken { queue: 0, error: ring },
        EventKind::QueueBroken { queue: 0, error: GuestError::Ring(RingError::Malformed) },
        EventKind::QueueBroken { queue: 0, error: GuestError::NeedsReset },
        EventKind::Dma { write: true, address: 1 << 40, length: 4096, ok: true, owner },
        EventKind::Dma {
            write: false,
            address: 0,
            length: 1,
            ok: false,
            owner: Owner::Slot { port: 1, slot: 31 },
        },
        EventKind::Msi { vector: 1, message, pending: true },
        EventKind::MsiMask { vector: 1, masked: true },
        EventKind::Line { level: true },
        EventKind::Fis { port: 0, kind: 0x34 },
        EventKind::AtaCommand { port: 0, slot: 5, command: 0x60, lba: 1 << 47, count: 8 },
        EventKind::AtaEnd { port: 0, slot: 5, status: 0x51, error: 4, errno: 5 },
        EventKind::Descriptor {
            send: true,
            queue: 1,
            index: 255,
            address: 0x1234,
            length: 1514,
            flags: 0x8B00_05EA,
            done: false,
        },
        EventKind::HostIo {
            op: HostOp::Zero,
            offset: 512,
            length: 1 << 30,
            owner: Owner::Ring { send: false, queue: 0, index: 7 },
            done: true,
            errno: 28,
        },
        EventKind::BlockRequest {
            queue: 0,
            head: 2,
            kind: 1,
            sector: 9,
            length: 512,
            status: 0,
            errno: 0,
        },
        EventKind::Exit { reason: ExitReason::MmioRead, address: 0xFEB0_0000, nanos: 12_345 },
        EventKind::IommuRequest(IommuRequest { kind: 3, end: 4095, ..IommuRequest::default() }),
        EventKind::IommuFault { endpoint: 8, address: 4096, write: true, attached: false },
        EventKind::Guest(Guest { kind: 2, name: 0x0301, a: u64::MAX, b: 1 << 52 }),
    ];
    let mut events: Vec<_> =
        (0..).zip(kinds).map(|(n, kind)| event(n * 1000, "virtio-blk.0", kind)).collect();
    events.push(access(50_000, virtio::COMMON, 0x14, Op::Write(15), 0));
    // Back in time: what an access led to came first.
    events.push(access(49_000, pci::HEADER, 4, Op::Read, 7));
    let fault = EventKind::Fault { rule: 3 };
    events.push(Event { data: b"nth=3,action=error", ..event(55_000, "virtio-blk.0", fault) });
    let violation = EventKind::Violation { rule: "register-reserved" };
    events.push(Event { data: b"it was", ..event(56_000, "virtio-blk.0", violation) });
    let frame = EventKind::Frame { sent: true, length: 60 };
    events.push(Event { data: &[0xAB; 60], ..event(60_000, "e1000.0", frame) });
    events
}

/// Any register access and some others, with hostile numbers.
pub fn any_kind() -> impl Strategy<Value = EventKind> {
    let access = (any::<u64>(), any::<u64>(), any::<bool>(), any::<Option<u64>>(), 0u32..64)
        .prop_map(|(address, value, write, old, offset)| EventKind::Access {
            space: Space::Pio,
            address,
            size: 4,
            op: if write { Op::Write(value) } else { Op::Read },
            value: if write { 0 } else { value },
            old,
            decode: Some(Decode { table: virtio::COMMON, offset, index: Some(3) }),
            error: Some(GuestError::BadSize),
        });
    let pop = (any::<u16>(), any::<u16>(), any::<u64>()).prop_map(|(queue, head, readable)| {
        EventKind::QueuePop { queue, head, segments: 1, readable, writable: 0 }
    });
    let guest = (any::<u16>(), any::<u16>(), any::<u64>(), any::<u64>())
        .prop_map(|(kind, name, a, b)| EventKind::Guest(Guest { kind, name, a, b }));
    let exit = any::<u64>().prop_map(|nanos| EventKind::Exit {
        reason: ExitReason::Halt,
        address: 1,
        nanos,
    });
    prop_oneof![access, pop, guest, exit]
}
