//! `tty`: the terminal service. Character device 0: the terminal.
//!
//! Reads and writes that must wait are kept with their tokens; the service itself never blocks.
//! Mode, half-typed line, what is still to be read and to be sent outlive it (see `xinim_tty::Kept`); the
//! subscription to Ctrl-C does not: the process manager renews it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::ipc::{Message, ReplyToken, bits};
use xinim_abi::object::Handle;
use xinim_abi::services::chardev::{chardev, control};
use xinim_abi::services::vfs::poll;
use xinim_abi::start::role;
use xinim_keep::Ticket;
use xinim_rt::handle::OwnedHandle;
use xinim_rt::keep::{self, KeptArea};
use xinim_rt::server::{ClientWindows, Request, Server, answer};
use xinim_rt::{log, server, start, sys, time};
use xinim_tty::{Discipline, Kept, Ports, Uart};

xinim_rt::program!(main);

/// The only device.
const TERMINAL: u64 = 0;
/// The UART's interrupt: first of the manifest, so bit 0.
const INTERRUPT_BIT: u64 = 1 << 0;
/// Bytes of one write; longer ones are taken in part. Sending them must not take so long that the
/// heartbeat is missed (20 us a byte where port accesses are slowest).
const WRITE_MAX: usize = 4096;
/// While so much is queued, writers wait.
const QUEUE_MAX: usize = 4096;
/// Requests kept.
const WAITING_MAX: usize = 256;
/// Without an interrupt the UART is looked at this often.
const POLL_NS: u64 = 20_000_000;

/// The kept journal, and its length.
const JOURNAL: u64 = 1;
const JOURNAL_LEN: u64 = 256 * 1024;

/// The records, shared by the terminal and its ports.
type Shared = Rc<RefCell<Kept<KeptArea>>>;

struct UartPorts(Handle, Shared);

impl Ports for UartPorts {
    fn read(&mut self, offset: u16) -> u8 {
        // A refused access is as no device: ones.
        sys::ports_read(self.0, offset, 1).unwrap_or(0xFF) as u8
    }
    fn write(&mut self, offset: u16, value: u8) {
        let _ = sys::ports_write(self.0, offset, 1, value.into());
    }
    fn write_bytes(&mut self, offset: u16, bytes: &[u8]) {
        let _ = sys::ports_write_bytes(self.0, offset, bytes);
    }
    fn sending(&mut self, count: usize) {
        self.1.borrow_mut().sending(count);
    }
}

struct Waiting {
    token: ReplyToken,
    ticket: Option<Ticket>,
    sender: u32,
    at: u32,
    len: u32,
}

struct Terminal {
    endpoint: Handle,
    uart: Option<Uart<UartPorts>>,
    polled: bool,
    discipline: Discipline,
    windows: ClientWindows,
    readers: VecDeque<Waiting>,
    writers: VecDeque<Waiting>,
    /// Who is told of Ctrl-C, and by which bits.
    subscriber: Option<(OwnedHandle, u64)>,
    pollers: Vec<Poller>,
    kept: Shared,
    /// Answers to be sent when what goes with them is kept.
    outbox: Vec<(ReplyToken, Message)>,
}

/// Who is to be told when there may be an event: process, bit, endpoint.
struct Poller {
    pid: u32,
    bit: u32,
    notify: OwnedHandle,
}

fn main() -> i32 {
    let Ok(endpoint) = server::own_endpoint() else { return 1 };
    let journal = keep::journal(JOURNAL, JOURNAL_LEN).map(|(journal, _)| journal);
    if let Err(error) = &journal {
        log!("no memory to keep state in: {error}");
    }
    let mut records = Kept::new(journal.ok());
    let (discipline, unsent) = records.restore().unwrap_or_default();
    let kept = Rc::new(RefCell::new(records));
    let ports = |ports| Uart::probe(UartPorts(ports, kept.clone()));
    let mut uart = start::handle(role::PORTS).and_then(ports);
    if let Some(uart) = &mut uart {
        uart.enqueue(&unsent);
    }
    let polled = uart.is_some() && start::handle(role::INTERRUPT).is_none();
    let mut terminal = Terminal {
        endpoint,
        uart,
        polled,
        discipline,
        windows: ClientWindows::new(),
        readers: VecDeque::new(),
        writers: VecDeque::new(),
        subscriber: None,
        pollers: Vec::new(),
        kept,
        outbox: Vec::new(),
    };
    // What was typed while nobody listened raised its interrupt in the past.
    terminal.receive();
    terminal.settle();
    terminal.poll_later();
    server::run(&mut terminal)
}

impl Server for Terminal {
    fn call(&mut self, request: Request) -> Option<Message> {
        let tag = request.message.tag;
        let ticket = Ticket::of(request.sender, tag);
        if let Some(ticket) = ticket.filter(|_| tag.is_repeated())
            && let Some(answered) = self.kept.borrow().answered(ticket)
        {
            return Some(answered);
        }
        let reply = self.serve(request, ticket);
        self.settle();
        reply
    }

    fn notified(&mut self, raised: u64) {
        self.hear(raised);
        self.settle();
    }
}

impl Terminal {
    fn serve(&mut self, request: Request, ticket: Option<Ticket>) -> Option<Message> {
        let call = match chardev::Call::decode(&request.message) {
            Ok(call) => call,
            Err(error) => return Some(error_message(error)),
        };
        let (token, sender) = (request.token, request.sender);
        let waiting = |at, len| Waiting { token, ticket, sender, at, len };
        match call {
            chardev::Call::Attach(attach) => {
                let window = request.handle(attach.window);
                let result = self.windows.attach(request.sender, window, self.endpoint);
                answer(result.map(|()| chardev::Attached {}))
            }
            chardev::Call::Read(read) => {
                if let Err(error) = check(read.cookie) {
                    return Some(error_message(error));
                }
                if self.readers.len() >= WAITING_MAX {
                    return Some(error_message(Error::Again));
                }
                self.readers.push_back(waiting(read.at, read.len));
                self.serve_readers();
                None
            }
            chardev::Call::Write(write) => {
                if let Err(error) = check(write.cookie) {
                    return Some(error_message(error));
                }
                if self.writers.len() >= WAITING_MAX {
                    return Some(error_message(Error::Again));
                }
                self.writers.push_back(waiting(write.at, write.len));
                self.serve_writers();
                None
            }
            chardev::Call::Control(request) => answer(self.control(&request)),
            chardev::Call::Subscribe(subscribe) => {
                let endpoint = request.handle(subscribe.endpoint);
                let result = check(subscribe.cookie).and_then(|()| match subscribe.bit {
                    bit @ 0..48 => {
                        self.subscriber = Some((endpoint, 1 << bit));
                        Ok(chardev::Subscribed {})
                    }
                    _ => Err(Error::Inval),
                });
                answer(result)
            }
            chardev::Call::Poll(poll) => {
                let notify = request.handle(poll.notify);
                answer(self.poll(request.sender, &poll, notify))
            }
        }
    }

    /// What is so is kept; then those are answered who wait for it, and what is to be sent goes out.
    fn settle(&mut self) {
        let queue = self.uart.as_ref().map(|uart| uart.queue().iter());
        let kept = self.kept.borrow_mut().commit(&self.discipline, queue.into_iter().flatten());
        if let Err(error) = kept {
            log!("the state is not kept over a crash any more: {error}");
        }
        for (token, message) in self.outbox.drain(..) {
            // A reader that is gone does not care.
            let _ = sys::reply(token, &message);
        }
        if let Some(uart) = &mut self.uart {
            uart.transmit();
        }
    }

    fn answer(&mut self, waiting: &Waiting, message: Message) {
        self.kept.borrow_mut().note(waiting.ticket, &message);
        self.outbox.push((waiting.token, message));
    }

    fn hear(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            self.bury();
        }
        if raised & INTERRUPT_BIT != 0 {
            let mut received = Vec::new();
            if let Some(uart) = &mut self.uart {
                uart.interrupt(&mut received);
            }
            self.typed(&received);
        }
        if raised & bits::TIMER != 0 {
            self.receive();
            self.poll_later();
        }
        self.serve_writers();
        if !self.pollers.is_empty() && self.events() & u32::from(poll::OUT) != 0 {
            self.wake_pollers();
        }
    }
}

fn check(cookie: u64) -> Result<()> {
    if cookie == TERMINAL { Ok(()) } else { Err(Error::NxIo) }
}

impl Terminal {
    fn control(&mut self, request: &chardev::Control) -> Result<chardev::Controlled> {
        check(request.cookie)?;
        let value = match (request.operation, request.argument) {
            (control::IS_TERMINAL, _) => 1,
            (control::SET_RAW, raw @ 0..=1) => {
                let mut echo = Vec::new();
                let old = self.discipline.set_raw(raw == 1, &mut echo);
                self.send(&echo);
                self.serve_readers();
                old.into()
            }
            _ => return Err(Error::Inval),
        };
        Ok(chardev::Controlled { value })
    }

    /// The events there are; if none of those asked for, the caller is told when one may have come.
    fn poll(
        &mut self,
        pid: u32,
        request: &chardev::Poll,
        notify: OwnedHandle,
    ) -> Result<chardev::Polled> {
        check(request.cookie)?;
        if request.bit >= 48 {
            return Err(Error::Inval);
        }
        let ready = self.events() & request.events;
        self.pollers.retain(|old| (old.pid, old.bit) != (pid, request.bit));
        if ready == 0 {
            if self.pollers.len() >= WAITING_MAX {
                return Err(Error::Again);
            }
            self.pollers.push(Poller { pid, bit: request.bit, notify });
        }
        Ok(chardev::Polled { ready })
    }

    fn events(&self) -> u32 {
        let readable = self.discipline.is_ready() && self.readers.is_empty();
        let writable = self.uart.as_ref().is_none_or(|uart| uart.queued() < QUEUE_MAX);
        let (read, write) = (u32::from(poll::IN), u32::from(poll::OUT));
        (if readable { read } else { 0 }) | (if writable { write } else { 0 })
    }

    /// Tells everybody who polled; they ask again.
    fn wake_pollers(&mut self) {
        for poller in self.pollers.drain(..) {
            let _ = sys::notify(poller.notify.raw(), 1 << poller.bit);
        }
    }

    fn receive(&mut self) {
        let mut received = Vec::new();
        if let Some(uart) = &mut self.uart {
            uart.receive(&mut received);
        }
        self.typed(&received);
    }

    fn poll_later(&self) {
        if self.polled {
            let _ = sys::timer_set(self.endpoint, time::now_ns() + POLL_NS);
        }
    }

    fn typed(&mut self, bytes: &[u8]) {
        let mut echo = Vec::new();
        let mut interrupted = false;
        for &byte in bytes {
            interrupted |= self.discipline.input(byte, &mut echo);
        }
        self.send(&echo);
        if interrupted && let Some((endpoint, bit)) = &self.subscriber {
            let _ = sys::notify(endpoint.raw(), *bit);
        }
        self.serve_readers();
        if self.discipline.is_ready() {
            self.wake_pollers();
        }
    }

    /// Without a UART, output vanishes.
    fn send(&mut self, bytes: &[u8]) {
        if !bytes.is_empty()
            && let Some(uart) = &mut self.uart
        {
            uart.enqueue(bytes);
        }
    }

    fn serve_readers(&mut self) {
        while self.discipline.is_ready()
            && let Some(reader) = self.readers.pop_front()
        {
            let message = match self.read(&reader) {
                Ok(count) => chardev::Count { count }.encode(),
                Err(error) => error_message(error),
            };
            self.answer(&reader, message);
        }
    }

    fn read(&mut self, reader: &Waiting) -> Result<u64> {
        let window = self.windows.get(reader.sender)?;
        let room = window.len().checked_sub(reader.at as usize).ok_or(Error::Fault)?;
        if reader.len as usize > room {
            return Err(Error::Fault);
        }
        if reader.len == 0 {
            return Ok(0);
        }
        let bytes = self.discipline.read(reader.len as usize).unwrap_or_default();
        window.copy_in(reader.at as usize, &bytes)?;
        Ok(bytes.len() as u64)
    }

    fn serve_writers(&mut self) {
        while self.uart.as_ref().is_none_or(|uart| uart.queued() < QUEUE_MAX)
            && let Some(writer) = self.writers.pop_front()
        {
            let message = match self.write(&writer) {
                Ok(count) => chardev::Written { count }.encode(),
                Err(error) => error_message(error),
            };
            self.answer(&writer, message);
        }
    }

    fn write(&mut self, writer: &Waiting) -> Result<u64> {
        let count = (writer.len as usize).min(WRITE_MAX);
        let bytes = self.windows.get(writer.sender)?.to_vec(writer.at as usize, count)?;
        let mut out = Vec::with_capacity(count + 16);
        self.discipline.output(&bytes, &mut out);
        self.send(&out);
        Ok(count as u64)
    }

    /// Forgets clients that died.
    fn bury(&mut self) {
        while let Ok(Some(obituary)) = sys::event_next(self.endpoint) {
            let pid = obituary.pid;
            self.windows.forget(pid);
            self.kept.borrow_mut().forget(pid);
            self.readers.retain(|waiting| waiting.sender != pid);
            self.writers.retain(|waiting| waiting.sender != pid);
            self.pollers.retain(|poller| poller.pid != pid);
        }
    }
}
