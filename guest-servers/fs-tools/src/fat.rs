//! `mkfs.fat [-F 12|16|32] [-s SECTORS] [-n LABEL] [-i VOLUME-ID] DEVICE`
//! `fsck.fat [-a] [-n] [-v] DEVICE`
//!
//! Options and exit statuses are those of dosfstools: fsck 0 where nothing is wrong, 1 where something
//! was (with `-a` it is repaired), 2 for wrong usage.

use alloc::string::String;
use core::fmt::Write;

use xinim_fs_fat::check::check;
use xinim_fs_fat::format::{Options as Format, format};
use xinim_os::Error;
use xinim_tools::{Context, Options, USAGE};

use crate::common::{open_for_check, parse, tell};
use crate::device::open_for_change;

const MKFS_USAGE: &str = "mkfs.fat [-F 12|16|32] [-s SECTORS] [-n LABEL] [-i VOLUME-ID] DEVICE";
const FSCK_USAGE: &str = "fsck.fat [-a] [-n] [-v] DEVICE";

const ERRORS_FOUND: i32 = 1;
const FSCK_USAGE_STATUS: i32 = 2;

pub fn mkfs(c: &mut Context<'_>) -> i32 {
    let parsed = parse(c, "F:s:n:i:", MKFS_USAGE, 0, wanted);
    let Some((options, wanted)) = parsed else { return USAGE };
    let path = &options.operands[0];
    let Some(mut device) = open_for_change(c, path) else { return 1 };
    match format(&mut device, &wanted) {
        Ok(()) => {}
        Err(Error::Inval) => c.problem(path, "width or cluster do not go with the size"),
        Err(Error::NoSpc) => c.problem(path, "is too small"),
        Err(error) => c.problem(path, error),
    }
    0
}

fn wanted(c: &Context<'_>, options: &Options) -> Result<Format, String> {
    // Two volumes made in the same nanosecond may be alike.
    let mut wanted = Format { volume_id: c.os.wall_clock_ns() as u32, ..Format::default() };
    let small = |letter, number: Option<u64>| match number.map(u32::try_from) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(alloc::format!("-{letter}: too large")),
    };
    wanted.width = small('F', options.number('F')?)?;
    wanted.cluster = small('s', options.number('s')?)?;
    if let Some(text) = options.value('i') {
        let id = u32::from_str_radix(text, 16);
        wanted.volume_id = id.map_err(|_| alloc::format!("-i: bad hexadecimal number '{text}'"))?;
    }
    if let Some(label) = options.value('n') {
        if label.len() > 11 || !label.bytes().all(|byte| (0x20..0x7F).contains(&byte)) {
            return Err(alloc::format!("-n: at most eleven ASCII characters, not '{label}'"));
        }
        let mut padded = [b' '; 11];
        padded[..label.len()].copy_from_slice(label.to_ascii_uppercase().as_bytes());
        wanted.label = Some(padded);
    }
    Ok(wanted)
}

pub fn fsck(c: &mut Context<'_>) -> i32 {
    let repair = |_: &Context<'_>, options: &Options| Ok(options.has('a') && !options.has('n'));
    let Some((options, repair)) = parse(c, "anv", FSCK_USAGE, 0, repair) else {
        return FSCK_USAGE_STATUS;
    };
    let path = &options.operands[0];
    let Some(mut device) = open_for_check(c, path, repair) else { return ERRORS_FOUND };
    let report = match check(&mut device, repair) {
        Ok(report) => report,
        Err(Error::Inval) => {
            c.problem(path, "no FAT file system");
            return ERRORS_FOUND;
        }
        Err(error) => {
            c.problem(path, error);
            return ERRORS_FOUND;
        }
    };
    tell(c, "", &report.problems, report.found);
    let _ = writeln!(
        c.out,
        "{path}: {} files, {}/{} clusters{}",
        report.files,
        report.clusters_used,
        report.clusters,
        if repair && report.found > 0 { ", repaired" } else { "" }
    );
    if report.found > 0 { ERRORS_FOUND } else { 0 }
}
