//! `recoverbench restarts SERVICE COUNT [FILE]`: kills a service again and again and says how long it was away;
//! with a file, which is written and synced before each death, also after what time it could be read again
//! (a file-system server has replayed its journal by then).
//! `recoverbench kills SERVICE EVERY`: kills a service every so many seconds until it is ended.
//! `recoverbench throughput SERVICE DEVICE SECONDS [EVERY]...`: reads a device while its driver is killed every
//! so many seconds, and says what that costs beside no kills at all.
//!
//! ```text
//! virtio-blk killed 200 times: detected after 7 us at worst; down 163 us in the median, 204 us at worst (99 %: 199)
//! every 1 s: 812345 KiB/s, 97.1 %, 10 kills, 0 errors
//! ```
//! Times are the Reincarnation Server's own (`service history`): from the death to the announcement of the next
//! instance. The kills of `throughput` come from a second process, so that they hit reads under way.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{
    Error, Os, Result, STDERR, STDOUT, Spawn, open, service_control as control,
    service_query as query, signal, write_all,
};

use crate::Context;
use crate::tool::BUFFER;

const USAGE: &str = "usage: recoverbench restarts SERVICE COUNT [FILE]
       recoverbench kills SERVICE EVERY
       recoverbench throughput SERVICE DEVICE SECONDS [EVERY]...";
const SECOND: u64 = 1_000_000_000;
/// Bytes of the file that is read after a restart.
const PIECE: usize = 4096;
/// Between a restart and the next kill: time for the service to settle.
const SETTLE: u64 = 150_000_000;
/// How long a service may take to come back.
const PATIENCE: u64 = 60 * SECOND;

pub fn run(c: &mut Context<'_>) -> i32 {
    let words: Vec<&str> = c.args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["restarts", service, count, file @ ..] if file.len() <= 1 => match count.parse() {
            Ok(count) => restarts(c, service, count, file.first().copied()),
            Err(_) => c.usage(USAGE),
        },
        // Also what `throughput` starts beside itself.
        ["kills", service, every] => match every.parse() {
            Ok(every) => kills(c, service, every),
            Err(_) => c.usage(USAGE),
        },
        ["throughput", service, device, seconds, every @ ..] => {
            let all: core::result::Result<Vec<u64>, _> =
                core::iter::once(seconds).chain(every).map(|word| word.parse()).collect();
            match all {
                Ok(all) if all.iter().all(|number| *number > 0) => {
                    throughput(c, service, device, all[0], &all[1..])
                }
                _ => c.usage(USAGE),
            }
        }
        _ => c.usage(USAGE),
    }
}

/// Column `title` of the service's line in the statistics.
fn statistic(os: &dyn Os, service: &str, column: usize) -> Result<u64> {
    let text = os.service_query(query::STATISTICS, "")?;
    let line = text.lines().find(|line| line.split('\t').next() == Some(service));
    let field = line.and_then(|line| line.split('\t').nth(column)).ok_or(Error::NoEnt)?;
    Ok(field.parse().unwrap_or(0))
}

/// Columns of `query::STATISTICS`.
const CRASHES: usize = 3;
const DOWN: usize = 5;
const DETECTION: usize = 7;

/// Waits until the service has been up again after its `crashes`-th crash; the sum of its times down, us.
fn down_after(os: &dyn Os, service: &str, before: u64, crashes: u64) -> Result<u64> {
    let end = os.now_ns() + PATIENCE;
    // Answered when it is up. Asking again and again would keep it from the processor.
    os.service_control(control::START, service)?;
    while os.now_ns() < end {
        let down = statistic(os, service, DOWN)?;
        if down > before && statistic(os, service, CRASHES)? >= crashes {
            return Ok(down);
        }
        os.sleep_ns(2_000_000)?;
    }
    Err(Error::TimedOut)
}

/// Writes a file and has it on the device.
fn write_file(os: &dyn Os, path: &str) -> Result<()> {
    let file = os.open(path, open::WRITE | open::CREATE | open::TRUNCATE, 0o644)?;
    let written = write_all(os, file, &[0x5A; PIECE]).and_then(|()| os.fsync(file));
    written.and(os.close(file))
}

/// Reads it; VFS has none of it.
fn read_again(os: &dyn Os, path: &str) -> Result<()> {
    let file = os.open(path, open::READ, 0)?;
    let mut piece = [0; PIECE];
    let read = os.read(file, &mut piece);
    os.close(file)?;
    if read? == PIECE && piece == [0x5A; PIECE] { Ok(()) } else { Err(Error::Io) }
}

/// The median, the worst and what 99 of 100 are below.
fn spread(times: &mut [u64]) -> Option<(u64, u64, u64)> {
    times.sort_unstable();
    let at =
        |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied();
    Some((at(50)?, *times.last()?, at(99)?))
}

fn restarts(c: &mut Context<'_>, service: &str, count: u64, file: Option<&str>) -> i32 {
    let (mut times, mut served) = (Vec::new(), Vec::new());
    let measured = (|| -> Result<u64> {
        let crashes = statistic(c.os, service, CRASHES)?;
        let mut down = statistic(c.os, service, DOWN)?;
        for number in 1..=count {
            c.os.sleep_ns(SETTLE)?;
            file.map_or(Ok(()), |file| write_file(c.os, file))?;
            let killed = c.os.now_ns();
            c.os.service_control(control::KILL, service)?;
            if let Some(file) = file {
                read_again(c.os, file)?;
                served.push((c.os.now_ns() - killed) / 1000);
            }
            let now = down_after(c.os, service, down, crashes + number)?;
            times.push(now - down);
            down = now;
        }
        statistic(c.os, service, DETECTION)
    })();
    let detection = match measured {
        Ok(detection) => detection,
        Err(error) => {
            c.problem(service, error);
            return 1;
        }
    };
    let Some((median, worst, most)) = spread(&mut times) else { return 0 };
    let _ = writeln!(
        c.out,
        "{service} killed {count} times: detected after {detection} us at worst; \
         down {median} us in the median, {worst} us at worst (99 %: {most})"
    );
    if let Some((median, worst, most)) = spread(&mut served) {
        let _ = writeln!(
            c.out,
            "{service}: read again after {median} us in the median, {worst} us at worst (99 %: {most})"
        );
    }
    0
}

fn kills(c: &mut Context<'_>, service: &str, every: u64) -> i32 {
    loop {
        let _ = c.os.sleep_ns(every * SECOND);
        if let Err(error) = c.os.service_control(control::KILL, service) {
            c.problem(service, error);
            return 1;
        }
    }
}

/// Bytes read in a time, ns, and reads that failed.
fn read_for(os: &dyn Os, device: &str, time: u64) -> Result<(u64, u64)> {
    let file = os.open(device, open::READ, 0)?;
    let size = os.fstat(file)?.size;
    let mut buffer = vec![0; BUFFER];
    let (mut bytes, mut errors, mut at) = (0, 0, 0);
    let end = os.now_ns() + time;
    while os.now_ns() < end {
        match os.read(file, &mut buffer) {
            Ok(0) => {
                os.seek(file, 0, xinim_os::Whence::Start)?;
                at = 0;
            }
            Ok(count) => {
                bytes += count as u64;
                at += count as u64;
            }
            Err(_) => errors += 1,
        }
        if size > 0 && at >= size {
            os.seek(file, 0, xinim_os::Whence::Start)?;
            at = 0;
        }
    }
    os.close(file)?;
    Ok((bytes, errors))
}

fn throughput(
    c: &mut Context<'_>,
    service: &str,
    device: &str,
    seconds: u64,
    every: &[u64],
) -> i32 {
    let result = (|| -> Result<()> {
        let time = seconds * SECOND;
        // The first pass is slower: the device starts, memory is touched for the first time.
        read_for(c.os, device, time)?;
        let (whole, errors) = read_for(c.os, device, time)?;
        let rate = |bytes: u64| bytes / 1024 / seconds;
        let _ = writeln!(c.out, "undisturbed: {} KiB/s, {errors} errors", rate(whole));
        for every in every {
            let before = statistic(c.os, service, CRASHES)?;
            let args: Vec<String> =
                ["recoverbench".to_string(), "kills".into(), service.into(), format!("{every}")]
                    .into();
            let fds = [(STDOUT, STDOUT), (STDERR, STDERR)];
            let killer = Spawn { path: "/bin/recoverbench", args: &args, env: c.env, fds: &fds };
            let killer = c.os.spawn(&killer)?;
            let read = read_for(c.os, device, time);
            let _ = c.os.kill(killer, signal::KILL);
            let _ = c.os.wait(killer, false);
            let (bytes, errors) = read?;
            let kills = statistic(c.os, service, CRASHES)? - before;
            let permille = (u128::from(bytes) * 1000 / u128::from(whole.max(1))) as u64;
            let _ = writeln!(
                c.out,
                "every {every} s: {} KiB/s, {}.{} %, {kills} kills, {errors} errors",
                rate(bytes),
                permille / 10,
                permille % 10
            );
            c.out.flush();
        }
        Ok(())
    })();
    if let Err(error) = result {
        c.problem(service, error);
    }
    0
}
