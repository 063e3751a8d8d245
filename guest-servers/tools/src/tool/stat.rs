//! `stat [-L] [-c FORMAT] FILE...`; in a format `%n` name, `%s` size, `%i` inode, `%a` mode
//! (octal), `%A` mode (letters), `%h` links, `%F` type, `%b` blocks, `%Y` seconds of modification.

use core::fmt::Write;

use xinim_os::{Stat, is_kind, mode};

use crate::format::{date_time, kind_text, mode_text};
use crate::{Context, Options};

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "Lc:", "stat [-L] [-c FORMAT] FILE...") {
        Ok(options) if !options.operands.is_empty() => options,
        Ok(_) => return c.usage("file missing"),
        Err(message) => return c.usage(message),
    };
    for path in &options.operands {
        let stat = if options.has('L') { c.os.stat(path) } else { c.os.lstat(path) };
        match stat {
            Ok(stat) => match options.value('c') {
                Some(format) => formatted(c, format, path, &stat),
                None => full(c, path, &stat),
            },
            Err(error) => c.problem(path, error),
        }
    }
    0
}

fn full(c: &mut Context<'_>, path: &str, stat: &Stat) {
    let _ = write!(
        c.out,
        "  File: {path}\n  Type: {}\n  Size: {}\n  Blocks: {} of 512, block size {}\n  \
         Device: {:#x}\n  Inode: {}\n  Links: {}\n  Mode: {:04o} {}\n  Modified: {}\n",
        kind_text(stat.mode),
        stat.size,
        stat.blocks,
        stat.block_size,
        stat.device,
        stat.ino,
        stat.links,
        stat.mode & 0o7777,
        mode_text(stat.mode),
        date_time(stat.mtime),
    );
}

fn formatted(c: &mut Context<'_>, format: &str, path: &str, stat: &Stat) {
    let mut chars = format.chars();
    while let Some(letter) = chars.next() {
        if letter != '%' {
            let _ = write!(c.out, "{letter}");
            continue;
        }
        let _ = match chars.next() {
            Some('n') => write!(c.out, "{path}"),
            Some('s') => write!(c.out, "{}", stat.size),
            Some('i') => write!(c.out, "{}", stat.ino),
            Some('a') => write!(c.out, "{:o}", stat.mode & 0o7777),
            Some('A') => write!(c.out, "{}", mode_text(stat.mode)),
            Some('h') => write!(c.out, "{}", stat.links),
            Some('F') if stat.size == 0 && is_kind(stat, mode::REGULAR) => {
                write!(c.out, "regular empty file")
            }
            Some('F') => write!(c.out, "{}", kind_text(stat.mode)),
            Some('b') => write!(c.out, "{}", stat.blocks),
            Some('Y') => write!(c.out, "{}", stat.mtime / 1_000_000_000),
            Some(other) => write!(c.out, "{other}"),
            None => write!(c.out, "%"),
        };
    }
    c.out.write(b"\n");
}
