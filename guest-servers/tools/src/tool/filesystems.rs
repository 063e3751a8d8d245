//! `df [-h] [PATH...]`, `mount [-t TYPE] [-r] [-o OPTIONS] DEVICE DIRECTORY`,
//! `mount -o remount[,OPTIONS] DIRECTORY`, `umount [-l] PATH...`

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::mount_flags;

use crate::format::human_size;
use crate::{Context, Options};

pub fn df(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "hk", "df [-h] [PATH...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let mounts = match c.os.mounts() {
        Ok(text) => text,
        Err(error) => {
            c.problem("", error);
            return 1;
        }
    };
    let mut rows = Vec::new();
    if options.operands.is_empty() {
        for line in mounts.lines() {
            let mut fields = line.split(' ');
            let (source, target) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            rows.push((source.to_string(), target.to_string()));
        }
    }
    rows.extend(options.operands.iter().map(|path| ("-".to_string(), path.clone())));
    let unit = if options.has('h') { "Size" } else { "KiB" };
    let _ = writeln!(
        c.out,
        "{:<16} {:>10} {:>10} {:>10} {:>4}  {:<8} Mounted on",
        "Source", unit, "Used", "Free", "Use%", "Type"
    );
    for (source, path) in rows {
        let stat = match c.os.statfs(&path) {
            Ok(stat) => stat,
            Err(error) => {
                c.problem(&path, error);
                continue;
            }
        };
        let bytes = |blocks: u64| blocks.saturating_mul(stat.block_size);
        let show = |blocks: u64| match options.has('h') {
            true => human_size(bytes(blocks)),
            false => (bytes(blocks) / 1024).to_string(),
        };
        let used = stat.blocks.saturating_sub(stat.blocks_free);
        let percent = match stat.blocks {
            0 => "-".to_string(),
            blocks => alloc::format!("{}%", (u128::from(used) * 100).div_ceil(u128::from(blocks))),
        };
        let end = stat.fs_type.iter().position(|&b| b == 0).unwrap_or(stat.fs_type.len());
        let fs_type = String::from_utf8_lossy(&stat.fs_type[..end]);
        let _ = writeln!(
            c.out,
            "{source:<16} {:>10} {:>10} {:>10} {percent:>4}  {fs_type:<8} {path}",
            show(stat.blocks),
            show(used),
            show(stat.blocks_free),
        );
    }
    0
}

pub fn mount(c: &mut Context<'_>) -> i32 {
    let usage = "mount [-t TYPE] [-r] [-o ro,noexec,nosuid,nodev,noatime,remount] DEVICE DIRECTORY";
    let options = match Options::parse(c.args, "t:ro:", usage) {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let mut remount = false;
    let mut flags = if options.has('r') { mount_flags::READ_ONLY } else { 0 };
    for option in options.value('o').unwrap_or("").split(',') {
        match option {
            "ro" => flags |= mount_flags::READ_ONLY,
            "noexec" => flags |= mount_flags::NO_EXEC,
            "nosuid" => flags |= mount_flags::NO_SUID,
            "nodev" => flags |= mount_flags::NO_DEV,
            "noatime" => flags |= mount_flags::NO_ATIME,
            "remount" => remount = true,
            "exec" | "suid" | "dev" | "relatime" | "rw" | "" | "defaults" => {}
            other => return c.usage(alloc::format!("{other}: unknown option")),
        }
    }
    let fs_type = options.value('t').unwrap_or("");
    match options.operands.as_slice() {
        [] => match c.os.mounts() {
            Ok(text) => {
                for line in text.lines() {
                    let mut fields = line.split(' ');
                    let mut next = || fields.next().unwrap_or("-");
                    let (source, target, fs_type, options) = (next(), next(), next(), next());
                    let _ = writeln!(c.out, "{source} on {target} type {fs_type} ({options})");
                }
            }
            Err(error) => c.problem("", error),
        },
        [target] | [_, target] if remount => {
            if let Err(error) = c.os.remount(target, flags) {
                c.problem(target, error);
            }
        }
        // A file system without a device: `mount -t ramfs /mnt`.
        [target] if !fs_type.is_empty() => {
            if let Err(error) = c.os.mount("", target, fs_type, flags) {
                c.problem(target, error);
            }
        }
        [source, target] => {
            if let Err(error) = c.os.mount(source, target, fs_type, flags) {
                c.problem(&alloc::format!("{source} on {target}"), error);
            }
        }
        _ => return c.usage(alloc::format!("usage: {usage}")),
    }
    0
}

pub fn umount(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "l", "umount [-l] DIRECTORY|DEVICE...") {
        Ok(options) if !options.operands.is_empty() => options,
        Ok(_) => return c.usage("directory missing"),
        Err(message) => return c.usage(message),
    };
    let mounts = c.os.mounts().unwrap_or_default();
    for path in &options.operands {
        // By device: where it was mounted last.
        let mut lines = mounts.lines().rev().map(|line| line.split(' '));
        let target = lines.find_map(|mut fields| {
            let source = fields.next()?;
            fields.next().filter(|_| source == path.as_str())
        });
        if let Err(error) = c.os.umount(target.unwrap_or(path), options.has('l')) {
            c.problem(path, error);
        }
    }
    0
}
