//! `log`: keeps the kernel's log, more of it than the kernel does. Character device 0.
//!
//! Reads answer at once, 0 at the end of what there is: reading again later goes on. What is
//! written becomes a line of the kernel's log. The kernel's ring is emptied at each read and every
//! [`DRAIN_NS`], so that only a burst larger than it is lost. Text and readers' positions outlive the
//! server in kept memory.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::error_message;
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::Handle;
use xinim_abi::services::chardev::{chardev, control};
use xinim_abi::start::role;
use xinim_keep::Journal;
use xinim_log::{Readers, Ring, keep_rest, keep_text};
use xinim_rt::keep::{self, KeptArea};
use xinim_rt::server::{ClientWindows, Request, Server, answer};
use xinim_rt::{server, start, sys, time};

xinim_rt::program!(main);

const DEVICE: u64 = 0;
/// The kept journal, and its length: each half holds the ring and more.
const JOURNAL: u64 = 1;
const JOURNAL_LEN: u64 = 1 << 20;
const DRAIN_NS: u64 = 2_000_000_000;
/// Bytes of one read.
const READ_MAX: usize = 64 * 1024;
/// Longest line the kernel takes.
const LINE_MAX: usize = 1024;

struct Log {
    endpoint: Handle,
    resource: Handle,
    ring: Ring,
    /// Position in the kernel's log.
    drained: u64,
    buffer: Vec<u8>,
    windows: ClientWindows,
    readers: Readers,
    journal: Option<Journal<KeptArea>>,
}

fn main() -> i32 {
    let Ok(endpoint) = server::own_endpoint() else { return 1 };
    let mut journal = keep::journal(JOURNAL, JOURNAL_LEN).map(|(journal, _)| journal).ok();
    let restored = journal.as_ref().map_or(Err(Error::NoEnt), xinim_log::restore);
    if let (Err(Error::BadMessage), Some(journal)) = (&restored, &mut journal) {
        let _ = journal.clear();
    }
    let (ring, readers, drained) = restored.unwrap_or_default();
    let mut log = Log {
        endpoint,
        resource: start::handle(role::RESOURCE).unwrap_or(0),
        ring,
        drained,
        buffer: vec![0; 4096],
        windows: ClientWindows::new(),
        readers,
        journal,
    };
    log.drain_later();
    server::run(&mut log)
}

impl Server for Log {
    fn call(&mut self, request: Request) -> Option<Message> {
        let call = match chardev::Call::decode(&request.message) {
            Ok(call) => call,
            Err(error) => return Some(error_message(error)),
        };
        match call {
            chardev::Call::Attach(attach) => {
                let window = request.handle(attach.window);
                let result = self.windows.attach(request.sender, window, self.endpoint);
                answer(result.map(|()| chardev::Attached {}))
            }
            chardev::Call::Read(read) => {
                let result = self.read(request.sender, &read);
                answer(result.map(|count| chardev::Count { count }))
            }
            chardev::Call::Write(write) => {
                let result = self.write(request.sender, &write);
                answer(result.map(|count| chardev::Written { count }))
            }
            chardev::Call::Control(call) => answer(match call.operation {
                control::IS_TERMINAL => {
                    check(call.cookie).map(|()| chardev::Controlled { value: 0 })
                }
                _ => Err(Error::NotTy),
            }),
            chardev::Call::Subscribe(_) => Some(error_message(Error::NotTy)),
            // A read answers at once, with nothing at the end.
            chardev::Call::Poll(poll) => {
                answer(check(poll.cookie).map(|()| chardev::Polled { ready: poll.events & 5 }))
            }
        }
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            while let Ok(Some(obituary)) = sys::event_next(self.endpoint) {
                self.windows.forget(obituary.pid);
                self.readers.forget(obituary.pid);
            }
        }
        if raised & bits::TIMER != 0 {
            self.drain();
            self.drain_later();
        }
    }
}

fn check(cookie: u64) -> Result<()> {
    if cookie == DEVICE { Ok(()) } else { Err(Error::NxIo) }
}

impl Log {
    fn drain_later(&self) {
        let _ = sys::timer_set(self.endpoint, time::now_ns() + DRAIN_NS);
    }

    /// Takes what the kernel has. Bounded: the kernel's log may grow while it is read.
    fn drain(&mut self) {
        for _ in 0..256 {
            match sys::log_read(self.resource, self.drained, &mut self.buffer) {
                Ok((count, next)) if count > 0 => {
                    let text = &self.buffer[..count.min(self.buffer.len())];
                    if let Some(journal) = &mut self.journal {
                        keep_text(journal, self.ring.end(), text, next);
                    }
                    self.ring.append(text);
                    self.drained = next;
                }
                _ => break,
            }
        }
        self.keep();
    }

    /// What is so outlives us.
    fn keep(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        keep_rest(journal, &self.ring, &self.readers);
        if journal.commit().is_err() {
            self.journal = None;
        }
    }

    fn read(&mut self, sender: u32, read: &chardev::Read) -> Result<u64> {
        check(read.cookie)?;
        self.drain();
        let position = self.readers.position(sender, read.position, &self.ring);
        self.keep();
        let bytes = self.ring.read(position, (read.len as usize).min(READ_MAX));
        self.windows.get(sender)?.copy_in(read.at as usize, &bytes)?;
        Ok(bytes.len() as u64)
    }

    fn write(&mut self, sender: u32, write: &chardev::Write) -> Result<u64> {
        check(write.cookie)?;
        let count = (write.len as usize).min(LINE_MAX);
        let bytes = self.windows.get(sender)?.to_vec(write.at as usize, count)?;
        for line in bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            sys::log_write(line);
        }
        Ok(count as u64)
    }
}
