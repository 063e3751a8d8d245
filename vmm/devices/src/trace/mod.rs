//! Typed trace events, one per thing that happens at the device boundary.
//!
//! A [`Tracer`] is a device's handle to the sink; without a sink an emission costs one branch and
//! the event is never built. The text form ([`std::fmt::Display`] of [`Event`], in `text.rs`) is
//! one line.

mod text;

use crate::device::{Access, Decode, GuestError, Op, Origin, Outcome};
use crate::irq::MsiMessage;
use std::sync::Arc;

/// Receives events, from any thread, with the emitting device locked.
pub trait TraceSink: Send + Sync {
    fn event(&self, event: &Event<'_>);
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub origin: Origin,
    /// Name of the device, or `bus`.
    pub device: &'a str,
    pub kind: EventKind,
}

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

#[derive(Clone, Copy, Debug)]
pub enum EventKind {
    Access {
        space: Space,
        address: u64,
        size: u8,
        op: Op,
        /// Value read; for a write see `op`.
        value: u64,
        decode: Option<Decode>,
        error: Option<GuestError>,
    },
    /// The driver rang a virtqueue's doorbell (also seen when it came through an ioeventfd).
    QueueNotify { queue: u16 },
    /// The device took a chain from the available ring.
    QueuePop { queue: u16, head: u16, segments: u16, readable: u64, writable: u64 },
    /// The device put a chain on the used ring.
    QueuePush { queue: u16, head: u16, written: u32 },
    /// A virtqueue broke its rules; the device now needs a reset.
    QueueBroken { queue: u16, error: GuestError },
    /// The device moved data (rings and descriptors are not reported).
    Dma { write: bool, address: u64, length: u64, ok: bool },
    /// A message-signalled interrupt; `pending`: masked, so it waits.
    Msi { vector: u16, message: MsiMessage, pending: bool },
    /// An interrupt line changed.
    Line { level: bool },
    /// A frame from a SATA drive was posted to memory; `kind` is its type.
    Fis { port: u8, kind: u8 },
    /// A SATA drive got a command.
    AtaCommand { port: u8, slot: u8, command: u8, lba: u64, count: u16 },
    /// A SATA drive's command ended. `errno`: the host's, if it was the host that failed.
    AtaEnd { port: u8, slot: u8, status: u8, error: u8, errno: i32 },
    /// An Ethernet frame left the guest (`sent`) or came in; bytes without CRC.
    Frame { sent: bool, length: u32 },
    /// A block request was carried out.
    /// `errno`: the host's, if it was the host that failed.
    BlockRequest { kind: u32, sector: u64, length: u64, status: u8, errno: i32 },
}

/// A device's way to the trace.
#[derive(Clone)]
pub struct Tracer {
    sink: Option<Arc<dyn TraceSink>>,
    device: Arc<str>,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").field("device", &self.device).field("on", &self.is_on()).finish()
    }
}

impl Tracer {
    /// No sink.
    pub fn off() -> Self {
        Self { sink: None, device: Arc::from("bus") }
    }

    /// Events of the bus itself go to `sink`; see [`named`](Self::named) for devices.
    pub fn new(sink: Arc<dyn TraceSink>) -> Self {
        Self { sink: Some(sink), device: Arc::from("bus") }
    }

    /// The same sink for the device of this name.
    pub fn named(&self, device: &str) -> Self {
        Self { sink: self.sink.clone(), device: Arc::from(device) }
    }

    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Reports what `kind` builds; it is not called when the trace is off.
    pub fn emit(&self, origin: &Origin, kind: impl FnOnce() -> EventKind) {
        if let Some(sink) = &self.sink {
            sink.event(&Event { origin: *origin, device: &self.device, kind: kind() });
        }
    }

    /// Reports an access of the device called `device` (which is not this tracer's own).
    pub(crate) fn access(
        &self,
        device: &str,
        space: Space,
        address: u64,
        access: &Access,
        outcome: &Outcome,
    ) {
        if let Some(sink) = &self.sink {
            let kind = EventKind::Access {
                space,
                address,
                size: access.size,
                op: access.op,
                value: outcome.value,
                decode: outcome.decode,
                error: outcome.error,
            };
            sink.event(&Event { origin: access.origin, device, kind });
        }
    }
}
