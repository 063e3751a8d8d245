//! `lsblk [-f] [-i]`: block devices as a tree; with `-f` what they hold, with `-i` what they are
//! (model, serial number, block sizes).
//!
//! Names and sizes come from /dev, the rest from /proc/disks.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::base_name;
use xinim_tools::{Context, Options, human_size};

use crate::blkid;
use crate::device::read_text;

const USAGE: &str = "lsblk [-f] [-i]";

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "fi", USAGE) {
        Ok(options) if options.operands.is_empty() => options,
        Ok(_) => return c.usage(format_args!("usage: {USAGE}")),
        Err(message) => return c.usage(message),
    };
    let disks = read_text(c.os, "/proc/disks").unwrap_or_default();
    let disks = records(&disks);
    let mounts = c.os.mounts().unwrap_or_default();
    let heads: &[&str] = match (options.has('f'), options.has('i')) {
        (true, _) => &["NAME", "FSTYPE", "LABEL", "UUID", "MOUNTPOINTS"],
        (_, true) => &["NAME", "MODEL", "SERIAL", "LOG-SEC", "PHY-SEC", "DISC-MAX", "DEPTH"],
        _ => &["NAME", "MAJ:MIN", "RM", "SIZE", "RO", "ROTA", "TYPE", "MOUNTPOINTS"],
    };
    let mut rows = Vec::from([heads.iter().map(|head| head.to_string()).collect::<Vec<_>>()]);
    let devices = blkid::devices(c);
    for (at, path) in devices.iter().enumerate() {
        let name = base_name(path);
        let parent = blkid::parent(path).map(|(disk, _)| disk.to_string());
        if options.has('i') && parent.is_some() {
            continue;
        }
        let disk = base_name(parent.as_deref().unwrap_or(path));
        let value = |key: &str| {
            let known = disks.get(disk).and_then(|record| record.get(key));
            known.cloned().unwrap_or_default()
        };
        let last = devices.get(at + 1).is_none_or(|next| blkid::parent(next).is_none());
        let label = match (&parent, last) {
            (None, _) => name.to_string(),
            (Some(_), false) => format!("├─{name}"),
            (Some(_), true) => format!("└─{name}"),
        };
        let mounted = mounts.lines().filter_map(|line| line.split_once(' '));
        let own = mounted.filter(|(source, _)| base_name(source) == name);
        let points: Vec<&str> = own.filter_map(|(_, rest)| rest.split(' ').next()).collect();
        let points = points.join(",");
        let mut row = Vec::from([label]);
        if options.has('f') {
            let tags = blkid::tags(c, path).unwrap_or_default();
            let tag = |name: &str| {
                let found = tags.iter().find(|(own, _)| *own == name);
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            };
            row.extend([tag("TYPE"), tag("LABEL"), tag("UUID"), points]);
        } else if options.has('i') {
            row.extend(["model", "serial", "block", "physical", "discard", "depth"].map(&value));
        } else {
            let Ok(stat) = c.os.stat(path) else { continue };
            let kind = match (&parent, value("optical") == "1") {
                (Some(_), _) => "part",
                (None, true) => "rom",
                (None, false) => "disk",
            };
            row.push(format!("{}:{}", stat.rdev >> 16, stat.rdev & 0xFFFF));
            row.extend([value("removable"), human_size(stat.size), value("ro")]);
            row.extend([value("rotational"), kind.to_string(), points]);
        }
        rows.push(row);
    }
    print(c, &rows);
    0
}

/// Aligned columns; what is empty at the end is left out.
fn print(c: &mut Context<'_>, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (text, width) in row.iter().zip(&widths) {
            let pad = width - text.chars().count();
            let _ = write!(line, "{text}{:pad$} ", "");
        }
        let _ = writeln!(c.out, "{}", line.trim_end());
    }
}

/// `/proc/disks`: `name: key=value key=value …`, spaces in values as `\x20`.
fn records(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let record = |line: &str| {
        let (name, rest) = line.split_once(": ")?;
        let pairs = rest.split(' ').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(key, value)| (key.to_string(), value.replace("\\x20", " ")));
        Some((name.to_string(), pairs.collect()))
    };
    text.lines().filter_map(record).collect()
}
