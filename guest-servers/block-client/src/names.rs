//! Names of block devices: `vda`, `sdb2`, `sr0`, and the drivers and units behind them.
//!
//! | name | device |
//! |---|---|
//! | `vda`, `vdb` | virtio disks: the letter counts the driver's instances in PCI order |
//! | `sda`, `sdb` | ports of AHCI controllers in order, whether anything is there or not: `sda` to `sdaf` are those of the first, the next has the following 32 |
//! | `sr0`, `sr1` | optical drives, counted over all controllers |
//!
//! A number behind a letter is the partition. So a disk that comes or goes changes no other's name.

use alloc::format;
use alloc::string::String;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::services::block::UNITS_MAX;

/// How a driver's units are named.
struct Kind {
    prefix: &'static str,
    program: &'static str,
    /// Linux's major number; 16 minors a disk.
    major: u32,
    /// Letters each instance takes.
    units: u32,
}

const KINDS: [Kind; 2] = [
    Kind { prefix: "vd", program: "virtio-blk", major: 254, units: 1 },
    Kind { prefix: "sd", program: "ahci", major: 8, units: UNITS_MAX },
];
/// Optical drives, of any driver.
const OPTICAL: &str = "sr";
const OPTICAL_MAJOR: u32 = 11;

/// A device without its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Unit {
        /// Label of the driver's instance.
        label: Name,
        unit: u32,
    },
    /// The n-th optical drive.
    Optical(u32),
}

/// A device or a partition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockName {
    pub device: Device,
    /// 0: the whole device.
    pub partition: u32,
}

/// Reads a name as in /dev, with or without `/dev/` before it. `NoEnt`: no such name can be.
pub fn parse(name: &str) -> Result<BlockName> {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    if let Some(digits) = name.strip_prefix(OPTICAL) {
        let device = Device::Optical(decimal(digits)?);
        return Ok(BlockName { device, partition: 0 });
    }
    let (kind, rest) = KINDS
        .iter()
        .find_map(|kind| Some((kind, name.strip_prefix(kind.prefix)?)))
        .ok_or(Error::NoEnt)?;
    let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
    let (letters, digits) = rest.split_at(letters);
    let partition = match digits {
        "" => 0,
        digits if digits.starts_with('0') => return Err(Error::NoEnt),
        digits => decimal(digits)?,
    };
    let place = place(letters).ok_or(Error::NoEnt)?;
    let label = label(kind.program, place / kind.units)?;
    Ok(BlockName { device: Device::Unit { label, unit: place % kind.units }, partition })
}

/// Major and minor number of a device or partition, as Linux counts them.
pub fn number(name: &str) -> Result<(u32, u32)> {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let BlockName { device, partition } = parse(name)?;
    Ok(match device {
        Device::Optical(number) => (OPTICAL_MAJOR, number),
        Device::Unit { label, unit } => {
            let (kind, instance) = order(label.as_str());
            let kind = KINDS.get(kind).ok_or(Error::NoEnt)?;
            (kind.major, (instance * kind.units + unit) * 16 + partition)
        }
    })
}

/// A decimal number as a name has it: no sign, no leading zeros.
fn decimal(digits: &str) -> Result<u32> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'));
    if plain { digits.parse().map_err(|_| Error::NoEnt) } else { Err(Error::NoEnt) }
}

/// The name in /dev of a driver's unit that is a disk, if that driver has any.
pub fn disk_name(label: &str, unit: u32) -> Option<String> {
    let (program, instance) = split(label)?;
    let kind = KINDS.iter().find(|kind| kind.program == program)?;
    if unit >= kind.units {
        return None;
    }
    let place = instance.checked_mul(kind.units)?.checked_add(unit)?;
    Some(format!("{}{}", kind.prefix, letters(place)))
}

/// The name of an optical drive.
pub fn optical_name(number: u32) -> String {
    format!("{OPTICAL}{number}")
}

/// Sorts labels: by kind of driver, then by instance.
pub fn order(label: &str) -> (usize, u32) {
    let (program, instance) = split(label).unwrap_or((label, 0));
    let kind = KINDS.iter().position(|kind| kind.program == program);
    (kind.unwrap_or(KINDS.len()), instance)
}

/// Program and instance of a label.
fn split(label: &str) -> Option<(&str, u32)> {
    match label.split_once('.') {
        Some((program, number)) => Some((program, number.parse().ok()?)),
        None => Some((label, 0)),
    }
}

fn label(program: &str, instance: u32) -> Result<Name> {
    match instance {
        0 => Name::new(program),
        instance => Name::new(&format!("{program}.{instance}")),
    }
}

/// a = 0, z = 25, aa = 26 and so on.
fn place(letters: &str) -> Option<u32> {
    if letters.is_empty() || letters.len() > 3 {
        return None;
    }
    let count = letters.bytes().fold(0, |sum, letter| sum * 26 + u32::from(letter - b'a') + 1);
    Some(count - 1)
}

fn letters(mut place: u32) -> String {
    let mut name = String::new();
    loop {
        name.insert(0, char::from(b'a' + (place % 26) as u8));
        if place < 26 {
            return name;
        }
        place = place / 26 - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(label: &str, unit: u32, partition: u32) -> Result<BlockName> {
        let label = Name::new(label).unwrap();
        Ok(BlockName { device: Device::Unit { label, unit }, partition })
    }

    #[test]
    fn names_and_labels() {
        assert_eq!(parse("/dev/vda"), unit("virtio-blk", 0, 0));
        assert_eq!(parse("vdc12"), unit("virtio-blk.2", 0, 12));
        assert_eq!(parse("sda1"), unit("ahci", 0, 1));
        assert_eq!(parse("sdaf"), unit("ahci", 31, 0));
        assert_eq!(parse("sdag2"), unit("ahci.1", 0, 2));
        assert_eq!(parse("sr1"), Ok(BlockName { device: Device::Optical(1), partition: 0 }));
        for wrong in [
            "",
            "vd",
            "vd1",
            "vda01",
            "vda1x",
            "xda",
            "vdaaaa",
            "/dev/null",
            "vda-1",
            "sr",
            "sr01",
            "sra",
            "sr+1",
            "sd",
        ] {
            assert_eq!(parse(wrong), Err(Error::NoEnt), "{wrong}");
        }
        assert_eq!(disk_name("virtio-blk", 0).as_deref(), Some("vda"));
        assert_eq!(disk_name("virtio-blk", 1), None);
        assert_eq!(disk_name("ahci.1", 3).as_deref(), Some("sdaj"));
        assert_eq!(disk_name("tty", 0), None);
        assert_eq!(number("/dev/vdb3"), Ok((254, 19)));
        assert_eq!(number("sdag1"), Ok((8, 32 * 16 + 1)));
        assert_eq!(number("sr2"), Ok((11, 2)));
    }

    #[test]
    fn there_and_back() {
        for place in (0..800).step_by(7) {
            let virtio = label("virtio-blk", place).unwrap();
            assert_eq!(parse(&disk_name(virtio.as_str(), 0).unwrap()), unit(virtio.as_str(), 0, 0));
            let ahci = label("ahci", place / 32).unwrap();
            let name = disk_name(ahci.as_str(), place % 32).unwrap();
            assert_eq!(parse(&name), unit(ahci.as_str(), place % 32, 0));
        }
    }

    #[test]
    fn order_of_drivers() {
        let mut labels = ["ahci", "virtio-blk.10", "other", "virtio-blk.9", "virtio-blk", "ahci.1"];
        labels.sort_by_key(|label| order(label));
        let sorted = ["virtio-blk", "virtio-blk.9", "virtio-blk.10", "ahci", "ahci.1", "other"];
        assert_eq!(labels, sorted);
    }
}
