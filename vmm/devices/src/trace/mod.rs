//! Typed trace events, one per thing that happens at the device boundary.
//!
//! A [`Tracer`] is a device's handle to the [`Hub`], which passes events on to whoever listens;
//! while nobody does, an emission costs one branch and the event is never built. The text form
//! ([`std::fmt::Display`] of [`Event`], in `text.rs`) is one line.

mod hub;
mod kinds;
mod text;

use crate::device::{Access, Origin, Outcome};
use std::sync::Arc;

pub use hub::{Accept, Hub, Tap};
pub use kinds::{
    Asked, EventKind, ExitReason, Guest, HostOp, Interest, IommuRequest, Owner, Space, Suppress,
};

/// Receives events, from any thread, with the emitting device locked: it must not access devices.
pub trait TraceSink: Send + Sync {
    fn event(&self, event: &Event<'_>);

    /// What it wants to hear; must not change.
    fn interest(&self) -> Interest {
        Interest::all()
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its time is when the event happened; for accesses and exits, when they began.
    pub origin: Origin,
    /// Name of the device, `bus`, or `cpu`.
    pub device: &'a str,
    pub kind: EventKind,
    /// Bytes that belong to the event: those of a frame, words about a fault or a broken rule. Empty
    /// for most.
    pub data: &'a [u8],
}

/// A device's way to the trace.
#[derive(Clone)]
pub struct Tracer {
    hub: Arc<Hub>,
    device: Arc<str>,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").field("device", &self.device).field("on", &self.is_on()).finish()
    }
}

impl Tracer {
    /// A hub of its own, to which nobody listens.
    pub fn off() -> Self {
        Self::at(Arc::default())
    }

    /// Events go to `sink` alone, at once.
    pub fn new(sink: Arc<dyn TraceSink>) -> Self {
        let hub = Hub::default();
        hub.add(sink, None, true);
        Self::at(Arc::new(hub))
    }

    /// Events of the bus itself go to `hub`; see [`named`](Self::named) for devices.
    pub fn at(hub: Arc<Hub>) -> Self {
        Self { hub, device: Arc::from("bus") }
    }

    /// The same hub for the device of this name.
    pub fn named(&self, device: &str) -> Self {
        Self { hub: self.hub.clone(), device: Arc::from(device) }
    }

    /// A device asks its back end, or was `answered` with this errno (0: good).
    pub fn host_io(&self, origin: &Origin, owner: Owner, asked: Asked, answered: Option<i32>) {
        let (op, offset, length) = asked;
        let (done, errno) = (answered.is_some(), answered.unwrap_or(0));
        self.emit(origin, || EventKind::HostIo { op, offset, length, owner, done, errno });
    }

    #[inline]
    pub fn is_on(&self) -> bool {
        self.hub.is_on()
    }

    /// Whether anybody listens for one of these; for what has to be prepared beforehand.
    #[inline]
    pub fn wants(&self, interest: Interest) -> bool {
        self.hub.wants(interest)
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Reports what `kind` builds; it is not called when the trace is off.
    #[inline]
    pub fn emit(&self, origin: &Origin, kind: impl FnOnce() -> EventKind) {
        if self.hub.is_on() {
            self.send(origin, &kind(), &[]);
        }
    }

    /// The same for an event with data.
    #[inline]
    pub fn emit_with(&self, origin: &Origin, data: &[u8], kind: impl FnOnce() -> EventKind) {
        if self.hub.is_on() {
            self.send(origin, &kind(), data);
        }
    }

    #[cold]
    fn send(&self, origin: &Origin, kind: &EventKind, data: &[u8]) {
        let time_ns = self.hub.now_ns().unwrap_or(origin.time_ns);
        let origin = Origin { time_ns, ..*origin };
        self.hub.send(&Event { origin, device: &self.device, kind: *kind, data });
    }

    /// Reports an access of the device called `device` (which is not this tracer's own). `old`: what
    /// a written register held before.
    pub fn access(
        &self,
        device: &str,
        space: Space,
        address: u64,
        access: &Access,
        old: Option<u64>,
        outcome: &Outcome,
    ) {
        if self.hub.is_on() {
            let kind = EventKind::Access {
                space,
                address,
                size: access.size,
                op: access.op,
                value: outcome.value,
                old,
                decode: outcome.decode,
                error: outcome.error,
            };
            self.hub.send(&Event { origin: access.origin, device, kind, data: &[] });
        }
    }
}
