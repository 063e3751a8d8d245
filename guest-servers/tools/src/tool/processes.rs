//! `ps`, `free [-h]`, `uptime`, `dmesg [-w]`, `date`, `sysinfo`

use alloc::string::{String, ToString};
use alloc::vec;
use core::fmt::Write;

use xinim_os::{Error, ProcessInfo, open};

use crate::format::{civil, duration, human_size};
use crate::{Context, Options};

/// Pages of the system.
const FRAME: u64 = 4096;
/// States by `xinim_abi::info::state`.
const STATES: [&str; 8] =
    ["?", "running", "ready", "receiving", "sending", "calling", "sleeping", "dead"];
/// Pause between looks at the log with `-w`.
const WATCH_NS: u64 = 250_000_000;

pub fn ps(c: &mut Context<'_>) -> i32 {
    let _ = writeln!(
        c.out,
        "{:>5} {:>5} {:>3} {:>3} {:>9} {:>9} {:<9} NAME",
        "PID", "PPID", "THR", "PRI", "MEM", "CPU", "STATE"
    );
    let mut next = 1;
    loop {
        let info = match c.os.process_info(next) {
            Ok(info) => info,
            Err(Error::NoEnt) => return 0,
            Err(error) => {
                c.problem("", error);
                return 1;
            }
        };
        show(c, &info);
        let Some(pid) = info.pid.max(next).checked_add(1) else { return 0 };
        next = pid;
    }
}

fn show(c: &mut Context<'_>, info: &ProcessInfo) {
    let end = info.name.iter().position(|&b| b == 0).unwrap_or(info.name.len());
    let name = String::from_utf8_lossy(&info.name[..end]);
    let cpu_ms = info.cpu_ns / 1_000_000;
    let _ = writeln!(
        c.out,
        "{:>5} {:>5} {:>3} {:>3} {:>9} {:>9} {:<9} {name}",
        info.pid,
        info.parent,
        info.threads,
        info.priority,
        human_size(info.frames * FRAME),
        alloc::format!("{}.{:03}s", cpu_ms / 1000, cpu_ms % 1000),
        STATES.get(info.state as usize).unwrap_or(&"?"),
    );
}

pub fn free(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "hk", "free [-h]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let info = match c.os.system_info() {
        Ok(info) => info,
        Err(error) => {
            c.problem("", error);
            return 1;
        }
    };
    let show = |frames: u64| match options.has('h') {
        true => human_size(frames * FRAME),
        false => (frames * FRAME / 1024).to_string(),
    };
    let used = info.frames_total.saturating_sub(info.frames_free);
    let _ = writeln!(
        c.out,
        "{:>12} {:>10} {:>10} {:>10} {:>11}",
        "total", "used", "free", "kernel", "quarantined"
    );
    let _ = writeln!(
        c.out,
        "Mem: {:>7} {:>10} {:>10} {:>10} {:>11}",
        show(info.frames_total),
        show(used),
        show(info.frames_free),
        show(info.frames_kernel),
        show(info.frames_quarantined),
    );
    0
}

pub fn uptime(c: &mut Context<'_>) -> i32 {
    let mut line = alloc::format!("up {}", duration(c.os.now_ns()));
    if let Ok(info) = c.os.system_info() {
        let time = u128::from(info.uptime_ns.max(1)) * u128::from(c.os.cpus().max(1));
        let idle = u128::from(info.idle_ns) * 100 / time;
        let _ = write!(line, ", {} processes, idle {idle}%", info.processes);
    }
    let _ = writeln!(c.out, "{line}");
    0
}

pub fn dmesg(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "w", "dmesg [-w]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    const LOG: &str = "/dev/log";
    let fd = match c.os.open(LOG, open::READ, 0) {
        Ok(fd) => fd,
        Err(error) => {
            c.problem(LOG, error);
            return 1;
        }
    };
    let mut buffer = vec![0; super::BUFFER];
    loop {
        match c.os.read(fd, &mut buffer) {
            Ok(0) if !options.has('w') || c.out.error().is_some() => break,
            Ok(0) => {
                c.out.flush();
                let _ = c.os.sleep_ns(WATCH_NS);
            }
            Ok(count) => c.out.write(&buffer[..count]),
            Err(error) => {
                c.problem(LOG, error);
                break;
            }
        }
    }
    let _ = c.os.close(fd);
    0
}

/// `date [+FORMAT]`: `%Y %m %d %H %M %S %s %N %F %T %%`. Time is UTC.
pub fn date(c: &mut Context<'_>) -> i32 {
    let now = c.os.wall_clock_ns();
    let (year, month, day, hour, minute, second) = civil(now);
    // Time is UTC with or without `-u`.
    let format = match c.args.iter().find(|arg| *arg != "-u") {
        None => "%F %T UTC",
        Some(arg) => match arg.strip_prefix('+') {
            Some(format) => format,
            None => return c.usage("usage: date [+FORMAT]"),
        },
    };
    let mut chars = format.chars();
    while let Some(letter) = chars.next() {
        let directive = if letter == '%' { chars.next() } else { None };
        let _ = match directive {
            None => write!(c.out, "{letter}"),
            Some('Y') => write!(c.out, "{year:04}"),
            Some('m') => write!(c.out, "{month:02}"),
            Some('d') => write!(c.out, "{day:02}"),
            Some('H') => write!(c.out, "{hour:02}"),
            Some('M') => write!(c.out, "{minute:02}"),
            Some('S') => write!(c.out, "{second:02}"),
            Some('s') => write!(c.out, "{}", now / 1_000_000_000),
            Some('N') => write!(c.out, "{:09}", now % 1_000_000_000),
            Some('F') => write!(c.out, "{year:04}-{month:02}-{day:02}"),
            Some('T') => write!(c.out, "{hour:02}:{minute:02}:{second:02}"),
            Some(other) => write!(c.out, "{other}"),
        };
    }
    c.out.write(b"\n");
    0
}

/// Everything the kernel counts, `name value` a line.
pub fn sysinfo(c: &mut Context<'_>) -> i32 {
    let info = match c.os.system_info() {
        Ok(info) => info,
        Err(error) => {
            c.problem("", error);
            return 1;
        }
    };
    let lines = [
        ("cpus", u64::from(c.os.cpus())),
        ("frames_total", info.frames_total),
        ("frames_free", info.frames_free),
        ("frames_quarantined", info.frames_quarantined),
        ("frames_kernel", info.frames_kernel),
        ("processes", info.processes.into()),
        ("threads", info.threads.into()),
        ("endpoints", info.endpoints.into()),
        ("memory_objects", info.memory_objects.into()),
        ("interrupts", info.interrupts.into()),
        ("devices", info.devices.into()),
        ("uptime_ns", info.uptime_ns),
        ("idle_ns", info.idle_ns),
        ("context_switches", info.context_switches),
        ("system_calls", info.system_calls),
    ];
    for (name, value) in lines {
        let _ = writeln!(c.out, "{name} {value}");
    }
    let _ = writeln!(c.out, "cmdline {}", c.os.kernel_cmdline());
    0
}
