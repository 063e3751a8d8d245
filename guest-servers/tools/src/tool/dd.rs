//! `dd [if=FILE] [of=FILE] [bs=N] [count=N] [skip=N] [seek=N] [conv=notrunc,fsync,sync]
//! [status=none]`
//!
//! Sizes may end in k, M, G. `skip` and `seek` count blocks. Its statistics, one line with the
//! time it took, go to standard error.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use xinim_os::{Error, STDERR, Whence, open, write_all};

use crate::Context;
use crate::context::InputFile;
use crate::format::human_size;
use crate::options::parse_size;
use crate::tool::BUFFER;

const BLOCK_MAX: u64 = 64 << 20;

struct Request {
    input: String,
    output: Option<String>,
    block: usize,
    count: Option<u64>,
    skip: u64,
    seek: u64,
    truncate: bool,
    fsync: bool,
    pad: bool,
    quiet: bool,
}

pub fn run(c: &mut Context<'_>) -> i32 {
    let request = match parse(c.args) {
        Ok(request) => request,
        Err(message) => return c.usage(message),
    };
    let started = c.os.now_ns();
    let copied = copy(c, &request);
    if !request.quiet {
        let ns = c.os.now_ns().saturating_sub(started).max(1);
        let rate = u128::from(copied) * 1_000_000_000 / u128::from(ns);
        let line = format!(
            "{copied} bytes copied, {}.{:03} s, {}B/s\n",
            ns / 1_000_000_000,
            ns / 1_000_000 % 1000,
            human_size(rate as u64),
        );
        let _ = write_all(c.os, STDERR, line.as_bytes());
    }
    0
}

fn parse(args: &[String]) -> Result<Request, String> {
    let mut request = Request {
        input: "-".to_string(),
        output: None,
        block: 512,
        count: None,
        skip: 0,
        seek: 0,
        truncate: true,
        fsync: false,
        pad: false,
        quiet: false,
    };
    for arg in args {
        let (name, value) =
            arg.split_once('=').ok_or_else(|| format!("{arg}: NAME=VALUE expected"))?;
        let size = || parse_size(value).ok_or_else(|| format!("{arg}: bad number"));
        match name {
            "if" => request.input = value.to_string(),
            "of" => request.output = Some(value.to_string()),
            "bs" | "ibs" | "obs" => match size()? {
                block @ 1..=BLOCK_MAX => request.block = block as usize,
                _ => return Err(format!("{arg}: 1 to 64M")),
            },
            "count" => request.count = Some(size()?),
            "skip" | "iseek" => request.skip = size()?,
            "seek" | "oseek" => request.seek = size()?,
            "conv" | "oflag" | "iflag" => {
                for word in value.split(',') {
                    match word {
                        "notrunc" => request.truncate = false,
                        "fsync" | "fdatasync" => request.fsync = true,
                        "sync" if name == "conv" => request.pad = true,
                        // Blocks are always filled and nothing here caches behind our back.
                        "fullblock" | "direct" => {}
                        other => return Err(format!("{name}={other}: unknown")),
                    }
                }
            }
            "status" => request.quiet = value == "none",
            _ => return Err(format!("{arg}: unknown operand")),
        }
    }
    Ok(request)
}

/// Bytes copied; problems are reported.
fn copy(c: &mut Context<'_>, request: &Request) -> u64 {
    let Some(input) = c.open_input(&request.input) else { return 0 };
    let mut output: Option<InputFile<'_>> = None;
    let mut to = xinim_os::STDOUT;
    let to_name = request.output.as_deref().unwrap_or("standard output");
    if let Some(path) = &request.output {
        let truncate = request.truncate && request.seek == 0;
        let Some(file) = c.create(path, if truncate { open::TRUNCATE } else { 0 }) else {
            return 0;
        };
        to = file.fd;
        output = Some(file);
    }
    let offset = |blocks: u64| {
        let bytes = blocks.checked_mul(request.block as u64);
        bytes.and_then(|bytes| i64::try_from(bytes).ok()).ok_or(Error::FBig)
    };
    if request.skip > 0
        && let Err(error) = skip(c, input.fd, offset(request.skip))
    {
        c.problem(&request.input, error);
        return 0;
    }
    if request.seek > 0 {
        let moved = offset(request.seek).and_then(|at| {
            if request.truncate && request.output.is_some() {
                // As everywhere: the file is cut where writing begins. Devices have no length.
                let _ = c.os.ftruncate(to, at as u64);
            }
            c.os.seek(to, at, Whence::Start)
        });
        if let Err(error) = moved {
            c.problem(to_name, error);
            return 0;
        }
    }
    let copied = transfer(c, request, input.fd, to, to_name);
    if request.fsync
        && let Err(error) = c.os.fsync(to)
    {
        c.problem(to_name, error);
    }
    if let Some(file) = output
        && let Err(error) = file.close()
    {
        c.problem(to_name, error);
    }
    copied
}

/// Moves on, by reading where the input cannot seek.
fn skip(c: &Context<'_>, fd: u32, offset: xinim_os::Result<i64>) -> xinim_os::Result<()> {
    let offset = offset?;
    if c.os.seek(fd, offset, Whence::Start).is_ok() {
        return Ok(());
    }
    let mut left = offset as u64;
    let mut buffer = vec![0; BUFFER];
    while left > 0 {
        let want = left.min(buffer.len() as u64) as usize;
        match c.os.read(fd, &mut buffer[..want])? {
            0 => return Ok(()),
            count => left -= count as u64,
        }
    }
    Ok(())
}

fn transfer(c: &mut Context<'_>, request: &Request, from: u32, to: u32, to_name: &str) -> u64 {
    let mut buffer = vec![0; request.block];
    let mut copied = 0;
    let mut blocks = 0;
    while request.count.is_none_or(|count| blocks < count) {
        let mut filled = 0;
        while filled < buffer.len() {
            match c.os.read(from, &mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => {
                    c.problem(&request.input, error);
                    return copied;
                }
            }
        }
        if filled == 0 {
            break;
        }
        let mut len = filled;
        if request.pad {
            buffer[filled..].fill(0);
            len = buffer.len();
        }
        if let Err(error) = write_all(c.os, to, &buffer[..len]) {
            c.problem(to_name, error);
            break;
        }
        copied += len as u64;
        blocks += 1;
        if filled < buffer.len() {
            break;
        }
    }
    copied
}
