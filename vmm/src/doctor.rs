//! `xinim-vmm doctor`: what this host offers, and which engine `auto` takes and why.

use std::fmt::{self, Display};
use std::path::PathBuf;

use serde::Serialize;
use xinim_abi::exit;
use xinim_machine::EngineError;

use crate::cli::DoctorArgs;
use crate::engine::qemu::locate;
use crate::engine::{self, Taken, kvm};
use crate::error::Error;
use crate::output;
use crate::sandbox::{self, Offered};

/// The report; its JSON has these names.
#[derive(Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    pub kvm: KvmReport,
    pub qemu: QemuReport,
    pub auto: AutoReport,
    /// What the sandbox of `run` finds on this host.
    pub sandbox: Offered,
}

#[derive(Debug, Serialize)]
pub struct KvmReport {
    /// `/dev/kvm` exists.
    pub present: bool,
    /// It can be opened for reading and writing.
    pub permitted: bool,
    /// It runs guests.
    pub usable: bool,
    /// Why not, one sentence.
    pub obstacle: Option<String>,
    pub kind: Option<KvmKind>,
}

/// What the probe's tiny guests found.
#[derive(Debug, Serialize)]
pub struct KvmKind {
    pub api_version: i32,
    pub syscall_enters_ring0: bool,
    pub ring0_emulated: bool,
    pub ring0_instruction_ns: f64,
    pub pio_exit_ns: u64,
    pub max_vcpus: usize,
    pub capabilities: std::collections::BTreeMap<&'static str, bool>,
}

#[derive(Debug, Serialize)]
pub struct QemuReport {
    pub present: bool,
    pub path: Option<PathBuf>,
    pub version: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct AutoReport {
    /// `kvm`, `qemu`, or null.
    pub engine: Option<&'static str>,
    pub why: String,
}

/// Prints the report; 0 if some engine is usable, else 126.
pub fn doctor(args: &DoctorArgs) -> Result<u8, Error> {
    let report = examine();
    output::either(args.json, || &report, || report.to_string())?;
    Ok(if report.auto.engine.is_some() { 0 } else { exit::NO_ENGINE })
}

/// Looks at the host. Takes as long as KVM's probe, some 100 ms.
pub fn examine() -> Report {
    let path = locate::find();
    let obstacle = kvm::obstacle();
    let (engine, why) = match engine::auto(obstacle.clone(), path.as_ref()) {
        Ok((Taken::Kvm, why)) => (Some("kvm"), why),
        Ok((Taken::Qemu(_), why)) => (Some("qemu"), why),
        Err(why) => (None, why),
    };
    Report {
        version: env!("CARGO_PKG_VERSION"),
        kvm: examine_kvm(obstacle),
        qemu: QemuReport {
            present: path.is_some(),
            version: path.as_deref().and_then(locate::version),
            path,
        },
        auto: AutoReport { engine, why },
        sandbox: sandbox::offered(),
    }
}

fn examine_kvm(obstacle: Option<String>) -> KvmReport {
    let present = std::path::Path::new("/dev/kvm").exists();
    let permitted = present && obstacle.is_none();
    match obstacle.map_or_else(xinim_kvm::probe, |why| Err(EngineError::Unavailable(why))) {
        Ok(probe) => KvmReport {
            present,
            permitted,
            usable: true,
            obstacle: None,
            kind: Some(KvmKind {
                api_version: probe.kvm_version,
                syscall_enters_ring0: probe.syscall_enters_ring0,
                ring0_emulated: probe.ring0_emulated,
                ring0_instruction_ns: probe.ring0_instruction_ns,
                pio_exit_ns: probe.pio_exit_ns,
                max_vcpus: probe.max_vcpus,
                capabilities: probe.capabilities.into_iter().collect(),
            }),
        },
        Err(error) => KvmReport {
            present,
            permitted,
            usable: false,
            obstacle: Some(error.to_string()),
            kind: None,
        },
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "xinim-vmm {}", self.version)?;
        match (&self.kvm.kind, &self.kvm.obstacle) {
            (Some(kind), _) => write!(f, "{kind}")?,
            (None, obstacle) => {
                writeln!(f, "KVM    not usable: {}", obstacle.as_deref().unwrap_or("unknown"))?;
            }
        }
        match &self.qemu.path {
            Some(path) => writeln!(
                f,
                "QEMU   {} ({})",
                self.qemu.version.as_deref().unwrap_or("of unknown version"),
                path.display()
            )?,
            None => writeln!(f, "QEMU   missing: {}", locate::MISSING)?,
        }
        writeln!(f, "auto   {}", self.auto.why)?;
        let word = |has| if has { "yes" } else { "missing: a run is not confined by it" };
        writeln!(f, "sandbox  Landlock {}", word(self.sandbox.landlock))?;
        writeln!(f, "         seccomp {}", word(self.sandbox.seccomp))
    }
}

impl Display for KvmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.ring0_emulated, self.syscall_enters_ring0) {
            (false, true) => "in hardware, as on most machines",
            (true, _) => "nested without hardware support: kernel code is slow in it",
            (false, false) => "unusual",
        };
        writeln!(f, "KVM    usable, API version {}, {kind}", self.api_version)?;
        let syscall = match self.syscall_enters_ring0 {
            true => "enters ring 0, as the architecture says",
            false => "stays in ring 3 (the guest goes through a trap instead)",
        };
        writeln!(f, "       syscall {syscall}")?;
        let ring0 = if self.ring0_emulated { "emulated" } else { "executed directly" };
        writeln!(
            f,
            "       ring-0 code is {ring0}, {:.2} ns for each instruction",
            self.ring0_instruction_ns
        )?;
        writeln!(f, "       an exit to the VMM costs {} ns", self.pio_exit_ns)?;
        let lacking: Vec<_> =
            self.capabilities.iter().filter(|(_, has)| !**has).map(|(name, _)| *name).collect();
        if !lacking.is_empty() {
            writeln!(f, "       without {}", lacking.join(", "))?;
        }
        Ok(())
    }
}
