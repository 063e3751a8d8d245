//! One port: requests in, completions out; and what becomes of them when the drive fails, is taken
//! away or comes back.
//!
//! ```text
//!        PCS or PRCS                 PxSSTS.DET = 3                BSY = DRQ = 0, a signature
//!  Empty -----------> Linking ----------------------> Settling -------------------------> Probing
//!    ^    COMRESET    |  ^  ^ no link for so long        |   IDENTIFY, READ CAPACITY; NCQ   |  ^
//!    |                |  |  `----------------------------'   error log after an error       |  |
//!    `----------------'  |     too long: COMRESET again                                     v  |
//!     the drive is gone  |                                                               Ready |
//!                        |      IFS, HBFS, HBDS, a time-out, a hung task file              |   |
//!                        +-----------------------------------------------------------------+   |
//!                        |      TFES: list restarted, error log or sense read              |   |
//!                        |                                                                 `---'
//!                     Failed   after RESETS_MAX COMRESETs without one request that worked
//! ```
//! Requests stay in their slots through all of this and are sent again at `Ready`. The one that is to
//! blame (the failed tag or slot; all that were in flight where nobody knows) ends with `Io` at
//! its third failure. When the drive goes away, is exchanged or fails, all end. No state lasts without
//! a limit: `look_at` is when it is to be looked at even if no interrupt comes, which also finds
//! the interrupts that get lost.

mod link;
mod recovery;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::ahci::{PX_CI, PX_IS, PX_SACT, PX_SERR, PortError, PortInterrupt};
use xinim_block_service::{Completion, Operation, Request, Unit};
use xinim_driver_kit::deadline::lost_at;
use xinim_driver_kit::memory::full_barrier;
use xinim_driver_kit::{Clock, Dma, Mmio, Region, Segment, trace};

use crate::command::{self, Class};
use crate::drive::Drive;
use crate::error::HbaError;
use crate::memory::{self, PRDS, PortMemory};

/// How often a request may fail.
pub const ATTEMPTS: u8 = 3;
/// COMRESETs in a row without one request that worked, before the drive counts as failed.
pub const RESETS_MAX: u8 = 3;
/// While commands are in flight the registers are read this often even without interrupts.
const WATCH_NS: u64 = 1_000_000_000;
/// How often a state that ends by itself is looked at.
const STEP_NS: u64 = 2_000_000;

/// What the ports of an HBA share.
pub struct Host<D, C> {
    pub dma: D,
    pub clock: C,
    /// Command slots of each port.
    pub slots: u32,
    pub queuing: bool,
    /// 64-bit addresses.
    pub wide: bool,
    /// PxCMD.CLO works.
    pub override_busy: bool,
}

/// What a probing command asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Identify {
        packet: bool,
    },
    /// `reset`: the drive was reset, so that it has something to report.
    Capacity {
        tries: u8,
        reset: bool,
    },
    /// Which of these was to blame.
    ErrorLog {
        suspects: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Linking { until: u64 },
    Settling { until: u64 },
    Probing { probe: Probe, until: u64 },
    Ready,
    Failed,
}

struct Slot {
    cookie: u64,
    request: Request,
    data: Vec<Segment>,
    /// When it was sent, in ns.
    since: u64,
    failures: u8,
}

/// Counters, for the log and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub commands: u64,
    /// Writes to PxCI.
    pub batches: u64,
    /// Errors after which the command list was restarted.
    pub restarts: u64,
    /// COMRESETs.
    pub resets: u64,
}

/// A port with whatever is attached to it.
pub struct Port<M, D: Dma, C> {
    number: u8,
    registers: Region<M>,
    host: Rc<Host<D, C>>,
    memory: Option<PortMemory<D::Buffer>>,
    state: State,
    /// The drive and the unit it makes; kept while it is being recovered.
    drive: Option<Drive>,
    unit: Option<Unit>,
    /// A packet device before its medium is known.
    found: Unit,
    /// Native queuing is used: the HBA has it, and the drive was not found to do it badly.
    queuing: bool,
    instance: u32,
    /// How often the unit came, went or changed.
    changes: u64,
    slots: Vec<Slot>,
    /// Slots in use, and those of them the HBA has.
    busy: u32,
    issued: u32,
    /// Class of those.
    class: Class,
    /// The others, in the order they are to be sent.
    waiting: VecDeque<u8>,
    /// Ended without the drive.
    finished: Vec<Completion>,
    /// Causes of interrupts not yet dealt with.
    pending: PortInterrupt,
    look_at: Option<u64>,
    resets: u8,
    /// The packet device said that its medium may be another.
    medium_changed: bool,
    statistics: Statistics,
    /// When the drive last completed something, in ns.
    heard: u64,
}

/// Interrupts that need more than reading what ended.
fn alarming() -> PortInterrupt {
    PortInterrupt::FATAL | PortInterrupt::OFS | PortInterrupt::PCS | PortInterrupt::PRCS
}

/// What PxIE is set to.
pub fn enabled() -> PortInterrupt {
    alarming()
        | PortInterrupt::DHRS
        | PortInterrupt::PSS
        | PortInterrupt::SDBS
        | PortInterrupt::UFS
        | PortInterrupt::INFS
}

impl<M: Mmio, D: Dma, C: Clock> Port<M, D, C> {
    pub fn new(number: u8, registers: Region<M>, host: Rc<Host<D, C>>) -> Self {
        let slot = || Slot {
            cookie: 0,
            request: Request::flush(),
            data: Vec::new(),
            since: 0,
            failures: 0,
        };
        Self {
            number,
            registers,
            memory: None,
            state: State::Empty,
            drive: None,
            unit: None,
            found: Unit::default(),
            queuing: host.queuing,
            instance: 0,
            changes: 0,
            slots: (0..host.slots).map(|_| slot()).collect(),
            host,
            busy: 0,
            issued: 0,
            class: Class::Solo,
            waiting: VecDeque::new(),
            finished: vec![],
            pending: PortInterrupt::empty(),
            look_at: None,
            resets: 0,
            medium_changed: false,
            statistics: Statistics::default(),
            heard: 0,
        }
    }

    fn read(&self, register: usize) -> u32 {
        self.registers.read32(register)
    }

    fn write(&self, register: usize, value: u32) {
        self.registers.write32(register, value);
    }

    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    pub fn instance(&self) -> u32 {
        self.instance
    }

    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Whether what is attached is still being found out.
    pub fn is_settling(&self) -> bool {
        matches!(self.state, State::Linking { .. } | State::Settling { .. } | State::Probing { .. })
    }

    /// Requests submitted and not completed.
    pub fn in_flight(&self) -> usize {
        self.busy.count_ones() as usize
    }

    pub fn look_at(&self) -> Option<u64> {
        self.look_at
    }

    /// Has the next [`poll`](Self::poll) look whatever the time.
    pub fn hurry(&mut self) {
        self.look_at = Some(0);
    }

    /// Whether a poll would probably find something: no register access.
    pub fn has_news(&self) -> bool {
        let fis = self.memory.as_ref().is_some_and(PortMemory::fis_seen);
        (self.issued != 0 || self.is_settling()) && fis
            || !self.finished.is_empty()
            || self.pending.intersects(alarming())
    }

    /// Takes a request; it goes out at the next [`kick`](Self::kick), or when the drive is ready
    /// again. The errors of `BlockDevice::submit`.
    pub fn submit(&mut self, request: &Request, data: &[Segment], cookie: u64) -> Result<()> {
        let unit = self.unit.as_ref().ok_or(Error::NxIo)?;
        unit.check(request)?;
        let bytes: u64 = data.iter().map(|segment| u64::from(segment.len)).sum();
        let expected = if request.operation.has_data() { request.bytes } else { 0 };
        let end = |s: &Segment| s.address.checked_add(u64::from(s.len));
        let most = if self.host.wide { u64::MAX } else { 1 << 32 };
        let reachable = data.iter().all(|s| end(s).is_some_and(|end| end <= most));
        let aligned = data.iter().all(|s| s.address.is_multiple_of(2) && s.len.is_multiple_of(2));
        let fits = memory::entries(data) <= PRDS && bytes == u64::from(expected);
        if !(reachable && aligned && fits) {
            return Err(Error::Inval);
        }
        let slots = 1u64 << unit.depth.min(self.host.slots);
        let free = !self.busy & (slots - 1) as u32;
        if free == 0 {
            return Err(Error::Again);
        }
        let index = free.trailing_zeros() as u8;
        let slot = &mut self.slots[usize::from(index)];
        slot.data.clear();
        slot.data.extend_from_slice(data);
        (slot.request, slot.cookie, slot.failures) = (*request, cookie, 0);
        self.busy |= 1 << index;
        self.waiting.push_back(index);
        Ok(())
    }

    /// Sends what waits, as far as it may be at the drive together with what is there.
    pub fn kick(&mut self) {
        let (State::Ready, Some(drive), Some(memory)) = (self.state, self.drive, &self.memory)
        else {
            return;
        };
        let mut batch = 0u32;
        let now = self.host.clock.now_ns();
        while let Some(&index) = self.waiting.front() {
            let slot = &mut self.slots[usize::from(index)];
            let Some(command) = command::command(&drive, &slot.request, index) else {
                // Nothing to send: it is done, or the unit never offered it.
                let done = slot.request.operation == Operation::Flush;
                let result = if done { Ok(()) } else { Err(Error::NotSup) };
                self.finished.push(Completion { cookie: slot.cookie, result });
                self.busy &= !(1 << index);
                self.waiting.pop_front();
                continue;
            };
            let alone = self.issued | batch == 0;
            if !alone && (command.class != self.class || command.class == Class::Solo) {
                break;
            }
            self.class = command.class;
            if slot.request.operation == Operation::Discard {
                let ranges = command::trim_ranges(&drive, &slot.request);
                memory.prepare(index, &command, &[memory.ranges_segment(&ranges)]);
            } else {
                memory.prepare(index, &command, &slot.data);
            }
            slot.since = now;
            trace::issued(slot.cookie, u16::from(self.number), u16::from(index));
            batch |= 1 << index;
            self.waiting.pop_front();
        }
        if batch == 0 {
            return;
        }
        full_barrier();
        if self.class == Class::Queued {
            self.write(PX_SACT, batch);
        }
        self.write(PX_CI, batch);
        self.issued |= batch;
        self.statistics.commands += u64::from(batch.count_ones());
        self.statistics.batches += 1;
        let watch = now.saturating_add(WATCH_NS);
        self.look_at = Some(self.look_at.map_or(watch, |at| at.min(watch)));
    }

    /// Reads and clears the causes of interrupts. True: poll, there is something that no FIS in memory
    /// tells of.
    pub fn gather(&mut self) -> bool {
        let causes = PortInterrupt::from_bits_truncate(self.read(PX_IS));
        // These follow bits of PxSERR.
        let mut diagnosis = PortError::empty();
        diagnosis.set(PortError::DIAG_X, causes.contains(PortInterrupt::PCS));
        diagnosis.set(PortError::DIAG_N, causes.contains(PortInterrupt::PRCS));
        diagnosis.set(PortError::DIAG_F, causes.contains(PortInterrupt::UFS));
        if !diagnosis.is_empty() {
            self.write(PX_SERR, diagnosis.bits());
        }
        if !causes.is_empty() {
            self.write(PX_IS, causes.bits());
        }
        self.pending |= causes;
        // PIO: the FIS comes before the data, the interrupt behind them.
        let silent = alarming() | PortInterrupt::PSS;
        if self.pending.intersects(silent) {
            self.hurry();
        }
        self.pending.intersects(silent)
    }

    /// Moves what is finished to `done`; goes on with whatever state the port is in.
    pub fn poll(
        &mut self,
        now: u64,
        done: &mut Vec<Completion>,
    ) -> core::result::Result<(), HbaError> {
        let due = self.look_at.is_some_and(|at| at <= now);
        // While the link comes up only PxSSTS counts.
        if due && !matches!(self.state, State::Linking { .. }) {
            self.gather();
        }
        match self.state {
            State::Empty | State::Failed => {
                let pending = core::mem::replace(&mut self.pending, PortInterrupt::empty());
                // The interrupt that tells of a drive may be lost.
                let empty = matches!(self.state, State::Empty);
                self.look_at = match self.look_at.filter(|at| *at > now) {
                    Some(at) => Some(at),
                    None => empty.then_some(now.saturating_add(link::PLUG_NS)),
                };
                if pending.intersects(PortInterrupt::PCS | PortInterrupt::PRCS) {
                    self.resets = 0;
                    self.begin(true, now)?;
                }
            }
            State::Ready => self.poll_ready(due, now, done)?,
            _ if due || self.has_news() || !self.pending.is_empty() => self.step(now)?,
            _ => {}
        }
        done.append(&mut self.finished);
        Ok(())
    }

    fn poll_ready(
        &mut self,
        due: bool,
        now: u64,
        done: &mut Vec<Completion>,
    ) -> core::result::Result<(), HbaError> {
        let pending = core::mem::replace(&mut self.pending, PortInterrupt::empty());
        if pending.intersects(PortInterrupt::PCS | PortInterrupt::PRCS) {
            return self.link_changed(pending, now);
        }
        let error = pending.intersects(PortInterrupt::FATAL | PortInterrupt::OFS);
        if self.issued != 0 && (due || error || self.has_news()) {
            self.harvest(now, done);
        }
        if error {
            return self.recover(pending, now);
        }
        if due {
            let issued = self.each(self.issued).map(|slot| &self.slots[slot]);
            let oldest = issued.min_by_key(|slot| slot.since);
            let lost = |slot: &Slot| lost_at(slot.since, slot.failures + 1, self.heard);
            if oldest.map(lost).is_some_and(|at| at <= now) {
                return self.reset(now);
            }
            if self.issued == 0 && self.has_medium_to_watch() {
                return self.probe(Probe::Capacity { tries: 0, reset: false }, now);
            }
            self.look_again(now);
        }
        Ok(())
    }

    /// When the registers of a ready port are to be read next.
    fn look_again(&mut self, now: u64) {
        self.look_at = match (self.issued, self.has_medium_to_watch()) {
            (0, true) => Some(now.saturating_add(link::MEDIUM_NS)),
            (0, false) => None,
            _ => Some(now.saturating_add(WATCH_NS)),
        };
    }

    fn each(&self, mask: u32) -> impl Iterator<Item = usize> + use<M, D, C> {
        (0..32).filter(move |slot| mask & 1 << slot != 0)
    }

    /// Fetches what the HBA has finished.
    fn harvest(&mut self, now: u64, done: &mut Vec<Completion>) {
        let Some(memory) = &self.memory else { return };
        memory.clear_fis();
        let active = match self.class {
            Class::Queued => self.read(PX_SACT),
            Class::Plain | Class::Solo => self.read(PX_CI),
        };
        let ended = self.issued & !active;
        for index in self.each(ended) {
            let slot = &self.slots[index];
            let Request { operation, bytes, .. } = slot.request;
            // A read that is reported done but not complete: its data are not to be trusted.
            let counts = self.class != Class::Queued && operation == Operation::Read;
            let short = counts && memory.transferred(index as u8) < bytes;
            let result = if short { Err(Error::Io) } else { Ok(()) };
            done.push(Completion { cookie: slot.cookie, result });
            (self.resets, self.heard) = (0, now);
        }
        self.issued &= !ended;
        self.busy &= !ended;
    }

    /// Ends requests the HBA does not have (any more).
    fn finish(&mut self, mask: u32, error: Error) {
        for index in self.each(mask & self.busy) {
            let cookie = self.slots[index].cookie;
            self.finished.push(Completion { cookie, result: Err(error) });
        }
        self.busy &= !mask;
        self.issued &= !mask;
        self.waiting.retain(|&index| mask & 1 << index == 0);
    }

    /// What was sent is to be sent again, before what waits. Only while the list is stopped.
    fn requeue(&mut self) {
        for index in (0..32u8).rev().filter(|&index| self.issued & 1 << index != 0) {
            self.waiting.push_front(index);
        }
        self.issued = 0;
    }

    /// These were in flight at a failure; one that was at too many ends. Only while the list is
    /// stopped.
    fn blame(&mut self, mask: u32) {
        let mut over = 0;
        for index in self.each(mask & self.busy) {
            let slot = &mut self.slots[index];
            slot.failures += 1;
            if slot.failures >= ATTEMPTS {
                over |= 1u32 << index;
            }
        }
        self.finish(over, Error::Io);
    }
}
