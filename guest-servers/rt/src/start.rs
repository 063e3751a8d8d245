//! Start and end of a program: the start block, panics.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};

use xinim_abi::object::Handle;
use xinim_abi::start::{MAX_HANDLES, MAX_LEN, START_MAGIC, StartBlock, StartHandle, role};
use zerocopy::FromBytes;

use crate::log::LogLine;
use crate::standby::Image;
use crate::{io, process, standby};

static BLOCK: AtomicU64 = AtomicU64::new(0);

/// Status of a program that panicked.
pub const PANIC_STATUS: i32 = 101;

#[doc(hidden)]
pub fn run(block: u64, main: fn() -> i32, prepares: bool, image: Image) -> ! {
    BLOCK.store(block, Ordering::Relaxed);
    standby::warm(image);
    if !prepares && standby::wait().is_err() {
        process::exit(1);
    }
    let status = main();
    process::exit(status)
}

#[doc(hidden)]
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let mut line = LogLine::new();
    let _ = write!(line, "panic: {info}");
    line.send();
    io::panic_message(line.text());
    crate::sys::process_exit(PANIC_STATUS)
}

fn bytes() -> &'static [u8] {
    let address = BLOCK.load(Ordering::Relaxed);
    if address == 0 {
        return &[];
    }
    let start = address as *const u8;
    // SAFETY: the loader puts a whole start block here and nobody writes it afterwards; its
    // `total` is read first, by itself.
    let head = unsafe { core::slice::from_raw_parts(start, size_of::<StartBlock>()) };
    match StartBlock::ref_from_bytes(head) {
        Ok(block) if block.magic == START_MAGIC && block.total as usize <= MAX_LEN => {
            // SAFETY: as above, now with the length the loader wrote.
            unsafe { core::slice::from_raw_parts(start, block.total as usize) }
        }
        _ => &[],
    }
}

fn block() -> Option<&'static StartBlock> {
    StartBlock::ref_from_prefix(bytes()).ok().map(|(block, _)| block)
}

/// Handles with their roles, in the loader's order.
pub fn all_handles() -> &'static [StartHandle] {
    let Ok((block, rest)) = StartBlock::ref_from_prefix(bytes()) else { return &[] };
    let count = (block.handle_count as usize).min(MAX_HANDLES);
    <[StartHandle]>::ref_from_prefix_with_elems(rest, count).map_or(&[], |(handles, _)| handles)
}

/// First handle of this role.
pub fn handle(role: u32) -> Option<Handle> {
    handles(role).next()
}

pub fn handles(role: u32) -> impl Iterator<Item = Handle> {
    all_handles().iter().filter(move |h| h.role == role).map(|h| h.handle)
}

/// RS's endpoint (0, which no call accepts, in a process that has none).
pub fn rs() -> Handle {
    handle(role::RS).unwrap_or(0)
}

pub fn pid() -> u32 {
    block().map_or(0, |block| block.pid)
}

/// 0 in the first instance of a service, counting up with each restart.
pub fn incarnation() -> u32 {
    block().map_or(0, |block| block.incarnation)
}

/// Where the stack of the first thread is.
pub(crate) fn stack() -> core::ops::Range<usize> {
    let end = BLOCK.load(Ordering::Relaxed) as usize;
    end - block().map_or(0, |block| block.stack as usize)..end
}

/// One of [`flag`](xinim_abi::start::flag).
pub(crate) fn has_flag(flag: u32) -> bool {
    block().is_some_and(|block| block.flags & flag != 0)
}

fn strings() -> impl Iterator<Item = &'static str> {
    let start = block().map_or(0, |block| block.strings as usize);
    let all = bytes().get(start..).unwrap_or(&[]);
    all.split(|&b| b == 0).map(|s| core::str::from_utf8(s).unwrap_or(""))
}

/// Arguments, the program's name first.
pub fn args() -> impl Iterator<Item = &'static str> {
    strings().take(block().map_or(0, |block| block.argc as usize))
}

/// Environment, `NAME=value` each.
pub fn env() -> impl Iterator<Item = &'static str> {
    let (argc, envc) = block().map_or((0, 0), |b| (b.argc as usize, b.envc as usize));
    strings().skip(argc).take(envc)
}

/// Value of an environment variable.
pub fn env_var(name: &str) -> Option<&'static str> {
    env().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}
