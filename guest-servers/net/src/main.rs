//! `net`: the network server. Programs call it directly (`services::socket`); it calls network drivers
//! (`services::link`), which it finds by their class.
//!
//! ```text
//! bits 2n, 2n+1   link n: work, state         TIMER   the stack or a caller's patience
//! PEER_UP         a network driver came up     OBITUARY   a driver or a client died
//! ```
//! The first driver's interface is `eth0`, and so on; a driver's next instance gets the interface of its
//! label, whose sockets, addresses and routes go on. Sockets die with this server: programs see
//! `ServerDied`, VFS's descriptors answer `ConnReset` after that.
#![no_std]
#![no_main]

extern crate alloc;

mod driver;
mod waiting;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use smoltcp::time::Instant;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::error_message;
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::Handle;
use xinim_abi::services::chardev::chardev;
use xinim_abi::services::rs::query as rs_query;
use xinim_abi::services::socket::{ADDRESS_MAX, Address, flags, poll, socket};
use xinim_net::address;
use xinim_net::configure::configure;
use xinim_net::resolver::Started;
use xinim_net::stack::{INTERFACES_MAX, Stack};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::memory::Memory;
use xinim_rt::server::{ClientWindows, Request, Server, answer};
use xinim_rt::{kip, log, rs, server, sys, time};
use zerocopy::IntoBytes;

use driver::Driver;
use waiting::{Waiting, Want};

xinim_rt::program!(main);

/// Class of network drivers in manifests.
const CLASS: &str = "net";
/// Callers that wait, and polls that are armed.
const WAITING_MAX: usize = 1024;
/// Longest host name (RFC 1035).
const NAME_MAX: u32 = 255;

/// A poll whose events have not come.
struct Armed {
    cookie: u64,
    events: u32,
    bit: u64,
    notify: OwnedHandle,
    owner: u32,
}

struct NetServer {
    endpoint: Handle,
    stack: Stack,
    windows: ClientWindows,
    drivers: Vec<Driver>,
    /// Drivers whose death we are told of: pid and place.
    watched: BTreeMap<u32, usize>,
    waiting: Vec<Waiting>,
    armed: Vec<Armed>,
    buffer: Vec<u8>,
}

fn now() -> Instant {
    Instant::from_micros((time::now_ns() / 1000) as i64)
}

fn main() -> i32 {
    let Ok(endpoint) = server::own_endpoint() else { return 1 };
    // The time stamp counter is for processors without a generator.
    let word =
        |i: u64| kip::random_u64().unwrap_or(kip::tsc().rotate_left(17 * i as u32)) ^ kip::tsc();
    let stack = Stack::new([word(0), word(1), word(2), word(3)], now());
    let mut net = NetServer {
        endpoint,
        stack,
        windows: ClientWindows::new(),
        drivers: Vec::new(),
        watched: BTreeMap::new(),
        waiting: Vec::new(),
        armed: Vec::new(),
        buffer: Vec::new(),
    };
    net.find_drivers();
    net.work();
    server::run(&mut net)
}

impl Server for NetServer {
    fn call(&mut self, request: Request) -> Option<Message> {
        let reply = self.serve(&request);
        self.work();
        match reply {
            Ok(reply) => reply,
            Err(error) => Some(error_message(error)),
        }
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            self.bury();
        }
        if raised & (bits::PEER_UP | bits::OBITUARY) != 0 {
            self.find_drivers();
        }
        for (place, driver) in self.drivers.iter().enumerate() {
            if raised & 2 << (2 * place) != 0 {
                driver.look_at_state();
            }
        }
        self.work();
    }
}

impl NetServer {
    /// Attaches to drivers that are new, and to the successors of dead ones.
    fn find_drivers(&mut self) {
        let Ok(classes) = rs::query(rs_query::CLASSES, "") else { return };
        for line in classes.lines() {
            let Some((CLASS, label)) = line.split_once('\t') else { continue };
            let place = match self.drivers.iter().position(|driver| driver.label() == label) {
                Some(place) if self.drivers[place].is_attached() => continue,
                Some(place) => place,
                None if self.drivers.len() + 1 >= INTERFACES_MAX.min(20) => continue,
                None => match self.add_driver(label) {
                    Ok(place) => place,
                    Err(error) => {
                        log!("net: {label}: {error}");
                        continue;
                    }
                },
            };
            match self.drivers[place].attach(self.endpoint, 2 * place as u32) {
                Ok(pid) => {
                    self.watched.insert(pid, place);
                }
                // It died meanwhile: PEER_UP comes again.
                Err(Error::ServerDied | Error::Srch) => {}
                Err(error) => log!("net: {label}: {error}"),
            }
        }
    }

    fn add_driver(&mut self, label: &str) -> Result<usize> {
        let place = self.drivers.len();
        let (driver, link) = Driver::new(label)?;
        self.stack.add_interface(&format!("eth{place}"), Box::new(link), true)?;
        self.drivers.push(driver);
        Ok(place)
    }

    fn bury(&mut self) {
        while let Ok(Some(obituary)) = sys::event_next(self.endpoint) {
            if let Some(place) = self.watched.remove(&obituary.pid) {
                self.drivers[place].died();
                continue;
            }
            let client = obituary.cookie as u32;
            self.windows.forget(client);
            self.armed.retain(|armed| armed.owner != client);
            let (gone, kept): (Vec<_>, Vec<_>) =
                core::mem::take(&mut self.waiting).into_iter().partition(|w| w.sender == client);
            self.waiting = kept;
            for waiting in gone {
                if let Want::Resolve { lookup } = waiting.want {
                    self.stack.cancel(lookup);
                }
            }
            self.stack.bury(client);
        }
    }

    /// Moves packets, answers who can be answered, sets the timer.
    fn work(&mut self) {
        let mut due = self.stack.turn(now());
        self.serve_waiting();
        // What they sent or took makes packets.
        due = due.min(self.stack.turn(now())).or(due);
        self.fire_armed();
        for driver in &self.drivers {
            driver.recover_if_broken();
        }
        let patience = self.waiting.iter().filter_map(|waiting| waiting.deadline).min();
        let due = due.map(|at| (at.total_micros() as u64).saturating_mul(1000));
        if let Some(at) = [due, patience].into_iter().flatten().min() {
            let _ = sys::timer_set(self.endpoint, at.max(time::now_ns() + 1));
        }
    }

    fn serve_waiting(&mut self) {
        let mut place = 0;
        let time = time::now_ns();
        while place < self.waiting.len() {
            let (sender, late) = {
                let waiting = &self.waiting[place];
                (waiting.sender, waiting.deadline.is_some_and(|deadline| time >= deadline))
            };
            let mut want = core::mem::replace(&mut self.waiting[place].want, Want::Nothing);
            match self.attempt(sender, &mut want) {
                Err(Error::Again) if !late => {
                    self.waiting[place].want = want;
                    place += 1;
                }
                result => {
                    let waiting = self.waiting.swap_remove(place);
                    let reply = result.unwrap_or_else(|error| {
                        if let Want::Resolve { lookup } = want {
                            self.stack.cancel(lookup);
                            let error = if error == Error::Again { Error::TimedOut } else { error };
                            return error_message(error);
                        }
                        error_message(error)
                    });
                    let _ = sys::reply(waiting.token, &reply);
                }
            }
        }
    }

    fn fire_armed(&mut self) {
        let stack = &mut self.stack;
        self.armed.retain(|armed| {
            let wanted = armed.events | poll::ERROR | poll::HANG_UP;
            if stack.ready(armed.cookie) & wanted == 0 {
                return true;
            }
            let _ = sys::notify(armed.notify.raw(), armed.bit);
            false
        });
    }

    /// Does what was asked if it can be done now; `Again`: later.
    fn attempt(&mut self, sender: u32, want: &mut Want) -> Result<Message> {
        use xinim_abi::interface::Reply;
        match want {
            Want::Nothing => Err(Error::Canceled),
            Want::Accept { cookie } => {
                let (connection, peer) = self.stack.accept(*cookie, sender)?;
                let address_len = self.put_address(sender, &peer)?;
                Ok(socket::Accepted { connection, address_len }.encode())
            }
            Want::Connect { cookie, address } => {
                if let Some(first) = address.as_deref() {
                    match self.stack.connect(*cookie, first) {
                        Err(Error::InProgress) => *address = None,
                        Err(error) => return Err(self.soon(error)),
                        Ok(()) => return Ok(socket::Connected {}.encode()),
                    }
                }
                match self.stack.connected(*cookie) {
                    None => Err(Error::Again),
                    Some(result) => result.map(|()| socket::Connected {}.encode()),
                }
            }
            Want::Send { cookie, at, len, to } => {
                let window = self.windows.get(sender)?;
                self.buffer.resize(*len, 0);
                window.copy_out(*at, &mut self.buffer)?;
                let sent = self.stack.send(*cookie, &self.buffer, to);
                let count = sent.map_err(|error| self.soon(error))? as u64;
                Ok(socket::Sent { count }.encode())
            }
            Want::Receive { cookie, at, len, flags: how, done } => {
                let window = self.windows.get(sender)?;
                self.buffer.resize(*len - *done, 0);
                let incoming = match self.stack.receive(*cookie, &mut self.buffer, *how) {
                    // What is there is answered before the error.
                    Err(error) if *done > 0 && error != Error::Again => Default::default(),
                    other => other?,
                };
                window.copy_in(*at + *done, &self.buffer[..incoming.count])?;
                *done += incoming.count;
                if *how & flags::WAIT_ALL != 0 && incoming.count > 0 && *done < *len {
                    return Err(Error::Again);
                }
                // With no place for it the address is left out.
                let address_len =
                    if *at >= ADDRESS_MAX { self.put_address(sender, &incoming.from)? } else { 0 };
                let (count, full) = (*done as u64, incoming.full as u64);
                Ok(socket::Received { count, address_len, full }.encode())
            }
            Want::Read { cookie, at, len } => {
                let window = self.windows.get(sender)?;
                self.buffer.resize(*len, 0);
                let incoming = self.stack.receive(*cookie, &mut self.buffer, 0)?;
                window.copy_in(*at, &self.buffer[..incoming.count])?;
                Ok(chardev::Count { count: incoming.count as u64 }.encode())
            }
            Want::Write { cookie, at, len } => {
                let window = self.windows.get(sender)?;
                self.buffer.resize(*len, 0);
                window.copy_out(*at, &mut self.buffer)?;
                let count = self.stack.send(*cookie, &self.buffer, &[])? as u64;
                Ok(chardev::Written { count }.encode())
            }
            Want::Name { name, family } => {
                let is_lookup = |w: &&Waiting| matches!(w.want, Want::Resolve { .. });
                let running = self.waiting.iter().filter(is_lookup).count();
                match self.stack.resolve(name, *family, running) {
                    Ok(Started::Done(found)) => self.put_addresses(sender, &found),
                    Ok(Started::Pending(lookup)) => {
                        *want = Want::Resolve { lookup };
                        Err(Error::Again)
                    }
                    Err(error) => Err(self.soon(error)),
                }
            }
            Want::Resolve { lookup } => {
                let found = self.stack.resolved(lookup)?;
                self.put_addresses(sender, &found)
            }
        }
    }

    /// A network that cannot be reached may be, in a moment, while an address is being asked for.
    fn soon(&self, error: Error) -> Error {
        let waits = error == Error::NetUnreach && self.stack.net.is_configuring();
        if waits { Error::Again } else { error }
    }

    fn put_address(&self, client: u32, bytes: &[u8]) -> Result<u32> {
        self.windows.get(client)?.copy_in(0, bytes)?;
        Ok(bytes.len() as u32)
    }

    fn put_addresses(&self, client: u32, found: &[smoltcp::wire::IpAddress]) -> Result<Message> {
        use xinim_abi::interface::Reply;
        let list: Vec<Address> = found.iter().map(|ip| address::encode(*ip, 0)).collect();
        self.windows.get(client)?.copy_in(0, list.as_bytes())?;
        Ok(socket::Resolved { count: list.len() as u32 }.encode())
    }

    /// The first `len` bytes of the client's window.
    fn text(&self, client: u32, len: u32, limit: u32) -> Result<Vec<u8>> {
        if len > limit {
            return Err(Error::NameTooLong);
        }
        self.windows.get(client)?.to_vec(0, len as usize)
    }

    /// Tries at once; else keeps the caller unless it does not want to wait.
    fn wait(
        &mut self,
        request: &Request,
        mut want: Want,
        dont_wait: bool,
        timeout: u64,
    ) -> Result<Option<Message>> {
        match self.attempt(request.sender, &mut want) {
            Err(Error::Again) if !dont_wait => {
                if self.waiting.len() >= WAITING_MAX {
                    return Err(Error::NoBufs);
                }
                let deadline = (timeout > 0).then(|| time::now_ns().saturating_add(timeout));
                let (token, sender) = (request.token, request.sender);
                self.waiting.push(Waiting { token, sender, deadline, want });
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// What programs do with a socket's descriptor as with any other: read, write, poll.
    fn serve_descriptor(
        &mut self,
        request: &Request,
        call: chardev::Call,
    ) -> Result<Option<Message>> {
        match call {
            chardev::Call::Attach(attach) => {
                let window = request.handle(attach.window);
                self.windows.attach(request.sender, window, self.endpoint)?;
                Ok(answer(Ok(chardev::Attached {})))
            }
            chardev::Call::Read(read) => {
                let (at, len) = self.range(request.sender, read.at, read.len)?;
                let timeout = self.timeout(read.cookie, false);
                let want = Want::Read { cookie: read.cookie, at, len };
                self.wait(request, want, false, timeout)
            }
            chardev::Call::Write(write) => {
                let (at, len) = self.range(request.sender, write.at, write.len)?;
                let timeout = self.timeout(write.cookie, true);
                let want = Want::Write { cookie: write.cookie, at, len };
                self.wait(request, want, false, timeout)
            }
            chardev::Call::Poll(chardev::Poll { cookie, events, bit, notify }) => {
                let ready = self.poll(request, socket::Poll { cookie, events, bit, notify })?;
                Ok(answer(Ok(chardev::Polled { ready })))
            }
            chardev::Call::Control(_) | chardev::Call::Subscribe(_) => Err(Error::NotTy),
        }
    }

    fn serve(&mut self, request: &Request) -> Result<Option<Message>> {
        let sender = request.sender;
        if let Ok(call) = chardev::Call::decode(&request.message) {
            return self.serve_descriptor(request, call);
        }
        let stack = &mut self.stack;
        match socket::Call::decode(&request.message)? {
            socket::Call::Attach(attach) => {
                let window = request.handle(attach.window);
                self.windows.attach(sender, window, self.endpoint)?;
                Ok(answer(Ok(socket::Attached {})))
            }
            socket::Call::Open(open) => {
                if open.domain == xinim_abi::services::socket::domain::PACKET
                    && !self.is_root(sender)
                {
                    return Err(Error::Perm);
                }
                let cookie = self.stack.open(open.domain, open.kind, open.protocol, sender)?;
                Ok(answer(Ok(socket::Opened { cookie })))
            }
            socket::Call::Pair(pair) => {
                let (first, second) = stack.pair(pair.kind, sender)?;
                Ok(answer(Ok(socket::Paired { first, second })))
            }
            socket::Call::Bind(bind) => {
                let address = self.text(sender, bind.len, ADDRESS_MAX as u32)?;
                self.stack.bind(bind.cookie, &address)?;
                Ok(answer(Ok(socket::Bound {})))
            }
            socket::Call::Listen(listen) => {
                stack.listen(listen.cookie, listen.backlog)?;
                Ok(answer(Ok(socket::Listening {})))
            }
            socket::Call::Accept(accept) => {
                let timeout = self.timeout(accept.cookie, false);
                let want = Want::Accept { cookie: accept.cookie };
                self.wait(request, want, accept.flags & flags::DONT_WAIT != 0, timeout)
            }
            socket::Call::Connect(connect) => {
                let address = self.text(sender, connect.len, ADDRESS_MAX as u32)?;
                let dont_wait = connect.flags & flags::DONT_WAIT != 0;
                if dont_wait {
                    self.stack.connect(connect.cookie, &address)?;
                    return Ok(answer(Ok(socket::Connected {})));
                }
                let timeout = self.timeout(connect.cookie, true);
                let want = Want::Connect { cookie: connect.cookie, address: Some(address) };
                self.wait(request, want, false, timeout)
            }
            socket::Call::Send(send) => {
                let to = self.text(sender, send.address_len, ADDRESS_MAX as u32)?;
                let (at, len) = self.range(sender, send.at, send.len)?;
                let timeout = self.timeout(send.cookie, true);
                let want = Want::Send { cookie: send.cookie, at, len, to };
                self.wait(request, want, send.flags & flags::DONT_WAIT != 0, timeout)
            }
            socket::Call::Receive(receive) => {
                let (at, len) = self.range(sender, receive.at, receive.len)?;
                let timeout = self.timeout(receive.cookie, false);
                let how = receive.flags;
                let want = Want::Receive { cookie: receive.cookie, at, len, flags: how, done: 0 };
                self.wait(request, want, how & flags::DONT_WAIT != 0, timeout)
            }
            socket::Call::Shutdown(shutdown) => {
                stack.shutdown(shutdown.cookie, shutdown.how)?;
                Ok(answer(Ok(socket::ShutDone {})))
            }
            socket::Call::SetOption(set) => {
                stack.set_option(set.cookie, set.option, set.value)?;
                Ok(answer(Ok(socket::OptionSet {})))
            }
            socket::Call::GetOption(get) => {
                let value = stack.option(get.cookie, get.option)?;
                Ok(answer(Ok(socket::OptionValue { value })))
            }
            socket::Call::Name(name) => {
                let bytes = stack.name(name.cookie, name.peer)?;
                let address_len = self.put_address(sender, &bytes)?;
                Ok(answer(Ok(socket::Named { address_len })))
            }
            socket::Call::Poll(poll) => {
                let ready = self.poll(request, poll)?;
                Ok(answer(Ok(socket::Polled { ready })))
            }
            socket::Call::Close(close) => {
                stack.close(close.cookie);
                Ok(answer(Ok(socket::Closed {})))
            }
            socket::Call::Keep(keep) => {
                stack.keep(keep.cookie)?;
                Ok(answer(Ok(socket::Kept {})))
            }
            socket::Call::Resolve(resolve) => {
                let name = self.text(sender, resolve.len, NAME_MAX)?;
                let name = String::from_utf8(name).map_err(|_| Error::NoEnt)?;
                let want = Want::Name { name, family: resolve.family };
                self.wait(request, want, false, waiting::RESOLVE_NS)
            }
            socket::Call::Query(query) => {
                let memory = Memory::from_handle(request.handle(query.memory))?;
                let text = self.stack.query(query.kind)?;
                let mapping = memory.map(
                    xinim_abi::object::Protection::WRITE | xinim_abi::object::Protection::READ,
                )?;
                let len = text.len().min(mapping.len());
                mapping.copy_in(0, &text.as_bytes()[..len])?;
                Ok(answer(Ok(socket::QueryReply { len: len as u64 })))
            }
            socket::Call::Configure(line) => {
                if !self.is_root(sender) {
                    return Err(Error::Perm);
                }
                let line = self.text(sender, line.len, 1024)?;
                let line = String::from_utf8(line).map_err(|_| Error::Inval)?;
                configure(&mut self.stack, &line)?;
                Ok(answer(Ok(socket::Configured {})))
            }
        }
    }

    fn poll(&mut self, request: &Request, poll: socket::Poll) -> Result<u32> {
        let notify = request.handle(poll.notify);
        if poll.bit >= 64 {
            return Err(Error::Inval);
        }
        let wanted = poll.events | poll::ERROR | poll::HANG_UP;
        let ready = self.stack.ready(poll.cookie) & wanted;
        if ready == 0 {
            // A program that polls again and again has one at a time for each socket.
            let (owner, cookie) = (request.sender, poll.cookie);
            self.armed.retain(|armed| armed.owner != owner || armed.cookie != cookie);
            if self.armed.len() >= WAITING_MAX {
                return Err(Error::NoBufs);
            }
            let bit = 1 << poll.bit;
            self.armed.push(Armed { cookie, events: poll.events, bit, notify, owner });
        }
        Ok(ready)
    }

    /// May this process configure interfaces and capture frames?
    fn is_root(&self, _sender: u32) -> bool {
        true
    }

    fn timeout(&mut self, cookie: u64, send: bool) -> u64 {
        use xinim_abi::services::socket::option;
        let option = if send { option::SEND_TIMEOUT } else { option::RECEIVE_TIMEOUT };
        self.stack.option(cookie, option).unwrap_or(0)
    }

    /// A checked part of the client's window.
    fn range(&self, client: u32, at: u32, len: u32) -> Result<(usize, usize)> {
        let window = self.windows.get(client)?;
        let end = at.checked_add(len).ok_or(Error::Fault)?;
        if end as usize > window.len() {
            Err(Error::Fault)
        } else {
            Ok((at as usize, len as usize))
        }
    }
}
