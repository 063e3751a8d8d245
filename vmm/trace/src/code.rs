//! One event as bytes and back: [`put`] and [`get`] are mirror images. A kind has a number for
//! good; new fields go to the end of a record, where an older reader does not look.

use xinim_devices::device::{Decode, GuestError, Op};
use xinim_devices::dma::DmaError;
use xinim_devices::irq::MsiMessage;
use xinim_devices::strict;
use xinim_devices::trace::{
    EventKind, ExitReason, Guest, HostOp, IommuRequest, Owner, Space, Suppress,
};
use xinim_devices::virtio::RingError;

use crate::wire::{Bad, Input, put as number, put_bytes, put_signed};

/// Names of kinds by number, for the file's header.
pub const KINDS: [&str; 24] = [
    "access",
    "notify",
    "publish",
    "pop",
    "push",
    "suppress",
    "broken",
    "dma",
    "msi",
    "mask",
    "line",
    "fis",
    "command",
    "end",
    "descriptor",
    "frame",
    "host",
    "request",
    "exit",
    "guest",
    "fault",
    "iommu",
    "refused",
    "violation",
];

fn flag(out: &mut Vec<u8>, flag: bool) {
    out.push(u8::from(flag));
}

fn optional(out: &mut Vec<u8>, value: Option<u64>) {
    flag(out, value.is_some());
    if let Some(value) = value {
        number(out, value);
    }
}

/// Appends the kind's number and its fields. `table` gives the number of a register table.
pub fn put(kind: &EventKind, out: &mut Vec<u8>, table: impl FnOnce(&Decode) -> u64) -> u8 {
    match *kind {
        EventKind::Access { space, address, size, op, value, old, decode, error } => {
            let (write, value) = match op {
                Op::Write(value) => (true, value),
                Op::Read => (false, value),
            };
            let space = match space {
                Space::Pio => 0,
                Space::Mmio => 1,
                Space::Config => 2,
            };
            out.push(space | u8::from(write) << 2 | size.min(15) << 4);
            number(out, address);
            number(out, value);
            optional(out, old);
            match decode {
                Some(decode) => {
                    number(out, table(&decode) + 1);
                    number(out, decode.offset.into());
                    optional(out, decode.index.map(u64::from));
                }
                None => out.push(0),
            }
            put_error(out, error);
            0
        }
        EventKind::QueueNotify { queue } => {
            number(out, queue.into());
            1
        }
        EventKind::QueuePublish { queue, index, count } => {
            [queue, index, count].into_iter().for_each(|n| number(out, n.into()));
            2
        }
        EventKind::QueuePop { queue, head, segments, readable, writable } => {
            [queue, head, segments].into_iter().for_each(|n| number(out, n.into()));
            [readable, writable].into_iter().for_each(|n| number(out, n));
            3
        }
        EventKind::QueuePush { queue, head, written } => {
            [queue, head].into_iter().for_each(|n| number(out, n.into()));
            number(out, written.into());
            4
        }
        EventKind::QueueSuppress { queue, what } => {
            number(out, queue.into());
            out.push(match what {
                Suppress::NotifyOff => 0,
                Suppress::NotifyOn => 1,
                Suppress::Interrupt => 2,
            });
            5
        }
        EventKind::QueueBroken { queue, error } => {
            number(out, queue.into());
            put_error(out, Some(error));
            6
        }
        EventKind::Dma { write, address, length, ok, owner } => {
            out.push(u8::from(write) | u8::from(ok) << 1);
            number(out, address);
            number(out, length);
            put_owner(out, owner);
            7
        }
        EventKind::Msi { vector, message, pending } => {
            number(out, vector.into());
            number(out, message.address);
            number(out, message.data.into());
            flag(out, pending);
            8
        }
        EventKind::MsiMask { vector, masked } => {
            number(out, vector.into());
            flag(out, masked);
            9
        }
        EventKind::Line { level } => {
            flag(out, level);
            10
        }
        EventKind::Fis { port, kind } => {
            out.extend([port, kind]);
            11
        }
        EventKind::AtaCommand { port, slot, command, lba, count } => {
            out.extend([port, slot, command]);
            number(out, lba);
            number(out, count.into());
            12
        }
        EventKind::AtaEnd { port, slot, status, error, errno } => {
            out.extend([port, slot, status, error]);
            put_signed(out, errno.into());
            13
        }
        EventKind::Descriptor { send, queue, index, address, length, flags, done } => {
            out.extend([u8::from(send) | u8::from(done) << 1, queue]);
            number(out, index.into());
            number(out, address);
            number(out, length.into());
            number(out, flags.into());
            14
        }
        EventKind::Frame { sent, length } => {
            flag(out, sent);
            number(out, length.into());
            15
        }
        EventKind::HostIo { op, offset, length, owner, done, errno } => {
            out.extend([op as u8, u8::from(done)]);
            number(out, offset);
            number(out, length);
            put_owner(out, owner);
            put_signed(out, errno.into());
            16
        }
        EventKind::BlockRequest { queue, head, kind, sector, length, status, errno } => {
            [queue, head].into_iter().for_each(|n| number(out, n.into()));
            number(out, kind.into());
            number(out, sector);
            number(out, length);
            out.push(status);
            put_signed(out, errno.into());
            17
        }
        EventKind::Exit { reason, address, nanos } => {
            out.push(reason as u8);
            number(out, address);
            number(out, nanos);
            18
        }
        EventKind::Guest(Guest { kind, name, a, b }) => {
            [kind, name].into_iter().for_each(|n| number(out, n.into()));
            [a, b].into_iter().for_each(|n| number(out, n));
            19
        }
        EventKind::Fault { rule } => {
            number(out, rule.into());
            20
        }
        EventKind::IommuRequest(request) => {
            let IommuRequest { kind, status, domain, endpoint, flags, start, end, physical } =
                request;
            out.extend([kind, status]);
            [domain, endpoint, flags].into_iter().for_each(|n| number(out, n.into()));
            [start, end, physical].into_iter().for_each(|n| number(out, n));
            21
        }
        EventKind::IommuFault { endpoint, address, write, attached } => {
            out.push(u8::from(write) | u8::from(attached) << 1);
            number(out, endpoint.into());
            number(out, address);
            22
        }
        EventKind::Violation { rule } => {
            put_bytes(out, rule.as_bytes());
            23
        }
    }
}

/// The inverse. `None`: a kind this version does not know.
pub fn get(
    code: u8,
    input: &mut Input<'_>,
    table: impl FnOnce(u64) -> Option<&'static [xinim_abi::hw::register::Register]>,
) -> Result<Option<EventKind>, Bad> {
    let bool = |input: &mut Input<'_>| input.u8().map(|byte| byte != 0);
    Ok(Some(match code {
        0 => {
            let head = input.u8()?;
            let space = match head & 3 {
                0 => Space::Pio,
                1 => Space::Mmio,
                2 => Space::Config,
                _ => return Err(Bad("an access is to no known space")),
            };
            let (write, size) = (head & 4 != 0, head >> 4);
            let (address, value) = (input.u64()?, input.u64()?);
            let old = get_optional(input)?;
            let decode = match input.u64()? {
                0 => None,
                id => {
                    let table = table(id - 1).ok_or(Bad("a register table is not defined"))?;
                    let offset = input.narrow()?;
                    let index = get_optional(input)?.map(u16::try_from).transpose();
                    let index = index.map_err(|_| Bad("a number is out of its range"))?;
                    Some(Decode { table, offset, index })
                }
            };
            let op = if write { Op::Write(value) } else { Op::Read };
            let value = if write { 0 } else { value };
            let error = get_error(input)?;
            EventKind::Access { space, address, size, op, value, old, decode, error }
        }
        1 => EventKind::QueueNotify { queue: input.narrow()? },
        2 => EventKind::QueuePublish {
            queue: input.narrow()?,
            index: input.narrow()?,
            count: input.narrow()?,
        },
        3 => EventKind::QueuePop {
            queue: input.narrow()?,
            head: input.narrow()?,
            segments: input.narrow()?,
            readable: input.u64()?,
            writable: input.u64()?,
        },
        4 => EventKind::QueuePush {
            queue: input.narrow()?,
            head: input.narrow()?,
            written: input.narrow()?,
        },
        5 => EventKind::QueueSuppress {
            queue: input.narrow()?,
            what: match input.u8()? {
                0 => Suppress::NotifyOff,
                1 => Suppress::NotifyOn,
                2 => Suppress::Interrupt,
                _ => return Err(Bad("a suppression is of no known kind")),
            },
        },
        6 => EventKind::QueueBroken {
            queue: input.narrow()?,
            error: get_error(input)?.ok_or(Bad("a broken queue has no reason"))?,
        },
        7 => {
            let head = input.u8()?;
            EventKind::Dma {
                write: head & 1 != 0,
                ok: head & 2 != 0,
                address: input.u64()?,
                length: input.u64()?,
                owner: get_owner(input)?,
            }
        }
        8 => EventKind::Msi {
            vector: input.narrow()?,
            message: MsiMessage { address: input.u64()?, data: input.narrow()? },
            pending: bool(input)?,
        },
        9 => EventKind::MsiMask { vector: input.narrow()?, masked: bool(input)? },
        10 => EventKind::Line { level: bool(input)? },
        11 => EventKind::Fis { port: input.u8()?, kind: input.u8()? },
        12 => EventKind::AtaCommand {
            port: input.u8()?,
            slot: input.u8()?,
            command: input.u8()?,
            lba: input.u64()?,
            count: input.narrow()?,
        },
        13 => EventKind::AtaEnd {
            port: input.u8()?,
            slot: input.u8()?,
            status: input.u8()?,
            error: input.u8()?,
            errno: get_errno(input)?,
        },
        14 => {
            let head = input.u8()?;
            EventKind::Descriptor {
                send: head & 1 != 0,
                done: head & 2 != 0,
                queue: input.u8()?,
                index: input.narrow()?,
                address: input.u64()?,
                length: input.narrow()?,
                flags: input.narrow()?,
            }
        }
        15 => EventKind::Frame { sent: bool(input)?, length: input.narrow()? },
        16 => EventKind::HostIo {
            op: *HostOp::ALL.get(usize::from(input.u8()?)).ok_or(Bad("no such host request"))?,
            done: bool(input)?,
            offset: input.u64()?,
            length: input.u64()?,
            owner: get_owner(input)?,
            errno: get_errno(input)?,
        },
        17 => EventKind::BlockRequest {
            queue: input.narrow()?,
            head: input.narrow()?,
            kind: input.narrow()?,
            sector: input.u64()?,
            length: input.u64()?,
            status: input.u8()?,
            errno: get_errno(input)?,
        },
        18 => EventKind::Exit {
            reason: *ExitReason::ALL.get(usize::from(input.u8()?)).ok_or(Bad("no such exit"))?,
            address: input.u64()?,
            nanos: input.u64()?,
        },
        19 => EventKind::Guest(Guest {
            kind: input.narrow()?,
            name: input.narrow()?,
            a: input.u64()?,
            b: input.u64()?,
        }),
        20 => EventKind::Fault { rule: input.narrow()? },
        21 => EventKind::IommuRequest(IommuRequest {
            kind: input.u8()?,
            status: input.u8()?,
            domain: input.narrow()?,
            endpoint: input.narrow()?,
            flags: input.narrow()?,
            start: input.u64()?,
            end: input.u64()?,
            physical: input.u64()?,
        }),
        22 => {
            let head = input.u8()?;
            EventKind::IommuFault {
                write: head & 1 != 0,
                attached: head & 2 != 0,
                endpoint: input.narrow()?,
                address: input.u64()?,
            }
        }
        23 => match strict::rule(input.text()?) {
            Some(rule) => EventKind::Violation { rule: rule.id },
            // A rule of a later version.
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

fn get_optional(input: &mut Input<'_>) -> Result<Option<u64>, Bad> {
    match input.u8()? {
        0 => Ok(None),
        _ => input.u64().map(Some),
    }
}

fn get_errno(input: &mut Input<'_>) -> Result<i32, Bad> {
    i32::try_from(input.signed()?).map_err(|_| Bad("a number is out of its range"))
}

fn put_owner(out: &mut Vec<u8>, owner: Owner) {
    match owner {
        Owner::Unknown => out.push(0),
        Owner::Queue { queue, head } => {
            out.push(1);
            number(out, queue.into());
            number(out, head.into());
        }
        Owner::Slot { port, slot } => out.extend([2, port, slot]),
        Owner::Ring { send, queue, index } => {
            out.extend([3 + u8::from(send), queue]);
            number(out, index.into());
        }
    }
}

fn get_owner(input: &mut Input<'_>) -> Result<Owner, Bad> {
    Ok(match input.u8()? {
        0 => Owner::Unknown,
        1 => Owner::Queue { queue: input.narrow()?, head: input.narrow()? },
        2 => Owner::Slot { port: input.u8()?, slot: input.u8()? },
        code @ (3 | 4) => {
            Owner::Ring { send: code == 4, queue: input.u8()?, index: input.narrow()? }
        }
        _ => return Err(Bad("an owner is of no known kind")),
    })
}

/// Mistakes without details, by number; 0 is none.
const ERRORS: [GuestError; 11] = [
    GuestError::Unclaimed,
    GuestError::NoRegister,
    GuestError::ReadOnly,
    GuestError::WriteOnly,
    GuestError::BadSize,
    GuestError::Unaligned,
    GuestError::BadValue,
    GuestError::BadState,
    GuestError::BadQueue,
    GuestError::BusMasterOff,
    GuestError::NeedsReset,
];
const RING_DMA: u8 = 32;
const RING_AVAIL: u8 = 33;
const RING_DESCRIPTOR: u8 = 34;
const RING_PLAIN: u8 = 35;
const RING_ERRORS: [RingError; 5] = [
    RingError::ChainTooLong,
    RingError::BadIndirect,
    RingError::ReadableAfterWritable,
    RingError::ChainTooLarge,
    RingError::Malformed,
];

fn put_error(out: &mut Vec<u8>, error: Option<GuestError>) {
    match error {
        None => out.push(0),
        Some(GuestError::Ring(RingError::Dma(DmaError { address, length }))) => {
            out.push(RING_DMA);
            number(out, address);
            number(out, length);
        }
        Some(GuestError::Ring(RingError::AvailIndex { seen, expected })) => {
            out.push(RING_AVAIL);
            number(out, seen.into());
            number(out, expected.into());
        }
        Some(GuestError::Ring(RingError::DescriptorIndex(index))) => {
            out.push(RING_DESCRIPTOR);
            number(out, index.into());
        }
        Some(GuestError::Ring(plain)) => {
            let index = RING_ERRORS.iter().position(|known| *known == plain).unwrap_or(0);
            out.push(RING_PLAIN + index as u8);
        }
        Some(plain) => {
            let index = ERRORS.iter().position(|known| *known == plain).unwrap_or(0);
            out.push(1 + index as u8);
        }
    }
}

fn get_error(input: &mut Input<'_>) -> Result<Option<GuestError>, Bad> {
    Ok(Some(match input.u8()? {
        0 => return Ok(None),
        RING_DMA => {
            let error = DmaError { address: input.u64()?, length: input.u64()? };
            GuestError::Ring(RingError::Dma(error))
        }
        RING_AVAIL => {
            let error = RingError::AvailIndex { seen: input.narrow()?, expected: input.narrow()? };
            GuestError::Ring(error)
        }
        RING_DESCRIPTOR => GuestError::Ring(RingError::DescriptorIndex(input.narrow()?)),
        code if code >= RING_PLAIN => {
            let plain = RING_ERRORS.get(usize::from(code - RING_PLAIN));
            GuestError::Ring(*plain.ok_or(Bad("a mistake is of no known kind"))?)
        }
        code => *ERRORS.get(usize::from(code - 1)).ok_or(Bad("a mistake is of no known kind"))?,
    }))
}
