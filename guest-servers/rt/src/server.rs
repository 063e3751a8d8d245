//! Servers: the receive loop, kept requests, clients' shared windows.
//!
//! A service creates nothing to be found: RS made its endpoint (start block role `SERVICE`) and
//! hands it out. The service initialises, calls [`announce`], then [`serve`]s. RS's own bits
//! (heartbeat, injected faults, orderly end) are handled here.

use alloc::collections::BTreeMap;
use core::cell::Cell;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::ipc::{Message, Received, ReplyToken, bits};
use xinim_abi::object::{Handle, Protection};
use xinim_abi::services::rs::rs;
use xinim_abi::start::role;

use crate::handle::OwnedHandle;
use crate::memory::{Mapping, Memory};
use crate::{ipc, process, start, sys};

/// One request as the kernel delivered it. Handles that are not taken are closed on drop.
#[derive(Debug)]
pub struct Request {
    pub message: Message,
    /// Answer later with `ipc::reply(token, ..)` if `call` returns `None`.
    pub token: ReplyToken,
    /// What the caller's handle was minted with.
    pub badge: u64,
    /// The caller's process id.
    pub sender: u32,
    handles: [Cell<Handle>; 2],
}

impl Request {
    pub fn new(received: &Received) -> Self {
        let words = &received.message.words;
        let handles = match received.message.tag.handles() {
            1 => [Cell::new(words[5] as Handle), Cell::new(0)],
            2 => [Cell::new(words[4] as Handle), Cell::new(words[5] as Handle)],
            _ => [Cell::new(0), Cell::new(0)],
        };
        Self {
            message: received.message,
            token: received.token,
            badge: received.badge,
            sender: received.sender,
            handles,
        }
    }

    /// Does RS vouch for the caller (`calls = ["label:admin"]`)?
    pub fn is_admin(&self) -> bool {
        self.badge & xinim_abi::ipc::BADGE_ADMIN != 0
    }

    /// Takes over the handle with this number out of the message (a decoded call names it).
    pub fn handle(&self, number: Handle) -> OwnedHandle {
        for handle in &self.handles {
            if handle.get() == number {
                handle.set(0);
            }
        }
        OwnedHandle::from_raw(number)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        for handle in &self.handles {
            if handle.get() != 0 {
                drop(OwnedHandle::from_raw(handle.get()));
            }
        }
    }
}

/// What a service does.
pub trait Server {
    /// Serves one request. `Some(reply)` answers now; `None`: the token was kept for later.
    fn call(&mut self, request: Request) -> Option<Message>;

    /// The service's own notification bits, `bits::TIMER` and `bits::OBITUARY`.
    fn notified(&mut self, _bits: u64) {}

    /// A notification to be raised together with the next wait: endpoint and bits. It saves an entry
    /// into the kernel; asked for after each [`Server::call`] and [`Server::notified`].
    /// The handle stays open at least until the next call.
    fn parting(&mut self) -> Option<(Handle, u64)> {
        None
    }

    /// It begins to work at what came, or is done with it and waits again. What came may be a bit that
    /// none of the others hears of.
    fn working(&mut self, _works: bool) {}

    /// RS asks for the end: write back what must not be lost. The exit status.
    fn terminate(&mut self) -> i32 {
        0
    }

    /// RS asks for the end and starts the next instance at once (a restart, an update): what relies on this
    /// service is to go on.
    fn hand_over(&mut self) -> i32 {
        self.terminate()
    }
}

/// The message that answers with `result`, and `Some` around it: for [`Server::call`].
pub fn answer<R: Reply>(result: Result<R>) -> Option<Message> {
    Some(match result {
        Ok(reply) => reply.encode(),
        Err(error) => error_message(error),
    })
}

/// The endpoint RS made for this service.
pub fn own_endpoint() -> Result<Handle> {
    start::handle(role::SERVICE).ok_or(Error::BadHandle)
}

/// Tells RS that this service is initialised; look-ups that wait are answered now.
pub fn announce() -> Result<()> {
    ipc::call(start::rs(), &rs::Announce {}).map(drop)
}

/// Announces and serves for ever on RS's endpoint.
pub fn run(server: &mut impl Server) -> ! {
    let Ok(endpoint) = own_endpoint() else { process::exit(1) };
    if announce().is_err() {
        process::exit(1);
    }
    serve(endpoint, server)
}

/// Receives, serves, replies, for ever. Ends the process when the endpoint is gone.
pub fn serve(endpoint: Handle, server: &mut impl Server) -> ! {
    let mut next = sys::receive(endpoint);
    loop {
        let received = match next {
            Ok(received) => received,
            // A message whose handles found no room here was refused to its sender.
            Err(Error::Limit | Error::Intr | Error::NoMem) => {
                next = sys::receive(endpoint);
                continue;
            }
            Err(_) => process::exit(1),
        };
        server.working(true);
        next = match received.notification() {
            Some(raised) => {
                standard_bits(raised, server);
                let own = raised & !bits::STANDARD;
                if own != 0 {
                    server.notified(own);
                }
                part(endpoint, server)
            }
            None => match server.call(Request::new(&received)) {
                Some(reply) => {
                    if let Some((target, bits)) = server.parting() {
                        // It may have died.
                        let _ = sys::notify(target, bits);
                    }
                    server.working(false);
                    sys::reply_wait(endpoint, received.token, &reply)
                }
                None => part(endpoint, server),
            },
        };
    }
}

/// Waits, and raises what the server wants raised.
fn part(endpoint: Handle, server: &mut impl Server) -> Result<Received> {
    let parting = server.parting();
    server.working(false);
    match parting {
        Some((target, bits)) => sys::notify_wait(endpoint, target, bits),
        None => sys::receive(endpoint),
    }
}

fn standard_bits(raised: u64, server: &mut impl Server) {
    if raised & bits::INJECT_FAULT != 0 {
        wild_write();
    }
    if raised & bits::INJECT_HANG != 0 {
        loop {
            core::hint::spin_loop();
        }
    }
    if raised & bits::INJECT_BLOCK != 0 {
        loop {
            sys::thread_sleep(u64::MAX);
        }
    }
    // The heartbeat (`PING`) is answered by having been fetched.
    if raised & bits::TERMINATE != 0 {
        process::exit(match raised & bits::SUCCEEDED {
            0 => server.terminate(),
            _ => server.hand_over(),
        });
    }
}

/// The fault of a buggy driver, on RS's request: a write through a pointer into nowhere.
fn wild_write() {
    let wild = core::hint::black_box(0x0000_5EAD_BEEF_0000_u64) as *mut u64;
    // SAFETY: deliberately not: nothing is ever mapped there, so the write raises a page fault
    // that ends this process, which is what the caller asked for. No memory of ours changes.
    unsafe { wild.write_volatile(0xDEAD) };
}

/// The windows that clients share with a server, by process id; forgotten when they die.
#[derive(Debug, Default)]
pub struct ClientWindows {
    windows: BTreeMap<u32, Mapping>,
}

/// Bound of one client's window: a server maps what clients send.
pub const MAX_CLIENT_WINDOW: u64 = 16 * 1024 * 1024;

impl ClientWindows {
    pub fn new() -> Self {
        Self::default()
    }

    /// Maps `memory` as the window of `client`, replacing an older one, and has the kernel tell
    /// `endpoint` of the client's death with `cookie` (by convention the pid).
    pub fn attach(&mut self, client: u32, memory: OwnedHandle, endpoint: Handle) -> Result<()> {
        let memory = Memory::from_handle(memory)?;
        if memory.is_empty() || memory.len() > MAX_CLIENT_WINDOW {
            return Err(Error::Inval);
        }
        let window = memory.map(Protection::READ | Protection::WRITE)?;
        if self.windows.insert(client, window).is_none() {
            sys::watch(client, endpoint, client.into())?;
        }
        Ok(())
    }

    /// `Fault` if the client never shared one.
    pub fn get(&self, client: u32) -> Result<&Mapping> {
        self.windows.get(&client).ok_or(Error::Fault)
    }

    pub fn forget(&mut self, client: u32) {
        self.windows.remove(&client);
    }
}
