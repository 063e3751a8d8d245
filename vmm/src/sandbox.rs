//! The front's half of the sandbox: Landlock, before any thread starts. (The engine's half, the
//! system call filters, comes when the machine is set up: `xinim_kvm`'s `confine`.)
//!
//! From here on the process may read what the user may read, and write:
//!
//! * the disks that are given writable, `/dev/kvm`, `/dev/net/tun`, `/dev/null`, the terminal;
//! * in the directories of files it makes: console, traces, captures, dump, statistics, sockets,
//!   `hub`'s directory; the temporary directory, for blank disks and snapshots;
//! * with `--control`, below the current directory, the socket's and those of the disks, and below
//!   each `--allow DIR`: what `ctl attach`, `insert` and `dump` name lies there.
//!
//! It may start no program. Of the privileges it was started with, the engine drops what is left
//! when set-up is done. A host without Landlock is used as it is: `doctor` says so.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use xinim_machine::net::NetBackend;
use xinim_machine::{DiskSource, GdbAddress, MachineSpec};

use crate::config::RunConfig;
use crate::error::Error;
use crate::spec::ConsoleSpec;

/// What this program knows of; an older host enforces what it knows of that.
const KNOWN: ABI = ABI::V3;

/// Confines the process to the files of this run.
pub fn confine(config: &RunConfig, spec: &MachineSpec) -> Result<(), Error> {
    let failed = |error: String| Error::Usage(format!("the sandbox cannot be set up: {error}"));
    let (files, directories) = writable(config, spec);
    let reads = AccessFs::ReadFile | AccessFs::ReadDir;
    let all = AccessFs::from_all(KNOWN) & !AccessFs::Execute;
    let of_files = AccessFs::from_file(KNOWN) & !AccessFs::Execute;
    let rule = |path: &Path, access| PathFd::new(path).ok().map(|fd| PathBeneath::new(fd, access));
    // What does not exist cannot be opened either; a sentence comes from whoever tries.
    let rules = [rule(Path::new("/"), reads)]
        .into_iter()
        .chain(files.iter().map(|path| rule(path, of_files)))
        .chain(directories.iter().map(|path| rule(path, all)))
        .flatten()
        .map(Ok::<_, landlock::RulesetError>);
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.add_rules(rules))
        .and_then(|ruleset| ruleset.restrict_self())
        .map(|_| ())
        .map_err(|error| failed(error.to_string()))
}

/// Files and directories that may be written.
fn writable(config: &RunConfig, spec: &MachineSpec) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut files: Vec<PathBuf> =
        ["/dev/kvm", "/dev/net/tun", "/dev/null", "/dev/tty"].map(PathBuf::from).into();
    let mut directories: Vec<PathBuf> = Vec::new();
    let mut beside: Vec<&Path> = Vec::new();
    for disk in &spec.disks {
        if disk.snapshot || matches!(disk.source, DiskSource::New(_)) {
            // A file without a name for what the guest writes.
            directories.push(std::env::temp_dir());
        }
        if let DiskSource::File(path) = &disk.source {
            if !disk.read_only && !disk.snapshot {
                files.push(path.clone());
            }
            if config.control.is_some() {
                beside.push(path);
            }
        }
    }
    if let ConsoleSpec::File(path) | ConsoleSpec::Unix(path) = &config.console {
        beside.push(path);
    }
    if let Some(GdbAddress::Unix(path)) = spec.gdb.as_ref().map(|gdb| &gdb.address) {
        beside.push(path);
    }
    let made = [&spec.dump, &spec.record, &config.stats, &config.control];
    beside.extend(made.into_iter().flatten().map(PathBuf::as_path));
    if !spec.traces.is_empty() {
        // Some formats are put together there.
        directories.push(std::env::temp_dir());
    }
    beside.extend(spec.traces.iter().map(|trace| trace.path.as_path()));
    for net in &spec.nets {
        beside.extend(net.pcap.as_deref());
        if matches!(net.backend, NetBackend::Hub(_)) {
            directories.push(std::env::temp_dir());
            directories.extend(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
        }
    }
    directories.extend(beside.into_iter().map(directory_of));
    if config.control.is_some() {
        directories.push(PathBuf::from("."));
        // Blank disks and snapshots may be attached.
        directories.push(std::env::temp_dir());
        directories.extend(config.allow.iter().cloned());
    }
    (files, directories)
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What this host offers.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Offered {
    pub landlock: bool,
    pub seccomp: bool,
}

/// Looks, without confining anything but a thread that ends.
pub fn offered() -> Offered {
    let landlock = std::thread::spawn(|| {
        let ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN));
        let status = ruleset.and_then(|r| r.create()).and_then(|r| r.restrict_self());
        status.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
    });
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    Offered {
        landlock: landlock.join().unwrap_or(false),
        seccomp: actions.is_ok_and(|actions| actions.split_whitespace().any(|a| a == "trap")),
    }
}
