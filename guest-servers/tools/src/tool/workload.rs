//! `workload copy SOURCE TARGET | read DEVICE BYTES | spawn`: the same piece of work again and again, each time
//! with its result as a line, for those who disturb the system meanwhile.
//!
//! ```text
//! copy 12034 0 SUM      begun 12034 ms after boot; status 0; SHA-256 of what came of it
//! read 12101 input/output error
//! ```
//! `copy` copies SOURCE to TARGET, syncs, reads TARGET back and removes it; `read` reads the first BYTES of a
//! device, which nobody caches; `spawn` runs `echo` with its output through a pipe. It ends when nobody reads
//! its lines any more.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::fmt::Write;

use sha2::{Digest, Sha256};
use xinim_os::{Fd, Os, Result, STDERR, STDOUT, Spawn, open, write_all};

use crate::Context;
use crate::tool::BUFFER;

const USAGE: &str = "usage: workload copy SOURCE TARGET | read DEVICE BYTES | spawn";
/// What `spawn` has echoed.
const WORDS: &str = "one two three\n";
/// Between two pieces of work, ns: others want to work, too.
const COPY_PAUSE: u64 = 120_000_000;
const READ_PAUSE: u64 = 60_000_000;
/// Starting a program costs more than all the rest.
const SPAWN_PAUSE: u64 = 500_000_000;

pub fn run(c: &mut Context<'_>) -> i32 {
    let words: vec::Vec<&str> = c.args.iter().map(String::as_str).collect();
    let os = c.os;
    match words.as_slice() {
        ["copy", source, target] => again(os, "copy", COPY_PAUSE, || copy(os, source, target)),
        ["read", device, bytes] => match bytes.parse() {
            Ok(bytes) => again(os, "read", READ_PAUSE, || sum_of(os, device, bytes)),
            Err(_) => c.usage(USAGE),
        },
        ["spawn"] => again(os, "spawn", SPAWN_PAUSE, || spawn(os)),
        _ => c.usage(USAGE),
    }
}

fn again<E: core::fmt::Display>(
    os: &dyn Os,
    name: &str,
    pause: u64,
    work: impl Fn() -> core::result::Result<String, E>,
) -> i32 {
    loop {
        let start = os.now_ns() / 1_000_000;
        let line = match work() {
            Ok(sum) => format!("{name} {start} 0 {sum}\n"),
            Err(error) => format!("{name} {start} {error}\n"),
        };
        if write_all(os, STDOUT, line.as_bytes()).is_err() {
            return 0;
        }
        let _ = os.sleep_ns(pause);
    }
}

/// An open file; closed at its end.
struct Open<'a>(&'a dyn Os, Fd);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let _ = self.0.close(self.1);
    }
}

fn copy(os: &dyn Os, source: &str, target: &str) -> Result<String> {
    {
        let from = Open(os, os.open(source, open::READ, 0)?);
        let flags = open::WRITE | open::CREATE | open::TRUNCATE;
        let to = Open(os, os.open(target, flags, 0o644)?);
        let mut buffer = vec![0; BUFFER];
        loop {
            match os.read(from.1, &mut buffer)? {
                0 => break,
                count => write_all(os, to.1, &buffer[..count])?,
            }
        }
        os.fsync(to.1)?;
    }
    let sum = sum_of(os, target, u64::MAX)?;
    os.unlink(target)?;
    Ok(sum)
}

fn sum_of(os: &dyn Os, path: &str, limit: u64) -> Result<String> {
    let file = Open(os, os.open(path, open::READ, 0)?);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut left = limit;
    while left > 0 {
        let want = left.min(BUFFER as u64) as usize;
        let count = os.read(file.1, &mut buffer[..want])?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        left -= count as u64;
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Whether the words came through; or why not, in words.
fn spawn(os: &dyn Os) -> core::result::Result<String, String> {
    let (got, status) = echo(os).map_err(|error| error.to_string())?;
    match status {
        0 if got == WORDS.as_bytes() => Ok("right".into()),
        0 => Ok("wrong".into()),
        status => Err(format!("echo ended with status {status} behind {} bytes", got.len())),
    }
}

/// What `echo` wrote, and its status.
fn echo(os: &dyn Os) -> Result<(vec::Vec<u8>, u32)> {
    let (read, write) = os.pipe()?;
    let read = Open(os, read);
    let args = ["echo".to_string(), WORDS.trim_end().to_string()];
    let started = {
        let write = Open(os, write);
        let fds = [(STDOUT, write.1), (STDERR, STDERR)];
        os.spawn(&Spawn { path: "/bin/echo", args: &args, env: &[], fds: &fds })?
    };
    let mut got = vec![];
    let mut buffer = [0; 64];
    loop {
        match os.read(read.1, &mut buffer)? {
            0 => break,
            count => got.extend_from_slice(&buffer[..count]),
        }
    }
    let ended = os.wait(started, false)?;
    Ok((got, ended.status))
}
