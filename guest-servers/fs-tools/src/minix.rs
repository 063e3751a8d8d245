//! `mkfs.minix [-1|-2|-3] [-n 14|30] [-i INODES] [-B BLOCK] DEVICE [BLOCKS]`
//! `fsck.minix [-a] [-f] [-s] [-v] DEVICE`
//!
//! Options and exit statuses are those of util-linux, and so is version 1 with names of 30 bytes
//! as what mkfs makes when nothing is said.

use core::fmt::Write;

use xinim_block_client::Storage;
use xinim_fs_minix::check::check;
use xinim_fs_minix::format::{Options as Format, format};
use xinim_fs_minix::{Geometry, Version};
use xinim_os::Error;
use xinim_tools::{Context, Options, parse_size};

use crate::device::{open, open_for_change};

const MKFS_USAGE: &str = "mkfs.minix [-1|-2|-3] [-n 14|30] [-i INODES] [-B BLOCK] DEVICE [BLOCKS]";
const FSCK_USAGE: &str = "fsck.minix [-a] [-f] [-s] [-v] DEVICE";

/// Exit statuses of mkfs.
const MKFS_FAILED: i32 = 8;
const MKFS_USAGE_STATUS: i32 = 16;

/// Exit statuses of fsck.
const CORRECTED: i32 = 3;
const UNCORRECTED: i32 = 4;
const FAILED: i32 = 8;
const FSCK_USAGE_STATUS: i32 = 16;

pub fn mkfs(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "123n:i:B:", MKFS_USAGE) {
        Ok(options) if (1..=2).contains(&options.operands.len()) => options,
        Ok(_) => {
            c.usage(format_args!("a device is needed\nusage: {MKFS_USAGE}"));
            return MKFS_USAGE_STATUS;
        }
        Err(message) => {
            c.usage(message);
            return MKFS_USAGE_STATUS;
        }
    };
    let wanted = match wanted(c, &options) {
        Ok(wanted) => wanted,
        Err(message) => {
            c.usage(message);
            return MKFS_USAGE_STATUS;
        }
    };
    let path = &options.operands[0];
    let Some(mut device) = open_for_change(c, path) else { return MKFS_FAILED };
    let geometry = match format(&mut device, &wanted) {
        Ok(geometry) => geometry,
        Err(error) => {
            let len = device.len();
            match error {
                Error::NoSpc => c.problem(path, format_args!("{len} bytes are too few")),
                Error::FBig => c.problem(path, "more than this version can have"),
                Error::Inval => c.problem(path, "these options do not go together"),
                error => c.problem(path, error),
            }
            return MKFS_FAILED;
        }
    };
    // A sink that cannot be written to is reported at the end.
    let _ = write!(
        c.out,
        "{} inodes\n{} blocks\nFirstdatazone={}\nZonesize={}\nMaxsize={}\n",
        geometry.inodes, geometry.zones, geometry.first_data, geometry.block, geometry.max_size
    );
    0
}

fn wanted(c: &Context<'_>, options: &Options) -> Result<Format, alloc::string::String> {
    let version = match (options.has('3'), options.has('2')) {
        (true, _) => Version::V3,
        (_, true) => Version::V2,
        _ => Version::V1,
    };
    let mut format = Format::new(version);
    if let Some(name_len) = options.number('n')? {
        format.name_len = name_len as usize;
    }
    if let Some(inodes) = options.number('i')? {
        let inodes = u32::try_from(inodes);
        format.inodes = Some(inodes.map_err(|_| alloc::string::String::from("-i: too many"))?);
    }
    if let Some(block) = options.value('B') {
        let size = parse_size(block).and_then(|size| usize::try_from(size).ok());
        format.block = size.ok_or_else(|| alloc::format!("-B: bad size '{block}'"))?;
    }
    if let Some(blocks) = options.operands.get(1) {
        let number = blocks.parse().map_err(|_| alloc::format!("bad number '{blocks}'"))?;
        format.blocks = Some(number);
    }
    format.now = u32::try_from(c.os.wall_clock_ns() / 1_000_000_000).unwrap_or(u32::MAX);
    Ok(format)
}

pub fn fsck(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "afsv", FSCK_USAGE) {
        Ok(options) if options.operands.len() == 1 => options,
        Ok(_) => {
            c.usage(format_args!("a device is needed\nusage: {FSCK_USAGE}"));
            return FSCK_USAGE_STATUS;
        }
        Err(message) => {
            c.usage(message);
            return FSCK_USAGE_STATUS;
        }
    };
    let (path, repair) = (&options.operands[0], options.has('a'));
    let device = if repair { open_for_change(c, path) } else { open(c, path, false) };
    let Some(mut device) = device else { return FAILED };
    let geometry = match Geometry::read(&mut device) {
        Ok(geometry) => geometry,
        Err(error) => {
            match error {
                Error::Inval => c.problem(path, "no MINIX file system"),
                error => c.problem(path, error),
            }
            return FAILED;
        }
    };
    if geometry.clean && !options.has('f') {
        let _ = writeln!(c.out, "{path} is clean, no check.");
        return 0;
    }
    if options.has('s') {
        let _ = write!(
            c.out,
            "{} inodes\n{} blocks\nFirstdatazone={}\nZonesize={}\nMaxsize={}\nFilesystem state={}\nnamelen={}\n",
            geometry.inodes,
            geometry.zones,
            geometry.first_data,
            geometry.block,
            geometry.max_size,
            u8::from(geometry.clean),
            geometry.name_len
        );
    }
    let report = match check(&mut device, repair) {
        Ok(report) => report,
        Err(error) => {
            c.problem(path, error);
            return FAILED;
        }
    };
    for problem in &report.problems {
        let _ = writeln!(c.out, "{problem}");
    }
    let told = report.problems.len() as u64;
    if report.found > told {
        let _ = writeln!(c.out, "and {} more", report.found - told);
    }
    if options.has('v') {
        let _ = writeln!(
            c.out,
            "{} of {} inodes, {} of {} zones in use",
            report.inodes_used,
            geometry.inodes,
            report.zones_used,
            geometry.zones - geometry.first_data
        );
    }
    match (report.found, report.repaired()) {
        (0, _) => 0,
        (_, true) => {
            let _ = writeln!(c.out, "{path}: repaired");
            CORRECTED
        }
        _ => UNCORRECTED,
    }
}
