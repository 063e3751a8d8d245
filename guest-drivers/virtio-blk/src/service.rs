//! From the clients' rings to the disk and back.
//!
//! ```text
//!            attach()                   detach() | forget() | broken ring
//!  (none) ------------> serving ------------------------> draining ----------> (none)
//!                                                          last completion
//! ```
//! A client's memory stays pinned while the device may write to it: a client that goes away is
//! kept as *draining* until its last request has come back. Clients are served in turn, one
//! request each, so none can keep the others out; one [`Service::pump`] does a bounded amount of
//! work.

use crate::disk::{Completion, Disk, Operation};
use crate::ring::{Broken, Ring};
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{self, DATA_OFFSET, Submission};
use xinim_driver_kit::{Clock, Dma, DmaBuffer, Mmio, SgList};
use xinim_virtio::{DeviceError, StartError};

/// Clients at a time, draining ones included: one doorbell bit each.
pub const CLIENTS_MAX: usize = 32;
/// Memory one client may attach, in bytes.
pub const CLIENT_MEMORY_MAX: u64 = 256 << 20;
/// Requests moved by one pump before others get a turn.
const PUMP_REQUESTS: usize = 1024;

/// How a client is told of completions.
pub trait Notify {
    /// Raises [`block::COMPLETION_BIT`] at the client; a dead client is no error here.
    fn notify(&self);
}

/// A request the disk has.
#[derive(Clone, Copy, Default)]
struct Under {
    id: u64,
    op: u32,
    bytes: u32,
    since: u64,
}

/// Counts of one kind of request.
#[derive(Clone, Copy, Default)]
struct Counts {
    requests: u64,
    bytes: u64,
    errors: u64,
    time_ns: u64,
    in_flight: u32,
}

struct Client<R, N> {
    /// Who attached it.
    owner: u32,
    ring: Ring<R>,
    notify: N,
    draining: bool,
    /// Requests in flight by their place; the place is part of the disk's cookie.
    under: Vec<Under>,
    free: Vec<u16>,
}

/// What [`Service::pump`] left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Wait for an interrupt or a doorbell.
    Idle,
    /// More can be done at once.
    Again,
}

/// The block service of one disk.
pub struct Service<M, D: Dma, C, R, N> {
    disk: Disk<M, D, C>,
    clients: Vec<Option<Client<R, N>>>,
    /// Where the next turn begins.
    turn: usize,
    list: SgList,
    done: Vec<Completion>,
    completed: u64,
    counts: [Counts; block::op::COUNT as usize],
    /// Time with anything in flight, and since when there is something, in ns.
    busy_ns: u64,
    busy_since: u64,
    /// How long to look for completions before asking for an interrupt, in ns.
    spin_ns: u64,
}

impl<M: Mmio, D: Dma, C: Clock, R: DmaBuffer, N: Notify> Service<M, D, C, R, N> {
    /// `spin_ns`: an interrupt costs more than a short look; 0 for none.
    pub fn new(disk: Disk<M, D, C>, spin_ns: u64) -> Self {
        let mut clients = Vec::new();
        clients.resize_with(CLIENTS_MAX, || None);
        let (list, done) = (SgList::new(), Vec::new());
        let counts = [Counts::default(); block::op::COUNT as usize];
        let (busy_ns, busy_since) = (0, 0);
        let (turn, completed) = (0, 0);
        Self { disk, clients, turn, list, done, completed, counts, busy_ns, busy_since, spin_ns }
    }

    pub fn disk(&self) -> &Disk<M, D, C> {
        &self.disk
    }

    pub fn disk_mut(&mut self) -> &mut Disk<M, D, C> {
        &mut self.disk
    }

    /// Answer to `Units`: the one that a function has, always.
    pub fn units(&self) -> block::block::UnitsReply {
        block::block::UnitsReply { present: 1, generation: 1 }
    }

    /// `NxIo` for any but the one unit.
    pub fn check_unit(&self, unit: u32) -> Result<()> {
        if unit == 0 { Ok(()) } else { Err(Error::NxIo) }
    }

    /// Answer to `Info`.
    pub fn info(&self) -> block::block::InfoReply {
        let info = self.disk.info();
        let mut flags = 0;
        if info.read_only {
            flags |= block::info::READ_ONLY;
        }
        if info.write_cache {
            flags |= block::info::WRITE_CACHE;
        }
        block::block::InfoReply {
            sectors: info.sectors,
            block_size: info.block_size,
            flags,
            max_bytes: info.max_bytes,
            depth: u32::from(crate::disk::DEPTH),
            instance: 1,
        }
    }

    /// Answer to `Limits`.
    pub fn limits(&self) -> block::block::LimitsReply {
        block::block::LimitsReply {
            physical_block: self.disk.info().block_size,
            discard_granule: 0,
            max_discard: 0,
            max_zeroes: 0,
            rotation: 0,
        }
    }

    /// Answer to `Statistics`. `Inval`: no such kind of request.
    pub fn statistics(&self, what: u32) -> Result<block::block::StatisticsReply> {
        let counts = self.counts.get(what as usize).ok_or(Error::Inval)?;
        let running = match self.disk.in_flight() {
            0 => 0,
            _ => self.disk.clock().now_ns().saturating_sub(self.busy_since),
        };
        Ok(block::block::StatisticsReply {
            requests: counts.requests,
            bytes: counts.bytes,
            errors: counts.errors,
            time_ns: counts.time_ns,
            in_flight: counts.in_flight,
            busy_ns: self.busy_ns + running,
        })
    }

    /// A client shares `memory`; its older one drains. Answers the number of its doorbell, below
    /// [`CLIENTS_MAX`]. `Inval`: too small; `Limit`: too many clients.
    pub fn attach(&mut self, owner: u32, memory: R, notify: N) -> Result<u32> {
        self.forget(owner);
        let place = self.clients.iter().position(Option::is_none).ok_or(Error::Limit)?;
        let ring = Ring::new(memory).ok_or(Error::Inval)?;
        let free = (0..block::ENTRIES as u16).rev().collect();
        let under = alloc::vec![Under::default(); block::ENTRIES as usize];
        self.clients[place] = Some(Client { owner, ring, notify, draining: false, under, free });
        Ok(place as u32)
    }

    /// The client detached or died.
    pub fn forget(&mut self, owner: u32) {
        for place in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[place]
                && client.owner == owner
            {
                client.draining = true;
                self.sweep(place);
            }
        }
    }

    /// Clients whose memory is held, draining ones included.
    pub fn clients(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    /// Requests completed since the start.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Frees a draining client whose last request is back.
    fn sweep(&mut self, place: usize) {
        if let Some(client) = &self.clients[place]
            && client.draining
            && client.ring.in_flight() == 0
        {
            self.clients[place] = None;
        }
    }

    /// Moves requests to the disk and completions to the clients until neither is left, or a
    /// turn's work is done. `Err`: the device was beyond recovery.
    pub fn pump(&mut self) -> core::result::Result<Pumped, StartError> {
        self.disk.disarm();
        let mut moved = 0;
        loop {
            let taken = self.take_submissions();
            self.disk.kick();
            let completed = self.complete()?;
            moved += taken;
            if moved >= PUMP_REQUESTS {
                return Ok(Pumped::Again);
            }
            if taken + completed > 0 {
                continue;
            }
            if self.spin_ns > 0 && self.disk.in_flight() > 0 {
                let disk = &self.disk;
                let spun = spin(disk.clock(), self.spin_ns, || disk.has_completions());
                if spun {
                    continue;
                }
            }
            if !self.disk.arm() {
                return Ok(Pumped::Idle);
            }
        }
    }

    /// After an interrupt that brought nothing, or when a deadline passed.
    pub fn check_health(&mut self) -> core::result::Result<(), StartError> {
        let health = match self.disk.expired() {
            true => Err(DeviceError::TimedOut),
            false => self.disk.check_status(),
        };
        if health.is_err() {
            let mut done = core::mem::take(&mut self.done);
            let recovered = self.disk.recover(&mut done);
            self.done = done;
            recovered?;
            self.deliver();
        }
        Ok(())
    }

    /// One request of each client in turn, until no client has one or the disk is full.
    fn take_submissions(&mut self) -> usize {
        let mut taken = 0;
        loop {
            let mut progress = false;
            for step in 0..self.clients.len() {
                let place = (self.turn + step) % self.clients.len();
                match self.take_one(place) {
                    Taken::One => progress = true,
                    Taken::Nothing => continue,
                    Taken::DiskFull => {
                        // The client left waiting is the first of the next turn.
                        self.turn = place;
                        return taken;
                    }
                }
                taken += 1;
            }
            if !progress || taken >= PUMP_REQUESTS {
                return taken;
            }
        }
    }

    fn take_one(&mut self, place: usize) -> Taken {
        let Some(client) = self.clients[place].as_mut().filter(|c| !c.draining) else {
            return Taken::Nothing;
        };
        let submission = match client.ring.peek() {
            Ok(Some(submission)) => submission,
            Ok(None) => return Taken::Nothing,
            Err(Broken) => {
                client.draining = true;
                self.sweep(place);
                return Taken::Nothing;
            }
        };
        let Some(&index) = client.free.last() else { return Taken::Nothing };
        let cookie = (place as u64) << 16 | u64::from(index);
        let was_idle = self.disk.in_flight() == 0;
        let result =
            start(&mut self.disk, &mut self.list, client.ring.memory(), &submission, cookie);
        if result == Err(Error::Again) {
            return Taken::DiskFull;
        }
        client.ring.take();
        match result {
            Ok(()) => {
                let Submission { id, op, len: bytes, .. } = submission;
                let since = self.disk.clock().now_ns();
                client.under[usize::from(index)] = Under { id, op, bytes, since };
                client.free.pop();
                self.counts[op as usize].in_flight += 1;
                if was_idle {
                    self.busy_since = since;
                }
            }
            Err(error) => {
                client.ring.complete(submission.id, error as u32);
                if client.ring.publish() {
                    client.notify.notify();
                }
            }
        }
        Taken::One
    }

    /// Fetches completions from the disk, recovering it where it broke. Returns how many.
    fn complete(&mut self) -> core::result::Result<usize, StartError> {
        let mut done = core::mem::take(&mut self.done);
        let polled = self.disk.poll(&mut done);
        let recovered = match polled {
            Ok(()) => Ok(()),
            Err(_) => self.disk.recover(&mut done),
        };
        self.done = done;
        let count = self.deliver();
        recovered?;
        Ok(count)
    }

    /// Writes completions into the rings and tells each client once.
    fn deliver(&mut self) -> usize {
        let count = self.done.len();
        self.completed += count as u64;
        if count == 0 {
            return 0;
        }
        let now = self.disk.clock().now_ns();
        if self.disk.in_flight() == 0 {
            self.busy_ns += now.saturating_sub(self.busy_since);
        }
        for completion in self.done.drain(..) {
            let (place, index) = ((completion.cookie >> 16) as usize, completion.cookie as u16);
            let Some(Some(client)) = self.clients.get_mut(place) else { continue };
            let status = completion.result.err().map_or(0, |error| error as u32);
            let request = client.under[usize::from(index)];
            client.ring.complete(request.id, status);
            client.free.push(index);
            let counts = &mut self.counts[request.op as usize];
            counts.requests += 1;
            counts.bytes += u64::from(request.bytes);
            counts.errors += u64::from(status != 0);
            counts.time_ns += now.saturating_sub(request.since);
            counts.in_flight -= 1;
        }
        for place in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[place]
                && client.ring.publish()
                && !client.draining
            {
                client.notify.notify();
            }
            self.sweep(place);
        }
        count
    }
}

enum Taken {
    One,
    Nothing,
    DiskFull,
}

/// Checks a submission and gives it to the disk.
fn start<M: Mmio, D: Dma, C: Clock, R: DmaBuffer>(
    disk: &mut Disk<M, D, C>,
    list: &mut SgList,
    memory: &R,
    submission: &Submission,
    cookie: u64,
) -> Result<()> {
    let operation = match (submission.op, submission.flags) {
        (block::op::READ, 0) => Operation::Read,
        (block::op::WRITE, 0) => Operation::Write,
        (block::op::FLUSH, 0) => Operation::Flush,
        // What `info` and `limits` do not offer.
        (block::op::WRITE, block::flags::FUA) => return Err(Error::NotSup),
        (block::op::DISCARD, 0) | (block::op::WRITE_ZEROES, 0 | block::flags::MAY_UNMAP) => {
            return Err(Error::NotSup);
        }
        _ => return Err(Error::Inval),
    };
    list.clear();
    if operation != Operation::Flush {
        let (offset, len) = (submission.offset as usize, submission.len as usize);
        disk.check(operation, submission.sector, len as u64)?;
        let inside = offset.checked_add(len).is_some_and(|end| end <= memory.len());
        if !inside || offset < DATA_OFFSET || !offset.is_multiple_of(512) {
            return Err(Error::Inval);
        }
        list.push_buffer(memory, offset, len);
    }
    disk.submit(operation, submission.sector, list.segments(), cookie)
}

/// Looks again and again for `ns`, without giving the processor away.
fn spin(clock: &impl Clock, ns: u64, mut condition: impl FnMut() -> bool) -> bool {
    let start = clock.now_ns();
    loop {
        if condition() {
            return true;
        }
        if clock.now_ns().saturating_sub(start) >= ns {
            return false;
        }
        core::hint::spin_loop();
    }
}
