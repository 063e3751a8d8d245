use super::*;
use xinim_abi::trace::kind;
use xinim_devices::device::Origin;
use xinim_devices::trace::{Guest, HostOp, Owner};

/// The chain of one read, as the guest and the devices report it, in a file for the reader of
/// `tests/tests/perfetto.rs` and here for the names in order.
fn story() -> Vec<(u64, u32, EventKind)> {
    let guest = |kind: u8, name: u16, a: u64, b: u64| {
        EventKind::Guest(Guest { kind: kind.into(), name, a, b })
    };
    let call = |name, thread: u64, token: u64, from: u64, to: u64, server: u64| {
        guest(kind::CALL, name, token << 12 | thread, from | to << 32 | server << 52)
    };
    let owner = Owner::Queue { queue: 0, head: 7 };
    let host = |done| EventKind::HostIo {
        op: HostOp::Read,
        offset: 0,
        length: 512,
        owner,
        done,
        errno: 0,
    };
    vec![
        (10, 0, call(0x0301, 1, 100, 20, 5, 2)),
        (20, 0, call(0x0401, 2, 101, 5, 6, 3)),
        (30, 6, guest(kind::BLOCK_SUBMIT, 0, 0, 1)),
        (40, 9, guest(kind::DRIVER_TAKE, 0, 6 | 3 << 32, 1)),
        (50, 9, guest(kind::DRIVER_ISSUE, 0, 3, 7)),
        (
            60,
            0,
            EventKind::QueuePop { queue: 0, head: 7, segments: 3, readable: 16, writable: 513 },
        ),
        (70, 0, host(false)),
        (80, 0, host(true)),
        (90, 0, EventKind::QueuePush { queue: 0, head: 7, written: 513 }),
        (
            95,
            0,
            EventKind::Msi {
                vector: 1,
                message: xinim_devices::irq::MsiMessage { address: 0xFEE0_0000, data: 65 },
                pending: false,
            },
        ),
        (96, 0, guest(kind::INTERRUPT, 65, 0, 9)),
        (100, 9, guest(kind::DRIVER_DONE, 0, 3, 0)),
        (110, 6, guest(kind::BLOCK_DONE, 0, 0, 1)),
        (120, 0, guest(kind::REPLY, 0, 101 << 12 | 2, 0)),
        (130, 0, guest(kind::REPLY, 0, 100 << 12 | 1, 0)),
    ]
}

fn process(pid: u32) -> Option<Process> {
    let mut name = [0; 28];
    let text: &[u8] = if pid == 9 { b"virtio-blk" } else { b"fs-fat" };
    name[..text.len()].copy_from_slice(text);
    (pid != 0).then_some(Process { pid, name })
}

#[test]
fn one_read_is_one_chain() {
    let out = told("virtio-blk.0", story());
    let chain = 100u64 << 12 | 1;
    let names = flowing(&out, chain);
    let vfs = xinim_abi::services::operation_name(0x0301).unwrap();
    let fs = xinim_abi::services::operation_name(0x0401).unwrap();
    let expected = [
        vfs.to_owned(),
        format!("serve {vfs}"),
        fs.to_owned(),
        format!("serve {fs}"),
        "block read".into(),
        "driver read".into(),
        "issue tag 7".into(),
        "virtio-blk.0 queue 0".into(),
        "host read".into(),
        "host done".into(),
        "device done".into(),
        "virtio-blk.0 raises".into(),
        "interrupt 65".into(),
        "driver answers".into(),
        "block done".into(),
        format!("{fs} returns"),
        format!("{vfs} returns"),
    ];
    assert_eq!(names, expected);
}

/// A frame that a call makes, and one that comes and ends another call: net is 5, its driver 9.
#[test]
fn a_frame_goes_out_and_one_comes_in() {
    let guest = |kind: u8, name: u16, a: u64, b: u64| {
        EventKind::Guest(Guest { kind: kind.into(), name, a, b })
    };
    let call = |thread: u64, token: u64, from: u64| {
        guest(kind::CALL, 0x0C08, token << 12 | thread, from | 5 << 32 | 2 << 52)
    };
    let message = xinim_devices::irq::MsiMessage { address: 0xFEE0_0000, data: 65 };
    let msi = EventKind::Msi { vector: 1, message, pending: false };
    let story = vec![
        (10, 0, call(1, 100, 20)),
        (20, 0, call(3, 101, 21)),
        (30, 5, guest(kind::FRAME_SUBMIT, 1, 9, 223)),
        (40, 9, guest(kind::FRAME_TAKE, 0, 223, 98)),
        (50, 9, guest(kind::DRIVER_ISSUE, 0, 223, 1 << 16 | 4)),
        (60, 0, EventKind::QueuePop { queue: 1, head: 4, segments: 2, readable: 110, writable: 0 }),
        (61, 0, EventKind::Frame { sent: true, length: 98 }),
        (62, 0, EventKind::QueuePush { queue: 1, head: 4, written: 0 }),
        (70, 0, guest(kind::REPLY, 0, 101 << 12 | 3, 0)),
        (80, 9, guest(kind::FRAME_SENT, 0, 223, 0)),
        // One that got lost on the way up, and one of that length.
        (90, 0, EventKind::Frame { sent: false, length: 42 }),
        (100, 0, EventKind::Frame { sent: false, length: 98 }),
        (101, 0, msi),
        (102, 0, guest(kind::INTERRUPT, 65, 0, 9)),
        (110, 9, guest(kind::FRAME_UP, 0, 0, 98)),
        (120, 5, guest(kind::FRAME_ARRIVED, 0, 9, 98)),
        (130, 0, guest(kind::REPLY, 0, 100 << 12 | 1, 0)),
        // Of nobody's call.
        (140, 5, guest(kind::FRAME_SUBMIT, 0, 9, 222)),
    ];
    let out = told("virtio-net.0", story);
    let name = xinim_abi::services::operation_name(0x0C08)
        .map_or_else(|| "operation 0xc08".to_owned(), str::to_owned);
    let sent = [
        name.clone(),
        format!("serve {name}"),
        "frame submit".into(),
        "driver frame".into(),
        "issue tag 4".into(),
        "virtio-net.0 queue 1".into(),
        "virtio-net.0 frame out".into(),
        "device done".into(),
        format!("{name} returns"),
        "frame sent".into(),
    ];
    assert_eq!(flowing(&out, 101 << 12 | 3), sent);
    let received = [
        "virtio-net.0 frame in",
        "virtio-net.0 raises",
        "interrupt 65",
        "driver hands up",
        "frame arrives",
        &format!("{name} returns"),
    ];
    assert_eq!(flowing(&out, 1 << 63 | 2), received);
    assert_eq!(flowing(&out, 1 << 63 | 1)[..2], received[..2]);
}

/// The timeline of what happened at a device.
fn told(device: &str, story: Vec<(u64, u32, EventKind)>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut perfetto = Perfetto::new(&mut out);
    // The driver has touched its device before.
    let access = EventKind::Access {
        space: xinim_devices::trace::Space::Mmio,
        address: 0,
        size: 2,
        op: xinim_devices::device::Op::Write(0),
        value: 0,
        old: None,
        decode: None,
        error: None,
    };
    let driver = Origin { time_ns: 1, vcpu: Some(0), rip: 0, process: process(9) };
    perfetto.event(&Event { origin: driver, device, kind: access, data: &[] });
    for (time_ns, pid, kind) in story {
        let device = if matches!(kind, EventKind::Guest(_)) { "guest" } else { device };
        let origin = Origin { time_ns, vcpu: Some(0), rip: 0, process: process(pid) };
        perfetto.event(&Event { origin, device, kind, data: &[] });
    }
    perfetto.finish().unwrap();
    out
}

/// Names of the track events that carry this flow, read with a decoder of our own.
fn flowing(bytes: &[u8], flow: u64) -> Vec<String> {
    let mut names = Vec::new();
    for (field, packet) in fields(bytes) {
        assert_eq!(field, 1, "only packets");
        for (field, event) in fields(packet.bytes()) {
            if field != 11 {
                continue;
            }
            let parts = fields(event.bytes());
            let of = |n: u64| parts.iter().find(|(field, _)| *field == n).map(|(_, part)| *part);
            let flows =
                |(field, part): &(u64, Part<'_>)| matches!(field, 47 | 48) && part.number() == flow;
            if parts.iter().any(flows) {
                let name = of(23).map(|part| part.bytes().to_vec()).unwrap_or_default();
                names.push(String::from_utf8(name).unwrap());
            }
        }
    }
    names
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Part<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Part::Bytes(bytes) => bytes,
            Part::Number(_) => panic!("a number"),
        }
    }
    fn number(self) -> u64 {
        match self {
            Part::Number(number) => number,
            Part::Bytes(_) => panic!("bytes"),
        }
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Part<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut input = crate::wire::Input(bytes);
        let value = input.u64().unwrap();
        *bytes = input.0;
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let part = match key & 7 {
            0 => Part::Number(varint(&mut bytes)),
            1 => {
                let (word, rest) = bytes.split_at(8);
                bytes = rest;
                Part::Number(u64::from_le_bytes(word.try_into().unwrap()))
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (part, rest) = bytes.split_at(length);
                bytes = rest;
                Part::Bytes(part)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, part));
    }
    found
}
