//! A block device by its driver's label, surviving that driver.
//!
//! ```text
//! attached ──obituary of the driver──> recovering: look the label up (waits for the next
//!    ^                                  instance), watch it, empty the ring, attach the same
//!    └──────submit again what is ───────memory
//!           outstanding
//! ```
//! Requests are idempotent, so doing one twice is harmless; completions that the dead driver had
//! published are taken first. After [`MAX_RECOVERIES`] in a row without one completion the device
//! counts as gone.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::bits;
use xinim_abi::object::{MemoryFlags, Protection, Rights};
use xinim_abi::services::block::{
    COMPLETION_BIT, Completion, DATA_OFFSET, ENTRIES, Submission, block, info,
};
use xinim_rt::ipc::{Endpoint, Service};
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::sys;

use crate::partition::partitions;
use crate::ring::{Ring, SharedMemory};
use crate::{Cache, Info, Transport, names};

const MAX_RECOVERIES: u32 = 64;
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

/// An attached block device.
#[derive(Debug)]
pub struct Disk {
    service: Service,
    /// Completions and the driver's obituary arrive here.
    events: Endpoint,
    memory: Memory,
    mapping: Mapping,
    ring: Ring,
    /// Bit for the driver's doorbell.
    doorbell: u64,
    driver: u32,
    info: Info,
    outstanding: BTreeMap<u64, Submission>,
}

impl Disk {
    /// Attaches to the driver called `label` with about `len` bytes of rings and buffers (less where
    /// memory is short; at least 64 KiB).
    pub fn open(label: Name, len: usize) -> Result<Self> {
        let service = Service::with_name(label);
        let answer = service.call(&block::Info { unit: 0 })?;
        let info = Info {
            sectors: answer.sectors,
            block_size: answer.block_size,
            read_only: answer.flags & info::READ_ONLY != 0,
            max_bytes: answer.max_bytes,
            depth: answer.depth.clamp(1, ENTRIES),
        };
        let memory = shared_memory(len.max(SMALLEST))?;
        let mapping = memory.map(Protection::READ | Protection::WRITE)?;
        let mut disk = Self {
            service,
            events: Endpoint::create()?,
            ring: Ring::reset(&mapping)?,
            memory,
            mapping,
            doorbell: 0,
            driver: 0,
            info,
            outstanding: BTreeMap::new(),
        };
        disk.attach()?;
        Ok(disk)
    }

    fn attach(&mut self) -> Result<()> {
        for _ in 0..MAX_RECOVERIES {
            match self.try_attach() {
                // It died again while we were talking to it.
                Err(Error::ServerDied | Error::Srch) => self.service.disconnect(),
                other => return other,
            }
        }
        Err(Error::Io)
    }

    fn try_attach(&mut self) -> Result<()> {
        let driver = self.service.pid()?;
        sys::watch(driver, self.events.raw(), driver.into())?;
        let answer = self.service.call(&block::Info { unit: 0 })?;
        if answer.sectors != self.info.sectors || answer.block_size != self.info.block_size {
            return Err(Error::Io); // another device stands there now
        }
        self.ring = Ring::reset(&self.mapping)?;
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER;
        let ring = self.memory.handle().mint(rights, 0)?;
        let notify = self.events.mint(Rights::NOTIFY | Rights::TRANSFER, 0)?;
        let request = block::Attach {
            unit: 0,
            len: self.memory.len(),
            ring: ring.raw(),
            notify: notify.raw(),
        };
        let endpoint = self.service.connect(true)?;
        let answer = xinim_rt::ipc::call(endpoint, &request)?;
        if answer.bit >= 48 {
            return Err(Error::BadReply);
        }
        self.driver = driver;
        self.doorbell = 1 << answer.bit;
        let again: Vec<Submission> = self.outstanding.values().copied().collect();
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
            // What nobody asked for (a lie, or a request done twice) goes no further.
            if self.outstanding.remove(&completions[at].id).is_some() {
                at += 1;
            } else {
                completions.swap_remove(at);
            }
        }
        Ok(())
    }

    /// Waits for completions or for the driver's death.
    fn wait_event(&mut self) -> Result<bool> {
        let received = self.events.receive()?;
        let raised = received.notification().unwrap_or(0);
        let mut died = false;
        if raised & bits::OBITUARY != 0 {
            while let Some(obituary) = sys::event_next(self.events.raw())? {
                died |= obituary.pid == self.driver;
            }
        }
        Ok(died)
    }
}

fn shared_memory(mut len: usize) -> Result<Memory> {
    loop {
        let large = if len >= 2 << 20 { MemoryFlags::LARGE } else { MemoryFlags::empty() };
        match Memory::create(len as u64, MemoryFlags::CONTIGUOUS | large) {
            Err(Error::NoMem) if len >= 2 * SMALLEST => len /= 2,
            other => return other,
        }
    }
}

impl Transport for Disk {
    fn info(&self) -> Info {
        self.info
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
        let mut absolute: Vec<Submission> = requests.to_vec();
        for request in &mut absolute {
            request.offset += DATA_OFFSET as u32;
            self.outstanding.insert(request.id, *request);
        }
        self.ring.push(&self.mapping, &absolute)?;
        match self.service.notify(self.doorbell) {
            // `wait` finds the obituary and submits again.
            Err(Error::ServerDied) => Ok(()),
            other => other,
        }
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        if self.outstanding.is_empty() {
            return Err(Error::Inval);
        }
        let mut recoveries = 0;
        loop {
            let taken = self.take(completions);
            if !completions.is_empty() {
                return Ok(());
            }
            if taken.is_ok() && self.ring.arm(&self.mapping, 1)? {
                continue;
            }
            // A driver whose indices lie is as good as dead: start over with it.
            let recover = taken.is_err() || self.wait_event()?;
            if recover {
                self.take(completions).ok();
                recoveries += 1;
                if recoveries > MAX_RECOVERIES {
                    self.outstanding.clear();
                    return Err(Error::Io);
                }
                self.service.disconnect();
                if let Err(error) = self.attach() {
                    self.outstanding.clear();
                    return Err(error);
                }
            }
        }
    }
}

/// A cache over the device or partition that /dev calls `name`, with about `cache_len` bytes of memory.
/// `NoEnt`: there is none. `NxIo`: the device is there, the partition is not.
pub fn open_cache(name: &str, cache_len: usize) -> Result<Cache<Box<dyn Transport>>> {
    let name = names::parse(name)?;
    let disk: Box<dyn Transport> = Box::new(Disk::open(name.label, cache_len)?);
    let info = disk.info();
    let mut cache = Cache::new(disk, 0, info.sectors)?;
    if name.partition == 0 {
        return Ok(cache);
    }
    let table =
        partitions(info.sectors, info.block_size, |sector, out| cache.read(sector * 512, out))?;
    let partition =
        table.iter().find(|partition| partition.number == name.partition).ok_or(Error::NxIo)?;
    Cache::new(cache.into_transport(), partition.start, partition.sectors)
}
