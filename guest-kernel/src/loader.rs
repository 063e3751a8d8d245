//! The first process: RS, from the bundle.
//!
//! Code and constants are mapped where they lie in the bundle (whose packer aligns program files
//! to pages); only what the program may write is copied. It gets a start block with the authority
//! over the machine, the bundle, and the ACPI tables.

use core::cell::Cell;

use zerocopy::IntoBytes;

use xinim_abi::kip::GATE_ADDRESS;
use xinim_abi::object::{DeviceMemoryFlags, MemoryFlags, Protection, Rights};
use xinim_abi::platform::CMDLINE_MODE_EXEC;
use xinim_abi::start::{START_MAGIC, StartBlock, StartHandle, role};
use xinim_abi::syscall::{self, priority, resource};
use xinim_kernel_logic::cpio;
use xinim_kernel_logic::elf::{Program, Segment};
use xinim_kernel_logic::refs::Ref;

use crate::boot_info::{BootInfo, Range};
use crate::firmware::Firmware;
use crate::global::Global;
use crate::memory_object::{self, MemoryObject};
use crate::object::{self, Capability, Object};
use crate::physical;
use crate::process::{self, Process};
use crate::scheduler;
use crate::space;
use crate::thread::{self, Start, Thread};

const PAGE: u64 = 4096;
/// The first process, unless the command line has `first=PATH` (self-test, rescue).
const PATH: &[u8] = b"sbin/rs";
const STACK_TOP: u64 = 0x7FFE_0000_0000;
const STACK_SIZE: u64 = 256 * 1024;
/// Longest name of a process.
const MAX_NAME: usize = 31;
/// RS supervises everything else.
const HANDLES: u32 = 4096;

/// RS may be succeeded by a reboot: nobody outside waits for a command's status, and it is RS.
static REBOOTS: Global<Cell<bool>> = Global::new(Cell::new(false));

/// Where the first thread really begins, and its argument.
static BEGIN: Global<Cell<(u64, u64)>> = Global::new(Cell::new((0, 0)));

/// Whether the end of the first process ends in a reboot.
pub fn reboots() -> bool {
    REBOOTS.get()
}

/// Loads RS and makes its thread ready: first it executes the gate, as the probe.
pub fn start(boot: &BootInfo, firmware: &Firmware) {
    let bundle = boot.bundle.expect("no system bundle: the loader gave no module");
    let archive = physical::bytes(bundle.start, (bundle.end - bundle.start) as usize)
        .expect("the system bundle is out of reach");
    let path = boot.value(b"first").unwrap_or(PATH);
    REBOOTS.set(path == PATH && !boot.has_word(CMDLINE_MODE_EXEC.as_bytes()));
    let (at, len) =
        cpio::find(archive, path).expect("the first program (sbin/rs) is not in the system bundle");
    let file = &archive[at..at + len];
    let program = Program::parse(file).expect("the first program is not an x86_64 program");
    assert!(bundle.start.is_multiple_of(PAGE), "the system bundle is not page-aligned");

    let mut name = [0; 32];
    let base = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    let base = &base[..base.len().min(MAX_NAME)];
    name[..base.len()].copy_from_slice(base);
    let process = process::create(0, name).expect("no memory for the first process");
    process.handles.set_limit(HANDLES);
    process.thread_limit.set(64);
    process.priority_limit.set(priority::MAX as u32);
    process.started.set(true);

    let memory = bundle_memory(bundle);
    for segment in program.segments() {
        load(process, memory, archive, at as u64, &segment);
    }
    let argument = build_stack(process, memory, firmware);
    Object::Memory(memory).release();
    BEGIN.set((program.entry, argument));
    let start = Start {
        entry: GATE_ADDRESS,
        stack: argument,
        argument,
        priority: priority::RS as u32,
        fs_base: 0,
    };
    let thread = thread::create(process, start).expect("no memory for the first process");
    thread.frame.rax.set(syscall::NULL);
    scheduler::make_ready(thread);
    Object::Thread(thread).release();
    Object::Process(process).release();
}

/// The probe is over: to the program's entry.
pub fn begin(thread: Ref<Thread>) {
    let (entry, argument) = BEGIN.get();
    let frame = &thread.get().frame;
    frame.rip.set(entry);
    frame.rflags.set(0x202);
    frame.rsp.set(argument);
    frame.rdi.set(argument);
    // Also where the probe came by `syscall`, which saved nothing: all other registers are zero.
    frame.vector.set(0);
    for register in [&frame.rax, &frame.rcx, &frame.r11] {
        register.set(0);
    }
}

fn bundle_memory(bundle: Range) -> Ref<MemoryObject> {
    let length = (bundle.end - bundle.start).next_multiple_of(PAGE);
    memory_object::create_device(bundle.start, length, DeviceMemoryFlags::CACHED)
        .expect("no memory for the first process")
}

/// Maps one segment: in place what is only read, a copy of what is written.
fn load(
    process: Ref<Process>,
    bundle: Ref<MemoryObject>,
    archive: &[u8],
    file: u64,
    segment: &Segment,
) {
    let first = segment.address & !(PAGE - 1);
    let last = (segment.address + segment.memory_size).next_multiple_of(PAGE);
    let offset = file + segment.offset;
    let mut protection = Protection::READ;
    if segment.executable {
        protection |= Protection::EXECUTE;
    }
    if segment.writable {
        protection |= Protection::WRITE;
    }
    let in_place = !segment.writable
        && segment.file_size == segment.memory_size
        && offset % PAGE == segment.address % PAGE;
    let mapped = if in_place {
        space::map(process, bundle, first, offset & !(PAGE - 1), last - first, protection)
    } else {
        let copy = memory_object::create(Some(process), last - first, MemoryFlags::empty())
            .expect("no memory for the first process");
        let bytes = &archive[offset as usize..(offset + segment.file_size) as usize];
        write(&copy, segment.address - first, bytes);
        let mapped = space::map(process, copy, first, 0, last - first, protection);
        Object::Memory(copy).release();
        mapped
    };
    mapped.expect("the first program does not fit into an address space");
}

/// Copies `bytes` into a fresh memory object.
fn write(memory: &MemoryObject, offset: u64, bytes: &[u8]) {
    let mut done = 0;
    for (address, len) in memory.extents(offset, bytes.len() as u64) {
        let part = &bytes[done..done + len as usize];
        // SAFETY: the frames are RAM and belong to this object, which nobody else has seen.
        unsafe {
            core::ptr::copy_nonoverlapping(
                part.as_ptr(),
                physical::direct(address) as *mut u8,
                part.len(),
            );
        }
        done += part.len();
    }
}

/// Makes the stack with the start block at its top; gives the block's address.
fn build_stack(process: Ref<Process>, bundle: Ref<MemoryObject>, firmware: &Firmware) -> u64 {
    let give = |object, rights, extra| {
        let capability = Capability { object, rights, extra, badge: 0 };
        object::install(process, capability).expect("no memory for the first process")
    };
    let acpi = acpi_memory(firmware);
    let common = Rights::TRANSFER | Rights::MANAGE;
    let handles = [
        (role::RESOURCE, Some(give(Object::Resource, common, resource::ALL))),
        (
            role::BUNDLE,
            Some(give(
                Object::Memory(bundle),
                Rights::READ | Rights::EXECUTE | Rights::TRANSFER,
                0,
            )),
        ),
        (
            role::ACPI,
            acpi.map(|memory| {
                let number = give(Object::Memory(memory), Rights::READ | Rights::TRANSFER, 0);
                Object::Memory(memory).release();
                number
            }),
        ),
    ];
    let name = &process.get().name;
    let name = &name[..=process.name_bytes().len()];
    let mut block = [0u8; 128];
    let mut at = size_of::<StartBlock>();
    let mut count = 0;
    for (role, handle) in handles {
        if let Some(handle) = handle {
            block[at..at + 8].copy_from_slice(StartHandle { role, handle }.as_bytes());
            at += 8;
            count += 1;
        }
    }
    block[at..at + name.len()].copy_from_slice(name);
    let header = StartBlock {
        magic: START_MAGIC,
        total: (at + name.len()) as u32,
        handle_count: count,
        argc: 1,
        envc: 0,
        strings: at as u32,
        pid: process.pid,
        incarnation: 0,
        flags: 0,
        stack: (STACK_SIZE - PAGE) as u32,
    };
    block[..size_of::<StartBlock>()].copy_from_slice(header.as_bytes());

    let stack = memory_object::create(Some(process), STACK_SIZE, MemoryFlags::empty())
        .expect("no memory for the first process");
    let offset = STACK_SIZE - PAGE;
    write(&stack, offset, &block);
    let bottom = STACK_TOP - STACK_SIZE;
    space::map(process, stack, bottom, 0, STACK_SIZE, Protection::READ | Protection::WRITE)
        .expect("the first program overlaps its stack");
    Object::Memory(stack).release();
    bottom + offset
}

/// All tables the root names, one behind the other at multiples of 8 bytes, ended by zeros.
fn acpi_memory(firmware: &Firmware) -> Option<Ref<MemoryObject>> {
    let size = |table: &[u8]| (table.len() as u64).next_multiple_of(8);
    let total: u64 = firmware.tables().map(size).sum();
    if total == 0 {
        return None;
    }
    let memory = memory_object::create(None, total + 8, MemoryFlags::empty()).ok()?;
    let mut at = 0;
    for table in firmware.tables() {
        write(&memory, at, table);
        at += size(table);
    }
    Some(memory)
}
