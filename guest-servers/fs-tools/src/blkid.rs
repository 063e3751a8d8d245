//! `blkid [-o full|export|value] [-s TAG] [DEVICE...]`: what devices hold.
//!
//! Without a device: every one in /dev. Tags, formats and statuses are those of util-linux: 2 where
//! nothing was found.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt::Write;

use xinim_abi::error::Result;
use xinim_block_client::Storage;
use xinim_block_client::partition::{Entry, Scheme, table};
use xinim_block_client::probe::probe;
use xinim_os::{base_name, mode};
use xinim_tools::{Context, Options};

use crate::device::Device;

const USAGE: &str = "blkid [-o full|export|value] [-s TAG] [DEVICE...]";
const NOTHING: i32 = 2;
const WRONG_USAGE: i32 = 4;

type Tags = Vec<(&'static str, String)>;

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "o:s:p", USAGE) {
        Ok(options) => options,
        Err(message) => {
            c.usage(message);
            return WRONG_USAGE;
        }
    };
    let format = options.value('o').unwrap_or("full");
    if !matches!(format, "full" | "export" | "value") {
        c.usage(format_args!("{format}: unknown format\nusage: {USAGE}"));
        return WRONG_USAGE;
    }
    let devices = match options.operands.as_slice() {
        [] => devices(c),
        given => given.to_vec(),
    };
    let mut found = false;
    for path in devices {
        let mut tags = match tags(c, &path) {
            Ok(tags) => tags,
            Err(error) => {
                c.problem(&path, error);
                continue;
            }
        };
        if let Some(wanted) = options.value('s') {
            tags.retain(|(name, _)| *name == wanted);
        }
        if tags.is_empty() {
            continue;
        }
        if format == "export" {
            let blank = if found { "\n" } else { "" };
            let _ = writeln!(c.out, "{blank}DEVNAME={path}");
        }
        found = true;
        match format {
            "full" => {
                let text: String =
                    tags.iter().map(|(name, value)| format!(" {name}=\"{value}\"")).collect();
                let _ = writeln!(c.out, "{path}:{text}");
            }
            "export" => tags.iter().for_each(|(name, value)| {
                let _ = writeln!(c.out, "{name}={value}");
            }),
            _ => tags.iter().for_each(|(_, value)| {
                let _ = writeln!(c.out, "{value}");
            }),
        }
    }
    if found { 0 } else { NOTHING }
}

/// Paths of the block devices in /dev, in the order of the directory.
pub fn devices(c: &mut Context<'_>) -> Vec<String> {
    let entries = c.os.read_dir("/dev").unwrap_or_default().into_iter();
    let block = entries.filter(|entry| u32::from(entry.kind) == mode::BLOCK >> 12);
    block.map(|entry| format!("/dev/{}", entry.name)).collect()
}

/// The device and number behind a partition's path: `/dev/vda` and 1 for `/dev/vda1`.
pub fn parent(path: &str) -> Option<(&str, u32)> {
    let name = base_name(path);
    let disk = name.trim_end_matches(|c: char| c.is_ascii_digit());
    // An optical drive's number is none of a partition.
    let digits = &name[disk.len()..];
    let partition = digits.parse().ok().filter(|_| !disk.starts_with("sr") && disk.len() > 2)?;
    path.starts_with("/dev/").then(|| (&path[..path.len() - digits.len()], partition))
}

/// The entry of a partition's path in its disk's table, and the kind of table.
pub fn entry(c: &Context<'_>, path: &str) -> Option<(Scheme, Entry)> {
    let (disk, number) = parent(path)?;
    let mut disk = Device::open(c.os, disk, false).ok()?;
    let table = table(disk.len() / 512, 512, |at, out| disk.read(at * 512, out)).ok()??;
    let entry = table.entries.into_iter().find(|entry| entry.partition.number == number)?;
    Some((table.scheme, entry))
}

/// What blkid would say of a device, those it does not have left out.
pub fn tags(c: &Context<'_>, path: &str) -> Result<Tags> {
    let mut device = Device::open(c.os, path, false)?;
    let len = device.len();
    let mut tags: Tags = Vec::new();
    if let Some(volume) = probe(len, |at, out| device.read(at, out))? {
        tags =
            vec![("LABEL", volume.label), ("UUID", volume.uuid), ("TYPE", volume.kind.to_string())];
    } else if let Some(table) = table(len / 512, 512, |at, out| device.read(at * 512, out))? {
        tags = vec![("PTUUID", table.id), ("PTTYPE", table.scheme.name().to_string())];
    }
    if let Some((_, entry)) = entry(c, path) {
        tags.push(("PARTLABEL", entry.name));
        tags.push(("PARTUUID", entry.uuid));
    }
    tags.retain(|(_, value)| !value.is_empty());
    Ok(tags)
}
