//! `mkfs.ext4 [-F] [-b BLOCK] [-i BYTES] [-I SIZE] [-J size=MIB] [-L LABEL] DEVICE [BLOCKS]` (also
//! `.ext2`, `.ext3`), `fsck.ext4 [-f] [-n] [-p] [-v] [-y] DEVICE`
//!
//! Options and exit statuses are those of e2fsprogs, as far as there are the same. Without `-p` or `-y`
//! nothing is changed.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use xinim_fs_ext::Surroundings;
use xinim_fs_ext::check::{Failure, check, is_clean};
use xinim_fs_ext::format::{Kind, Options as Format, format as make};
use xinim_os::{Error, Os, Result, open as flags};
use xinim_tools::{Context, Options};

use crate::common::{blocks, open_for_check, parse, size, tell};
use crate::device::open_for_change;

const MKFS_USAGE: &str =
    "mkfs.ext4 [-F] [-b BLOCK] [-i BYTES] [-I SIZE] [-J size=MIB] [-L LABEL] DEVICE [BLOCKS]";
const FSCK_USAGE: &str = "fsck.ext4 [-f] [-n] [-p] [-v] [-y] DEVICE";

const MKFS_FAILED: i32 = 1;

/// Exit statuses of fsck.
const CORRECTED: i32 = 1;
const UNCORRECTED: i32 = 4;
const FAILED: i32 = 8;
const FSCK_USAGE_STATUS: i32 = 16;

pub fn mkfs2(c: &mut Context<'_>) -> i32 {
    mkfs(c, Kind::Ext2)
}

pub fn mkfs3(c: &mut Context<'_>) -> i32 {
    mkfs(c, Kind::Ext3)
}

pub fn mkfs4(c: &mut Context<'_>) -> i32 {
    mkfs(c, Kind::Ext4)
}

/// Clock of the formats: the tools set it to the time they were started at.
fn around(c: &Context<'_>) -> Surroundings {
    use core::sync::atomic::{AtomicU64, Ordering};
    static STARTED: AtomicU64 = AtomicU64::new(0);
    STARTED.store(c.os.wall_clock_ns(), Ordering::Relaxed);
    Surroundings { now: || STARTED.load(Ordering::Relaxed), log: |_| {} }
}

fn random(os: &dyn Os) -> Result<[u8; 32]> {
    let fd = os.open("/dev/random", flags::READ, 0)?;
    let mut bytes = [0; 32];
    let mut done = 0;
    let result = loop {
        match os.read(fd, &mut bytes[done..]) {
            Ok(0) => break Err(Error::Io),
            Ok(count) if done + count < bytes.len() => done += count,
            other => break other,
        }
    };
    os.close(fd)?;
    result.map(|_| bytes)
}

fn mkfs(c: &mut Context<'_>, kind: Kind) -> i32 {
    let parsed = parse(c, "b:Fi:I:J:L:q", MKFS_USAGE, 1, |c, options| {
        let seed = random(c.os).map_err(|error| format!("/dev/random: {error}"))?;
        format_options(options, kind, seed)
    });
    let Some((options, (mut wanted, journal_mib))) = parsed else { return MKFS_FAILED };
    let path = &options.operands[0];
    let Some(mut device) = open_for_change(c, path) else { return MKFS_FAILED };
    if let Some(mib) = journal_mib {
        let block = wanted.block_size.unwrap_or(4096) as u64;
        wanted.block_size = Some(block as usize);
        wanted.journal_blocks = Some(u32::try_from((mib << 20) / block).unwrap_or(u32::MAX));
    }
    match make(&mut device, &wanted, around(c)) {
        Ok(made) => {
            let _ = write!(
                c.out,
                "{} blocks of {} bytes, {} inodes, {} groups",
                made.blocks, made.block_size, made.inodes, made.groups
            );
            if made.journal_blocks > 0 {
                let _ = write!(c.out, ", a journal of {} blocks", made.journal_blocks);
            }
            let _ = writeln!(c.out);
            0
        }
        Err(error) => {
            match error {
                Error::NoSpc => c.problem(path, "too small, or too small for such a journal"),
                Error::Inval => c.problem(path, "these options do not go together"),
                error => c.problem(path, error),
            }
            MKFS_FAILED
        }
    }
}

/// The options for the format, and the size of the journal in MiB.
fn format_options(
    options: &Options,
    kind: Kind,
    seed: [u8; 32],
) -> core::result::Result<(Format, Option<u64>), String> {
    let mut format = Format::new(kind, seed);
    format.block_size = size(options, 'b')?.map(|size| size as usize);
    format.inode_ratio = size(options, 'i')?;
    format.inode_size = size(options, 'I')?.map_or(format.inode_size, |size| size as usize);
    if let Some(label) = options.value('L') {
        format.label = label.as_bytes().to_vec();
    }
    let journal = match options.value('J') {
        None => None,
        Some(text) => {
            let mib = text.strip_prefix("size=").and_then(|size| size.parse::<u64>().ok());
            let bad = || format!("-J: 'size=' and a number of MiB, not '{text}'");
            Some(mib.filter(|&mib| mib < 1 << 20).ok_or_else(bad)?)
        }
    };
    format.blocks = blocks(options)?;
    Ok((format, journal))
}

pub fn fsck(c: &mut Context<'_>) -> i32 {
    let parsed = parse(c, "fnpavy", FSCK_USAGE, 0, |_, options| {
        let repair = ['p', 'a', 'y'].into_iter().any(|letter| options.has(letter));
        match repair && options.has('n') {
            true => Err("-n goes with none of -p, -a and -y".into()),
            false => Ok(repair),
        }
    });
    let Some((options, repair)) = parsed else { return FSCK_USAGE_STATUS };
    let path = &options.operands[0];
    let Some(mut device) = open_for_check(c, path, repair) else { return FAILED };
    let judged = match is_clean(&mut device) {
        Ok(true) if !options.has('f') => {
            let _ = writeln!(c.out, "{path}: clean");
            return 0;
        }
        Ok(_) => check(&mut device, repair, around(c)),
        Err(failure) => Err(failure),
    };
    let report = match judged {
        Ok(report) => report,
        Err(failure) => {
            match failure {
                Failure::Foreign => c.problem(path, "no ext2, ext3 or ext4 file system"),
                Failure::Refused(what) => c.problem(path, what),
                Failure::Device(error) => c.problem(path, error),
            }
            return FAILED;
        }
    };
    if report.replayed > 0 {
        let _ = writeln!(c.out, "{path}: journal replayed");
    }
    tell(c, &format!("{path}: "), &report.problems, report.found);
    let _ = writeln!(
        c.out,
        "{path}: {}/{} files, {}/{} blocks",
        report.inodes_used, report.inodes, report.blocks_used, report.blocks
    );
    if options.has('v') {
        let _ = writeln!(c.out, "{path}: {}, {} directories", report.kind, report.directories);
    }
    match (report.found, report.repaired()) {
        (0, _) if report.replayed == 0 => 0,
        (_, true) => {
            let _ = writeln!(c.out, "{path}: repaired");
            CORRECTED
        }
        _ => {
            let _ = writeln!(c.out, "{path}: still has errors");
            UNCORRECTED
        }
    }
}
