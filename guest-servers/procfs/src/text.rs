//! The texts. One `name value` or `name: value` a line, or columns with a head line.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_abi::error::{Error, Result};
use xinim_abi::info::{ProcessInfo, SystemInfo, state};
use xinim_abi::services::rs::query;
use xinim_abi::services::vfs::report;

use crate::disks;
use crate::procfs::{System, first_processes};

/// Bytes of a frame.
const FRAME: u64 = 4096;

/// Files in the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Meminfo,
    Uptime,
    Stat,
    Interrupts,
    Cmdline,
    Version,
    Services,
    History,
    Pci,
    Drivers,
    Diskstats,
    Disks,
    /// A report of VFS.
    Vfs(u32),
}

pub(crate) const FILES: [(&str, File); 15] = [
    ("meminfo", File::Meminfo),
    ("uptime", File::Uptime),
    ("stat", File::Stat),
    ("interrupts", File::Interrupts),
    ("cmdline", File::Cmdline),
    ("version", File::Version),
    ("services", File::Services),
    ("history", File::History),
    ("pci", File::Pci),
    ("drivers", File::Drivers),
    ("diskstats", File::Diskstats),
    ("disks", File::Disks),
    ("mounts", File::Vfs(report::MOUNTS)),
    ("locks", File::Vfs(report::LOCKS)),
    ("filesystems", File::Vfs(report::FILESYSTEMS)),
];

pub(crate) fn file(system: &mut impl System, file: File) -> Result<String> {
    Ok(match file {
        File::Meminfo => meminfo(&system.system()?),
        File::Uptime => {
            let info = system.system()?;
            format!("{} {}\n", seconds(info.uptime_ns), seconds(info.idle_ns))
        }
        File::Stat => stat(&system.system()?),
        File::Interrupts => interrupts(system)?,
        File::Cmdline => format!("{}\n", system.cmdline()),
        File::Version => concat!("XINIM ", env!("CARGO_PKG_VERSION"), "\n").to_string(),
        File::Services => system.query(query::STATISTICS)?,
        File::History => system.query(query::HISTORY)?,
        File::Pci => system.query(query::FUNCTIONS)?,
        File::Drivers => drivers(&system.query(query::LIST)?),
        File::Diskstats => disks::diskstats(&system.disks()),
        File::Disks => disks::disks(&system.disks()),
        File::Vfs(_) => String::new(),
    })
}

/// The services that drive a PCI function: `location label state pid restarts`.
fn drivers(services: &str) -> String {
    let mut text = String::new();
    for line in services.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        if let [label, state, pid, restarts, _, location] = fields[..]
            && location != "-"
        {
            let _ = writeln!(text, "{location} {label} {state} {pid} {restarts}");
        }
    }
    text
}

/// Seconds with two digits behind the point.
fn seconds(ns: u64) -> String {
    format!("{}.{:02}", ns / 1_000_000_000, ns / 10_000_000 % 100)
}

fn meminfo(info: &SystemInfo) -> String {
    let mut text = String::new();
    let kib = |frames: u64| frames.saturating_mul(FRAME / 1024);
    for (name, frames) in [
        ("MemTotal", info.frames_total),
        ("MemFree", info.frames_free),
        ("MemAvailable", info.frames_free),
        ("Quarantined", info.frames_quarantined),
        ("Kernel", info.frames_kernel),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<14} {:>10} kB", format!("{name}:"), kib(frames));
    }
    text
}

fn stat(info: &SystemInfo) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("processes", info.processes.into()),
        ("threads", info.threads.into()),
        ("endpoints", info.endpoints.into()),
        ("memory_objects", info.memory_objects.into()),
        ("interrupts", info.interrupts.into()),
        ("devices", info.devices.into()),
        ("context_switches", info.context_switches),
        ("system_calls", info.system_calls),
    ] {
        let _ = writeln!(text, "{name} {value}");
    }
    text
}

/// Interrupts listed at most; there are 256 vectors.
const INTERRUPTS_MAX: usize = 256;

fn interrupts(system: &mut impl System) -> Result<String> {
    let mut text = String::from("vector  source        count process\n");
    let mut vector = 0;
    for _ in 0..INTERRUPTS_MAX {
        let info = match system.interrupt(vector) {
            Ok(info) => info,
            Err(Error::NoEnt) => break,
            Err(error) => return Err(error),
        };
        let source = match info.gsi {
            u32::MAX => "msi".to_string(),
            gsi => format!("gsi {gsi}"),
        };
        let name = match system.process(info.pid.into()) {
            Ok(process) if process.pid == info.pid => process_name(&process).to_string(),
            _ => "-".to_string(),
        };
        let _ = writeln!(text, "{:>6}  {source:<8} {:>10} {name}", info.vector, info.count);
        vector = u64::from(info.vector) + 1;
    }
    Ok(text)
}

pub(crate) fn process_name(info: &ProcessInfo) -> &str {
    let len = info.name.iter().position(|&byte| byte == 0).unwrap_or(info.name.len());
    core::str::from_utf8(&info.name[..len]).unwrap_or("?")
}

fn state_name(number: u32) -> &'static str {
    match number {
        state::RUNNING => "R (running)",
        state::READY => "R (ready)",
        state::RECEIVING => "S (receiving)",
        state::SENDING => "S (sending)",
        state::AWAITING_REPLY => "S (awaiting reply)",
        state::SLEEPING => "S (sleeping)",
        state::DEAD => "Z (dead)",
        _ => "? (unknown)",
    }
}

pub(crate) fn status(info: &ProcessInfo) -> String {
    let mut text = String::new();
    let name = process_name(info);
    let _ = writeln!(text, "Name:\t{name}\nState:\t{}", state_name(info.state));
    let _ = writeln!(text, "Pid:\t{}\nPPid:\t{}", info.pid, info.parent);
    let _ = writeln!(text, "Threads:\t{}\nHandles:\t{}", info.threads, info.handles);
    let _ = writeln!(text, "Priority:\t{}", info.priority);
    let _ = writeln!(text, "CpuTime:\t{} ns", info.cpu_ns);
    let _ = writeln!(text, "Refused:\t{}", info.refused);
    let _ = writeln!(text, "VmRSS:\t{} kB", info.frames.saturating_mul(FRAME / 1024));
    text
}

/// The process with exactly this id. `NoEnt`: there is none.
pub(crate) fn process(system: &mut impl System, pid: u32) -> Result<ProcessInfo> {
    first_processes(system, pid).next().filter(|info| info.pid == pid).ok_or(Error::NoEnt)
}
