//! `stat [-L] [-c FORMAT] FILE...`; in a format `%n` name, `%N` with its link, `%s` size, `%i` inode,
//! `%a` mode (octal), `%A` mode (letters), `%f` mode (hexadecimal), `%h` links, `%F` type, `%b` blocks,
//! `%B` bytes of a block, `%o` best size of a request, `%d` device, `%t %T` device numbers, `%u %g`
//! owners, `%U %G` their names, `%X %Y %Z` seconds of access, modification, change.
//!
//! `stat -f [-c FORMAT] FILE...` tells of the file system: `%n` name, `%T` type, `%s` block size, `%b`
//! `%f` `%a` blocks in all, free, available, `%c` `%d` files in all, free, `%l` longest name.

use core::fmt::Write;

use xinim_os::{Stat, StatFs, is_kind, mode};

use super::owner::{group_name, user_name};
use crate::format::{date_time, kind_text, mode_text};
use crate::{Context, Options};

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "Lfc:", "stat [-L] [-f] [-c FORMAT] FILE...") {
        Ok(options) if !options.operands.is_empty() => options,
        Ok(_) => return c.usage("file missing"),
        Err(message) => return c.usage(message),
    };
    for path in &options.operands {
        if options.has('f') {
            match c.os.statfs(path) {
                Ok(stat) => file_system(c, options.value('c'), path, &stat),
                Err(error) => c.problem(path, error),
            }
            continue;
        }
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
         Device: {:#x}\n  Inode: {}\n  Links: {}\n  Mode: {:04o} {}\n  Owner: {} group {}\n  \
         Accessed: {}\n  Modified: {}\n  Changed: {}\n",
        kind_text(stat.mode),
        stat.size,
        stat.blocks,
        stat.block_size,
        stat.device,
        stat.ino,
        stat.links,
        stat.mode & 0o7777,
        mode_text(stat.mode),
        stat.uid,
        stat.gid,
        date_time(stat.atime),
        date_time(stat.mtime),
        date_time(stat.ctime),
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
            Some('N') => match is_kind(stat, mode::SYMLINK).then(|| c.os.readlink(path)) {
                Some(Ok(target)) => write!(c.out, "'{path}' -> '{target}'"),
                _ => write!(c.out, "'{path}'"),
            },
            Some('f') => write!(c.out, "{:x}", stat.mode),
            Some('B') => write!(c.out, "512"),
            Some('o') => write!(c.out, "{}", stat.block_size),
            Some('d') => write!(c.out, "{}", stat.device),
            Some('t') => write!(c.out, "{:x}", stat.rdev >> 16),
            Some('T') => write!(c.out, "{:x}", stat.rdev & 0xFFFF),
            Some('u') => write!(c.out, "{}", stat.uid),
            Some('g') => write!(c.out, "{}", stat.gid),
            Some('U') => {
                let name = user_name(c, stat.uid).unwrap_or_else(|| "UNKNOWN".into());
                write!(c.out, "{name}")
            }
            Some('G') => {
                let name = group_name(c, stat.gid).unwrap_or_else(|| "UNKNOWN".into());
                write!(c.out, "{name}")
            }
            Some('X') => write!(c.out, "{}", stat.atime / 1_000_000_000),
            Some('Z') => write!(c.out, "{}", stat.ctime / 1_000_000_000),
            Some('Y') => write!(c.out, "{}", stat.mtime / 1_000_000_000),
            Some(other) => write!(c.out, "{other}"),
            None => write!(c.out, "%"),
        };
    }
    c.out.write(b"\n");
}

fn file_system(c: &mut Context<'_>, format: Option<&str>, path: &str, stat: &StatFs) {
    let end = stat.fs_type.iter().position(|&b| b == 0).unwrap_or(stat.fs_type.len());
    let kind = alloc::string::String::from_utf8_lossy(&stat.fs_type[..end]).into_owned();
    let Some(format) = format else {
        let _ = write!(
            c.out,
            "  File: {path}\n  Type: {kind}\n  Name length: {}\n  Block size: {}\n  \
             Blocks: {}, free {}\n  Files: {}, free {}\n",
            stat.name_max,
            stat.block_size,
            stat.blocks,
            stat.blocks_free,
            stat.files,
            stat.files_free
        );
        return;
    };
    let mut chars = format.chars();
    while let Some(letter) = chars.next() {
        let _ = match (letter, if letter == '%' { chars.next() } else { None }) {
            ('%', Some('n')) => write!(c.out, "{path}"),
            ('%', Some('T')) => write!(c.out, "{kind}"),
            ('%', Some('s' | 'S')) => write!(c.out, "{}", stat.block_size),
            ('%', Some('b')) => write!(c.out, "{}", stat.blocks),
            ('%', Some('f' | 'a')) => write!(c.out, "{}", stat.blocks_free),
            ('%', Some('c')) => write!(c.out, "{}", stat.files),
            ('%', Some('d')) => write!(c.out, "{}", stat.files_free),
            ('%', Some('l')) => write!(c.out, "{}", stat.name_max),
            ('%', Some(other)) => write!(c.out, "{other}"),
            (letter, _) => write!(c.out, "{letter}"),
        };
    }
    c.out.write(b"\n");
}
