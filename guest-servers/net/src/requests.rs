//! Requests of programs: checked, answered or kept.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::Message;
use xinim_abi::object::Protection;
use xinim_abi::services::chardev::chardev;
use xinim_abi::services::socket::{ADDRESS_MAX, domain, flags, option, poll, socket};
use xinim_keep::Ticket;
use xinim_net::address;
use xinim_net::configure::configure;
use xinim_rt::memory::Memory;
use xinim_rt::server::{Request, answer};
use xinim_rt::time;

use crate::waiting::{self, Waiting, Want};
use crate::{Armed, NetServer, keeping};

/// Callers that wait, and polls that are armed.
const WAITING_MAX: usize = 1024;
/// Longest host name (RFC 1035).
const NAME_MAX: u32 = 255;

impl NetServer {
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
        let ticket = Ticket::of(request.sender, request.message.tag);
        let dont_wait = dont_wait || want.cookie().is_some_and(|socket| self.never_waits(socket));
        match self.attempt(request.sender, &mut want) {
            Err(Error::Again) if !dont_wait => {
                if self.waiting.len() >= WAITING_MAX {
                    return Err(Error::NoBufs);
                }
                let deadline = (timeout > 0).then(|| time::now_ns().saturating_add(timeout));
                if let Want::Receive { done: done @ 1.., .. } = want {
                    self.note_part(ticket, done);
                }
                let (token, sender) = (request.token, request.sender);
                let changes = keeping::changes(&request.message);
                self.waiting.push(Waiting { token, sender, ticket, changes, deadline, want });
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

    pub fn serve(&mut self, request: &Request) -> Result<Option<Message>> {
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
                if open.domain == domain::PACKET {
                    self.root_only(sender)?;
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
                if address::is_reserved(&address) {
                    self.root_only(sender).map_err(|_| Error::Access)?;
                }
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
                // The last instance may have begun it.
                let begun =
                    request.message.tag.is_repeated() && self.stack.is_begun(connect.cookie);
                if dont_wait || self.never_waits(connect.cookie) {
                    if !begun {
                        self.stack.connect(connect.cookie, &address)?;
                    } else if self.stack.connected(connect.cookie).is_none() {
                        return Err(Error::InProgress);
                    }
                    return Ok(answer(Ok(socket::Connected {})));
                }
                let timeout = self.timeout(connect.cookie, true);
                let address = (!begun).then_some(address);
                let want = Want::Connect { cookie: connect.cookie, address };
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
                let done = self.part(request).min(len);
                let want = Want::Receive { cookie: receive.cookie, at, len, flags: how, done };
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
                let mapping = memory.map(Protection::WRITE | Protection::READ)?;
                let len = text.len().min(mapping.len());
                mapping.copy_in(0, &text.as_bytes()[..len])?;
                Ok(answer(Ok(socket::QueryReply { len: len as u64 })))
            }
            socket::Call::Configure(line) => {
                self.root_only(sender)?;
                let line = self.text(sender, line.len, 1024)?;
                let line = String::from_utf8(line).map_err(|_| Error::Inval)?;
                configure(&mut self.stack, &line)?;
                Ok(answer(Ok(socket::Configured {})))
            }
            socket::Call::Identify(process) => {
                if !request.is_admin() {
                    return Err(Error::Perm);
                }
                // Whoever has a window is watched, so that its death takes this with it.
                self.windows.get(process.pid).map_err(|_| Error::Srch)?;
                self.vouched.insert(process.pid, process.uid);
                Ok(answer(Ok(socket::Identified {})))
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

    /// Only if VFS has just said that this process is root's: it may have changed its user since the
    /// time before.
    fn root_only(&mut self, sender: u32) -> Result<()> {
        match self.vouched.remove(&sender) {
            Some(0) => Ok(()),
            _ => Err(Error::Perm),
        }
    }

    fn never_waits(&mut self, cookie: u64) -> bool {
        self.stack.option(cookie, option::NON_BLOCKING) == Ok(1)
    }

    fn timeout(&mut self, cookie: u64, send: bool) -> u64 {
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
