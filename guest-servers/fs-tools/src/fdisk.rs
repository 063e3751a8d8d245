//! `fdisk -l [DEVICE...]`: disks and their partition tables. It changes nothing.
//!
//! Without a device: every whole disk in /dev. The columns are those of util-linux.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_abi::error::Result;
use xinim_block_client::Storage;
use xinim_block_client::partition::{Scheme, Table, table};
use xinim_tools::{Context, Options};

use crate::blkid;
use crate::device::Device;

const USAGE: &str = "fdisk -l [DEVICE...]";

/// Types that are common, as fdisk calls them; others are shown by number.
const GPT_TYPES: [(&str, &str); 8] = [
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI System"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux filesystem"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
];
const MBR_TYPES: [(&str, &str); 13] = [
    ("1", "FAT12"),
    ("4", "FAT16 <32M"),
    ("5", "Extended"),
    ("6", "FAT16"),
    ("7", "HPFS/NTFS/exFAT"),
    ("b", "W95 FAT32"),
    ("c", "W95 FAT32 (LBA)"),
    ("e", "W95 FAT16 (LBA)"),
    ("f", "W95 Ext'd (LBA)"),
    ("81", "Minix / old Linux"),
    ("82", "Linux swap / Solaris"),
    ("83", "Linux"),
    ("8e", "Linux LVM"),
];

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "l", USAGE) {
        Ok(options) if options.has('l') => options,
        Ok(_) => return c.usage(format_args!("it only lists: -l is needed\nusage: {USAGE}")),
        Err(message) => return c.usage(message),
    };
    let devices = match options.operands.as_slice() {
        [] => {
            let mut all = blkid::devices(c);
            all.retain(|path| blkid::parent(path).is_none());
            all
        }
        given => given.to_vec(),
    };
    for (at, path) in devices.iter().enumerate() {
        match text(c, path) {
            Ok(text) => {
                let _ = write!(c.out, "{}{text}", if at > 0 { "\n\n" } else { "" });
            }
            Err(error) => c.problem(path, error),
        }
    }
    0
}

pub fn text(c: &Context<'_>, path: &str) -> Result<String> {
    let mut device = Device::open(c.os, path, false)?;
    let bytes = device.len();
    let sectors = bytes / 512;
    let mut text =
        format!("Disk {path}: {}, {bytes} bytes, {sectors} sectors\n", size(bytes, true));
    text.push_str("Units: sectors of 1 * 512 = 512 bytes\n");
    let found = table(sectors, 512, |at, out| device.read(at * 512, out))?;
    if let Some(table) = found {
        rows(&mut text, path, &table);
    }
    Ok(text)
}

fn rows(text: &mut String, path: &str, table: &Table) {
    let mbr = table.scheme == Scheme::Mbr;
    let id = if mbr { format!("0x{}", table.id) } else { table.id.to_uppercase() };
    let _ = write!(text, "Disklabel type: {}\nDisk identifier: {id}\n", table.scheme.name());
    if table.entries.is_empty() {
        return;
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    let heads: &[&str] = match mbr {
        true => &["Device", "Boot", "Start", "End", "Sectors", "Size", "Id", "Type"],
        false => &["Device", "Start", "End", "Sectors", "Size", "Type"],
    };
    rows.push(heads.iter().map(|head| head.to_string()).collect());
    for entry in &table.entries {
        let part = entry.partition;
        // As the names in /dev; behind a digit stands a p.
        let p = if path.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        let mut row = Vec::from([format!("{path}{p}{}", part.number)]);
        if mbr {
            row.push(String::from(if entry.boot { "*" } else { "" }));
        }
        let last = part.start + part.sectors - 1;
        row.extend([part.start, last, part.sectors].map(|number| number.to_string()));
        row.push(size(part.sectors * 512, false));
        let types: &[(&str, &str)] = if mbr { &MBR_TYPES } else { &GPT_TYPES };
        let known = types.iter().find(|(kind, _)| *kind == entry.kind);
        let name = known.map_or("unknown", |(_, name)| name);
        match (mbr, known) {
            (true, _) => row.extend([entry.kind.clone(), name.to_string()]),
            (false, Some(_)) => row.push(name.to_string()),
            (false, None) => row.push(entry.kind.to_uppercase()),
        }
        rows.push(row);
    }
    text.push('\n');
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let last = heads.len() - 1;
    let widths: Vec<usize> = (0..last).map(width).collect();
    for row in &rows {
        let _ = write!(text, "{:<w$}", row[0], w = widths[0]);
        for at in 1..last {
            let _ = write!(text, " {:>w$}", row[at], w = widths[at]);
        }
        let _ = writeln!(text, " {}", row[last]);
    }
}

/// `64 MiB`, or `64M`; one digit behind the point where it is not zero.
fn size(bytes: u64, long: bool) -> String {
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit < 6 {
        tenths = tenths * 10 / 1024;
        tenths = tenths / 10 + u128::from(tenths % 10 >= 5);
        unit += 1;
    }
    let names = ["B", "K", "M", "G", "T", "P", "E"];
    let name = match (long, unit) {
        (true, 0) => " bytes".to_string(),
        (true, _) => format!(" {}iB", names[unit]),
        (false, _) => names[unit].to_string(),
    };
    match tenths % 10 {
        0 => format!("{}{name}", tenths / 10),
        rest => format!("{}.{rest}{name}", tenths / 10),
    }
}
