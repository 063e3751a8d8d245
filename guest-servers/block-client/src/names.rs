//! Names of block devices: `vda`, `vdb2` and so on, and the labels of their drivers.
//!
//! `vd` is a virtio disk; its letter counts the driver's instances in PCI order: `vda` is
//! `virtio-blk`, `vdb` is `virtio-blk.1`. The number behind is the partition.

use alloc::format;
use alloc::string::String;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;

/// Name prefixes and the drivers behind them.
const KINDS: [(&str, &str); 1] = [("vd", "virtio-blk")];

/// A device or a partition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockName {
    /// Label of the driver's instance.
    pub label: Name,
    /// 0: the whole device.
    pub partition: u32,
}

/// Reads a name as in /dev, with or without `/dev/` before it. `NoEnt`: no such name can be.
pub fn parse(name: &str) -> Result<BlockName> {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let (program, rest) = KINDS
        .iter()
        .find_map(|(prefix, program)| Some((*program, name.strip_prefix(prefix)?)))
        .ok_or(Error::NoEnt)?;
    let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
    let (letters, number) = rest.split_at(letters);
    let partition = match number {
        "" => 0,
        number if number.starts_with('0') => return Err(Error::NoEnt),
        number => number.parse().map_err(|_| Error::NoEnt)?,
    };
    let instance = instance(letters).ok_or(Error::NoEnt)?;
    Ok(BlockName { label: label(program, instance)?, partition })
}

/// The name in /dev of a driver's instance, if that drives block devices.
pub fn device_name(label: &str) -> Option<String> {
    let (program, instance) = match label.split_once('.') {
        Some((program, number)) => (program, number.parse::<u32>().ok()?),
        None => (label, 0),
    };
    let (prefix, _) = KINDS.iter().find(|(_, driver)| *driver == program)?;
    Some(format!("{prefix}{}", letters(instance)))
}

fn label(program: &str, instance: u32) -> Result<Name> {
    match instance {
        0 => Name::new(program),
        instance => Name::new(&format!("{program}.{instance}")),
    }
}

/// a = 0, z = 25, aa = 26 and so on.
fn instance(letters: &str) -> Option<u32> {
    if letters.is_empty() || letters.len() > 3 {
        return None;
    }
    let count = letters.bytes().fold(0, |sum, letter| sum * 26 + u32::from(letter - b'a') + 1);
    Some(count - 1)
}

fn letters(mut instance: u32) -> String {
    let mut name = String::new();
    loop {
        name.insert(0, char::from(b'a' + (instance % 26) as u8));
        if instance < 26 {
            return name;
        }
        instance = instance / 26 - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels() {
        let vda = parse("/dev/vda").unwrap();
        assert_eq!((vda.label.as_str(), vda.partition), ("virtio-blk", 0));
        let vdc12 = parse("vdc12").unwrap();
        assert_eq!((vdc12.label.as_str(), vdc12.partition), ("virtio-blk.2", 12));
        for wrong in ["", "vd", "vd1", "vda01", "vda1x", "xda", "vdaaaa", "/dev/null", "vda-1"] {
            assert_eq!(parse(wrong), Err(Error::NoEnt), "{wrong}");
        }
        assert_eq!(device_name("virtio-blk").as_deref(), Some("vda"));
        assert_eq!(device_name("tty"), None);
    }

    #[test]
    fn there_and_back() {
        for instance in (0..800).step_by(7) {
            let label = label("virtio-blk", instance).unwrap();
            let name = device_name(label.as_str()).unwrap();
            assert_eq!(parse(&name), Ok(BlockName { label, partition: 0 }));
        }
    }
}
