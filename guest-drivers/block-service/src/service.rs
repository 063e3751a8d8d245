//! From the clients' rings to the device and back.
//!
//! ```text
//!            attach()                   detach() | forget() | broken ring
//!  (none) ------------> serving ------------------------> draining ----------> (none)
//!                          |                               last completion
//!                          | its unit is torn away: every request ends with NxIo
//! ```
//! A client's memory stays pinned while the device may write to it: a client that goes away is
//! kept as *draining* until its last request has come back. Clients are served in turn, one
//! request each, so none can keep the others out, and a unit that is full keeps out only its own;
//! one [`Service::pump`] does a bounded amount of work.

use crate::device::{BlockDevice, Completion, Operation, Request, Unit};
use crate::ring::{Broken, Ring};
use crate::statistics::UnitStatistics;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{DATA_OFFSET, ENTRIES, Submission, UNITS_MAX, block, identity};
use xinim_driver_kit::{DmaBuffer, SgList, trace};

/// Rings at a time, draining ones included.
pub const CLIENTS_MAX: usize = 64;
/// Processes that asked to be told of units.
pub const SUBSCRIBERS_MAX: usize = 32;
/// Memory one client may attach, in bytes.
pub const CLIENT_MEMORY_MAX: u64 = 256 << 20;
/// Requests moved by one pump before others get a turn.
const PUMP_REQUESTS: usize = 1024;

/// How a client is told. A dead client is no error here.
pub trait Notify {
    /// Raises `COMPLETION_BIT` at the client.
    fn completed(&self);
    /// Raises `UNITS_BIT` at the client.
    fn units_changed(&self);
}

/// A request the device has.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    id: u64,
    since: u64,
    bytes: u32,
    op: u32,
}

struct Client<R, N> {
    /// Who attached it.
    owner: u32,
    unit: u32,
    /// What stood at the unit then.
    instance: u32,
    ring: Ring<R>,
    notify: N,
    draining: bool,
    /// First sector and end of what nobody else may write.
    claim: core::ops::Range<u64>,
    /// Requests in flight by their place; the place is part of the device's cookie.
    taken: Vec<Taken>,
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

/// The block service of one device.
pub struct Service<B, R, N> {
    device: B,
    clients: Vec<Option<Client<R, N>>>,
    subscribers: Vec<(u32, N)>,
    /// The units as the clients were last told of them: instance and sectors.
    known: Vec<Option<(u32, u64)>>,
    generation: u64,
    statistics: Vec<UnitStatistics>,
    /// Where the next turn begins.
    turn: usize,
    list: SgList,
    done: Vec<Completion>,
    completed: u64,
    /// How long to look for completions before asking for an interrupt, in ns.
    spin_ns: u64,
}

/// What became of one client's turn.
enum Turn {
    Taken,
    Nothing,
    UnitFull,
}

impl<B: BlockDevice, R: DmaBuffer, N: Notify> Service<B, R, N> {
    /// `spin_ns`: an interrupt costs more than a short look; 0 for none.
    pub fn new(device: B, spin_ns: u64) -> Self {
        let mut clients = Vec::new();
        clients.resize_with(CLIENTS_MAX, || None);
        let units = 0..UNITS_MAX;
        Self {
            known: units.clone().map(|unit| known(&device, unit)).collect(),
            generation: device.generation(),
            device,
            clients,
            subscribers: Vec::new(),
            statistics: units.map(|_| UnitStatistics::default()).collect(),
            turn: 0,
            list: SgList::new(),
            done: Vec::new(),
            completed: 0,
            spin_ns,
        }
    }

    pub fn device(&self) -> &B {
        &self.device
    }

    pub fn device_mut(&mut self) -> &mut B {
        &mut self.device
    }

    fn unit(&self, unit: u32) -> Result<&Unit> {
        self.device.unit(unit).ok_or(Error::NxIo)
    }

    /// Answer to `Info`.
    pub fn info(&self, number: u32) -> Result<block::InfoReply> {
        let unit = self.unit(number)?;
        Ok(block::InfoReply {
            sectors: unit.sectors,
            block_size: unit.block_size,
            flags: unit.flags,
            max_bytes: unit.max_bytes,
            depth: unit.depth,
            instance: self.device.instance(number),
        })
    }

    /// Answer to `Limits`.
    pub fn limits(&self, unit: u32) -> Result<block::LimitsReply> {
        let limits = self.unit(unit)?.limits;
        Ok(block::LimitsReply {
            physical_block: limits.physical_block,
            discard_granule: limits.discard_granule,
            max_discard: limits.max_discard,
            max_zeroes: limits.max_zeroes,
            rotation: limits.rotation,
        })
    }

    /// Answer to `Identity`. `Inval` for something the interface does not know.
    pub fn identity(&self, unit: u32, what: u32) -> Result<block::IdentityReply> {
        let unit = self.unit(unit)?;
        let text = match what {
            identity::MODEL => unit.model,
            identity::SERIAL => unit.serial,
            identity::FIRMWARE => unit.firmware,
            _ => return Err(Error::Inval),
        };
        Ok(block::IdentityReply { text })
    }

    /// Answer to `Units`.
    pub fn units(&self) -> block::UnitsReply {
        let present = (0..UNITS_MAX)
            .filter(|&unit| self.device.unit(unit).is_some())
            .fold(0, |mask, unit| mask | 1 << unit);
        block::UnitsReply { present, generation: self.device.generation() }
    }

    /// Answer to `Statistics`.
    pub fn statistics(&self, unit: u32, what: u32) -> Result<block::StatisticsReply> {
        let counters = self.statistics.get(unit as usize).ok_or(Error::NxIo)?;
        counters.reply(what, self.device.now_ns()).ok_or(Error::Inval)
    }

    /// `notify` is told of units from now on; an older one of the same owner no more. `Limit`.
    pub fn subscribe(&mut self, owner: u32, notify: N) -> Result<u64> {
        self.subscribers.retain(|(who, _)| *who != owner);
        if self.subscribers.len() >= SUBSCRIBERS_MAX {
            return Err(Error::Limit);
        }
        self.subscribers.push((owner, notify));
        Ok(self.generation)
    }

    /// A client shares `memory` for requests to `unit`; its older one there drains. `NxIo`: no such
    /// unit; `Inval`: too small; `Limit`: too many clients.
    pub fn attach(&mut self, owner: u32, unit: u32, memory: R, notify: N) -> Result<()> {
        self.unit(unit)?;
        self.drain(|client| client.owner == owner && client.unit == unit);
        let place = self.clients.iter().position(Option::is_none).ok_or(Error::Limit)?;
        let ring = Ring::new(memory).ok_or(Error::Inval)?;
        let free = (0..ENTRIES as u16).rev().collect();
        let taken = alloc::vec![Taken::default(); ENTRIES as usize];
        let instance = self.device.instance(unit);
        let (draining, claim) = (false, 0..0);
        let client = Client { owner, unit, instance, ring, notify, draining, claim, taken, free };
        self.clients[place] = Some(client);
        Ok(())
    }

    /// Answer to `Claim`. `Inval`: no ring, or sectors that cannot be; `Busy`: somebody else's.
    pub fn claim(&mut self, owner: u32, claim: &block::Claim) -> Result<()> {
        let end = claim.first.checked_add(claim.sectors).ok_or(Error::Inval)?;
        let own = |client: &Client<R, N>| {
            client.owner == owner && client.unit == claim.unit && !client.draining
        };
        let place = self.clients.iter().position(|client| client.as_ref().is_some_and(own));
        let place = place.ok_or(Error::Inval)?;
        if self.claimed(place, claim.first..end) {
            return Err(Error::Busy);
        }
        if let Some(client) = &mut self.clients[place] {
            client.claim = claim.first..end;
        }
        Ok(())
    }

    /// Whether another client than that at `place` has claimed any of these sectors of its unit.
    fn claimed(&self, place: usize, sectors: core::ops::Range<u64>) -> bool {
        let Some(asking) = &self.clients[place] else { return false };
        let (unit, instance) = (asking.unit, asking.instance);
        self.clients.iter().enumerate().any(|(at, client)| {
            client.as_ref().is_some_and(|other| {
                let overlaps = other.claim.start < sectors.end && sectors.start < other.claim.end;
                at != place
                    && overlaps
                    && !other.draining
                    && (other.unit, other.instance) == (unit, instance)
            })
        })
    }

    /// The client detached from one unit.
    pub fn detach(&mut self, owner: u32, unit: u32) {
        self.drain(|client| client.owner == owner && client.unit == unit);
    }

    /// The client died.
    pub fn forget(&mut self, owner: u32) {
        self.subscribers.retain(|(who, _)| *who != owner);
        self.drain(|client| client.owner == owner);
    }

    fn drain(&mut self, which: impl Fn(&Client<R, N>) -> bool) {
        for place in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[place]
                && which(client)
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

    /// Moves requests to the device and completions to the clients until neither is left, or a
    /// turn's work is done. `Err`: the device was beyond recovery.
    pub fn pump(&mut self) -> core::result::Result<Pumped, B::Error> {
        self.device.disarm();
        let mut moved = 0;
        loop {
            let taken = self.take_submissions();
            self.device.kick();
            let completed = self.complete()?;
            moved += taken;
            if moved >= PUMP_REQUESTS {
                return Ok(Pumped::Again);
            }
            if taken + completed > 0 {
                continue;
            }
            if self.spin_ns > 0 && self.device.in_flight() > 0 && self.spin() {
                continue;
            }
            if !self.device.arm() {
                return Ok(Pumped::Idle);
            }
        }
    }

    /// Looks again and again for `spin_ns`, without giving the processor away.
    fn spin(&self) -> bool {
        let start = self.device.now_ns();
        loop {
            if self.device.has_completions() {
                return true;
            }
            if self.device.now_ns().saturating_sub(start) >= self.spin_ns {
                return false;
            }
            core::hint::spin_loop();
        }
    }

    /// One request of each client in turn, until no client has one that its unit has room for.
    fn take_submissions(&mut self) -> usize {
        let mut taken = 0;
        loop {
            let mut progress = false;
            let first = self.turn;
            let mut refused = false;
            for step in 0..self.clients.len() {
                let place = (first + step) % self.clients.len();
                match self.take_one(place) {
                    Turn::Taken => {
                        progress = true;
                        taken += 1;
                    }
                    Turn::Nothing => {}
                    Turn::UnitFull if refused => {}
                    Turn::UnitFull => {
                        // The first client left waiting is the first of the next turn.
                        self.turn = place;
                        refused = true;
                    }
                }
            }
            if !progress || taken >= PUMP_REQUESTS {
                return taken;
            }
        }
    }

    fn take_one(&mut self, place: usize) -> Turn {
        let Some(client) = self.clients[place].as_mut().filter(|c| !c.draining) else {
            return Turn::Nothing;
        };
        let submission = match client.ring.peek() {
            Ok(Some(submission)) => submission,
            Ok(None) => return Turn::Nothing,
            Err(Broken) => {
                client.draining = true;
                self.sweep(place);
                return Turn::Nothing;
            }
        };
        let Some(&index) = client.free.last() else { return Turn::Nothing };
        let cookie = (place as u64) << 16 | u64::from(index);
        let gone = self.device.instance(client.unit) != client.instance;
        let sectors =
            submission.sector..submission.sector.saturating_add(u64::from(submission.len) / 512);
        let writes = Operation::from_op(submission.op).is_some_and(Operation::writes);
        let busy = writes && self.claimed(place, sectors);
        let Some(client) = self.clients[place].as_mut() else { return Turn::Nothing };
        // Before the device has it, which is an event of its own.
        let who = u64::from(client.owner) | cookie << 32;
        trace::event(trace::kind::DRIVER_TAKE, submission.op as u16, who, submission.id);
        let result = match (gone, busy) {
            (true, _) => Err(Error::NxIo),
            (false, true) => Err(Error::Busy),
            (false, false) => start(
                &mut self.device,
                &mut self.list,
                client.unit,
                client.ring.memory(),
                &submission,
                cookie,
            ),
        };
        if result == Err(Error::Again) {
            return Turn::UnitFull;
        }
        client.ring.take();
        match result {
            Ok(()) => {
                let (since, Submission { id, len: bytes, op, .. }) =
                    (self.device.now_ns(), submission);
                client.taken[usize::from(index)] = Taken { id, since, bytes, op };
                client.free.pop();
                self.statistics[client.unit as usize].started(since);
            }
            Err(error) => {
                client.ring.complete(submission.id, error as u32);
                if client.ring.publish() {
                    client.notify.completed();
                }
            }
        }
        Turn::Taken
    }

    /// Fetches completions from the device. Returns how many.
    fn complete(&mut self) -> core::result::Result<usize, B::Error> {
        let mut done = core::mem::take(&mut self.done);
        let polled = self.device.poll(&mut done);
        self.done = done;
        let count = self.deliver();
        if self.device.generation() != self.generation {
            self.tell_of_units();
        }
        polled.map(|()| count)
    }

    /// Writes completions into the rings and tells each client at most once.
    fn deliver(&mut self) -> usize {
        let count = self.done.len();
        if count == 0 {
            return 0;
        }
        self.completed += count as u64;
        let now = self.device.now_ns();
        for completion in self.done.drain(..) {
            let (place, index) = ((completion.cookie >> 16) as usize, completion.cookie as u16);
            let Some(Some(client)) = self.clients.get_mut(place) else { continue };
            let status = completion.result.err().map_or(0, |error| error as u32);
            let Taken { id, since, bytes, op } = client.taken[usize::from(index)];
            client.ring.complete(id, status);
            trace::event(trace::kind::DRIVER_DONE, status as u16, completion.cookie, 0);
            client.free.push(index);
            self.statistics[client.unit as usize].ended(op, bytes, since, now, status == 0);
        }
        for place in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[place]
                && client.ring.publish()
                && !client.draining
            {
                client.notify.completed();
            }
            self.sweep(place);
        }
        count
    }

    /// Tells the subscribers, and the clients of those units that are not what they were.
    fn tell_of_units(&mut self) {
        self.generation = self.device.generation();
        for (_, notify) in &self.subscribers {
            notify.units_changed();
        }
        for unit in 0..UNITS_MAX {
            let now = known(&self.device, unit);
            if core::mem::replace(&mut self.known[unit as usize], now) == now {
                continue;
            }
            for client in self.clients.iter().flatten() {
                if client.unit == unit && !client.draining {
                    client.notify.units_changed();
                }
            }
        }
    }
}

fn known(device: &impl BlockDevice, unit: u32) -> Option<(u32, u64)> {
    device.unit(unit).map(|now| (device.instance(unit), now.sectors))
}

/// Checks a submission and gives it to the device.
fn start(
    device: &mut impl BlockDevice,
    list: &mut SgList,
    unit: u32,
    memory: &impl DmaBuffer,
    submission: &Submission,
    cookie: u64,
) -> Result<()> {
    let Submission { sector, offset, len: bytes, op, flags, .. } = *submission;
    let operation = Operation::from_op(op).ok_or(Error::Inval)?;
    let request = Request { operation, sector, bytes, flags };
    device.unit(unit).ok_or(Error::NxIo)?.check(&request)?;
    list.clear();
    if operation.has_data() {
        let (offset, len) = (offset as usize, bytes as usize);
        let inside = offset.checked_add(len).is_some_and(|end| end <= memory.len());
        if !inside || offset < DATA_OFFSET || !offset.is_multiple_of(512) {
            return Err(Error::Inval);
        }
        list.push_buffer(memory, offset, len);
    }
    device.submit(unit, &request, list.segments(), cookie)
}
