//! `ls [-a] [-l] [-1] [-R] [-d] [-h] [-i] [FILE...]`

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{STDOUT, Stat, is_kind, join, mode};

use crate::format::{date_time, human_size, mode_text};
use crate::{Context, Options};

/// Directories within each other that `-R` follows.
const DEPTH_MAX: usize = 64;
const SCREEN_WIDTH: usize = 80;

struct Entry {
    name: String,
    path: String,
    stat: Option<Stat>,
}

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "alh1RdiA", "ls [-alh1RdiA] [FILE...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let mut operands = options.operands.clone();
    if operands.is_empty() {
        operands.push(".".to_string());
    }
    operands.sort_unstable();
    let columns = !options.has('1') && !options.has('l') && c.os.is_terminal(STDOUT);
    let mut list = List { options, columns, first: true };
    let (mut files, mut dirs, mut missing) = (Vec::new(), Vec::new(), false);
    for path in operands {
        // A link on the command line is followed, except where it would be shown itself.
        let link = list.options.has('l') || list.options.has('d');
        let stat = match c.os.stat(&path) {
            Ok(stat) if !link || path.ends_with('/') => Ok(stat),
            _ => c.os.lstat(&path),
        };
        match stat {
            Ok(stat) if is_kind(&stat, mode::DIRECTORY) && !list.options.has('d') => {
                dirs.push(path)
            }
            Ok(stat) => files.push(Entry { name: path.clone(), path, stat: Some(stat) }),
            Err(error) => {
                c.problem(&path, error);
                missing = true;
            }
        }
    }
    let titles = files.len() + dirs.len() > 1 || list.options.has('R');
    if !files.is_empty() {
        list.show(c, &files);
        list.first = false;
    }
    for dir in dirs {
        list.directory(c, &dir, titles, 0);
    }
    // As everywhere: 2 for an operand that is not there, 1 for trouble below one.
    if missing { 2 } else { 0 }
}

struct List {
    options: Options,
    columns: bool,
    first: bool,
}

impl List {
    fn directory(&mut self, c: &mut Context<'_>, dir: &str, title: bool, depth: usize) {
        let read = match c.os.read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => return c.problem(dir, error),
        };
        if title {
            if !self.first {
                c.out.write(b"\n");
            }
            let _ = writeln!(c.out, "{dir}:");
        }
        self.first = false;
        let all = self.options.has('a');
        let hidden = all || self.options.has('A');
        let mut names: Vec<(String, u8)> = read
            .into_iter()
            .filter(|entry| hidden || !entry.name.starts_with('.'))
            .map(|entry| (entry.name, entry.kind))
            .collect();
        if all {
            let kind = (mode::DIRECTORY >> 12) as u8;
            names.extend([(".".to_string(), kind), ("..".to_string(), kind)]);
        }
        names.sort_unstable();
        let mut entries = Vec::new();
        for (name, _) in &names {
            let path = join(dir, name);
            let need_stat = self.options.has('l') || self.options.has('i');
            let mut stat = None;
            if need_stat {
                match c.os.lstat(&path) {
                    Ok(found) => stat = Some(found),
                    Err(error) => c.problem(&path, error),
                }
            }
            entries.push(Entry { name: name.clone(), path, stat });
        }
        self.show(c, &entries);
        if !self.options.has('R') {
            return;
        }
        if depth == DEPTH_MAX {
            return c.problem(dir, "directories nested too deeply");
        }
        for (name, kind) in names {
            if u32::from(kind) == mode::DIRECTORY >> 12 && name != "." && name != ".." {
                self.directory(c, &join(dir, &name), true, depth + 1);
            }
        }
    }

    fn show(&self, c: &mut Context<'_>, entries: &[Entry]) {
        if self.options.has('l') {
            return self.show_long(c, entries);
        }
        if self.columns {
            return show_columns(c, entries);
        }
        for entry in entries {
            if self.options.has('i') {
                let _ = write!(c.out, "{:8} ", entry.stat.map_or(0, |stat| stat.ino));
            }
            let _ = writeln!(c.out, "{}", entry.name);
        }
    }

    fn show_long(&self, c: &mut Context<'_>, entries: &[Entry]) {
        let size = |stat: &Stat| {
            if is_kind(stat, mode::CHARACTER) || is_kind(stat, mode::BLOCK) {
                format!("{},{:4}", stat.rdev >> 16, stat.rdev & 0xFFFF)
            } else if self.options.has('h') {
                human_size(stat.size)
            } else {
                stat.size.to_string()
            }
        };
        let stats = || entries.iter().filter_map(|entry| entry.stat);
        let size_width = stats().map(|stat| size(&stat).len()).max().unwrap_or(0);
        let links_width = stats().map(|stat| stat.links.to_string().len()).max().unwrap_or(0);
        let _ = writeln!(c.out, "total {}", stats().map(|stat| stat.blocks).sum::<u64>() / 2);
        for entry in entries {
            let Some(stat) = &entry.stat else { continue };
            if self.options.has('i') {
                let _ = write!(c.out, "{:8} ", stat.ino);
            }
            let _ = write!(
                c.out,
                "{} {:links_width$} {:>size_width$} {} {}",
                mode_text(stat.mode),
                stat.links,
                size(stat),
                date_time(stat.mtime),
                entry.name,
            );
            if is_kind(stat, mode::SYMLINK)
                && let Ok(target) = c.os.readlink(&entry.path)
            {
                let _ = write!(c.out, " -> {target}");
            }
            c.out.write(b"\n");
        }
    }
}

fn show_columns(c: &mut Context<'_>, entries: &[Entry]) {
    let longest = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
    let columns = (SCREEN_WIDTH / (longest + 2)).max(1);
    let rows = entries.len().div_ceil(columns);
    for row in 0..rows {
        let mut line = String::new();
        for entry in entries.iter().skip(row).step_by(rows) {
            let _ = write!(line, "{:width$}", entry.name, width = longest + 2);
        }
        let _ = writeln!(c.out, "{}", line.trim_end());
    }
}
