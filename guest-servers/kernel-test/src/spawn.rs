//! Child processes: the same image, begun at another function, with a page of arguments.

use core::cell::UnsafeCell;

use xinim_abi::error::Result;
use xinim_abi::object::{Protection, Rights, SELF};
use xinim_abi::start::{StartBlock, StartHandle, role};
use xinim_abi::syscall::{self as nr, limit};

use crate::sys;

/// What `init` found; written once before any other thread exists.
struct Boot(UnsafeCell<[u64; 4]>);

// SAFETY: written by `init` only, before there is a second thread.
unsafe impl Sync for Boot {}

static BOOT: Boot = Boot(UnsafeCell::new([0; 4]));
const RESOURCE: usize = 0;
const BUNDLE: usize = 1;
const FILE: usize = 2;
const ACPI: usize = 3;

fn boot(index: usize) -> u64 {
    // SAFETY: written before, see `Boot`.
    unsafe { (*BOOT.0.get())[index] }
}

/// Where programs are linked.
const IMAGE_AT: u64 = 0x40_0000;
/// Where the bundle is mapped.
const BUNDLE_AT: u64 = 0x10_0000_0000;
/// Where a child's argument page is mapped in the parent, and its stack in the child.
const ARGUMENTS_AT: u64 = 0x20_0000_0000;
const STACK_AT: u64 = 0x30_0000_0000;
const STACK_LEN: u64 = 0x1_0000;

/// Reads the start block and finds this program's own file in the bundle.
pub fn init(block: u64) {
    let mut found = [0; 4];
    // SAFETY: the kernel put a start block here, with as many handles as it says.
    let handles = unsafe {
        let head = &*(block as *const StartBlock);
        let first = (block + size_of::<StartBlock>() as u64) as *const StartHandle;
        core::slice::from_raw_parts(first, head.handle_count as usize)
    };
    for handle in handles {
        match handle.role {
            role::RESOURCE => found[RESOURCE] = u64::from(handle.handle),
            role::BUNDLE => found[BUNDLE] = u64::from(handle.handle),
            role::ACPI => found[ACPI] = u64::from(handle.handle),
            _ => (),
        }
    }
    let length = sys::call(nr::MEMORY_INFO, &[found[BUNDLE]]).unwrap_or(0);
    let _ = map(u64::from(SELF), found[BUNDLE], BUNDLE_AT, 0, length, Protection::READ);
    // Programs begin at pages of the bundle. This one is mapped in place, headers first.
    found[FILE] = (0..length)
        .step_by(4096)
        .find(|&offset| {
            (0..512).step_by(8).all(|at| word(BUNDLE_AT + offset + at) == word(IMAGE_AT + at))
        })
        .unwrap_or(0);
    // SAFETY: the only write, see `Boot`.
    unsafe { *BOOT.0.get() = found }
}

fn word(address: u64) -> u64 {
    // SAFETY: inside the bundle's or the program's own mapping, aligned.
    unsafe { *(address as *const u64) }
}

pub fn resource() -> u64 {
    boot(RESOURCE)
}

pub fn bundle() -> u64 {
    boot(BUNDLE)
}

pub fn acpi() -> u64 {
    boot(ACPI)
}

pub fn map(
    process: u64,
    memory: u64,
    address: u64,
    offset: u64,
    length: u64,
    protection: Protection,
) -> Result<u64> {
    let protection = u64::from(protection.bits());
    sys::call(nr::MEMORY_MAP, &[process, memory, address, offset, length, protection])
}

/// A child process.
pub struct Child {
    pub process: u64,
    pub pid: u64,
    stack: u64,
}

/// Handles a child may ask for in its arguments; the rights it gets.
#[derive(Clone, Copy)]
pub struct Give(pub u64, pub Rights);

/// Makes a process with the image mapped, but no thread yet. Its end is reported to `supervisor`.
pub fn prepare(supervisor: u64, cookie: u64) -> Result<Child> {
    let name = b"child";
    let (process, pid) = sys::call2(
        nr::PROCESS_CREATE,
        &[resource(), supervisor, cookie, name.as_ptr() as u64, name.len() as u64],
    )?;
    let file = BUNDLE_AT + boot(FILE);
    let (headers, count) = (file + word(file + 32), word(file + 56) & 0xFFFF);
    for number in 0..count {
        let header = headers + number * 56;
        let (kind, flags) = (word(header) as u32, (word(header) >> 32) as u32);
        if kind != 1 || word(header + 40) == 0 {
            continue;
        }
        let (offset, address) = (word(header + 8), word(header + 16));
        let (file_size, size) = (word(header + 32), word(header + 40));
        let first = address & !4095;
        let length = (address + size).next_multiple_of(4096) - first;
        if flags & 2 == 0 {
            let protection = if flags & 1 != 0 {
                Protection::READ | Protection::EXECUTE
            } else {
                Protection::READ
            };
            map(
                process,
                bundle(),
                first,
                boot(FILE) + offset - address % 4096,
                length,
                protection,
            )?;
        } else {
            let copy = sys::call(nr::MEMORY_CREATE, &[length, 0])?;
            let both = Protection::READ | Protection::WRITE;
            map(u64::from(SELF), copy, ARGUMENTS_AT, 0, length, both)?;
            for at in (0..file_size).step_by(8) {
                // SAFETY: inside the fresh mapping; the file's data has padding behind it.
                unsafe {
                    *((ARGUMENTS_AT + address % 4096 + at) as *mut u64) = word(file + offset + at);
                }
            }
            sys::call(nr::MEMORY_UNMAP, &[u64::from(SELF), ARGUMENTS_AT, length])?;
            map(process, copy, first, 0, length, both)?;
            sys::close(copy)?;
        }
    }
    let stack = sys::call(nr::MEMORY_CREATE, &[STACK_LEN, 0])?;
    map(process, stack, STACK_AT, 0, STACK_LEN, Protection::READ | Protection::WRITE)?;
    Ok(Child { process, pid, stack })
}

/// What a child's first function gets: numbers, and its own handle numbers for what was given.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arguments {
    pub values: [u64; 4],
    pub handles: [u64; 4],
}

impl Child {
    /// Gives handles and starts `entry` with them.
    pub fn start(
        &self,
        entry: extern "C" fn(&Arguments) -> !,
        priority: u64,
        values: &[u64],
        gives: &[Give],
    ) -> Result<u64> {
        let mut arguments = Arguments { values: [0; 4], handles: [0; 4] };
        arguments.values[..values.len()].copy_from_slice(values);
        for (slot, give) in arguments.handles.iter_mut().zip(gives) {
            let rights = u64::from(give.1.bits());
            *slot = sys::call(nr::HANDLE_GIVE, &[self.process, give.0, rights])?;
        }
        let both = Protection::READ | Protection::WRITE;
        let offset = STACK_LEN - 4096;
        map(u64::from(SELF), self.stack, ARGUMENTS_AT, offset, 4096, both)?;
        // SAFETY: the page was just mapped, and no child runs on it yet.
        unsafe { *(ARGUMENTS_AT as *mut Arguments) = arguments }
        sys::call(nr::MEMORY_UNMAP, &[u64::from(SELF), ARGUMENTS_AT, 4096])?;
        let at = STACK_AT + offset;
        // As after a call: 8 below a multiple of 16.
        sys::call(
            nr::THREAD_CREATE,
            &[self.process, entry as *const () as u64, at - 8, at, priority, 0],
        )
    }

    pub fn kill(&self, code: u64) -> Result<u64> {
        sys::call(nr::PROCESS_KILL, &[self.process, code])
    }

    /// Closes the handles of a child that has ended.
    pub fn forget(self) {
        let _ = sys::close(self.process);
        let _ = sys::close(self.stack);
    }
}

/// Makes and starts a child of default limits at priority 8.
pub fn child(
    supervisor: u64,
    entry: extern "C" fn(&Arguments) -> !,
    values: &[u64],
    gives: &[Give],
) -> Child {
    let child = prepare(supervisor, 77);
    let Ok(child) = child else {
        sys::log("cannot make a child process");
        sys::power_off()
    };
    if let Ok(thread) = child.start(entry, 8, values, gives) {
        let _ = sys::close(thread);
    } else {
        sys::log("cannot start a child process");
    }
    child
}

/// Sets a limit of a child without threads.
pub fn set_limit(child: &Child, kind: u64, value: u64) -> Result<u64> {
    sys::call(nr::PROCESS_LIMIT, &[child.process, kind, value])
}

/// A thread of this process on a stack of its own.
pub fn thread(
    entry: extern "C" fn(u64) -> !,
    argument: u64,
    priority: u64,
    slot: u64,
) -> Result<u64> {
    let stack = sys::call(nr::MEMORY_CREATE, &[0x4000, 0])?;
    let at = 0x40_0000_0000 + slot * 0x10_0000;
    map(u64::from(SELF), stack, at, 0, 0x4000, Protection::READ | Protection::WRITE)?;
    sys::close(stack)?;
    sys::call(
        nr::THREAD_CREATE,
        &[u64::from(SELF), entry as *const () as u64, at + 0x4000 - 8, argument, priority, 0],
    )
}

pub fn drop_thread_stack(slot: u64) {
    let at = 0x40_0000_0000 + slot * 0x10_0000;
    let _ = sys::call(nr::MEMORY_UNMAP, &[u64::from(SELF), at, 0x4000]);
}

/// Kinds of limits, for tests that go through them.
pub const LIMITS: [u64; 4] = [limit::PRIORITY, limit::FRAMES, limit::HANDLES, limit::THREADS];
