//! `breakout [ATTEMPT]`: tries to do what a process may not do.
//!
//! Without an argument every attempt runs in a child of its own. An attempt is refused when the
//! system call or service said no (the child ends with 0) or the processor did (the child ends by
//! an exception). One line `refused: WHAT` each; status 0 only if all were. `breakout flood|messages|exhaust|share`
//! (load.rs) are allowed and must not harm others. Started by RS it is a service that misbehaves (service.rs).

use alloc::string::String;

use xinim_abi::error::{Error, Result as Answered};
use xinim_os::{Os, Spawn, signal};
use xinim_os_rt::Xinim;

mod calls;
mod faults;
mod limits;
mod load;
mod service;

/// Status of a child whose attempt succeeded.
const BROKE_OUT: i32 = 42;

/// `true`: refused. An attempt that faults does not return.
type Attempt = fn() -> bool;

/// Refused for want of permission, not because the request was wrong in some other way.
fn denied<T>(result: Answered<T>) -> bool {
    matches!(result, Err(Error::Access | Error::Perm))
}

/// Name, what it tries, how.
const ATTEMPTS: &[&[(&str, &str, Attempt)]] =
    &[faults::ATTEMPTS, calls::ATTEMPTS, limits::ATTEMPTS];

fn attempts() -> impl Iterator<Item = &'static (&'static str, &'static str, Attempt)> {
    ATTEMPTS.iter().flat_map(|list| list.iter())
}

pub fn main(args: &[String]) -> i32 {
    let Some(name) = args.get(1) else { return all(&args[0]) };
    if let Some(status) = load::run(&args[1..]) {
        return status;
    }
    match attempts().find(|(own, ..)| own == name) {
        Some((.., attempt)) => {
            if attempt() {
                0
            } else {
                BROKE_OUT
            }
        }
        None => {
            xinim_rt::eprintln!("breakout: {name}: no such attempt; there are:");
            for (name, what, _) in attempts() {
                xinim_rt::eprintln!("  {name:20} {what}");
            }
            1
        }
    }
}

/// Started by RS: what the manifest's `args` say.
pub fn service(args: &[String]) -> i32 {
    let words: alloc::vec::Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    service::main(&words)
}

fn all(program: &str) -> i32 {
    // The prey of attempts at another process: what it maps here is not the children's.
    faults::map_secret();
    let mut status = 0;
    for (name, what, _) in attempts() {
        match run(program, name) {
            Ok(how) => xinim_rt::println!("refused: {what} ({how})"),
            Err(how) => {
                xinim_rt::println!("NOT REFUSED: {what} ({how})");
                status = 1;
            }
        }
    }
    if !faults::secret_is_whole() {
        xinim_rt::println!("NOT REFUSED: another process's memory changed");
        status = 1;
    }
    status
}

/// Runs one attempt; how it was refused, or what happened instead.
fn run(program: &str, name: &str) -> Result<&'static str, &'static str> {
    let args = [String::from(program), String::from(name)];
    let fds = [(0, 0), (1, 1), (2, 2)];
    let path = if program.contains('/') { program } else { "/bin/breakout" };
    let child = Xinim.spawn(&Spawn { path, args: &args, env: &[], fds: &fds });
    let ended = child.and_then(|pid| Xinim.wait(pid, false));
    match ended.map(|ended| ended.status) {
        Ok(0) => Ok("error"),
        Ok(status) if status == BROKE_OUT as u32 => Err("it worked"),
        Ok(status) => match status.checked_sub(128) {
            Some(signal::SEGV) => Ok("segmentation fault"),
            Some(signal::ILL) => Ok("illegal instruction"),
            _ => Err("the attempt ended in an unexpected way"),
        },
        Err(_) => Err("the attempt did not start"),
    }
}
