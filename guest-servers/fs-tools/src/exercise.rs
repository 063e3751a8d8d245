//! `fstest [-s SEED] [-n OPERATIONS] [-m BYTES] DIRECTORY`
//!
//! Exercises whatever file system DIRECTORY is on, in a new directory there, and compares with a
//! model after each operation. What the file system cannot do (links, permissions, case, characters
//! beyond ASCII) is tried first and said. Status 0: everything was as it should be.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use xinim_fs_exerciser::{Can, OsTarget, run};
use xinim_os::{Os, join, open};
use xinim_tools::{Context, Options, USAGE, parse_size};

const USAGE_TEXT: &str = "fstest [-s SEED] [-n OPERATIONS] [-m BYTES] DIRECTORY";
const OPERATIONS: u64 = 2000;

pub fn fstest(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "s:n:m:", USAGE_TEXT) {
        Ok(options) if options.operands.len() == 1 => options,
        Ok(_) => return c.usage(format_args!("a directory is needed\nusage: {USAGE_TEXT}")),
        Err(message) => return c.usage(message),
    };
    let numbers = options.number('s').and_then(|seed| Ok((seed, options.number('n')?)));
    let (seed, operations) = match numbers {
        Ok((seed, operations)) => (seed.unwrap_or(1), operations.unwrap_or(OPERATIONS)),
        Err(message) => return c.usage(message),
    };
    let dir = join(&options.operands[0], &format!("fstest-{seed}"));
    if let Err(error) = c.os.mkdir(&dir, 0o755) {
        c.problem(&dir, error);
        return USAGE;
    }
    let mut can = match probe(c.os, &dir) {
        Ok(can) => can,
        Err((what, error)) => {
            c.problem(&what, error);
            return 1;
        }
    };
    if let Some(text) = options.value('m') {
        match parse_size(text).and_then(|size| usize::try_from(size).ok()) {
            Some(size) => can.total_len = size,
            None => return c.usage(format_args!("-m: bad size '{text}'")),
        }
        can.file_len = can.file_len.min(can.total_len);
    }
    let _ = writeln!(
        c.out,
        "fstest: seed {seed}: symbolic links {}, hard links {}, permissions {}, case {}, \
         names of {} bytes{}, times in {} ns",
        yes(can.symbolic_links),
        yes(can.hard_links),
        yes(can.modes),
        yes(can.case_sensitive),
        can.name_max,
        if can.unicode { "" } else { " of ASCII" },
        can.time_step.max(1),
    );
    match run(&mut OsTarget::new(c.os, &dir), &can, seed, operations) {
        Ok(done) => {
            if let Err(error) = c.os.rmdir(&dir) {
                c.problem(&dir, error);
                return 1;
            }
            let _ = writeln!(
                c.out,
                "fstest: {} operations as they should be, {} of them refused, {} for want of \
                 space; {} bytes written, {} compared",
                done.operations, done.refused, done.no_space, done.written, done.compared
            );
            0
        }
        Err(failure) => {
            c.problem(&dir, failure);
            1
        }
    }
}

fn yes(can: bool) -> &'static str {
    if can { "yes" } else { "no" }
}

type Problem = (String, xinim_os::Error);

/// Finds out what the file system at `dir` can do. Leaves it empty.
fn probe(os: &dyn Os, dir: &str) -> Result<Can, Problem> {
    let mut can = Can::default();
    let (file, other) = (join(dir, "probe"), join(dir, "other"));
    let touch = |path: &str| {
        let fd = os.open(path, open::READ_WRITE | open::CREATE, 0o644)?;
        os.close(fd)
    };
    touch(&file).map_err(|error| (file.clone(), error))?;
    let gone = |path: &str| os.unlink(path).is_ok();
    can.symbolic_links = os.symlink("probe", &other).is_ok() && gone(&other);
    can.hard_links = os.link(&file, &other).is_ok() && gone(&other);
    can.case_sensitive = os.lstat(&join(dir, "PROBE")).is_err();
    let unicode = join(dir, "ä\u{1F980}");
    can.unicode = touch(&unicode).is_ok() && gone(&unicode);
    let mut bits = true;
    for mode in [0o741, 0o612] {
        let kept = os.chmod(&file, mode).and_then(|()| os.lstat(&file));
        bits &= kept.is_ok_and(|stat| stat.mode & 0o7777 == mode);
    }
    can.modes = bits;
    let time = 1_234_567_891_123_456_789;
    let kept = os.set_mtime(&file, time).and_then(|()| os.lstat(&file));
    let kept = kept.map_err(|error| (file.clone(), error))?;
    // The steps that exist: nanoseconds, seconds, two seconds.
    can.time_step = match time.saturating_sub(kept.mtime) {
        0 => 0,
        lost if lost < 1_000_000_000 => 1_000_000_000,
        _ => 2_000_000_000,
    };
    os.unlink(&file).map_err(|error| (file.clone(), error))?;
    if let Ok(stat) = os.statfs(dir) {
        can.name_max = (stat.name_max as usize).min(can.name_max);
        // Leaves something free, so that the exercise is not about want of space alone.
        let room = stat.blocks_free.saturating_mul(stat.block_size) / 2;
        can.total_len = can.total_len.min(usize::try_from(room).unwrap_or(usize::MAX));
        can.file_len = can.file_len.min(can.total_len);
    }
    Ok(can)
}
