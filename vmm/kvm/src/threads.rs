//! The threads of a guest that stands still, read out of its kernel's records (see [`xinim_abi::debug`]):
//! what each waits for, and how it came there. For `ctl threads` and for reports: a guest that does not
//! answer any more says this way who waits for whom.
//!
//! What is read is the guest's: every number is checked before it is used, names are made printable, and
//! there are no more threads than [`THREADS_MAX`].

use xinim_abi::debug::{LAYOUT_MAGIC, THREAD_LAYOUT, THREADS, ThreadLayout};
use xinim_abi::info::state;
use xinim_devices::device::Process;
use xinim_machine::control::ThreadStatus;
use zerocopy::{FromBytes, IntoBytes};

use crate::backtrace::{Place, View};
use crate::dump::CpuState;
use crate::memory::GuestRam;
use crate::symbols::Images;
use crate::walk::{Linear, Paging};

const THREADS_MAX: u32 = 4096;
/// Lines of a thread's stack.
const LINES: usize = 12;
/// Bytes of a name, as much as [`Process`] keeps of it.
const NAME: usize = 28;
/// Of [`ThreadLayout`].
const WORDS: usize = size_of::<ThreadLayout>() / 4;

/// A guest that stands still.
pub struct Guest<'a> {
    pub ram: &'a GuestRam,
    pub images: &'a Images,
    /// vCPUs, with the number of the process that each runs.
    pub cpus: &'a [(CpuState, Option<u32>)],
}

/// All threads, or why they cannot be told.
pub fn list(guest: &Guest<'_>) -> Result<Vec<ThreadStatus>, String> {
    let symbols = guest.images.kernel();
    let places = symbols.object(THREADS).zip(symbols.object(THREAD_LAYOUT));
    let (table, layout) = places.ok_or("the guest's kernel does not say where its threads are")?;
    read(guest, table, layout)
}

fn read(guest: &Guest<'_>, table: u64, layout: u64) -> Result<Vec<ThreadStatus>, String> {
    let (first, _) = guest.cpus.first().ok_or("the guest has no vCPU any more")?;
    let kernel = Kernel { memory: Linear { ram: guest.ram, paging: first.paging() } };
    let layout = kernel.layout(layout).filter(|layout| layout.magic == LAYOUT_MAGIC);
    let layout = layout.ok_or("the guest's kernel has not come as far as to have threads")?;
    let slots = (0..u64::from(layout.slots.min(THREADS_MAX)))
        .filter_map(|slot| kernel.u64(table.checked_add(slot * 8)?))
        .filter(|address| *address != 0);
    let threads = slots.filter_map(|thread| describe(guest, &kernel, &layout, thread));
    let mut threads: Vec<ThreadStatus> = threads.collect();
    threads.sort_by_key(|thread| thread.pid);
    Ok(threads)
}

fn describe(
    guest: &Guest<'_>,
    kernel: &Kernel<'_>,
    layout: &ThreadLayout,
    thread: u64,
) -> Option<ThreadStatus> {
    let process = kernel.u64(offset(thread, layout.process))?;
    let (pid, name) = kernel.process(process, layout)?;
    let number = kernel.u32(offset(thread, layout.state))?;
    let endpoint = kernel.u64(offset(thread, layout.endpoint))?;
    let waits = matches!(number, state::RECEIVING | state::SENDING | state::AWAITING_REPLY);
    let calls = matches!(number, state::SENDING | state::AWAITING_REPLY);
    let at = (waits && endpoint != 0).then_some(endpoint);
    let owner = at.and_then(|endpoint| kernel.u64(offset(endpoint, layout.owner)));
    let waits_for = owner.filter(|owner| calls && *owner != 0);
    let bits = at.and_then(|endpoint| kernel.u64(offset(endpoint, layout.bits)));
    let (mut rip, mut rsp) =
        (kernel.u64(offset(thread, layout.rip))?, kernel.u64(offset(thread, layout.rsp))?);
    let tables = kernel.u64(offset(process, layout.tables))?;
    let mut paging = Paging { cr3: tables, ..kernel.memory.paging };
    if number == state::RUNNING
        && let Some((cpu, _)) = guest.cpus.iter().find(|(_, runs)| *runs == Some(pid))
    {
        // Its record is as old as its last entry into the kernel.
        (rip, rsp, paging) = (cpu.general.rip, cpu.general.rsp, cpu.paging());
    }
    let memory = Linear { ram: guest.ram, paging };
    let place =
        Place { memory: &memory, rip, rsp, images: guest.images, process: Some(name.as_str()) };
    let stack = place.lines(LINES);
    Some(ThreadStatus {
        pid,
        state: state_name(number),
        priority: kernel.u32(offset(thread, layout.priority))?,
        system_calls: kernel.u64(offset(thread, layout.system_calls))?,
        ticks: kernel.u64(offset(thread, layout.ticks))?,
        waits_for: waits_for.and_then(|owner| kernel.process(owner, layout)),
        bits: bits.unwrap_or(0),
        stack,
        process: name,
    })
}

/// A field of a record; addresses are the guest's.
fn offset(record: u64, field: u32) -> u64 {
    record.wrapping_add(field.into())
}

fn state_name(number: u32) -> &'static str {
    match number {
        state::RUNNING => "running",
        state::READY => "ready",
        state::RECEIVING => "receiving",
        state::SENDING => "sending",
        state::AWAITING_REPLY => "awaiting reply",
        state::SLEEPING => "sleeping",
        state::DEAD => "dead",
        _ => "in no known state",
    }
}

/// The kernel's memory.
struct Kernel<'a> {
    memory: Linear<'a>,
}

impl Kernel<'_> {
    fn bytes<const N: usize>(&self, linear: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.memory.read(linear, &mut bytes).then_some(bytes)
    }

    fn u32(&self, linear: u64) -> Option<u32> {
        self.bytes(linear).map(u32::from_le_bytes)
    }

    fn u64(&self, linear: u64) -> Option<u64> {
        self.bytes(linear).map(u64::from_le_bytes)
    }

    fn layout(&self, linear: u64) -> Option<ThreadLayout> {
        // Word by word: it may lie across two pages.
        let mut words = [0u32; WORDS];
        for (index, word) in (0u64..).zip(&mut words) {
            *word = self.u32(linear.checked_add(index * 4)?)?;
        }
        ThreadLayout::read_from_bytes(words.as_bytes()).ok()
    }

    /// Number and name of a process.
    fn process(&self, process: u64, layout: &ThreadLayout) -> Option<(u32, String)> {
        let pid = self.u32(process.checked_add(layout.pid.into())?)?;
        let name: [u8; NAME] = {
            let mut name = [0; NAME];
            for (index, byte) in (0u64..).zip(&mut name) {
                let at = process.checked_add(u64::from(layout.name) + index)?;
                [*byte] = self.bytes(at)?;
            }
            name
        };
        Some((pid, Process { pid, name }.name().to_owned()))
    }
}

#[cfg(test)]
#[path = "threads_tests.rs"]
mod tests;
