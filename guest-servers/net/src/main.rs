//! `net`: the network server. Programs call it directly (`services::socket`); it calls network drivers
//! (`services::link`), which it finds by their class.
//!
//! ```text
//! bits 2n, 2n+1   link n: work, state         TIMER   the stack or a caller's patience
//! PEER_UP         a network driver came up     OBITUARY   a driver or a client died
//! ```
//! The first driver's interface is `eth0`, and so on; a driver's next instance gets the interface of its
//! label, whose sockets, addresses and routes go on. What outlives this server itself is in kept memory
//! (`xinim_net::lasting`): the next instance has configuration, sockets and connections, and answers
//! requests that are repeated as they were answered.
#![no_std]
#![no_main]

extern crate alloc;

mod attempt;
mod driver;
mod keeping;
mod requests;
mod waiting;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use smoltcp::time::Instant;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::error_message;
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::Handle;
use xinim_abi::services::rs::query as rs_query;
use xinim_abi::services::socket::poll;
use xinim_keep::Ticket;
use xinim_net::kept::Kept;
use xinim_net::retry::Retry;
use xinim_net::settle::{Work, settle};
use xinim_net::stack::{INTERFACES_MAX, Stack};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::server::{ClientWindows, Request, Server};
use xinim_rt::time::Alarm;
use xinim_rt::{kip, log, rs, server, standby, sys, time};

use driver::{Driver, RingMemory, SERVING};
use waiting::{Waiting, Want};

xinim_rt::program!(main, prepares);

/// Class of network drivers in manifests.
const CLASS: &str = "net";

/// Memory that a start takes, touched ahead: two connections' buffers.
const HEAP_AHEAD: usize = 1 << 20;

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
    /// Users of processes as VFS told them, until they are used.
    vouched: BTreeMap<u32, u32>,
    buffer: Vec<u8>,
    timer: Alarm,
    retry: Retry,
    /// What the last instance had configured of drivers that are not back.
    kept: Kept,
    /// Memory for the first driver's rings, made while this process stood by.
    ahead: Option<RingMemory>,
}

fn now() -> Instant {
    Instant::from_micros((time::now_ns() / 1000) as i64)
}

fn main() -> i32 {
    let ahead = RingMemory::ahead();
    standby::grow_heap(HEAP_AHEAD);
    if standby::wait().is_err() {
        return 1;
    }
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
        vouched: BTreeMap::new(),
        buffer: Vec::new(),
        timer: Alarm::default(),
        retry: Retry::default(),
        kept: Kept::default(),
        ahead,
    };
    net.take_up();
    net.find_drivers();
    net.work();
    server::run(&mut net)
}

impl Server for NetServer {
    fn call(&mut self, request: Request) -> Option<Message> {
        SERVING.store(true, Ordering::Relaxed);
        let ticket = Ticket::of(request.sender, request.message.tag);
        let reply = match self.answered(&request) {
            Some(reply) => Ok(Some(reply)),
            None => self.serve(&request),
        };
        if let (Ok(Some(reply)), true) = (&reply, keeping::changes(&request.message)) {
            self.stack.net.lasting.answer(ticket, reply);
        }
        self.commit();
        self.work();
        SERVING.store(false, Ordering::Relaxed);
        match reply {
            Ok(reply) => reply,
            Err(error) => Some(error_message(error)),
        }
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::TIMER != 0 {
            self.timer.rang();
            if self.retry.is_due(time::now_ns()) {
                self.find_drivers();
            }
        }
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

impl Work for NetServer {
    fn turn(&mut self) -> Option<Instant> {
        self.stack.turn(now())
    }

    fn serve_waiting(&mut self) -> bool {
        self.answer_waiting()
    }
}

impl NetServer {
    /// Attaches to drivers that are new, and to the successors of dead ones.
    fn find_drivers(&mut self) {
        let mut failed = Vec::new();
        if let Err(error) = self.attach_drivers(&mut failed) {
            failed.push(format!("drivers: {error}"));
        }
        if failed.is_empty() {
            self.retry.succeeded();
        } else if self.retry.failed(time::now_ns()) {
            failed.iter().for_each(|line| log!("net: {line}; trying again"));
        }
    }

    /// `failed`: a line for each that is there and could not be attached.
    fn attach_drivers(&mut self, failed: &mut Vec<String>) -> Result<()> {
        let classes = rs::query(rs_query::CLASSES, "")?;
        for line in classes.lines() {
            let Some((CLASS, label)) = line.split_once('\t') else { continue };
            let place = match self.drivers.iter().position(|driver| driver.label() == label) {
                Some(place) if self.drivers[place].is_attached() => continue,
                Some(place) => place,
                None if self.drivers.len() + 1 >= INTERFACES_MAX.min(20) => continue,
                None => match self.add_driver(label) {
                    Ok(place) => place,
                    Err(error) => {
                        failed.push(format!("{label}: {error}"));
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
                Err(error) => failed.push(format!("{label}: {error}")),
            }
        }
        Ok(())
    }

    fn add_driver(&mut self, label: &str) -> Result<usize> {
        let place = self.drivers.len();
        let (driver, link) = Driver::new(label, self.stack.net.random.draw(), &mut self.ahead)?;
        let name = self.kept.name_for(label, &self.stack);
        self.stack.add_interface(&name, Box::new(link), true)?;
        self.drivers.push(driver);
        if let Err(error) = self.kept.take_up_of(label, &mut self.stack) {
            log!("net: {name}: what was configured before cannot be taken up: {error}");
        }
        // Connections go on before the first frame comes in, which would be one of nobody's.
        self.stack.refresh();
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
            self.vouched.remove(&client);
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
            self.stack.net.lasting.forget_process(client);
        }
    }

    /// Moves packets, answers who can be answered, sets the timer.
    fn work(&mut self) {
        let due = settle(self);
        self.commit();
        self.fire_armed();
        for driver in &self.drivers {
            driver.recover_if_broken();
        }
        let patience = self.waiting.iter().filter_map(|waiting| waiting.deadline).min();
        let due = due.map(|at| (at.total_micros() as u64).saturating_mul(1000));
        if let Some(at) = [due, patience, self.retry.due()].into_iter().flatten().min() {
            self.timer.set(self.endpoint, at.max(time::now_ns() + 1));
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
}
