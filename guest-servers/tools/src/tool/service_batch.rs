//! `service batch`: commands line by line from standard input, carried out in one process, because a program a
//! command costs more than the command.
//!
//! ```text
//! kill|wild|hang|block|start|stop|restart NAME     as `service kill --wild NAME` and so on
//! list                                             the table of `service list`, without titles
//! counts                                           objects of the kernel, frames, handles: `counts NAME=N ...`
//! settle                                           waits until services run and their spares stand by
//! mark TEXT                                        prints TEXT and the time, ms since boot
//! wait MS                                          does nothing for so many milliseconds
//! run PROGRAM [ARG...]                             starts a program of /bin and does not wait for it
//! ```
//! What fails is reported on standard error; the batch goes on.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{
    Error, Input, STDERR, STDIN, STDOUT, Spawn, service_control as control, service_query as query,
};

use crate::Context;

/// KiB of a frame.
const FRAME_KIB: u64 = 4;
/// Reads that fail in a row before the batch ends, and the time between them, ns.
const FAILURES_MAX: u32 = 1000;
const RETRY: u64 = 20_000_000;
/// How often and how many times `settle` looks, ns.
const LOOK: u64 = 100_000_000;
const LOOKS_MAX: u32 = 300;

pub fn run(c: &mut Context<'_>) -> i32 {
    let mut input = Input::new(c.os, STDIN);
    let mut line = Vec::new();
    let mut failures = 0;
    loop {
        line.clear();
        match input.line(&mut line) {
            Ok(true) => {}
            Ok(false) => return 0,
            // Whoever carries the input may be one of those that are killed here.
            Err(_) if failures < FAILURES_MAX => {
                failures += 1;
                let _ = c.os.sleep_ns(RETRY);
                continue;
            }
            Err(error) => {
                c.problem("standard input", error);
                return 1;
            }
        }
        failures = 0;
        let text = String::from_utf8_lossy(&line).trim().to_string();
        command(c, &text);
        c.out.flush();
        // Those that `run` started and that have ended.
        while c.os.wait(0, true).is_ok() {}
    }
}

fn command(c: &mut Context<'_>, text: &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let operation = match word {
        "" => return,
        "kill" => control::KILL,
        "wild" => control::INJECT_FAULT,
        "hang" => control::INJECT_HANG,
        "block" => control::INJECT_BLOCK,
        "start" => control::START,
        "stop" => control::STOP,
        "restart" => control::RESTART,
        "list" => {
            return match c.os.service_query(query::LIST, "") {
                Ok(list) => c.out.write(list.as_bytes()),
                Err(error) => c.problem(word, error),
            };
        }
        "counts" => return counts(c),
        "settle" => return settle(c),
        "wait" => {
            return match rest.parse::<u64>() {
                Ok(ms) => drop(c.os.sleep_ns(ms.saturating_mul(1_000_000))),
                Err(_) => c.problem(rest, "not a number of milliseconds"),
            };
        }
        "mark" => {
            let _ = writeln!(c.out, "{rest} {}", c.os.now_ns() / 1_000_000);
            return;
        }
        "run" => {
            let args: Vec<String> = rest.split_whitespace().map(String::from).collect();
            let path = alloc::format!("/bin/{}", args.first().map_or("", String::as_str));
            let fds = [(STDOUT, STDOUT), (STDERR, STDERR)];
            let program = Spawn { path: &path, args: &args, env: c.env, fds: &fds };
            return match c.os.spawn(&program) {
                Ok(_) => {}
                Err(error) => c.problem(rest, error),
            };
        }
        _ => return c.problem(word, "no such command"),
    };
    if let Err(error) = c.os.service_control(operation, rest) {
        c.problem(rest, error);
    }
}

/// Waits until nothing of RS's is on its way; who is still on it after half a minute is named.
fn settle(c: &mut Context<'_>) {
    for _ in 1..LOOKS_MAX {
        match unsettled(c) {
            Ok(None) => return,
            // RS was busy, or what carries the question died.
            Ok(Some(_)) | Err(_) => drop(c.os.sleep_ns(LOOK)),
        }
    }
    match unsettled(c) {
        Ok(None) => {}
        Ok(Some(name)) => c.problem(&name, "does not come to rest"),
        Err(error) => c.problem("settle", error),
    }
}

/// A service on its way up, or whose spare is.
fn unsettled(c: &Context<'_>) -> Result<Option<String>, Error> {
    for line in c.os.service_query(query::LIST, "")?.lines() {
        let mut words = line.split('\t');
        let name = words.next().unwrap_or_default();
        match words.next() {
            Some("running") => {}
            Some("starting" | "recovering" | "crashed" | "stopping") => {
                return Ok(Some(name.into()));
            }
            _ => continue,
        }
        let status = c.os.service_query(query::STATUS, name)?;
        let spare = status.lines().find_map(|line| line.strip_prefix("spare: "));
        if spare.is_some_and(|spare| spare == "to be made" || spare.starts_with("starting")) {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

/// What grows when something leaks, as `counts NAME=N NAME=N ...`.
fn counts(c: &mut Context<'_>) {
    let info = match c.os.system_info() {
        Ok(info) => info,
        Err(error) => return c.problem("counts", error),
    };
    let (mut handles, mut next) = (0u64, 1);
    loop {
        match c.os.process_info(next) {
            Ok(process) => {
                handles += u64::from(process.handles);
                let Some(pid) = process.pid.max(next).checked_add(1) else { break };
                next = pid;
            }
            Err(Error::NoEnt) => break,
            Err(error) => return c.problem("counts", error),
        }
    }
    let _ = writeln!(
        c.out,
        "counts used_kib={} kernel_kib={} quarantined={} processes={} threads={} endpoints={} \
         memory_objects={} interrupts={} devices={} handles={handles}",
        (info.frames_total - info.frames_free.min(info.frames_total)) * FRAME_KIB,
        info.frames_kernel * FRAME_KIB,
        info.frames_quarantined,
        info.processes,
        info.threads,
        info.endpoints,
        info.memory_objects,
        info.interrupts,
        info.devices,
    );
}
