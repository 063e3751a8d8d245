//! The page by which the guest kernel says which process runs where, and where its events are.

use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
use xinim_abi::platform::{
    TRACE_CPUS, TRACE_MAGIC, TRACE_PAGES, TRACE_ROOTS_OFFSET, TRACE_SLOTS, TRACE_TABLE_OFFSET,
    TracePageHeader,
};
use xinim_devices::device::Process;

use crate::memory::GuestRam;

const PAGE: u64 = 4096;
/// The version of the layout this engine reads.
pub const TRACE_VERSION: u32 = 2;

/// Where the guest kernel publishes its running processes, once it has said so.
#[derive(Debug, Default)]
pub struct TracePage {
    /// Guest physical address; 0: not announced (page 0 is never it).
    address: AtomicU64,
    /// Machine's time of the announcement.
    announced_ns: AtomicU64,
}

impl TracePage {
    /// The guest announced page frame `frame` at `now_ns`. Ignored unless such a page is there.
    pub fn announce(&self, ram: &GuestRam, frame: u64, now_ns: u64) {
        let Some(address) = frame.checked_mul(PAGE) else { return };
        if !ram.map().check_range(GuestAddress(address), TRACE_PAGES * PAGE as usize) {
            return;
        }
        let word = |at| ram.map().read_obj::<u32>(GuestAddress(at));
        if let (Ok(TRACE_MAGIC), Ok(TRACE_VERSION)) = (word(address), word(address + 4)) {
            self.announced_ns.store(now_ns, Ordering::Relaxed);
            self.address.store(address, Ordering::Release);
        }
    }

    /// Its guest physical address, and the machine's time when it was announced.
    pub fn place(&self) -> Option<(u64, u64)> {
        let address = self.address.load(Ordering::Acquire);
        (address != 0).then(|| (address, self.announced_ns.load(Ordering::Relaxed)))
    }

    /// Every process, with the root of its page tables (0: unknown).
    pub fn processes(&self, ram: &GuestRam) -> Vec<(Process, u64)> {
        let address = self.address.load(Ordering::Relaxed);
        if address == 0 {
            return Vec::new();
        }
        let process = |slot: u64| {
            let entry = address + TRACE_TABLE_OFFSET as u64 + slot * 32;
            let mut process = Process { pid: 0, name: [0; 28] };
            process.pid = ram.map().read_obj(GuestAddress(entry)).ok()?;
            ram.map().read_slice(&mut process.name, GuestAddress(entry + 4)).ok()?;
            let root = address + TRACE_ROOTS_OFFSET as u64 + slot * 8;
            let root = ram.map().read_obj(GuestAddress(root)).ok()?;
            (process.pid != 0).then_some((process, root))
        };
        (0..TRACE_SLOTS as u64).filter_map(process).collect()
    }

    /// The process that runs on `vcpu`; `None` in boot and when idle.
    pub fn process(&self, ram: &GuestRam, vcpu: u32) -> Option<Process> {
        let address = self.address.load(Ordering::Relaxed);
        if address == 0 || vcpu as usize >= TRACE_CPUS {
            return None;
        }
        let running = std::mem::offset_of!(TracePageHeader, running) as u64;
        let slot =
            ram.map().read_obj(GuestAddress(address + running + u64::from(vcpu) * 4)).ok()?;
        self.in_slot(ram, slot)
    }

    /// The process in a slot of the table.
    pub fn in_slot(&self, ram: &GuestRam, slot: u32) -> Option<Process> {
        let address = self.address.load(Ordering::Relaxed);
        if address == 0 || slot as usize >= TRACE_SLOTS {
            return None;
        }
        let entry = address + TRACE_TABLE_OFFSET as u64 + u64::from(slot) * 32;
        let pid = ram.map().read_obj(GuestAddress(entry)).ok()?;
        let mut process = Process { pid, name: [0; 28] };
        ram.map().read_slice(&mut process.name, GuestAddress(entry + 4)).ok()?;
        (process.pid != 0).then_some(process)
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
