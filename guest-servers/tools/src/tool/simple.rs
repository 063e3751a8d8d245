//! Tools of a line or two.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;

use xinim_os::{Error, base_name, dir_name, file_time, is_kind, mode, open};

use crate::{Context, Options};

pub fn true_(_: &mut Context<'_>) -> i32 {
    0
}

pub fn false_(_: &mut Context<'_>) -> i32 {
    1
}

pub fn pwd(c: &mut Context<'_>) -> i32 {
    match c.os.getcwd() {
        Ok(dir) => _ = writeln!(c.out, "{dir}"),
        Err(error) => c.problem("", error),
    }
    0
}

/// `yes [TEXT...]`
pub fn yes(c: &mut Context<'_>) -> i32 {
    let text = if c.args.is_empty() { "y".to_string() } else { c.args.join(" ") };
    while c.out.error().is_none() {
        let _ = writeln!(c.out, "{text}");
    }
    0
}

/// `basename PATH [SUFFIX]`
pub fn basename(c: &mut Context<'_>) -> i32 {
    let Some(path) = c.args.first() else { return c.usage("usage: basename PATH [SUFFIX]") };
    let mut name = base_name(path);
    if let Some(suffix) = c.args.get(1)
        && name != suffix
    {
        name = name.strip_suffix(suffix.as_str()).unwrap_or(name);
    }
    let _ = writeln!(c.out, "{name}");
    0
}

pub fn dirname(c: &mut Context<'_>) -> i32 {
    if c.args.is_empty() {
        return c.usage("usage: dirname PATH...");
    }
    for path in c.args {
        let _ = writeln!(c.out, "{}", dir_name(path));
    }
    0
}

pub fn clear(c: &mut Context<'_>) -> i32 {
    c.out.write(b"\x1b[H\x1b[2J");
    0
}

pub fn sync(c: &mut Context<'_>) -> i32 {
    if let Err(error) = c.os.sync() {
        c.problem("", error);
    }
    0
}

/// `uname [-asnrvm]`
pub fn uname(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "asnrvm", "uname [-asnrvm]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let parts = [
        ('s', "XINIM"),
        ('n', "xinim"),
        ('r', env!("CARGO_PKG_VERSION")),
        ('v', "microkernel"),
        ('m', "x86_64"),
    ];
    let none = !parts.iter().any(|(letter, _)| options.has(*letter)) && !options.has('a');
    let chosen = |letter| options.has('a') || options.has(letter) || (none && letter == 's');
    let texts = parts.iter().filter(|(letter, _)| chosen(*letter)).map(|(_, text)| *text);
    let texts: alloc::vec::Vec<&str> = texts.collect();
    let _ = writeln!(c.out, "{}", texts.join(" "));
    0
}

/// `sleep SECONDS...`, fractions too.
pub fn sleep(c: &mut Context<'_>) -> i32 {
    if c.args.is_empty() {
        return c.usage("usage: sleep SECONDS...");
    }
    let mut total = 0u64;
    for text in c.args {
        match parse_seconds(text) {
            Some(ns) => total = total.saturating_add(ns),
            None => return c.usage(format!("{text}: bad time")),
        }
    }
    if let Err(error) = c.os.sleep_ns(total) {
        c.problem("", error);
    }
    0
}

/// Nanoseconds of `1`, `0.25`, `5m`, `1h`.
pub fn parse_seconds(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty())
        || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let ns = whole.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)?;
    ns.checked_mul(unit)
}

pub fn poweroff(c: &mut Context<'_>) -> i32 {
    end(c, false)
}

pub fn reboot(c: &mut Context<'_>) -> i32 {
    end(c, true)
}

fn end(c: &mut Context<'_>, reboot: bool) -> i32 {
    if let Err(error) = c.os.shutdown(reboot) {
        c.problem("", error);
    }
    0
}

/// `env [NAME=VALUE]... [COMMAND ARGUMENT...]`
pub fn env(c: &mut Context<'_>) -> i32 {
    let mut env = c.env.to_vec();
    let mut rest = c.args;
    if rest.first().is_some_and(|arg| arg == "-i") {
        env.clear();
        rest = &rest[1..];
    }
    while let Some((name, _)) = rest.first().and_then(|arg| arg.split_once('=')) {
        env.retain(|entry| entry.split_once('=').is_none_or(|(own, _)| own != name));
        env.push(rest[0].clone());
        rest = &rest[1..];
    }
    if !rest.is_empty() {
        return super::spawn::run_program(c, rest, &env);
    }
    for entry in env {
        let _ = writeln!(c.out, "{entry}");
    }
    0
}

/// `mkdir [-p] [-m MODE] DIRECTORY...`
pub fn mkdir(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "pm:", "mkdir [-p] [-m MODE] DIRECTORY...") {
        Ok(options) if !options.operands.is_empty() => options,
        Ok(_) => return c.usage("directory missing"),
        Err(message) => return c.usage(message),
    };
    let mode = options.value('m').map_or(Ok(0o777), |text| u32::from_str_radix(text, 8));
    let Ok(mode) = mode else { return c.usage("bad mode") };
    for path in &options.operands {
        let result = match options.has('p') {
            true => mkdir_all(c.os, path, mode),
            false => c.os.mkdir(path, mode),
        };
        if let Err(error) = result {
            c.problem(path, error);
        }
    }
    0
}

fn mkdir_all(os: &dyn xinim_os::Os, path: &str, mode: u32) -> xinim_os::Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    for end in ends.chain([path.len()]) {
        let part = &path[..end];
        match os.mkdir(part, mode) {
            Ok(()) => {}
            Err(error) => match os.stat(part) {
                Ok(stat) if is_kind(&stat, self::mode::DIRECTORY) => {}
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

pub fn rmdir(c: &mut Context<'_>) -> i32 {
    if c.args.is_empty() {
        return c.usage("usage: rmdir DIRECTORY...");
    }
    for path in c.args {
        if let Err(error) = c.os.rmdir(path) {
            c.problem(path, error);
        }
    }
    0
}

/// `touch [-a] [-m] [-c] [-h] [-r OTHER | -d @SECONDS] FILE...`
pub fn touch(c: &mut Context<'_>) -> i32 {
    let usage = "touch [-a] [-m] [-c] [-h] [-r OTHER | -d @SECONDS] FILE...";
    let options = match Options::parse(c.args, "amchr:d:", usage) {
        Ok(options) if !options.operands.is_empty() => options,
        Ok(_) => return c.usage("file missing"),
        Err(message) => return c.usage(message),
    };
    let (mut atime, mut mtime) = (file_time::NOW, file_time::NOW);
    if let Some(other) = options.value('r') {
        match c.os.stat(other) {
            Ok(stat) => (atime, mtime) = (stat.atime, stat.mtime),
            Err(error) => {
                c.problem(other, error);
                return 1;
            }
        }
    }
    if let Some(text) = options.value('d') {
        let seconds = text.strip_prefix('@').and_then(parse_seconds);
        let Some(ns) = seconds else { return c.usage(format!("{text}: bad date (as @SECONDS)")) };
        (atime, mtime) = (ns, ns);
    }
    if options.has('a') != options.has('m') {
        match options.has('a') {
            true => mtime = file_time::OMIT,
            false => atime = file_time::OMIT,
        }
    }
    let follow = !options.has('h');
    for path in &options.operands {
        let mut result = c.os.set_times(path, follow, atime, mtime);
        if result == Err(Error::NoEnt) {
            result = match options.has('c') || options.has('h') {
                true => Ok(()),
                false => {
                    let fd = c.os.open(path, open::WRITE | open::CREATE, 0o666);
                    fd.and_then(|fd| c.os.close(fd)).and_then(|()| match (atime, mtime) {
                        (file_time::NOW, file_time::NOW) => Ok(()),
                        _ => c.os.set_times(path, follow, atime, mtime),
                    })
                }
            };
        }
        if let Err(error) = result {
            c.problem(path, error);
        }
    }
    0
}

pub fn readlink(c: &mut Context<'_>) -> i32 {
    if c.args.is_empty() {
        return c.usage("usage: readlink LINK...");
    }
    let mut status = 0;
    for path in c.args {
        match c.os.readlink(path) {
            Ok(target) => _ = writeln!(c.out, "{target}"),
            // Scripts ask with it whether there is a link: quiet.
            Err(_) => status = 1,
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::parse_seconds;

    #[test]
    fn seconds() {
        assert_eq!(parse_seconds("1"), Some(1_000_000_000));
        assert_eq!(parse_seconds("0.25"), Some(250_000_000));
        assert_eq!(parse_seconds(".5"), Some(500_000_000));
        assert_eq!(parse_seconds("2m"), Some(120_000_000_000));
        for bad in ["", ".", "-1", "1.x", "1y", "99999999999999999999"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
    }
}
