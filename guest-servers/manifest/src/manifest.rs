//! One manifest: its keys, their defaults and ranges.

use crate::{Error, LABEL_MAX};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use serde::Deserialize;

/// What RS knows about a service before it runs. Labels in the lists are of manifests, not of
/// instances; `class:NAME` stands for every service of that class.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub label: String,
    /// Its place in the catalog is empty.
    #[serde(skip)]
    pub(crate) removed: bool,
    /// Path in the bundle. Default: `sbin/<label>`.
    #[serde(default)]
    pub program: String,
    /// Arguments after the program's name.
    #[serde(default)]
    pub args: Vec<String>,
    /// What it serves: `block`, `char`, `fs`, `net`, …
    #[serde(default)]
    pub class: Option<String>,
    #[serde(default)]
    pub instances: Instances,
    #[serde(default)]
    pub start: Start,
    /// Functions that `per-function` instances are started for; any match suffices.
    #[serde(default)]
    pub pci: Vec<PciMatch>,

    /// Started only while all of these are up.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Started only when these are up or have failed.
    #[serde(default)]
    pub wants: Vec<String>,
    /// Gets `bits::PEER_UP` whenever an instance of one of these has come up.
    #[serde(default)]
    pub notify: Vec<String>,
    /// Labels it may look up; `label:admin` for an admin badge.
    #[serde(default)]
    pub calls: Vec<String>,
    /// Services it may start further instances of.
    #[serde(default)]
    pub spawns: Vec<String>,
    /// Services whose breaches of their protocol it may report; RS restarts them.
    #[serde(default)]
    pub complains: Vec<String>,

    /// Authority over the machine.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// May start, stop and kill services and shut the system down.
    #[serde(default)]
    pub control: bool,
    /// Gets the system bundle, read-only.
    #[serde(default)]
    pub bundle: bool,
    /// Gets the ACPI tables.
    #[serde(default)]
    pub acpi: bool,
    #[serde(default)]
    pub ports: Vec<PortRange>,
    /// ISA interrupts, bound to the service's notification bits 0, 1, …
    #[serde(default)]
    pub interrupts: Vec<u8>,

    /// Highest thread priority, 1..=23. Default 16.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Limit of the memory it creates, MiB. Default: none.
    #[serde(default)]
    pub memory: Option<u32>,
    /// MiB that RS keeps for it over its own death. Default: none.
    #[serde(default)]
    pub keep: u32,
    /// Limit of the memory it pins for devices, MiB. Default: none.
    #[serde(default)]
    pub dma: Option<u32>,
    /// Limit of the processor time it may use. Default: none.
    #[serde(default)]
    pub cpu: Option<CpuBudget>,
    /// KiB of its first thread's stack.
    #[serde(default = "default_stack")]
    pub stack: u32,
    /// Handles, 16..=4096. Default 256.
    #[serde(default = "default_handles")]
    pub handles: u32,

    #[serde(default)]
    pub restart: Restart,
    /// Time to announce itself after its start, ms. Default 10 000.
    #[serde(default = "default_start_timeout")]
    pub start_timeout: u32,
    /// It comes to its endpoint at least this often, ms, or is killed. Default 1000; 0: not watched.
    #[serde(default = "default_heartbeat")]
    pub heartbeat: u32,
    #[serde(default)]
    pub stop: Stop,
    /// What RS does beyond the service when it crashes too often.
    #[serde(default)]
    pub escalate: Escalate,
    /// RS makes its next process while it still runs.
    #[serde(default)]
    pub spare: bool,
    /// Goes on in safe mode.
    #[serde(default)]
    pub safe: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instances {
    /// Started at boot, once.
    #[default]
    One,
    /// One for each PCI function that matches.
    PerFunction,
    /// By `rs::Spawn` only.
    OnDemand,
    /// No service: what ordinary programs may look up and control.
    Programs,
}

/// When a service with one instance is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    #[default]
    Boot,
    /// When it is first looked up, or needed by one that starts.
    FirstUse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Interrupts, ports, device memory, device objects.
    Hardware,
    /// Creates processes.
    Process,
    /// Power off and reboot.
    Power,
    /// Reads the kernel log.
    Log,
}

/// What RS does at `service stop` and at shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Asks by `bits::TERMINATE`, and kills after 2 s.
    #[default]
    Terminate,
    /// Kills: for services that keep nothing.
    Kill,
}

/// What follows when a service has crashed more often than its restart policy allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escalate {
    /// It has failed, and that is all.
    #[default]
    None,
    /// Before it fails for good, once: those that need it are restarted with it, as one of them may
    /// be what makes it crash.
    RestartDependents,
    /// It has failed; said loudly and kept in its status.
    Alert,
    /// It has failed; only services with `safe` go on.
    SafeMode,
    /// The system is shut down in order and boots again.
    Reboot,
}

/// Share of one processor over a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuBudget {
    /// 1..=100
    pub percent: u32,
    /// ms, 1000..=60000. Default 5000.
    #[serde(default = "default_window")]
    pub window: u32,
}

/// Fields that are given must all be equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciMatch {
    pub vendor: Option<u16>,
    pub device: Option<u16>,
    pub class: Option<u8>,
    pub subclass: Option<u8>,
    pub interface: Option<u8>,
}

impl PciMatch {
    /// `id` is device << 16 | vendor, `class` is class << 16 | subclass << 8 | interface.
    pub fn matches(&self, id: u32, class: u32) -> bool {
        let [interface, subclass, base, _] = class.to_le_bytes();
        self.vendor.is_none_or(|v| v == id as u16)
            && self.device.is_none_or(|d| d == (id >> 16) as u16)
            && self.class.is_none_or(|c| c == base)
            && self.subclass.is_none_or(|s| s == subclass)
            && self.interface.is_none_or(|i| i == interface)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    pub first: u16,
    pub count: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    pub policy: Policy,
    /// Crashes in a row before the service has failed for good.
    pub limit: u32,
    /// Wait before the second restart in a row, ms; doubled for each further one, up to 5 s. The
    /// first restart is at once.
    pub backoff: u32,
    /// A service that ran this long, ms, has its earlier crashes forgiven.
    pub stable: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Restart { policy: Policy::OnFailure, limit: 8, backoff: 50, stable: 5_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// After every end.
    Always,
    /// After every end but exit status 0.
    OnFailure,
    /// A crash is final.
    Never,
}

fn default_priority() -> u8 {
    16
}

fn default_stack() -> u32 {
    64
}

fn default_handles() -> u32 {
    256
}

fn default_start_timeout() -> u32 {
    10_000
}

fn default_heartbeat() -> u32 {
    1000
}

fn default_window() -> u32 {
    5000
}

/// RS itself runs at 24; nothing may starve it.
const PRIORITY_MAX: u8 = 23;
/// Heartbeats that can be kept, ms.
pub const HEARTBEATS: RangeInclusive<u32> = 100..=60_000;
/// MiB kept for one service.
const KEEP_MAX: u32 = 1024;
/// ISA interrupts; 2 is the cascade.
const IRQ_MAX: u8 = 15;

impl Manifest {
    /// Reads the manifest of `label`.
    pub fn parse(label: &str, text: &str) -> Result<Self, Error> {
        let mut manifest: Manifest = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let text = error.message().replace('\n', " ");
            Error::Syntax {
                label: label.to_owned(),
                text: line.map_or(text.clone(), |line| format!("line {line}: {text}")),
            }
        })?;
        manifest.label = label.to_owned();
        if manifest.program.is_empty() {
            manifest.program = format!("sbin/{label}");
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), Error> {
        let bad = |key, text: &str| {
            Err(Error::Value { label: self.label.clone(), key, text: text.to_string() })
        };
        if !is_label(&self.label) || matches!(self.label.as_str(), "rs" | "kernel") {
            return bad("label", "1 to 24 of a-z 0-9 -, beginning with a letter; not rs or kernel");
        }
        if self.class.as_deref().is_some_and(|class| !is_label(class)) {
            return bad("class", "1 to 24 of a-z 0-9 -, beginning with a letter");
        }
        if self.program.starts_with('/')
            || self.program.split('/').any(|c| c.is_empty() || c == "..")
        {
            return bad("program", "a path in the bundle, without a leading slash");
        }
        if self.args.iter().any(|arg| arg.contains('\0')) {
            return bad("args", "no zero bytes");
        }
        if !(1..=PRIORITY_MAX).contains(&self.priority) {
            return bad("priority", "1 to 23");
        }
        if !(16..=4096).contains(&self.stack) {
            return bad("stack", "16 to 4096");
        }
        if !(16..=4096).contains(&self.handles) {
            return bad("handles", "16 to 4096");
        }
        if self.memory == Some(0) {
            return bad("memory", "at least 1 (MiB)");
        }
        if self.keep > KEEP_MAX {
            return bad("keep", "at most 1024 (MiB)");
        }
        if self.dma == Some(0) {
            return bad("dma", "at least 1 (MiB)");
        }
        if self.heartbeat != 0 && !HEARTBEATS.contains(&self.heartbeat) {
            return bad("heartbeat", "0 (none), or 100 to 60000 (ms)");
        }
        if let Some(cpu) = self.cpu {
            if !(1..=100).contains(&cpu.percent) || !(1000..=60_000).contains(&cpu.window) {
                return bad("cpu", "percent is 1 to 100, window 1000 to 60000 (ms)");
            }
            if self.heartbeat == 0 {
                return bad("cpu", "is measured at heartbeats, and there are none");
            }
        }
        if !(10..=600_000).contains(&self.start_timeout) {
            return bad("start_timeout", "10 to 600000 (ms)");
        }
        if self.ports.len() > 8 {
            return bad("ports", "at most 8 ranges");
        }
        if self
            .ports
            .iter()
            .any(|p| p.count == 0 || u32::from(p.first) + u32::from(p.count) > 65536)
        {
            return bad("ports", "a range is empty or ends past 0xFFFF");
        }
        if self.interrupts.len() > 8 || self.interrupts.iter().any(|&irq| irq > IRQ_MAX || irq == 2)
        {
            return bad("interrupts", "at most 8, of 0 to 15 but 2");
        }
        if self.restart.stable > 3_600_000 || self.restart.backoff > 60_000 {
            return bad("restart", "stable is at most 3600000 ms, backoff at most 60000 ms");
        }
        if (self.instances == Instances::PerFunction) == self.pci.is_empty() {
            return bad("pci", "given for instances = \"per-function\", and only there");
        }
        if self.pci.iter().any(|m| *m == PciMatch::default()) {
            return bad("pci", "a match of every function there is");
        }
        if self.start == Start::FirstUse && self.instances != Instances::One {
            return bad("start", "\"first-use\" is for instances = \"one\"");
        }
        if self.instances == Instances::Programs
            && !(self.needs.is_empty()
                && self.wants.is_empty()
                && self.notify.is_empty()
                && self.spawns.is_empty()
                && self.complains.is_empty()
                && self.resources.is_empty()
                && self.ports.is_empty()
                && self.interrupts.is_empty()
                && !self.bundle
                && !self.acpi
                && self.keep == 0)
        {
            return bad("instances", "programs have `calls` and `control` only");
        }
        Ok(())
    }

    /// Whether a PCI function is one of this driver's.
    pub fn matches(&self, id: u32, class: u32) -> bool {
        self.pci.iter().any(|m| m.matches(id, class))
    }

    pub fn has(&self, resource: Resource) -> bool {
        self.resources.contains(&resource)
    }
}

/// `a-z 0-9 -`, beginning with a letter, at most [`LABEL_MAX`] bytes.
fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
