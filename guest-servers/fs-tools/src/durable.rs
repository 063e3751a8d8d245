//! `fsdurable [-n STEPS] [-u FILE] DIRECTORY [DONE]`, `fsdurable -c DIRECTORY STEP...`
//!
//! Steps whose durability is known, for tests that take the power, the file-system server or the disk
//! driver away:
//!
//! ```text
//! write DIRECTORY/new ── fsync it (or: opened O_SYNC, O_DSYNC) ── rename to DIRECTORY/fN ── fsync DIRECTORY ── "done N"
//!   ── every 4th: sync ── remove DIRECTORY/f(N-16)
//! ```
//! from step DONE+1 on, until there were STEPS or FILE exists. A step that meets an error is not done: "failed
//! N: why", and on it goes. With `-c` the files of those steps are compared with what was
//! written; "lost N" and status 1 where one is not as it was. One that is not there is no loss where the
//! step that removed it is done: the reader may have been behind when the power failed.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{Error, Os, Result, join, open, write_all};
use xinim_tools::{Context, Options};

const USAGE: &str =
    "fsdurable [-n STEPS] [-u FILE] DIRECTORY [DONE], fsdurable -c DIRECTORY STEP...";
/// Steps whose files are kept.
pub const KEPT: u64 = 16;
/// How many times [`KEPT`] steps a reader may be behind.
const AHEAD: u64 = 8;
/// Lengths go up to this.
const LONGEST: u64 = 40_000;

pub fn run(c: &mut Context<'_>) -> i32 {
    let parsed = Options::parse(c.args, "cn:u:", USAGE).and_then(|options| {
        let steps = options.number('n')?.unwrap_or(u64::MAX);
        let numbers = options.operands.iter().skip(1).map(|text| text.parse());
        let numbers: core::result::Result<Vec<u64>, _> = numbers.collect();
        let numbers = numbers.map_err(|_| format!("steps are numbers\nusage: {USAGE}"))?;
        match options.operands.first() {
            Some(directory) if options.has('c') || numbers.len() < 2 => {
                Ok((directory.clone(), numbers, steps, options))
            }
            _ => Err(format!("usage: {USAGE}")),
        }
    });
    let (directory, numbers, steps, options) = match parsed {
        Ok(parsed) => parsed,
        Err(message) => return c.usage(message),
    };
    if options.has('c') {
        return check(c, &directory, &numbers);
    }
    let first = numbers.first().map_or(1, |done| done.saturating_add(1));
    for step in (first..).take(usize::try_from(steps).unwrap_or(usize::MAX)) {
        if options.value('u').is_some_and(|file| c.os.stat(file).is_ok()) {
            break;
        }
        let _ = match take(c.os, &directory, step) {
            Ok(()) => writeln!(c.out, "done {step}"),
            Err(error) => writeln!(c.out, "failed {step}: {error}"),
        };
        // The reader must know at once: the next instant may be the last.
        c.out.flush();
    }
    0
}

/// What step `n` writes: as long as no other's, and like no other's.
fn content(step: u64) -> Vec<u8> {
    let mut state = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let len = state % LONGEST;
    let byte = |_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state >> 24) as u8
    };
    (0..len).map(byte).collect()
}

fn name(directory: &str, step: u64) -> String {
    join(directory, &format!("f{step}"))
}

fn take(os: &dyn Os, directory: &str, step: u64) -> Result<()> {
    let new = join(directory, "new");
    let synced = |path: &str, flags, data: &[u8]| {
        let fd = os.open(path, flags, 0o644)?;
        let by_itself = flags & open::DSYNC != 0;
        let result = write_all(os, fd, data);
        let result = result.and_then(|()| if by_itself { Ok(()) } else { os.fsync(fd) });
        result.and(os.close(fd))
    };
    let bytes = content(step);
    let how = match step % 4 {
        // Nothing is written: nothing would make it durable.
        _ if bytes.is_empty() => 0,
        1 => open::SYNC,
        2 => open::DSYNC,
        _ => 0,
    };
    synced(&new, open::WRITE | open::CREATE | open::TRUNCATE | how, &bytes)?;
    os.rename(&new, &name(directory, step))?;
    synced(directory, open::READ, &[])?;
    if step.is_multiple_of(4) {
        os.sync()?;
    }
    if step > KEPT {
        // It may be gone already, where an earlier life came that far.
        let _ = os.unlink(&name(directory, step - KEPT));
    }
    Ok(())
}

fn check(c: &mut Context<'_>, directory: &str, steps: &[u64]) -> i32 {
    let mut lost = 0;
    let os = c.os;
    let read = |step: u64| {
        let fd = os.open(&name(directory, step), open::READ, 0)?;
        let bytes = xinim_os::read_file(os, fd);
        os.close(fd).and(bytes)
    };
    let whole = |step: u64| read(step) == Ok(content(step));
    for &step in steps {
        let mut later = (1..=AHEAD).map(|n| step.saturating_add(n * KEPT));
        let mut removed = || read(step) == Err(Error::NoEnt) && later.any(whole);
        if !whole(step) && !removed() {
            lost += 1;
            let _ = writeln!(c.out, "lost {step}");
        }
    }
    i32::from(lost > 0)
}
