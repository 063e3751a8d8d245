//! `blkbench [-s SECONDS] [-b SIZE] FILE|DEVICE`: sequential and random reads.
//!
//! Machine readable: `name value` a line. Sequential reads are of SIZE bytes (128k), random ones
//! of 4 KiB. The offsets come from a fixed generator, so that runs are alike.

use alloc::vec;
use core::fmt::Write;

use xinim_os::{Os, Result, Whence, open};

use crate::options::parse_size;
use crate::tool::simple::parse_seconds;
use crate::{Context, Options};

const RANDOM_SIZE: usize = 4096;
const SIZE_MAX: u64 = 16 << 20;

pub fn run(c: &mut Context<'_>) -> i32 {
    let usage = "blkbench [-s SECONDS] [-b SIZE] FILE|DEVICE";
    let options = match Options::parse(c.args, "s:b:", usage) {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let [path] = options.operands.as_slice() else {
        return c.usage(alloc::format!("usage: {usage}"));
    };
    let limit = parse_seconds(options.value('s').unwrap_or("1"));
    let size = parse_size(options.value('b').unwrap_or("128k"));
    let (Some(limit), Some(size @ 1..=SIZE_MAX)) = (limit, size) else {
        return c.usage("bad number");
    };
    let fd = match c.os.open(path, open::READ, 0) {
        Ok(fd) => fd,
        Err(error) => {
            c.problem(path, error);
            return 1;
        }
    };
    if let Err(error) = measure(c, fd, limit, size as usize) {
        c.problem(path, error);
    }
    let _ = c.os.close(fd);
    0
}

fn measure(c: &mut Context<'_>, fd: u32, limit: u64, size: usize) -> Result<()> {
    let os: &dyn Os = c.os;
    let len = os.seek(fd, 0, Whence::End)?;
    let _ = writeln!(c.out, "size_bytes {len}");
    let mut buffer = vec![0; size.max(RANDOM_SIZE)];

    os.seek(fd, 0, Whence::Start)?;
    let (started, mut bytes, mut reads) = (os.now_ns(), 0u64, 0u64);
    while os.now_ns() - started < limit {
        match os.read(fd, &mut buffer[..size])? {
            0 if bytes == 0 => break,
            0 => _ = os.seek(fd, 0, Whence::Start)?,
            count => bytes += count as u64,
        }
        reads += 1;
    }
    report(c, "sequential", bytes, reads, os.now_ns() - started);

    let blocks = len / RANDOM_SIZE as u64;
    if blocks == 0 {
        return Ok(());
    }
    let (started, mut bytes, mut reads) = (os.now_ns(), 0u64, 0u64);
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    while os.now_ns() - started < limit {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let offset = state % blocks * RANDOM_SIZE as u64;
        os.seek(fd, offset as i64, Whence::Start)?;
        bytes += os.read(fd, &mut buffer[..RANDOM_SIZE])? as u64;
        reads += 1;
    }
    report(c, "random_4k", bytes, reads, os.now_ns() - started);
    Ok(())
}

fn report(c: &mut Context<'_>, name: &str, bytes: u64, reads: u64, ns: u64) {
    let per_second = |count: u64| u128::from(count) * 1_000_000_000 / u128::from(ns.max(1));
    let _ = writeln!(c.out, "{name}_bytes {bytes}");
    let _ = writeln!(c.out, "{name}_ns {ns}");
    let _ = writeln!(c.out, "{name}_bytes_per_second {}", per_second(bytes));
    let _ = writeln!(c.out, "{name}_reads_per_second {}", per_second(reads));
}
