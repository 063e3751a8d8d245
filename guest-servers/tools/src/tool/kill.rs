//! `kill [-SIGNAL] PID...`, `kill -l`. A signal ends the process; there are no handlers.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_os::{Os, signal};

use crate::Context;

const SIGNALS: &[(&str, u32)] = &[
    ("INT", signal::INT),
    ("ILL", signal::ILL),
    ("TRAP", signal::TRAP),
    ("FPE", signal::FPE),
    ("KILL", signal::KILL),
    ("SEGV", signal::SEGV),
    ("TERM", signal::TERM),
];

pub fn tool(c: &mut Context<'_>) -> i32 {
    let mut text = String::new();
    for problem in run(c.os, c.args, &mut text) {
        c.problem("", problem);
    }
    c.out.write(text.as_bytes());
    0
}

/// Signals the processes; what went wrong, a line each. `-l` writes to `out`.
pub fn run(os: &dyn Os, args: &[String], out: &mut String) -> Vec<String> {
    let mut number = signal::TERM;
    let mut pids = args;
    if let Some((first, rest)) = args.split_first()
        && let Some(name) = first.strip_prefix('-')
    {
        if name == "l" {
            for (name, number) in SIGNALS {
                *out += &format!("{number:2} {name}\n");
            }
            return Vec::new();
        }
        let (name, rest) = match (name, rest.split_first()) {
            ("s", Some((name, rest))) => (name.as_str(), rest),
            _ => (name, rest),
        };
        match by_name(name) {
            Some(found) => number = found,
            None => return Vec::from([format!("{name}: unknown signal")]),
        }
        pids = rest;
    }
    if pids.is_empty() {
        return Vec::from(["usage: kill [-SIGNAL] PID...".into()]);
    }
    let mut problems = Vec::new();
    for pid in pids {
        let result = match pid.parse() {
            Ok(pid) if pid > 0 => os.kill(pid, number),
            _ => {
                problems.push(format!("{pid}: not a process id"));
                continue;
            }
        };
        if let Err(error) = result {
            problems.push(format!("{pid}: {error}"));
        }
    }
    problems
}

fn by_name(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse::<u32>() {
        return (number < 64).then_some(number);
    }
    let name = name.strip_prefix("SIG").unwrap_or(name);
    SIGNALS.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, number)| *number)
}
