//! Makes a process out of an ELF file: used by RS (from the bundle) and the process manager.
//!
//! Read-only segments are mapped *in place* where the file is memory already and page-aligned
//! (the bundle), so that a program costs neither copies nor memory for its text. Everything
//! writable (data, bss, start block, stack) is one memory object:
//!
//! ```text
//! | data + bss, at the ELF's address | stack ............. start block |
//!                                    ^ STACK_TOP - size      STACK_TOP ^
//! ```

use alloc::vec::Vec;

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use xinim_abi::error::{Error, Result};
use xinim_abi::object::{Handle, MemoryFlags, PAGE_SIZE, Protection, SELF, USER_END, USER_MIN};
use xinim_abi::start::{MAX_HANDLES, MAX_LEN, START_MAGIC, StartBlock, StartHandle, flag};
use xinim_abi::syscall::limit;
use zerocopy::IntoBytes;

use crate::handle::OwnedHandle;
use crate::memory::Memory;
use crate::sys;

/// The stack ends here, downwards.
const STACK_TOP: u64 = 0x7FFE_0000_0000;
const PAGE: u64 = PAGE_SIZE as u64;
/// Bound of a program's writable segments.
const MAX_DATA: u64 = 256 * 1024 * 1024;

/// A program's file.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub bytes: &'a [u8],
    /// The same bytes as memory: handle (with READ, EXECUTE) and offset of the file in it. `None`,
    /// or an offset that is no multiple of a page: read-only segments are copied too.
    pub memory: Option<(Handle, u64)>,
}

/// A handle for the new process.
#[derive(Clone, Copy, Debug)]
pub struct Give {
    pub role: u32,
    pub handle: Handle,
    pub rights: u32,
}

#[derive(Clone, Debug)]
pub struct Program<'a> {
    pub name: &'a str,
    pub image: Image<'a>,
    pub args: &'a [&'a str],
    pub env: &'a [&'a str],
    pub handles: &'a [Give],
    /// Endpoint for the obituary, and the cookie in it.
    pub supervisor: Handle,
    pub cookie: u64,
    pub priority: u64,
    /// Limit of its memory in frames, if any.
    pub frames: Option<u64>,
    pub stack: u64,
    pub incarnation: u32,
    /// It is to stand by (`start::flag::STANDBY`).
    pub standby: bool,
}

/// A process that is complete but not running.
#[derive(Debug)]
pub struct Loaded {
    pub process: OwnedHandle,
    pub pid: u32,
    /// All that it may write at its start, and where that is.
    pub memory: Memory,
    pub writable: Vec<Writable>,
    entry: u64,
    stack_pointer: u64,
    start_block: u64,
    priority: u64,
}

/// A part of a process's writable memory.
#[derive(Clone, Copy, Debug)]
pub struct Writable {
    pub address: u64,
    /// In the memory object.
    pub offset: u64,
    pub len: u64,
}

impl Loaded {
    /// Starts its first thread.
    pub fn start(&self) -> Result<()> {
        self.start_at(self.priority).map(drop)
    }

    /// Starts its first thread with a lower priority than the program's.
    pub fn start_at(&self, priority: u64) -> Result<OwnedHandle> {
        let thread = sys::thread_create(
            self.process.raw(),
            self.entry,
            self.stack_pointer,
            self.start_block,
            priority.min(self.priority),
        )?;
        Ok(OwnedHandle::from_raw(thread))
    }

    /// The program's priority.
    pub fn priority(&self) -> u64 {
        self.priority
    }
}

struct Segment {
    address: u64,
    memory_len: u64,
    file: core::ops::Range<usize>,
    writable: bool,
    executable: bool,
}

fn segments(bytes: &[u8]) -> Result<(u64, Vec<Segment>)> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|_| Error::NoExec)?;
    if file.ehdr.e_machine != EM_X86_64 || file.ehdr.e_type != ET_EXEC {
        return Err(Error::NoExec);
    }
    let headers = file.segments().ok_or(Error::NoExec)?;
    let mut segments = Vec::new();
    for header in headers.iter().filter(|h| h.p_type == PT_LOAD && h.p_memsz > 0) {
        let end = header.p_vaddr.checked_add(header.p_memsz).ok_or(Error::NoExec)?;
        let range = file.segment_data(&header).map_err(|_| Error::NoExec)?.len();
        let start = usize::try_from(header.p_offset).map_err(|_| Error::NoExec)?;
        let writable = header.p_flags & PF_W != 0;
        let executable = header.p_flags & PF_X != 0;
        let bad = header.p_vaddr < USER_MIN
            || end > USER_END
            || header.p_filesz > header.p_memsz
            || header.p_vaddr % PAGE != header.p_offset % PAGE
            || writable && executable
            || header.p_memsz > MAX_DATA;
        if bad || segments.len() == 16 {
            return Err(Error::NoExec);
        }
        segments.push(Segment {
            address: header.p_vaddr,
            memory_len: header.p_memsz,
            file: start..start + range,
            writable,
            executable,
        });
    }
    if segments.is_empty() { Err(Error::NoExec) } else { Ok((file.ehdr.e_entry, segments)) }
}

/// Builds the process. On any error nothing of it is left.
pub fn load(resource: Handle, program: &Program<'_>) -> Result<Loaded> {
    let (entry, segments) = segments(program.image.bytes)?;
    let (process, pid) =
        sys::process_create(resource, program.supervisor, program.cookie, program.name)?;
    let process = OwnedHandle::from_raw(process);
    let result = fill(program, &process, pid, entry, &segments);
    if result.is_err() {
        let _ = sys::process_kill(process.raw(), 0);
    }
    let Filled { memory, writable, start_block } = result?;
    let (priority, stack_pointer) = (program.priority, start_block);
    Ok(Loaded { process, pid, memory, writable, entry, stack_pointer, start_block, priority })
}

struct Filled {
    memory: Memory,
    writable: Vec<Writable>,
    start_block: u64,
}

fn fill(
    program: &Program<'_>,
    process: &OwnedHandle,
    pid: u32,
    entry: u64,
    segments: &[Segment],
) -> Result<Filled> {
    if !segments
        .iter()
        .any(|s| s.executable && (s.address..s.address + s.memory_len).contains(&entry))
    {
        return Err(Error::NoExec);
    }
    let raw = process.raw();
    sys::process_limit(raw, limit::PRIORITY, program.priority)?;
    if let Some(frames) = program.frames {
        sys::process_limit(raw, limit::FRAMES, frames)?;
    }
    let in_place = program.image.memory.filter(|&(_, offset)| offset.is_multiple_of(PAGE));

    // One object for everything that is copied: [(offset in it, segment)], then the stack.
    let mut private = Vec::new();
    let mut len = 0;
    for segment in segments {
        let first = segment.address & !(PAGE - 1);
        let pages = (segment.address + segment.memory_len).next_multiple_of(PAGE) - first;
        match in_place {
            Some((memory, offset))
                if !segment.writable && segment.memory_len == segment.file.len() as u64 =>
            {
                let at = offset + (segment.file.start as u64 & !(PAGE - 1));
                sys::memory_map(raw, memory, first, at, pages, protection(segment))?;
            }
            _ => {
                private.push((len, segment, first, pages));
                len += pages;
            }
        }
    }
    let block = start_block(program, raw, pid)?;
    let block_pages = (block.len() as u64).next_multiple_of(PAGE);
    let stack = program.stack.next_multiple_of(PAGE) + block_pages;
    let stack_offset = len;
    len += stack;

    let memory = Memory::create(len, MemoryFlags::empty())?;
    let mapping = memory.map(Protection::READ | Protection::WRITE)?;
    let mut writable = Vec::new();
    for &(offset, segment, first, pages) in &private {
        let at = (offset + segment.address - first) as usize;
        mapping.copy_in(at, &program.image.bytes[segment.file.clone()])?;
        sys::memory_map(raw, memory.raw(), first, offset, pages, protection(segment))?;
        if segment.writable {
            writable.push(Writable { address: first, offset, len: pages });
        }
    }
    mapping.copy_in((len - block_pages) as usize, &block)?;
    let read_write = Protection::READ | Protection::WRITE;
    sys::memory_map(raw, memory.raw(), STACK_TOP - stack, stack_offset, stack, read_write)?;
    writable.push(Writable { address: STACK_TOP - stack, offset: stack_offset, len: stack });
    Ok(Filled { memory, writable, start_block: STACK_TOP - block_pages })
}

fn protection(segment: &Segment) -> Protection {
    let mut protection = Protection::READ;
    protection.set(Protection::WRITE, segment.writable);
    protection.set(Protection::EXECUTE, segment.executable);
    protection
}

fn start_block(program: &Program<'_>, process: Handle, pid: u32) -> Result<Vec<u8>> {
    if program.handles.len() > MAX_HANDLES {
        return Err(Error::Limit);
    }
    let mut handles = Vec::with_capacity(program.handles.len());
    for give in program.handles {
        let handle = sys::handle_give(process, give.handle, give.rights)?;
        handles.push(StartHandle { role: give.role, handle });
    }
    let strings = size_of::<StartBlock>() + size_of_val(handles.as_slice());
    let texts = || program.args.iter().chain(program.env);
    let total = strings + texts().map(|text| text.len() + 1).sum::<usize>();
    if total > MAX_LEN {
        return Err(Error::TooBig);
    }
    let head = StartBlock {
        magic: START_MAGIC,
        total: total as u32,
        handle_count: handles.len() as u32,
        argc: program.args.len() as u32,
        envc: program.env.len() as u32,
        strings: strings as u32,
        pid,
        incarnation: program.incarnation,
        flags: if program.standby { flag::STANDBY } else { 0 },
        stack: program.stack.next_multiple_of(PAGE) as u32,
    };
    let mut block = Vec::with_capacity(total);
    block.extend_from_slice(head.as_bytes());
    block.extend_from_slice(handles.as_bytes());
    for text in texts() {
        block.extend_from_slice(text.as_bytes());
        block.push(0);
    }
    Ok(block)
}

// `SELF` would map into the loader itself.
const _: () = assert!(SELF == 0);
