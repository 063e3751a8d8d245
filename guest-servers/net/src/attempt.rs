//! What callers ask for, tried until it can be done.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::ipc::Message;
use xinim_abi::services::chardev::chardev;
use xinim_abi::services::socket::{ADDRESS_MAX, Address, flags, socket};
use xinim_net::address;
use xinim_net::resolver::Started;
use xinim_rt::{sys, time};
use zerocopy::IntoBytes;

use crate::NetServer;
use crate::waiting::{Waiting, Want};

impl NetServer {
    /// Answers who can be answered. Whether anything was done for anybody; it is not for ever: who is
    /// answered is gone, and the others have a few steps only.
    pub fn answer_waiting(&mut self) -> bool {
        let (mut place, mut did) = (0, false);
        let mut replies = Vec::new();
        let time = time::now_ns();
        while place < self.waiting.len() {
            let (sender, late) = {
                let waiting = &self.waiting[place];
                (waiting.sender, waiting.deadline.is_some_and(|deadline| time >= deadline))
            };
            let mut want = core::mem::replace(&mut self.waiting[place].want, Want::Nothing);
            let before = want.step();
            match self.attempt(sender, &mut want) {
                Err(Error::Again) if !late => {
                    did |= want.step() != before;
                    if let Want::Receive { done, .. } = want
                        && done != before
                    {
                        self.note_part(self.waiting[place].ticket, done);
                    }
                    self.waiting[place].want = want;
                    place += 1;
                }
                result => {
                    did = true;
                    let waiting = self.waiting.swap_remove(place);
                    if let Ok(reply) = &result
                        && waiting.changes
                    {
                        self.stack.net.lasting.answer(waiting.ticket, reply);
                    }
                    let reply = result.unwrap_or_else(|error| {
                        if let Want::Resolve { lookup } = want {
                            self.stack.cancel(lookup);
                            let error = if error == Error::Again { Error::TimedOut } else { error };
                            return error_message(error);
                        }
                        error_message(error)
                    });
                    replies.push((waiting.token, reply));
                }
            }
        }
        if did {
            self.commit();
        }
        for (token, reply) in replies {
            // Who is gone is told by an obituary.
            let _ = sys::reply(token, &reply);
        }
        did
    }

    /// Does what was asked if it can be done now; `Again`: later.
    pub fn attempt(&mut self, sender: u32, want: &mut Want) -> Result<Message> {
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

    pub fn put_address(&self, client: u32, bytes: &[u8]) -> Result<u32> {
        self.windows.get(client)?.copy_in(0, bytes)?;
        Ok(bytes.len() as u32)
    }

    fn put_addresses(&self, client: u32, found: &[smoltcp::wire::IpAddress]) -> Result<Message> {
        let list: Vec<Address> = found.iter().map(|ip| address::encode(*ip, 0)).collect();
        self.windows.get(client)?.copy_in(0, list.as_bytes())?;
        Ok(socket::Resolved { count: list.len() as u32 }.encode())
    }
}
