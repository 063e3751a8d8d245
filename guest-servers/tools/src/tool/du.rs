//! `du [-s] [-a] [-h] [-b] [-c] [-d DEPTH] [PATH...]`: space that files take, in KiB; `-b` their
//! lengths in bytes. A file with several names counts once.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use core::fmt::Write;

use xinim_os::{is_kind, join, mode};

use crate::format::human_size;
use crate::{Context, Options};

const DEPTH_MAX: u32 = 128;

struct Du {
    all: bool,
    human: bool,
    bytes: bool,
    depth: u32,
    seen: BTreeSet<(u64, u64)>,
}

pub fn run(c: &mut Context<'_>) -> i32 {
    let usage = "du [-s] [-a] [-h] [-b] [-c] [-d DEPTH] [PATH...]";
    let options = match Options::parse(c.args, "sahbckd:", usage) {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let depth = match options.number('d') {
        Ok(depth) => depth.map_or(DEPTH_MAX, |depth| depth.min(u64::from(DEPTH_MAX)) as u32),
        Err(message) => return c.usage(message),
    };
    if options.has('s') && options.has('a') {
        return c.usage("-s and -a contradict each other");
    }
    let mut du = Du {
        all: options.has('a'),
        human: options.has('h'),
        bytes: options.has('b'),
        depth: if options.has('s') { 0 } else { depth },
        seen: BTreeSet::new(),
    };
    let mut paths = options.operands.clone();
    if paths.is_empty() {
        paths.push(".".to_string());
    }
    let mut total = 0;
    for path in &paths {
        total += du.tree(c, path, 0);
    }
    if options.has('c') {
        du.print(c, total, "total");
    }
    0
}

impl Du {
    /// Bytes of a file, or of a directory and all below it.
    fn tree(&mut self, c: &mut Context<'_>, path: &str, level: u32) -> u64 {
        let stat = match c.os.lstat(path) {
            Ok(stat) => stat,
            Err(error) => {
                c.problem(path, error);
                return 0;
            }
        };
        let directory = is_kind(&stat, mode::DIRECTORY);
        if !directory && stat.links > 1 && !self.seen.insert((stat.device, stat.ino)) {
            return 0;
        }
        let mut size = if self.bytes { stat.size } else { stat.blocks * 512 };
        if directory && level < DEPTH_MAX {
            match c.os.read_dir(path) {
                Ok(entries) => {
                    for entry in entries {
                        size += self.tree(c, &join(path, &entry.name), level + 1);
                    }
                }
                Err(error) => c.problem(path, error),
            }
        }
        if level <= self.depth && (directory || self.all || level == 0) {
            self.print(c, size, path);
        }
        size
    }

    fn print(&self, c: &mut Context<'_>, size: u64, what: &str) {
        let size: String = match (self.human, self.bytes) {
            (true, _) => human_size(size),
            (false, true) => size.to_string(),
            (false, false) => size.div_ceil(1024).to_string(),
        };
        let _ = writeln!(c.out, "{size}\t{what}");
    }
}
