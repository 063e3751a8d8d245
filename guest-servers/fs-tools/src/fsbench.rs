//! `fsbench [-n FILES] [-m MEBIBYTES] DIRECTORY`: what a file system does in a second.
//!
//! In a directory of its own: files made, looked at, renamed and removed; a file written, copied and
//! read; paths of eight components looked up. Machine readable, `name value` a line. Under QEMU's
//! `-icount shift=0` a nanosecond is an instruction, idle time apart.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::fmt::Write;

use xinim_os::{Os, Result, open, write_all};
use xinim_tools::{Context, Options};

const USAGE: &str = "fsbench [-n FILES] [-m MEBIBYTES] DIRECTORY";
const PIECE: usize = 128 * 1024;
/// Components of the path that is looked up.
const DEPTH: usize = 8;
const FILES_MAX: u64 = 100_000;
const MEBIBYTES_MAX: u64 = 4096;

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "n:m:", USAGE) {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let number = |letter, default: u64, most: u64| match options.value(letter) {
        None => Some(default),
        Some(text) => text.parse().ok().filter(|n| (1..=most).contains(n)),
    };
    let [directory] = options.operands.as_slice() else {
        return c.usage(format_args!("usage: {USAGE}"));
    };
    let counts = (number('n', 200, FILES_MAX), number('m', 8, MEBIBYTES_MAX));
    let (Some(files), Some(mebibytes)) = counts else {
        return c.usage(format_args!("bad number\nusage: {USAGE}"));
    };
    let own = format!("{directory}/fsbench-{}", c.os.pid());
    let mut text = String::new();
    let result = measure(c.os, &own, files, mebibytes, &mut text);
    let _ = write!(c.out, "{text}");
    match result {
        Ok(()) => 0,
        Err(error) => {
            c.problem(&own, error);
            1
        }
    }
}

fn measure(os: &dyn Os, own: &str, files: u64, mebibytes: u64, text: &mut String) -> Result<()> {
    os.mkdir(own, 0o755)?;
    let name = |index: u64| format!("{own}/file-{index:06}");
    let other = |index: u64| format!("{own}/other-{index:06}");
    let mut each = |what: &str, run: &mut dyn FnMut(u64) -> Result<()>| {
        timed(os, what, files, text, || (0..files).try_for_each(&mut *run))
    };
    each("create", &mut |index| {
        let fd = os.open(&name(index), open::WRITE | open::CREATE | open::EXCLUSIVE, 0o644)?;
        os.close(fd)
    })?;
    each("stat", &mut |index| os.stat(&name(index)).map(drop))?;
    each("rename", &mut |index| os.rename(&name(index), &other(index)))?;
    each("unlink", &mut |index| os.unlink(&other(index)))?;
    each("mkdir_rmdir", &mut |index| {
        os.mkdir(&name(index), 0o755)?;
        os.rmdir(&name(index))
    })?;

    let mut deep = String::from(own);
    for level in 0..DEPTH {
        deep.push_str(&format!("/component{level}"));
        os.mkdir(&deep, 0o755)?;
    }
    timed(os, "lookup_8", files, text, || (0..files).try_for_each(|_| os.stat(&deep).map(drop)))?;

    let (file, copy) = (format!("{own}/data"), format!("{own}/copy"));
    let mut buffer = vec![0x5A; PIECE];
    let pieces = mebibytes << 20 >> PIECE.trailing_zeros();
    let bytes = mebibytes << 20;
    timed_bytes(os, "write", bytes, text, || {
        let fd = os.open(&file, open::WRITE | open::CREATE, 0o644)?;
        let written = (0..pieces).try_for_each(|_| write_all(os, fd, &buffer));
        written.and(os.fsync(fd)).and(os.close(fd))
    })?;
    timed_bytes(os, "copy", bytes, text, || {
        let from = os.open(&file, open::READ, 0)?;
        let to = os.open(&copy, open::WRITE | open::CREATE, 0o644)?;
        loop {
            match os.read(from, &mut buffer)? {
                0 => break,
                count => write_all(os, to, &buffer[..count])?,
            }
        }
        os.fsync(to)?;
        os.close(from).and(os.close(to))
    })?;
    timed_bytes(os, "read", bytes, text, || {
        let fd = os.open(&copy, open::READ, 0)?;
        while os.read(fd, &mut buffer)? > 0 {}
        os.close(fd)
    })?;

    os.unlink(&file)?;
    os.unlink(&copy)?;
    while deep.len() > own.len() {
        os.rmdir(&deep)?;
        deep.truncate(deep.rfind('/').unwrap_or(0));
    }
    os.rmdir(own)
}

/// Runs something and answers how long it took, in ns.
fn time(os: &dyn Os, run: impl FnOnce() -> Result<()>) -> Result<u64> {
    let start = os.now_ns();
    run()?;
    Ok((os.now_ns() - start).max(1))
}

/// `count` in a second, where they took `ns`.
fn rate(count: u64, ns: u64) -> u128 {
    u128::from(count) * 1_000_000_000 / u128::from(ns)
}

fn timed(
    os: &dyn Os,
    what: &str,
    count: u64,
    text: &mut String,
    run: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let ns = time(os, run)?;
    let _ = writeln!(text, "{what}_per_second {}", rate(count, ns));
    let _ = writeln!(text, "{what}_ns {}", ns / count.max(1));
    Ok(())
}

fn timed_bytes(
    os: &dyn Os,
    what: &str,
    bytes: u64,
    text: &mut String,
    run: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let ns = time(os, run)?;
    let _ = writeln!(text, "{what}_bytes_per_second {}", rate(bytes, ns));
    Ok(())
}
