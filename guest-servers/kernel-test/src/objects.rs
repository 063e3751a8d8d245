//! Handles, limits, log, information.

use xinim_abi::error::Error;
use xinim_abi::info::{Kind as InfoKind, ProcessInfo, SystemInfo};
use xinim_abi::object::{Kind, Rights};
use xinim_abi::syscall::{self as nr, control, limit, resource};
use zerocopy::FromZeros;

use crate::check::Checks;
use crate::spawn::{self, Arguments, Give};
use crate::sys::{self, call, call2, close, endpoint};

fn rights(rights: Rights) -> u64 {
    u64::from(rights.bits())
}

pub fn handles(c: &mut Checks) {
    let e = endpoint();
    let all = rights(Rights::all());
    c.that(call2(nr::HANDLE_INFO, &[e]) == Ok((Kind::Endpoint as u64, all)), "info");
    let send = call(nr::HANDLE_MINT, &[e, rights(Rights::SEND), 0]).unwrap_or(0);
    c.that(call2(nr::HANDLE_INFO, &[send]) == Ok((3, rights(Rights::SEND))), "fewer rights");
    let bad = Err(Error::BadHandle);
    c.equal(call(nr::HANDLE_MINT, &[send, rights(Rights::SEND), 0]), bad, "mint without TRANSFER");
    let sendable = rights(Rights::SEND | Rights::TRANSFER);
    let plain = call(nr::HANDLE_MINT, &[e, sendable, 5]).unwrap_or(0);
    c.equal(
        call(nr::HANDLE_MINT, &[plain, sendable | rights(Rights::RECEIVE), 5]),
        bad,
        "more rights",
    );
    c.equal(call(nr::HANDLE_MINT, &[plain, sendable, 6]), bad, "other badge without RECEIVE");
    c.that(call(nr::HANDLE_MINT, &[plain, sendable, 5]).and_then(close).is_ok(), "same badge");
    c.equal(close(plain), Ok(0), "close");
    c.equal(close(plain), bad, "close twice");
    c.equal(call(nr::HANDLE_INFO, &[plain]), bad, "stale number");
    let again = call(nr::HANDLE_MINT, &[e, sendable, 0]).unwrap_or(0);
    c.that(again != plain, "number reused at once");
    for number in [0, 1, 0xFFF, 0xFFFF_FFFF, 1 << 32 | e, u64::MAX] {
        c.equal(close(number), bad, "no such handle");
    }
    let (_, extra) = call2(nr::HANDLE_INFO, &[spawn::resource()]).unwrap_or((0, 0));
    c.that(extra & u64::from(resource::ALL) == u64::from(resource::ALL), "resource rights");
    let log_only =
        call(nr::HANDLE_MINT, &[spawn::resource(), u64::from(resource::LOG), 0]).unwrap_or(0);
    c.equal(call(nr::PORTS_CREATE, &[log_only, 0x80, 1]), bad, "resource without HARDWARE");
    c.equal(call(nr::SYSTEM_CONTROL, &[log_only, control::PANIC]), bad, "resource without POWER");
    c.equal(call(nr::SYSTEM_CONTROL, &[e, control::PANIC]), bad, "an endpoint is no resource");
    c.equal(call(nr::SYSTEM_CONTROL, &[spawn::resource(), 99]), Err(Error::Inval), "operation");
    for handle in [e, send, again, log_only] {
        c.that(close(handle).is_ok(), "close all");
    }
}

/// Counts how many endpoints it can make, and exits with the number.
extern "C" fn fill_handles(_: &Arguments) -> ! {
    let mut count = 0;
    let error = loop {
        match call(nr::ENDPOINT_CREATE, &[]) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    sys::exit(if error == Error::Limit { count } else { 1_000_000 + error as u64 })
}

/// Tries memory up to its limit, then a thread too many and one too important.
extern "C" fn fill_limits(_: &Arguments) -> ! {
    let create = |pages: u64| call(nr::MEMORY_CREATE, &[pages * 4096, 0]);
    let first = create(3);
    if create(2) != Err(Error::Limit) || first.is_err() {
        sys::exit(1);
    }
    if create(1).is_err() || first.and_then(close).is_err() || create(3).is_err() {
        sys::exit(2);
    }
    let start = |priority| call(nr::THREAD_CREATE, &[0, 0x40_0000, 0x1000, 0, priority, 0]);
    if start(11) != Err(Error::Perm) {
        sys::exit(3);
    }
    if start(10) != Err(Error::Limit) {
        sys::exit(4);
    }
    // Not its own resource to use, nor anyone's process.
    if call(nr::PROCESS_CREATE, &[1, 1, 0, 0, 0]) != Err(Error::BadHandle) {
        sys::exit(5);
    }
    if call(nr::PROCESS_KILL, &[1, 0]) != Err(Error::BadHandle) {
        sys::exit(6);
    }
    sys::exit(42)
}

pub fn limits(c: &mut Checks) {
    let supervisor = endpoint();
    let Ok(child) = spawn::prepare(supervisor, 1) else {
        return c.that(false, "no child");
    };
    c.equal(spawn::set_limit(&child, limit::HANDLES, 20), Ok(0), "set");
    c.equal(spawn::set_limit(&child, limit::HANDLES, 4097), Err(Error::Inval), "too many handles");
    c.equal(spawn::set_limit(&child, limit::PRIORITY, 32), Err(Error::Inval), "no such priority");
    c.equal(spawn::set_limit(&child, 77, 1), Err(Error::Inval), "no such limit");
    let _ = child.start(fill_handles, 8, &[], &[]).and_then(close);
    for kind in spawn::LIMITS {
        let got = spawn::set_limit(&child, kind, 1);
        // With several CPUs it may have come to its end by now.
        let ended = sys::cpus() > 1 && got == Err(Error::Srch);
        c.that(ended || got == Err(Error::Busy), "limit after start");
    }
    c.that(crate::death::exit_code(supervisor) == Some(20), "handle limit");
    c.equal(spawn::set_limit(&child, limit::HANDLES, 20), Err(Error::Srch), "dead process");
    child.forget();

    let Ok(child) = spawn::prepare(supervisor, 2) else {
        return c.that(false, "no child");
    };
    for (kind, value) in spawn::LIMITS.into_iter().zip([10, 4, 256, 1]) {
        c.equal(spawn::set_limit(&child, kind, value), Ok(0), "set");
    }
    c.equal(child.start(fill_limits, 11, &[], &[]), Err(Error::Perm), "priority of a child");
    let _ = child.start(fill_limits, 10, &[], &[]).and_then(close);
    c.that(crate::death::exit_code(supervisor) == Some(42), "limits in the child");
    child.forget();
    let _ = close(supervisor);
}

pub fn unknown(c: &mut Checks) {
    for number in [7, 14, 15, 30, 31, 47, 53, 52, 55, 61, 1000, 0xFFFF_FFFF] {
        c.equal(call(number, &[]), Err(Error::NoSys), "unknown number");
    }
    c.equal(call(nr::NULL, &[]), Ok(0), "null");
    c.equal(sys::raw_syscall(nr::NULL, 0), 0, "raw syscall");
    c.that(sys::raw_syscall(999, 0) as i64 == -(Error::NoSys as i64), "raw syscall, unknown");
}

pub fn log_and_info(c: &mut Checks) {
    sys::log("a line\nwith\x07 control");
    let mut text = [0u8; 4096];
    let at = text.as_mut_ptr() as u64;
    let mut position = 0;
    let mut found = false;
    loop {
        let read = [spawn::resource(), position, at, text.len() as u64];
        match call2(nr::LOG_READ, &read) {
            Ok((0, _)) => break,
            Ok((len, next)) => {
                let line = b": a line with  control\n";
                found |= text[..len as usize].windows(line.len()).any(|w| w == line);
                position = next;
            }
            Err(error) => {
                c.equal(Err(error), Ok(0), "log read");
                break;
            }
        }
    }
    c.that(found, "own line in the log");
    c.equal(call(nr::LOG_WRITE, &[at, 1025]), Err(Error::Inval), "line too long");

    let mut system = SystemInfo::new_zeroed();
    let at = core::ptr::from_mut(&mut system) as u64;
    let size = size_of::<SystemInfo>() as u64;
    c.equal(call(nr::INFO, &[InfoKind::System as u64, 0, at, size]), Ok(size), "system");
    c.that(system.processes == 1 && system.frames_free < system.frames_total, "plausible");
    c.that(system.system_calls > 100 && system.uptime_ns > 0, "counting");
    let mut process = ProcessInfo::new_zeroed();
    let at = core::ptr::from_mut(&mut process) as u64;
    let size = size_of::<ProcessInfo>() as u64;
    c.equal(call(nr::INFO, &[InfoKind::Process as u64, 0, at, size]), Ok(size), "process");
    c.that(process.pid == 1 && process.name[0] != 0 && process.parent == 0, "first process");
    c.equal(
        call(nr::INFO, &[InfoKind::Process as u64, 0xFFFF, at, size]),
        Err(Error::NoEnt),
        "end",
    );
    c.equal(call(nr::INFO, &[InfoKind::Process as u64, 0, at, 8]), Err(Error::Inval), "too small");
    c.equal(call(nr::INFO, &[99, 0, at, size]), Err(Error::Inval), "no such kind");
    let _ = Give(0, Rights::empty());
}
