//! Clients: typed calls to an endpoint ([`Endpoint`]) and to a service by name ([`Service`]).

use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Name, Reply, Request, decode_reply, error_message};
use xinim_abi::ipc::{Received, ReplyToken};
use xinim_abi::object::{Handle, Rights};
use xinim_abi::services::rs::rs;

use crate::handle::OwnedHandle;
use crate::{start, sys};

/// An endpoint this process may call, notify or receive on, by its handle's rights.
#[derive(Debug)]
pub struct Endpoint(OwnedHandle);

impl Endpoint {
    pub fn create() -> Result<Self> {
        Ok(Self(OwnedHandle::from_raw(sys::endpoint_create()?)))
    }

    pub fn from_handle(handle: OwnedHandle) -> Self {
        Self(handle)
    }

    pub fn handle(&self) -> &OwnedHandle {
        &self.0
    }

    pub fn into_handle(self) -> OwnedHandle {
        self.0
    }

    pub fn raw(&self) -> Handle {
        self.0.raw()
    }

    /// A handle for a peer: SEND, NOTIFY or both, with a badge.
    pub fn mint(&self, rights: Rights, badge: u64) -> Result<OwnedHandle> {
        self.0.mint(rights, badge)
    }

    pub fn call<R: Request>(&self, request: &R) -> Result<R::Reply> {
        call(self.raw(), request)
    }

    pub fn notify(&self, bits: u64) -> Result<()> {
        sys::notify(self.raw(), bits)
    }

    pub fn receive(&self) -> Result<Received> {
        sys::receive(self.raw())
    }

    /// Raises bits at another endpoint, then receives.
    pub fn notify_wait(&self, target: Handle, bits: u64) -> Result<Received> {
        sys::notify_wait(self.raw(), target, bits)
    }

    /// `Again` when nothing waits.
    pub fn poll(&self) -> Result<Received> {
        sys::receive_poll(self.raw())
    }
}

/// One typed call. `ServerDied` if the server ends before it answers.
pub fn call<R: Request>(endpoint: Handle, request: &R) -> Result<R::Reply> {
    let reply = sys::ipc_call(endpoint, &request.encode())?;
    decode_reply(&reply)
}

/// Answers a kept request. `Srch`-like errors mean that the caller is gone; ignore them.
pub fn reply<R: Reply>(token: ReplyToken, reply: &R) -> Result<()> {
    sys::reply(token, &reply.encode())
}

pub fn reply_error(token: ReplyToken, error: Error) -> Result<()> {
    sys::reply(token, &error_message(error))
}

/// How often an idempotent request is repeated on fresh instances before `ServerDied` is
/// reported after all: a bound per request, not per lifetime.
const MAX_REPEATS: u32 = 64;

/// Numbers for a caller's requests; see [`Tag`](xinim_abi::ipc::Tag).
#[derive(Debug, Default)]
pub struct Numbers(AtomicU32);

impl Numbers {
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// 1 to 0x7FFF, over and over.
    pub(crate) fn next(&self) -> u16 {
        (self.0.fetch_add(1, Ordering::Relaxed) % 0x7FFF) as u16 + 1
    }
}

/// A service by its label. Looked up at first use; when it is reincarnated, idempotent requests
/// go to the new instance by themselves and others fail once with `ServerDied`.
#[derive(Debug)]
pub struct Service {
    label: Name,
    found: Mutex<Option<Found>>,
}

#[derive(Debug)]
struct Found {
    endpoint: OwnedHandle,
    pid: u32,
}

impl Service {
    /// Panics only for a label longer than a [`Name`] holds, that is, for a programming error.
    pub fn new(label: &str) -> Self {
        let Ok(label) = Name::new(label) else { panic!("label too long") };
        Self::with_name(label)
    }

    pub const fn with_name(label: Name) -> Self {
        Self { label, found: Mutex::new(None) }
    }

    /// A service whose endpoint came with the start block.
    pub fn with_endpoint(label: &str, endpoint: OwnedHandle) -> Self {
        Self::with_instance(label, endpoint, 0)
    }

    /// A service whose instance is known.
    pub fn with_instance(label: &str, endpoint: OwnedHandle, pid: u32) -> Self {
        let service = Self::new(label);
        *service.found.lock() = Some(Found { endpoint, pid });
        service
    }

    pub fn label(&self) -> Name {
        self.label
    }

    /// Looks the label up if needed, waiting for a (re)starting instance when `wait`. Answers
    /// the handle number, valid until the next look-up.
    pub fn connect(&self, wait: bool) -> Result<Handle> {
        if let Some(found) = self.found.lock().as_ref() {
            return Ok(found.endpoint.raw());
        }
        let reply = call(start::rs(), &rs::Lookup { name: self.label, wait })?;
        let endpoint = OwnedHandle::from_raw(reply.endpoint);
        let raw = endpoint.raw();
        *self.found.lock() = Some(Found { endpoint, pid: reply.pid });
        Ok(raw)
    }

    /// Forgets the instance; the next use looks it up again.
    pub fn disconnect(&self) {
        let old = self.found.lock().take();
        drop(old);
    }

    /// Process id of the instance in use (for `watch`).
    pub fn pid(&self) -> Result<u32> {
        self.connect(true)?;
        Ok(self.found.lock().as_ref().map_or(0, |found| found.pid))
    }

    /// Process id of the instance in use, 0 if there is none.
    pub fn known_pid(&self) -> u32 {
        self.found.lock().as_ref().map_or(0, |found| found.pid)
    }

    pub fn call<R: Request>(&self, request: &R) -> Result<R::Reply> {
        let mut repeats = 0;
        loop {
            let endpoint = self.connect(true)?;
            match call(endpoint, request) {
                Err(Error::ServerDied) => {
                    self.disconnect();
                    repeats += 1;
                    if !R::IDEMPOTENT || repeats > MAX_REPEATS {
                        return Err(Error::ServerDied);
                    }
                }
                other => return other,
            }
        }
    }

    /// A request to a server that keeps its state: when it dies, the same request goes to its next
    /// instance with the same number, idempotent or not. Before each attempt `prepare` makes sure that
    /// the instance knows what the request needs; its second argument says that this is a repetition.
    /// The caller sees to it that no other numbered request is under way.
    pub fn call_through<R: Request>(
        &self,
        numbers: &Numbers,
        request: &R,
        mut prepare: impl FnMut(Handle, bool) -> Result<()>,
    ) -> Result<R::Reply> {
        let (number, mut message) = (numbers.next(), request.encode());
        for repeats in 0..=MAX_REPEATS {
            let endpoint = self.connect(true)?;
            message.tag = message.tag.numbered(number, repeats > 0);
            let attempt = || decode_reply(&sys::ipc_call(endpoint, &message)?);
            match prepare(endpoint, repeats > 0).and_then(|()| attempt()) {
                Err(Error::ServerDied) => self.disconnect(),
                result => return result,
            }
        }
        Err(Error::ServerDied)
    }

    pub fn notify(&self, bits: u64) -> Result<()> {
        sys::notify(self.connect(true)?, bits)
    }
}
