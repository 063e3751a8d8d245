//! A block device by its driver's label, surviving that driver.
//!
//! ```text
//! attached ──obituary of the driver──> recovering: look the label up (waits for the next
//!    ^                                  instance), watch it, empty the ring, attach the same
//!    └──────submit again what is ───────memory
//!           outstanding
//! ```
//! Requests are idempotent, so doing one twice is harmless; completions that the dead driver had
//! published are taken first. After [`MAX_RECOVERIES`] in a row without one completion, where
//! the next instance finds another device at the unit, or where there will be no next instance
//! (somebody stopped the service, or RS gave it up) what is outstanding fails, and the disk is
//! *detached*: each further request asks for the driver again, so that everything goes on when
//! the service is started. Where the unit is torn away from a living driver, its requests
//! complete with `NxIo`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use spin::Mutex;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::bits;
use xinim_abi::object::{LARGE_PAGE_SIZE, MemoryFlags, Protection, Rights};
use xinim_abi::services::block::{
    Completion, DATA_OFFSET, ENTRIES, Submission, Text, block, identity, info, op,
};
use xinim_abi::services::rs::query;
use xinim_keep::Found;
use xinim_rt::ipc::{Endpoint, Service};
use xinim_rt::keep::KeptArea;
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::{kip, log, standby, sys, time, trace};

use crate::marks::Marks;
use crate::names::Device;
use crate::partition::partitions;
use crate::ring::{Ring, SharedMemory};
use crate::{Cache, Info, Limits, Transport, names};

const MAX_RECOVERIES: u32 = 64;
/// Code of a complaint: the driver's ring indices make no sense.
const RING_BROKEN: u32 = 1;
/// The same: it completes nothing.
const SILENT: u32 = 2;
/// How long a driver may complete nothing, ns. One that works as it should has started a silent device over
/// after 10 s; RS takes who waits for others for 30 s for hung, and its client is not the one that is.
const PATIENCE_NS: u64 = 25_000_000_000;
/// How often long work shows RS that it is no hang; RS looks every 125 ms, less with a short heartbeat.
const LIFE_NS: u64 = 50_000_000;
/// Least memory worth attaching.
const SMALLEST: usize = 128 * 1024;

impl SharedMemory for Mapping {
    fn load_u32(&self, at: usize) -> Result<u32> {
        Mapping::load_u32(self, at)
    }
    fn store_u32(&self, at: usize, value: u32) -> Result<()> {
        Mapping::store_u32(self, at, value)
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        self.copy_out(at, out)
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        self.copy_in(at, data)
    }
}

/// How often a read is sent that is said to be done and has not filled its memory.
const READS_MAX: u8 = 3;

/// A request that the driver has.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    submission: Submission,
    /// How often it was sent because of its marks.
    sent: u8,
}

/// An attached block device.
#[derive(Debug)]
pub struct Disk {
    service: Service,
    unit: u32,
    /// Completions and the driver's obituary arrive here.
    events: Endpoint,
    memory: Memory,
    mapping: Mapping,
    ring: Ring,
    /// Bit for the driver's doorbell.
    doorbell: u64,
    driver: u32,
    instance: u32,
    /// False: there is no driver; its obituary has been read, none will come.
    attached: bool,
    info: Info,
    limits: Limits,
    /// To know the device again after its driver died.
    serial: Text,
    /// First sector and sectors that nobody else may write.
    claim: (u64, u64),
    outstanding: BTreeMap<u64, Outstanding>,
    /// In what reads are to fill.
    marks: Marks,
    /// Something was submitted and the doorbell not rung yet.
    unheard: bool,
    /// When RS was last shown that this service lives.
    seen: u64,
    /// Completions taken.
    done: u64,
    /// While the clock runs: how many there were when it was set.
    since: Option<u64>,
    /// RS was told that the driver is silent, and nothing has come since.
    complained: bool,
}

impl Disk {
    /// Attaches to a unit of the driver called `label` with about `len` bytes of rings and buffers
    /// (less where memory is short; at least 64 KiB). `NxIo`: there is no such unit.
    pub fn open(label: Name, unit: u32, len: usize) -> Result<Self> {
        let service = Service::with_name(label);
        let answer = service.call(&block::Info { unit })?;
        let other = service.call(&block::Limits { unit })?;
        let what = identity::SERIAL;
        let serial = service.call(&block::Identity { unit, what })?.text;
        let limits = Limits {
            write_cache: answer.flags & info::WRITE_CACHE != 0,
            max_discard: other.max_discard,
            max_zeroes: other.max_zeroes,
            physical_block: other.physical_block,
        };
        let info = client_info(&answer);
        let (memory, mapping) = shared_memory(len.max(SMALLEST))?;
        let mut disk = Self {
            service,
            unit,
            events: Endpoint::create()?,
            ring: Ring::reset(&mapping)?,
            memory,
            mapping,
            doorbell: 0,
            driver: 0,
            instance: 0,
            attached: false,
            info,
            limits,
            serial,
            claim: (0, 0),
            outstanding: BTreeMap::new(),
            marks: Marks::new(kip::random_u64().unwrap_or_else(kip::tsc)),
            unheard: false,
            seen: 0,
            done: 0,
            since: None,
            complained: false,
        };
        disk.attach()?;
        Ok(disk)
    }

    /// Nobody else may write `sectors` from `first` on as long as this is attached. `Busy`: somebody
    /// else has claimed some of them.
    pub fn claim(&mut self, first: u64, sectors: u64) -> Result<()> {
        self.service.call(&block::Claim { unit: self.unit, first, sectors })?;
        self.claim = (first, sectors);
        Ok(())
    }

    fn attach(&mut self) -> Result<()> {
        for _ in 0..MAX_RECOVERIES {
            // RS waits with its answer while an instance is on its way.
            self.service.pid().map_err(|_| Error::Io)?;
            match self.try_attach() {
                // It died again while we were talking to it.
                Err(Error::ServerDied | Error::Srch) => self.service.disconnect(),
                other => return other,
            }
        }
        Err(Error::Io)
    }

    /// Looks for the driver's next instance. Where there is none, everything has failed.
    fn recover(&mut self) -> Result<()> {
        self.attached = false;
        self.service.disconnect();
        self.attach().inspect_err(|_| {
            self.service.disconnect();
            self.outstanding.clear();
        })
    }

    fn try_attach(&mut self) -> Result<()> {
        let driver = self.service.pid()?;
        // One that lies may be attached to again and again.
        if self.driver != driver {
            sys::watch(driver, self.events.raw(), driver.into())?;
            self.driver = driver;
        }
        let unit = self.unit;
        let answer = self.service.call(&block::Info { unit })?;
        let what = identity::SERIAL;
        let serial = self.service.call(&block::Identity { unit, what })?.text;
        let end = self.claim.0 + self.claim.1;
        let known = answer.block_size == self.info.block_size && serial == self.serial;
        if !known || answer.sectors < end {
            return Err(Error::NxIo); // another device stands there now
        }
        self.info = client_info(&answer);
        self.instance = answer.instance;
        self.ring = Ring::reset(&self.mapping)?;
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER;
        let ring = self.memory.handle().mint(rights, 0)?;
        let notify = self.events.mint(Rights::NOTIFY | Rights::TRANSFER, 0)?;
        let request =
            block::Attach { unit, len: self.memory.len(), ring: ring.raw(), notify: notify.raw() };
        let endpoint = self.service.connect(true)?;
        let answer = xinim_rt::ipc::call(endpoint, &request)?;
        if answer.bit >= 48 {
            return Err(Error::BadReply);
        }
        if self.claim.1 > 0 {
            let (first, sectors) = self.claim;
            xinim_rt::ipc::call(endpoint, &block::Claim { unit, first, sectors })?;
        }
        self.attached = true;
        self.doorbell = 1 << answer.bit;
        self.unheard = false;
        let again: Vec<Submission> = self.outstanding.values().map(|own| own.submission).collect();
        if !again.is_empty() {
            self.ring.push(&self.mapping, &again)?;
            self.service.notify(self.doorbell)?;
        }
        Ok(())
    }

    fn take(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        let first = completions.len();
        self.ring.pop(&self.mapping, completions)?;
        let mut at = first;
        while at < completions.len() {
            let Completion { id, status, .. } = completions[at];
            // What nobody asked for (a lie, or a request done twice) goes no further.
            let Some(own) = self.outstanding.get(&id).copied() else {
                completions.swap_remove(at);
                continue;
            };
            if status == 0 && !self.is_filled(&own.submission)? {
                if own.sent < READS_MAX {
                    let again = Outstanding { sent: own.sent + 1, ..own };
                    self.outstanding.insert(id, again);
                    completions.swap_remove(at);
                    self.ring.push(&self.mapping, &[own.submission])?;
                    self.unheard = true;
                    continue;
                }
                completions[at].status = u32::from(Error::Io as u16);
            }
            self.outstanding.remove(&id);
            self.done += 1;
            self.complained = false;
            trace::event(trace::kind::BLOCK_DONE, completions[at].status as u16, 0, id);
            at += 1;
        }
        Ok(())
    }

    /// Whether the memory of a read was written. True for all else.
    fn is_filled(&self, request: &Submission) -> Result<bool> {
        if request.op != op::READ {
            return Ok(true);
        }
        let (offset, len) = (request.offset as usize, request.len as usize);
        self.marks.are_gone(offset, len, |at, out| self.mapping.copy_out(at, out))
    }

    /// Waits for completions or for the driver's death, ringing the doorbell with the same entry
    /// into the kernel.
    fn wait_event(&mut self) -> Result<bool> {
        if self.since.is_none() {
            sys::timer_set(self.events.raw(), time::now_ns().saturating_add(PATIENCE_NS))?;
            self.since = Some(self.done);
        }
        let received = match core::mem::take(&mut self.unheard) {
            // A dead driver is no error: its obituary comes.
            true => self.events.notify_wait(self.service.connect(true)?, self.doorbell)?,
            false => self.events.receive()?,
        };
        let raised = received.notification().unwrap_or(0);
        // Once: a second instance is silent for the device's sake, and its word counts in the end.
        if raised & bits::TIMER != 0 && self.since.take() == Some(self.done) && !self.complained {
            self.complained = true;
            let _ = xinim_rt::rs::complain(self.service.label(), SILENT);
        }
        let mut died = false;
        if raised & bits::OBITUARY != 0 {
            while let Some(obituary) = sys::event_next(self.events.raw())? {
                died |= obituary.pid == self.driver;
            }
        }
        Ok(died)
    }
}

/// What [`stand_by`] made.
static READY: Mutex<Option<(Memory, Mapping)>> = Mutex::new(None);

/// To be called by a file-system server (`xinim_rt::program!(main, prepares)`) that will call
/// [`open_kept_cache`]. One that was made ahead makes the cache's memory before its turn, where memory is plenty:
/// clearing it is most of what a restart takes.
pub fn stand_by() -> Result<()> {
    if standby::may_make_memory() {
        *READY.lock() = create(kept_cache_len().max(SMALLEST)).ok();
    }
    standby::wait()
}

fn shared_memory(mut len: usize) -> Result<(Memory, Mapping)> {
    if let Some(ready) = READY.lock().take_if(|(memory, _)| memory.len() >= len as u64) {
        return Ok(ready);
    }
    loop {
        match create(len) {
            Err(Error::NoMem) if len >= 2 * SMALLEST => len /= 2,
            other => return other,
        }
    }
}

fn create(len: usize) -> Result<(Memory, Mapping)> {
    let large = if len >= 2 << 20 { MemoryFlags::LARGE } else { MemoryFlags::empty() };
    let memory = Memory::create(len as u64, MemoryFlags::CONTIGUOUS | large)?;
    let mapping = memory.map(Protection::READ | Protection::WRITE)?;
    Ok((memory, mapping))
}

impl Transport for Disk {
    fn info(&self) -> Info {
        self.info
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn plugged(&self) -> (u32, u32) {
        (self.driver, self.instance)
    }

    fn data_len(&self) -> usize {
        self.mapping.len() - DATA_OFFSET
    }

    fn read_data(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.mapping.copy_out(DATA_OFFSET + offset, out)
    }

    fn write_data(&self, offset: usize, data: &[u8]) -> Result<()> {
        self.mapping.copy_in(DATA_OFFSET + offset, data)
    }

    fn submit(&mut self, requests: &[Submission]) -> Result<()> {
        if !self.attached {
            self.recover()?;
        }
        let mut absolute: Vec<Submission> = requests.to_vec();
        for request in &mut absolute {
            request.offset += DATA_OFFSET as u32;
            if request.op == op::READ {
                let (offset, len) = (request.offset as usize, request.len as usize);
                self.marks.set(offset, len, |at, data| self.mapping.copy_in(at, data))?;
            }
            let own = Outstanding { submission: *request, sent: 1 };
            self.outstanding.insert(request.id, own);
        }
        self.ring.push(&self.mapping, &absolute)?;
        for request in requests {
            trace::event(trace::kind::BLOCK_SUBMIT, request.op as u16, request.sector, request.id);
        }
        self.unheard = true;
        Ok(())
    }

    fn kick(&mut self) {
        // Long work on what is in memory, as the check of a volume, must not look like a hang: who makes
        // system calls meanwhile is alive for RS. By the clock that RS goes by, however slow the machine.
        let now = time::now_ns();
        if now.wrapping_sub(self.seen) >= LIFE_NS {
            self.seen = now;
            let _ = sys::null();
        }
        if core::mem::take(&mut self.unheard) {
            // Where the driver died, `wait` finds the obituary and submits again.
            let _ = self.service.notify(self.doorbell);
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        // A driver that lies, or has died, is dealt with by who waits.
        let _ = self.take(completions);
        Ok(())
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        self.wait_for(completions, 1)
    }

    fn wait_for(&mut self, completions: &mut Vec<Completion>, wanted: usize) -> Result<()> {
        if self.outstanding.is_empty() {
            return Err(Error::Inval);
        }
        let mut recoveries = 0;
        loop {
            // What is there already may be all that the caller needs.
            let taken = self.take(completions);
            let wanted = wanted.clamp(1, self.outstanding.len().max(1)) as u32;
            if !completions.is_empty() {
                return Ok(());
            }
            if taken.is_ok() && self.ring.arm(&self.mapping, wanted)? {
                continue;
            }
            // A driver whose indices lie is as good as dead: RS is told, who restarts it if this service
            // may complain, and it is started over with in any case.
            if taken.is_err() {
                let _ = xinim_rt::rs::complain(self.service.label(), RING_BROKEN);
            }
            let recover = taken.is_err() || self.wait_event()?;
            if recover {
                self.take(completions).ok();
                recoveries += 1;
                if recoveries > MAX_RECOVERIES {
                    self.attached = false;
                    self.outstanding.clear();
                    return Err(Error::Io);
                }
                self.recover()?;
            }
        }
    }
}

fn client_info(answer: &block::InfoReply) -> Info {
    Info {
        sectors: answer.sectors,
        block_size: answer.block_size,
        read_only: answer.flags & info::READ_ONLY != 0,
        max_bytes: answer.max_bytes,
        depth: answer.depth.clamp(1, ENTRIES),
    }
}

/// Labels of the block drivers there are, in the order of their devices' names.
pub fn block_drivers() -> Result<Vec<String>> {
    let text = xinim_rt::rs::query(query::CLASSES, "")?;
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    let mut labels: Vec<String> =
        lines.filter(|line| line.0 == "block").map(|line| String::from(line.1)).collect();
    labels.sort_by_key(|label| names::order(label));
    Ok(labels)
}

/// Driver and unit of a device. `NoEnt`: there is none.
pub fn find(device: Device) -> Result<(Name, u32)> {
    let wanted = match device {
        Device::Unit { label, unit } => return Ok((label, unit)),
        Device::Optical(number) => number as usize,
    };
    let mut drives = Vec::new();
    for label in block_drivers()? {
        let label = Name::new(&label)?;
        let service = Service::with_name(label);
        let present = service.call(&block::Units {})?.present;
        for unit in (0..u32::BITS).filter(|unit| present & 1 << unit != 0) {
            if service.call(&block::Info { unit })?.flags & info::CD_ROM != 0 {
                drives.push((label, unit));
            }
        }
    }
    drives.get(wanted).copied().ok_or(Error::NoEnt)
}

/// A cache over the device or partition that /dev calls `name`, with about `cache_len` bytes of memory,
/// for a file system: nobody else can write there. `NoEnt`: there is none. `NxIo`: the device is
/// there, the partition is not. `Busy`: somebody else has claimed it.
pub fn open_cache(name: &str, cache_len: usize) -> Result<Cache<Box<dyn Transport>>> {
    open(name, cache_len).map(|(cache, _)| cache)
}

/// As [`open_cache`]; with the device's serial number.
fn open(name: &str, cache_len: usize) -> Result<(Cache<Box<dyn Transport>>, Text)> {
    let name = names::parse(name)?;
    let (label, unit) = find(name.device)?;
    let mut disk = Disk::open(label, unit, cache_len)?;
    let info = disk.info();
    let (mut first, mut sectors) = (0, info.sectors);
    if name.partition != 0 {
        let mut cache = Cache::new(disk, 0, info.sectors)?;
        let table =
            partitions(info.sectors, info.block_size, |sector, out| cache.read(sector * 512, out))?;
        let partition = table.iter().find(|p| p.number == name.partition).ok_or(Error::NxIo)?;
        (first, sectors) = (partition.start, partition.sectors);
        disk = cache.into_transport();
    }
    disk.claim(first, sectors)?;
    let serial = disk.serial;
    let disk: Box<dyn Transport> = Box::new(disk);
    Ok((Cache::new(disk, first, sectors)?, serial))
}

/// Key of the memory that RS keeps.
const KEPT: u64 = 1;
/// Of a cache that is kept; a sixteenth of the memory where that is less. As much is kept.
const KEPT_CACHE_LEN: u64 = 8 << 20;

fn kept_cache_len() -> usize {
    (kip::memory_total() / 16).min(KEPT_CACHE_LEN) as usize
}

/// As [`open_cache`] with a cache for reading and writing, and what is not written yet when this service dies is written by its next instance,
/// as far as its manifest allows `keep`. Where that cannot be, the log says so.
pub fn open_kept_cache(name: &str) -> Result<Cache<Box<dyn Transport>>> {
    let (mut cache, serial) = open(name, kept_cache_len())?;
    if cache.read_only() {
        return Ok(cache);
    }
    let len = (cache.kept_len() as u64).next_multiple_of(LARGE_PAGE_SIZE as u64);
    // One that was torn away in between has another number at its driver; where that died as well, only the
    // serial number tells.
    let identity = xinim_keep::sum(cache.len(), &identity(name, &serial));
    let kept = KeptArea::open(KEPT, len).and_then(|area| cache.keep(Box::new(area), identity));
    match kept {
        Ok(Found::Garbage) => log!("{name}: what an earlier instance kept is not of use"),
        Ok(_) => {}
        Err(error) => log!("{name}: what is not written yet is not kept: {error}"),
    }
    Ok(cache)
}

/// Name and serial number of a device, in whole words.
fn identity(name: &str, serial: &Text) -> Vec<u8> {
    let mut bytes = Vec::from(name);
    bytes.push(0);
    bytes.extend_from_slice(serial.as_str().as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}
