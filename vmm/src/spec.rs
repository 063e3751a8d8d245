//! The values people write on the command line and in configuration files: sizes, durations,
//! disks, consoles, CPU features, engines. Each type parses from text (`FromStr`), so that flags
//! and TOML keys accept exactly the same.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use xinim_machine::{CpuidChange, GdbAddress, GdbSpec, StrictMode};

pub use crate::disk_spec::{Disk, Size};

const MIB: u64 = 1 << 20;
/// Guest memory comes in 2 MiB pages, so that the host can back it with huge ones.
pub const MEMORY_STEP: u64 = 2 * MIB;
/// More than any host this runs on; keeps address arithmetic far from overflow.
pub const MEMORY_MAX: u64 = 1 << 40;
/// The trace page names the running process of this many CPUs.
pub const CPUS_MAX: u32 = xinim_abi::platform::TRACE_CPUS as u32;
/// Disks beside the other devices on the machine's one PCI bus of 32 slots.
pub const DISKS_MAX: usize = 16;
/// Ports of the AHCI controller, on every engine.
pub const AHCI_MAX: usize = 6;
/// A day: longer runs need no time-out.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a text is not a value; made into a sentence together with the option's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

pub(crate) fn bad<T>(why: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError(why.into()))
}

/// Splits `12ms` into the number and the letters after it.
pub(crate) fn number_and_unit(text: &str) -> Result<(u64, &str), ValueError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return bad("must begin with a number");
    }
    match number.parse() {
        Ok(number) => Ok((number, unit)),
        Err(_) => bad("is too large"),
    }
}

/// Guest memory in bytes: `128M`, `1G`; a bare number counts MiB, as in other VMMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub u64);

impl FromStr for Memory {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = number_and_unit(text)?;
        let shift = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
            "k" => 10,
            "" | "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return bad(format!("unknown unit `{unit}`; use K, M or G, as in 128M")),
        };
        let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes <= MEMORY_MAX);
        match bytes {
            None => bad("is more than 1T"),
            Some(0) => bad("must not be zero"),
            Some(bytes) if bytes % MEMORY_STEP != 0 => bad("must be a multiple of 2M"),
            Some(bytes) => Ok(Memory(bytes)),
        }
    }
}

/// A time-out: `30s`, `500ms`, `2m`, `1h`; a bare number counts seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Duration);

impl FromStr for Timeout {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = number_and_unit(text)?;
        let millis = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return bad(format!("unknown unit `{unit}`; use ms, s, m or h, as in 30s")),
        };
        match number.checked_mul(millis).map(Duration::from_millis) {
            Some(Duration::ZERO) => bad("must not be zero"),
            Some(timeout) if timeout <= TIMEOUT_MAX => Ok(Timeout(timeout)),
            _ => bad("is more than 24h"),
        }
    }
}

/// A fault rule, or the word `help`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRule(pub String);

impl FaultRule {
    pub const HELP: &str = "help";
}

impl FromStr for FaultRule {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text != Self::HELP {
            text.parse::<xinim_devices::fault::Rule>()
                .map_err(|e| ValueError::new(e.to_string()))?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// Number of virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(pub u32);

impl FromStr for Cpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(cpus) if (1..=CPUS_MAX).contains(&cpus) => Ok(Cpus(cpus)),
            _ => bad(format!("must be a number from 1 to {CPUS_MAX}")),
        }
    }
}

/// Where the machine's first serial port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleSpec {
    Stdio,
    File(PathBuf),
    Unix(PathBuf),
    None,
}

impl FromStr for ConsoleSpec {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once(':') {
            None if text == "stdio" => Ok(ConsoleSpec::Stdio),
            None if text == "none" => Ok(ConsoleSpec::None),
            Some(("file" | "unix", "")) => bad("names no path"),
            Some(("file", path)) => Ok(ConsoleSpec::File(path.into())),
            Some(("unix", path)) => Ok(ConsoleSpec::Unix(path.into())),
            _ => bad("is none of stdio, file:PATH, unix:PATH, none"),
        }
    }
}

/// `-cx16,-xsave,+avx`: features hidden from (or asked for on behalf of) the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpuid(pub Vec<CpuidChange>);

impl FromStr for Cpuid {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut changes = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let enable = match part.as_bytes()[0] {
                b'-' => false,
                b'+' => true,
                _ => return bad(format!("`{part}` must begin with - or +, as in -cx16,-xsave")),
            };
            // Feature names reach QEMU's comma-separated -cpu argument: nothing else may.
            let feature = part[1..].to_ascii_lowercase();
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if feature.is_empty() || !feature.bytes().all(fits) {
                return bad(format!("`{part}` names no CPU feature"));
            }
            changes.push(CpuidChange { feature, enable });
        }
        Ok(Cpuid(changes))
    }
}

/// `--gdb`: where a debugger may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gdb(pub GdbSpec);

impl FromStr for Gdb {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (place, wait) = match text.strip_suffix(",wait") {
            Some(place) => (place, true),
            None => (text, false),
        };
        let address = match place.strip_prefix("unix:") {
            Some("") => return bad("names no path"),
            Some(path) => GdbAddress::Unix(path.into()),
            None => {
                let place =
                    if place.starts_with(':') { format!("127.0.0.1{place}") } else { place.into() };
                let place = place.replace("localhost:", "127.0.0.1:");
                match place.parse() {
                    Ok(address) => GdbAddress::Tcp(address),
                    Err(_) => return bad("is neither ADDRESS:PORT, :PORT nor unix:PATH"),
                }
            }
        };
        Ok(Gdb(GdbSpec { address, wait }))
    }
}

/// `--engine`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    #[default]
    Auto,
    Kvm,
    Qemu,
}

impl EngineChoice {
    pub fn name(self) -> &'static str {
        match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Kvm => "kvm",
            EngineChoice::Qemu => "qemu",
        }
    }
}

impl FromStr for EngineChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(EngineChoice::Auto),
            "kvm" => Ok(EngineChoice::Kvm),
            "qemu" => Ok(EngineChoice::Qemu),
            _ => bad("is none of auto, kvm, qemu"),
        }
    }
}

/// `--qemu-accel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QemuAccel {
    #[default]
    Tcg,
    Kvm,
}

/// `--strict`: `warn` or `stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strict(pub StrictMode);

impl FromStr for Strict {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "warn" => Ok(Self(StrictMode::Warn)),
            "stop" => Ok(Self(StrictMode::Stop)),
            _ => bad("is neither warn nor stop"),
        }
    }
}

impl FromStr for QemuAccel {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "tcg" => Ok(QemuAccel::Tcg),
            "kvm" => Ok(QemuAccel::Kvm),
            _ => bad("is none of tcg, kvm"),
        }
    }
}

/// What only the QEMU engine takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QemuOptions {
    pub accel: QemuAccel,
    /// Count instructions instead of time.
    pub icount: bool,
    /// Networks end in QEMU's own back ends instead of ours.
    pub own_net: bool,
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
