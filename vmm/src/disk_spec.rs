//! What `--disk` takes: a file (or `new:SIZE`) and comma-separated options. The same words are the
//! keys of a `[[disk]]` table in a configuration file.
//!
//! | option | meaning |
//! |---|---|
//! | `PATH` | image file or block device; a comma in it is written twice |
//! | `new:SIZE` | a blank disk, gone with the machine |
//! | `bus=virtio\|ahci` | the device that the guest sees |
//! | `ro`, `rw` | read-only; writable (default) |
//! | `snapshot` | the file is only read; writes are dropped at the end |
//! | `format=raw\|qcow2` | default by name: `.qcow2` is qcow2, anything else raw |
//! | `cache=writeback\|writethrough\|none\|unsafe` | see [`CacheMode`] |
//! | `bps=SIZE`, `bps-burst=SIZE` | bytes per second, and how many can be saved up |
//! | `iops=N`, `iops-burst=N` | requests per second, likewise |
//! | `serial=TEXT` | what the guest knows the disk by |
//! | `io=auto\|uring\|threads` | how the host file is accessed (KVM engine) |

use std::str::FromStr;

use xinim_machine::image::SECTOR;
use xinim_machine::{CacheMode, DiskBus, DiskFormat, DiskSource, DiskSpec, IoMethod, Limits, Rate};

use crate::spec::{ValueError, bad, number_and_unit};

/// More than any disk; keeps arithmetic far from overflow.
pub const SIZE_MAX: u64 = 1 << 50;
/// Largest number of requests a second that can be asked for.
const IOPS_MAX: u64 = 1 << 32;
/// GET_ID's length.
const SERIAL_MAX: usize = xinim_abi::hw::virtio_blk::ID_LEN;
const OPTIONS: &str = "bus, ro, rw, snapshot, format, cache, bps, bps-burst, iops, iops-burst, \
                       serial, io; a comma in PATH is written twice";

/// A disk's size, or bytes per second: `64M`, `1G`, `512` (bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = number_and_unit(text)?;
        let shift = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return bad(format!("has the unknown unit `{unit}`; use K, M, G or T, as in 64M")),
        };
        match number.checked_mul(1 << shift).filter(|bytes| *bytes <= SIZE_MAX) {
            Some(0) => bad("must not be zero"),
            Some(bytes) => Ok(Size(bytes)),
            None => bad("is more than 1024T"),
        }
    }
}

impl Size {
    /// As the size of a disk.
    pub fn of_disk(self) -> Result<u64, ValueError> {
        if self.0.is_multiple_of(SECTOR) { Ok(self.0) } else { bad("is no multiple of 512 bytes") }
    }
}

/// `PATH[,option...]`; see the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk(pub DiskSpec);

impl FromStr for Disk {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut parts = split_commas(text).into_iter();
        let mut builder = Builder::new(&parts.next().unwrap_or_default())?;
        for part in parts {
            match part.split_once('=') {
                Some((key, value)) => builder.set(key, value)?,
                None => builder.flag(&part, true)?,
            }
        }
        builder.build().map(Disk)
    }
}

/// A disk in the making.
#[derive(Debug)]
pub struct Builder {
    spec: DiskSpec,
    bytes_burst: Option<u64>,
    operations_burst: Option<u64>,
}

impl Builder {
    /// `source` is a path or `new:SIZE`.
    pub fn new(source: &str) -> Result<Self, ValueError> {
        let spec = match source.strip_prefix("new:") {
            _ if source.is_empty() => return bad("names no file"),
            Some(size) => {
                let size = size.parse::<Size>().and_then(Size::of_disk);
                DiskSpec::blank(size.map_err(|why| wrong("size", why))?)
            }
            None => DiskSpec::file(source),
        };
        Ok(Self { spec, bytes_burst: None, operations_burst: None })
    }

    /// An option without a value (or a key that is true or false).
    pub fn flag(&mut self, name: &str, on: bool) -> Result<(), ValueError> {
        match name {
            "ro" => self.spec.read_only = on,
            "rw" => self.spec.read_only = !on,
            "snapshot" => self.spec.snapshot = on,
            _ => return bad(format!("unknown part `{name}`; there are {OPTIONS}")),
        }
        Ok(())
    }

    /// An option with a value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ValueError> {
        let spec = &mut self.spec;
        match key {
            "bus" => spec.bus = disk_bus(value)?,
            "format" => {
                spec.format = Some(match value {
                    "raw" => DiskFormat::Raw,
                    "qcow2" => DiskFormat::Qcow2,
                    _ => return bad(format!("unknown format `{value}`; there are raw and qcow2")),
                });
            }
            "cache" => {
                spec.cache = match value {
                    "writeback" => CacheMode::Writeback,
                    "writethrough" => CacheMode::Writethrough,
                    "none" => CacheMode::None,
                    "unsafe" => CacheMode::Unsafe,
                    _ => {
                        return bad(format!(
                            "unknown cache mode `{value}`; there are writeback, writethrough, \
                             none and unsafe"
                        ));
                    }
                }
            }
            "io" => {
                spec.io = match value {
                    "auto" => IoMethod::Auto,
                    "uring" => IoMethod::Uring,
                    "threads" => IoMethod::Threads,
                    _ => {
                        return bad(format!(
                            "unknown io `{value}`; there are auto, uring, threads"
                        ));
                    }
                }
            }
            "serial" => spec.serial = Some(serial(value)?),
            "bps" => spec.limits.bytes = Some(Rate::new(size(key, value)?)),
            "bps-burst" => self.bytes_burst = Some(size(key, value)?),
            "iops" => spec.limits.operations = Some(Rate::new(count(key, value)?)),
            "iops-burst" => self.operations_burst = Some(count(key, value)?),
            _ => return bad(format!("unknown part `{key}={value}`; there are {OPTIONS}")),
        }
        Ok(())
    }

    pub fn build(mut self) -> Result<DiskSpec, ValueError> {
        let Limits { bytes, operations } = &mut self.spec.limits;
        burst("bps", bytes, self.bytes_burst)?;
        burst("iops", operations, self.operations_burst)?;
        let blank = matches!(self.spec.source, DiskSource::New(_));
        if blank && self.spec.read_only {
            return bad("is a blank disk that cannot be written: leave ro away");
        }
        if blank && self.spec.format() != DiskFormat::Raw {
            return bad("is a blank disk, which has no format: leave format away");
        }
        if self.spec.read_only && self.spec.snapshot {
            return bad("has both ro and snapshot; one is enough");
        }
        Ok(self.spec)
    }
}

fn wrong(what: &str, why: ValueError) -> ValueError {
    ValueError::new(format!("has a {what} that {why}"))
}

fn size(key: &str, value: &str) -> Result<u64, ValueError> {
    value.parse::<Size>().map(|size| size.0).map_err(|why| wrong(key, why))
}

fn count(key: &str, value: &str) -> Result<u64, ValueError> {
    match value.parse() {
        Ok(count) if (1..=IOPS_MAX).contains(&count) => Ok(count),
        _ => bad(format!("has {key}={value}, which is no number from 1 to {IOPS_MAX}")),
    }
}

fn serial(value: &str) -> Result<String, ValueError> {
    let printable = value.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    if value.is_empty() || value.len() > SERIAL_MAX || !printable {
        return bad(format!(
            "has a serial that is not 1 to {SERIAL_MAX} letters, digits and signs"
        ));
    }
    Ok(value.to_owned())
}

fn burst(key: &str, rate: &mut Option<Rate>, burst: Option<u64>) -> Result<(), ValueError> {
    match (rate, burst) {
        (Some(rate), Some(burst)) => rate.burst = burst,
        (None, Some(_)) => {
            return bad(format!("has {key}-burst, which means nothing without {key}"));
        }
        (_, None) => {}
    }
    Ok(())
}

pub fn disk_bus(text: &str) -> Result<DiskBus, ValueError> {
    match text {
        "virtio" => Ok(DiskBus::Virtio),
        "ahci" => Ok(DiskBus::Ahci),
        _ => bad(format!("unknown bus `{text}`; there are virtio and ahci")),
    }
}

/// Splits at single commas; a double comma is a comma.
pub(crate) fn split_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != ',' {
            parts.last_mut().expect("never empty").push(c);
        } else if rest.next_if_eq(&',').is_some() {
            parts.last_mut().expect("never empty").push(',');
        } else {
            parts.push(String::new());
        }
    }
    parts
}

#[cfg(test)]
#[path = "disk_spec_tests.rs"]
mod tests;
