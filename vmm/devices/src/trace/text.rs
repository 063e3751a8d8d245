//! Events as lines of text.
//!
//! ```text
//! 0.012345678 cpu0 rip=0x401a2c [7 virtio-blk] virtio-blk.0 w1 mmio:0xfe004014 device_status=0x4 {DRIVER_OK}
//! ```
//! Time in seconds, who, the device, what. Accesses name every register they touch; a field that
//! is zero is left out, a one-bit field is named, a wider one is `name=value`.

use super::{Event, EventKind, Guest, IommuRequest, Owner, Space, Suppress};
use crate::device::{Decode, Op};
use std::fmt::{Display, Formatter, Result};
use xinim_abi::hw::ata;
use xinim_abi::hw::pci::Bdf;
use xinim_abi::hw::register::{self, Part, Register, touched};
use xinim_abi::hw::sata::fis;
use xinim_abi::hw::virtio_blk::{Status, request};
use xinim_abi::hw::virtio_iommu as iommu;
use xinim_abi::trace;

impl Display for Event<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let origin = &self.origin;
        let (seconds, nanos) = (origin.time_ns / 1_000_000_000, origin.time_ns % 1_000_000_000);
        write!(f, "{seconds}.{nanos:09} ")?;
        match origin.vcpu {
            Some(vcpu) => write!(f, "cpu{vcpu} rip={:#x} ", origin.rip)?,
            None => f.write_str("host ")?,
        }
        if let Some(process) = &origin.process {
            write!(f, "[{} {}] ", process.pid, process.name())?;
        }
        write!(f, "{} ", self.device)?;
        self.write_what(f)
    }
}

impl Event<'_> {
    /// What happened, without when, where and by whom, but with the words that belong to it.
    pub fn what(&self) -> String {
        struct What<'a>(&'a Event<'a>);
        impl Display for What<'_> {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                self.0.write_what(f)
            }
        }
        What(self).to_string()
    }

    fn write_what(&self, f: &mut Formatter<'_>) -> Result {
        kind(f, &self.kind)?;
        match self.kind {
            EventKind::Fault { .. } | EventKind::Violation { .. } if !self.data.is_empty() => {
                write!(f, ": {}", Printable(std::str::from_utf8(self.data).unwrap_or("?")))
            }
            _ => Ok(()),
        }
    }
}

impl Display for EventKind {
    /// What happened, without when, where and by whom.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        kind(f, self)
    }
}

fn kind(f: &mut Formatter<'_>, kind: &EventKind) -> Result {
    match *kind {
        EventKind::Access { space, address, size, op, value, old, decode, error } => {
            let (letter, value, write) = match op {
                Op::Read => ('r', value, false),
                Op::Write(value) => ('w', value, true),
            };
            write!(f, "{letter}{size} {}:{address:#x}", space_name(space))?;
            match decode {
                Some(decode) => registers(f, &decode, size, value, write)?,
                None => write!(f, " ={value:#x}")?,
            }
            if let Some(old) = old {
                write!(f, " was={old:#x}")?;
            }
            match error {
                Some(error) => write!(f, " !{error:?}"),
                None => Ok(()),
            }
        }
        EventKind::QueueNotify { queue } => write!(f, "notify queue={queue}"),
        EventKind::QueuePop { queue, head, segments, readable, writable } => write!(
            f,
            "pop queue={queue} head={head} segments={segments} readable={readable} writable={writable}"
        ),
        EventKind::QueuePush { queue, head, written } => {
            write!(f, "push queue={queue} head={head} written={written}")
        }
        EventKind::QueuePublish { queue, index, count } => {
            write!(f, "publish queue={queue} index={index} count={count}")
        }
        EventKind::QueueSuppress { queue, what } => {
            let what = match what {
                Suppress::NotifyOff => "notify off",
                Suppress::NotifyOn => "notify on",
                Suppress::Interrupt => "interrupt not wanted",
            };
            write!(f, "suppress queue={queue} {what}")
        }
        EventKind::QueueBroken { queue, error } => write!(f, "broken queue={queue} !{error:?}"),
        EventKind::Dma { write, address, length, ok, owner } => {
            let (name, failed) =
                (if write { "write" } else { "read" }, if ok { "" } else { " !failed" });
            write!(f, "dma {name} {address:#x}+{length:#x}{}{failed}", Of(owner))
        }
        EventKind::Msi { vector, message, pending } => {
            let pending = if pending { " pending" } else { "" };
            write!(f, "msi vector={vector} {:#x}<-{:#x}{pending}", message.address, message.data)
        }
        EventKind::MsiMask { vector, masked } => {
            write!(f, "msi vector={vector} {}", if masked { "masked" } else { "unmasked" })
        }
        EventKind::Fis { port, kind } => match frame_name(kind) {
            Some(name) => write!(f, "fis port={port} {name}"),
            None => write!(f, "fis port={port} type={kind:#x}"),
        },
        EventKind::AtaCommand { port, slot, command, lba, count } => {
            write!(f, "command port={port} slot={slot} ")?;
            match ata::command::name(command) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "code={command:#x}")?,
            }
            write!(f, " lba={lba} count={count}")
        }
        EventKind::AtaEnd { port, slot, status, error, errno } => {
            write!(f, "end port={port} slot={slot} status={status:#x} error={error:#x}")?;
            if errno != 0 { write!(f, " errno={errno}") } else { Ok(()) }
        }
        EventKind::Line { level } => write!(f, "irq level={}", u8::from(level)),
        EventKind::Fault { rule } => write!(f, "fault rule={rule}"),
        EventKind::Violation { rule } => write!(f, "violation {rule}"),
        EventKind::IommuRequest(request) => iommu_request(f, &request),
        EventKind::IommuFault { endpoint, address, write, attached } => {
            let (what, why) = (
                if write { "write" } else { "read" },
                if attached { "not mapped" } else { "no domain" },
            );
            let function = Bdf::from_bits(endpoint);
            write!(f, "iommu refused {what} of {function} at {address:#x}: {why}")
        }
        EventKind::Frame { sent, length } => {
            write!(f, "frame {} length={length}", if sent { "sent" } else { "received" })
        }
        EventKind::Descriptor { send, queue, index, address, length, flags, done } => {
            let (ring, step) =
                (if send { "tx" } else { "rx" }, if done { "done" } else { "taken" });
            write!(f, "descriptor {ring} queue={queue} index={index} {step} ")?;
            write!(f, "buffer={address:#x}+{length:#x} flags={flags:#x}")
        }
        EventKind::HostIo { op, offset, length, owner, done, errno } => {
            let step = if done { "done" } else { "start" };
            write!(f, "host {} {step} offset={offset} length={length}{}", op.name(), Of(owner))?;
            if errno == 0 { Ok(()) } else { write!(f, " errno={errno}") }
        }
        EventKind::Exit { reason, address, nanos } => {
            write!(f, "exit {} address={address:#x} cost={nanos}ns", reason.name())
        }
        EventKind::Guest(event) => guest(f, &event),
        EventKind::BlockRequest { kind, sector, length, status, errno, .. } => {
            match request_name(kind) {
                Some(name) => write!(f, "request {name}")?,
                None => write!(f, "request type={kind}")?,
            }
            write!(f, " sector={sector} length={length} status=")?;
            match Status::from_u8(status) {
                Some(status) => write!(f, "{status:?}")?,
                None => write!(f, "{status}")?,
            }
            if errno == 0 { Ok(()) } else { write!(f, " errno={errno}") }
        }
    }
}

/// The guest's own event (`xinim_abi::trace`).
fn guest(f: &mut Formatter<'_>, event: &Guest) -> Result {
    let Guest { kind, name, a, b } = *event;
    let known = u8::try_from(kind).ok().and_then(trace::kind_name);
    let Some(known) = known else {
        return write!(f, "guest kind={kind} name={name} a={a:#x} b={b:#x}");
    };
    write!(f, "{known}")?;
    let (low, high) = (b as u32, (b >> 32) as u32);
    match kind as u8 {
        trace::kind::SWITCH => write!(f, " pid={a} thread={b}"),
        trace::kind::CALL => {
            match xinim_abi::services::operation_name(name) {
                Some(operation) => write!(f, " {operation}")?,
                None => write!(f, " op={name:#x}")?,
            }
            write!(f, " from={low} to={} token={a:#x}", high & 0xF_FFFF)
        }
        trace::kind::REPLY => {
            write!(f, " token={a:#x}{}", if name == 0 { "" } else { " error" })
        }
        trace::kind::NOTIFY => write!(f, " pid={b} bits={a:#x}"),
        trace::kind::INTERRUPT => write!(f, " vector={name} pid={b}"),
        trace::kind::FAULT => write!(f, " pid={b} exception={name} address={a:#x}"),
        trace::kind::BIRTH => write!(f, " pid={b} parent={a}"),
        trace::kind::DEATH => write!(f, " pid={b} cause={name} status={}", a as i64),
        trace::kind::DMA_GRANT => {
            write!(f, " pid={low} {a:#x}+{:#x} to {}", u64::from(high) << 12, Bdf::from_bits(name))
        }
        trace::kind::DMA_REVOKE => {
            write!(f, " {a:#x}+{:#x} from {}", u64::from(high) << 12, Bdf::from_bits(name))
        }
        trace::kind::BLOCK_SUBMIT => write!(f, " id={b} op={name} sector={a}"),
        trace::kind::BLOCK_DONE => write!(f, " id={b} error={name}"),
        trace::kind::DRIVER_TAKE => {
            write!(f, " client={} id={b} cookie={:#x} op={name}", a as u32, a >> 32)
        }
        trace::kind::DRIVER_ISSUE => {
            write!(f, " cookie={a:#x} queue={} tag={}", b >> 16, b & 0xFFFF)
        }
        trace::kind::DRIVER_DONE => write!(f, " cookie={a:#x} error={name}"),
        trace::kind::FRAME_SUBMIT => {
            write!(f, " driver={a} id={b}{}", if name == 0 { "" } else { " serving" })
        }
        trace::kind::FRAME_TAKE => write!(f, " id={a} length={b}"),
        trace::kind::FRAME_SENT => write!(f, " id={a}"),
        trace::kind::FRAME_UP => write!(f, " length={b}"),
        trace::kind::FRAME_ARRIVED => write!(f, " driver={a} length={b}"),
        trace::kind::SERVICE => {
            let what = trace::life::NAMES.get(usize::from(name)).unwrap_or(&"?");
            write!(f, " {} {what}", Printable(trace::words_text(a, b, &mut [0; 16])))
        }
        _ => write!(f, " {}", Printable(trace::words_text(a, b, &mut [0; 16]))),
    }
}

fn iommu_request(f: &mut Formatter<'_>, request: &IommuRequest) -> Result {
    let IommuRequest { kind, status, domain, endpoint, flags, start, end, physical } = *request;
    let function = Bdf::from_bits(endpoint as u16);
    match (kind, iommu::request::name(kind)) {
        (_, None) => write!(f, "iommu request={kind}")?,
        (iommu::request::ATTACH, Some(name)) => {
            write!(f, "iommu {name} {function} domain={domain:#x} flags={flags:#x}")?;
        }
        (iommu::request::DETACH, Some(name)) => {
            write!(f, "iommu {name} {function} domain={domain:#x}")?;
        }
        (iommu::request::MAP, Some(name)) => write!(
            f,
            "iommu {name} domain={domain:#x} {start:#x}-{end:#x} to={physical:#x} flags={flags:#x}"
        )?,
        (iommu::request::UNMAP, Some(name)) => {
            write!(f, "iommu {name} domain={domain:#x} {start:#x}-{end:#x}")?;
        }
        (_, Some(name)) => write!(f, "iommu {name} {function}")?,
    }
    write!(f, " status={status}")
}

/// Text of the guest's without what would move a terminal's cursor.
struct Printable<'a>(&'a str);

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.0.chars().try_for_each(|c| write!(f, "{}", if c.is_control() { '?' } else { c }))
    }
}

/// ` queue=0 head=5`, or nothing.
struct Of(Owner);

impl Display for Of {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Owner::Unknown => Ok(()),
            Owner::Queue { queue, head } => write!(f, " queue={queue} head={head}"),
            Owner::Slot { port, slot } => write!(f, " port={port} slot={slot}"),
            Owner::Ring { send, queue, index } => {
                write!(f, " {} queue={queue} index={index}", if send { "tx" } else { "rx" })
            }
        }
    }
}

fn request_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        request::IN => "IN",
        request::OUT => "OUT",
        request::FLUSH => "FLUSH",
        request::GET_ID => "GET_ID",
        request::DISCARD => "DISCARD",
        request::WRITE_ZEROES => "WRITE_ZEROES",
        _ => return None,
    })
}

fn frame_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        fis::REGISTER_D2H => "D2H",
        fis::PIO_SETUP => "PIO_SETUP",
        fis::DMA_SETUP => "DMA_SETUP",
        fis::SET_DEVICE_BITS => "SDB",
        _ => return None,
    })
}

fn space_name(space: Space) -> &'static str {
    match space {
        Space::Pio => "pio",
        Space::Mmio => "mmio",
        Space::Config => "config",
    }
}

/// Every register the access touches, with the part of the value that falls into it.
fn registers(f: &mut Formatter<'_>, decode: &Decode, size: u8, value: u64, write: bool) -> Result {
    let mut any = false;
    for register in touched(decode.table, decode.offset, size, write) {
        any = true;
        write!(f, " {}", register.name)?;
        if let Some(index) = decode.index {
            write!(f, "[{index}]")?;
        }
        part(f, register, decode.offset, size, value)?;
    }
    if any { Ok(()) } else { write!(f, " +{:#x}={value:#x}", decode.offset) }
}

fn part(f: &mut Formatter<'_>, register: &Register, offset: u32, size: u8, value: u64) -> Result {
    let Part { skipped, value, .. } = register::part(register, offset, size, value);
    if skipped > 0 {
        write!(f, "+{skipped}")?;
    }
    write!(f, "={:#x}", value >> (8 * skipped))?;
    let mut open = false;
    for field in register.fields {
        let content = field.get(value);
        if content == 0 {
            continue;
        }
        f.write_str(if open { " " } else { " {" })?;
        open = true;
        f.write_str(field.name)?;
        if field.bits > 1 {
            write!(f, "={content:#x}")?;
        }
    }
    if open { f.write_str("}") } else { Ok(()) }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
