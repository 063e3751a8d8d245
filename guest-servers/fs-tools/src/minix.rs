//! `mkfs.minix [-1|-2|-3] [-n 14|30] [-i INODES] [-B BLOCK] DEVICE [BLOCKS]`
//! `fsck.minix [-a] [-f] [-s] [-v] DEVICE`
//!
//! Options and exit statuses are those of util-linux, and so is version 1 with names of 30 bytes
//! as what mkfs makes when nothing is said.

use alloc::string::String;
use core::fmt::Write;

use xinim_block_client::Storage;
use xinim_fs_minix::check::check;
use xinim_fs_minix::format::{Options as Format, format};
use xinim_fs_minix::{Geometry, Version};
use xinim_os::Error;
use xinim_tools::{Context, Options};

use crate::common::{blocks, open_for_check, parse, size, tell};
use crate::device::open_for_change;

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
    let parsed = parse(c, "123n:i:B:", MKFS_USAGE, 1, wanted);
    let Some((options, wanted)) = parsed else { return MKFS_USAGE_STATUS };
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

fn wanted(c: &Context<'_>, options: &Options) -> Result<Format, String> {
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
        format.inodes = Some(inodes.map_err(|_| String::from("-i: too many"))?);
    }
    if let Some(block) = size(options, 'B')? {
        format.block = usize::try_from(block).map_err(|_| String::from("-B: too large"))?;
    }
    format.blocks = blocks(options)?;
    format.now = u32::try_from(c.os.wall_clock_ns() / 1_000_000_000).unwrap_or(u32::MAX);
    Ok(format)
}

pub fn fsck(c: &mut Context<'_>) -> i32 {
    let repair = |_: &Context<'_>, options: &Options| Ok(options.has('a'));
    let Some((options, repair)) = parse(c, "afsv", FSCK_USAGE, 0, repair) else {
        return FSCK_USAGE_STATUS;
    };
    let path = &options.operands[0];
    let Some(mut device) = open_for_check(c, path, repair) else { return FAILED };
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
    tell(c, "", &report.problems, report.found);
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
