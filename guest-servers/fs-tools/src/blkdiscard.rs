//! `blkdiscard [-f] [-o OFFSET] [-l LENGTH] [-p STEP] [-v] [-z] DEVICE`: gives the blocks of a device
//! back to it, or (`-z`) makes them zeros.
//!
//! Options and texts are those of util-linux. A device that is mounted is refused; `-f` leaves that
//! to the driver, which refuses blocks that a file system has claimed. There is no secure discard (`-s`).

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use xinim_os::{Error, Fd, Whence, base_name, open};
use xinim_tools::{Context, Options};

use crate::common::size;

const USAGE: &str = "blkdiscard [-f] [-o OFFSET] [-l LENGTH] [-p STEP] [-v] [-z] DEVICE";
const SECTOR: u64 = 512;
/// Bytes in one request where no step is given: others must be served between two.
const STEP: u64 = 1 << 30;

struct Request {
    offset: u64,
    len: Option<u64>,
    step: Option<u64>,
    zeroes: bool,
    verbose: bool,
}

pub fn run(c: &mut Context<'_>) -> i32 {
    let (options, request) = match parse(c) {
        Ok(parsed) => parsed,
        Err(message) => {
            c.usage(message);
            return 1;
        }
    };
    let path = &options.operands[0];
    let mounts = c.os.mounts().unwrap_or_default();
    let mut sources = mounts.lines().filter_map(|line| line.split(' ').next());
    if !options.has('f') && sources.any(|source| base_name(source) == base_name(path)) {
        c.problem(path, "is mounted");
        return 1;
    }
    let fd = match c.os.open(path, open::READ_WRITE, 0) {
        Ok(fd) => fd,
        Err(error) => {
            c.problem(path, error);
            return 1;
        }
    };
    if let Err(message) = discard(c, path, fd, &request) {
        c.problem(path, message);
    }
    let _ = c.os.close(fd);
    0
}

fn parse(c: &Context<'_>) -> Result<(Options, Request), String> {
    let options = Options::parse(c.args, "fl:o:p:svz", USAGE)?;
    if options.operands.len() != 1 {
        return Err(format!("a device is needed\nusage: {USAGE}"));
    }
    if options.has('s') {
        return Err(String::from("there is no secure discard"));
    }
    // An offset may be 0, which a size may not.
    let offset = match options.value('o') {
        Some("0") | None => 0,
        Some(_) => size(&options, 'o')?.unwrap_or(0),
    };
    let request = Request {
        offset,
        len: size(&options, 'l')?,
        step: size(&options, 'p')?,
        zeroes: options.has('z'),
        verbose: options.has('v'),
    };
    Ok((options, request))
}

fn discard(c: &mut Context<'_>, path: &str, fd: Fd, request: &Request) -> Result<(), String> {
    let text = |error: Error| format!("{error}");
    let size = c.os.seek(fd, 0, Whence::End).map_err(text)?;
    let Request { offset, len, step, zeroes, verbose } = *request;
    if offset > size {
        return Err(String::from("offset is greater than device size"));
    }
    let end = len.and_then(|len| offset.checked_add(len)).unwrap_or(size).min(size);
    for (what, value) in [("offset", offset), ("length", end - offset), ("step", step.unwrap_or(0))]
    {
        if !value.is_multiple_of(SECTOR) {
            return Err(format!("{what} {value} is not aligned to sector size {SECTOR}"));
        }
    }
    let tell = |c: &mut Context<'_>, from: u64, bytes: u64| {
        let what = if zeroes { "Zero-filled" } else { "Discarded" };
        let _ = writeln!(c.out, "{path}: {what} {bytes} bytes from the offset {from}");
    };
    let mut at = offset;
    while at < end {
        let count = step.unwrap_or(STEP).min(end - at);
        c.os.discard(fd, at, count, zeroes).map_err(|error| match error {
            Error::NotSup => String::from("the device cannot discard blocks"),
            error => text(error),
        })?;
        if verbose && step.is_some() {
            tell(c, at, count);
        }
        at += count;
    }
    if verbose && step.is_none() {
        tell(c, offset, end - offset);
    }
    c.os.fsync(fd).map_err(text)
}
