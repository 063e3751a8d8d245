//! `mkfifo`, `mknod`, `truncate`, `flock`, `fstrim`.

use alloc::format;
use alloc::string::ToString;
use core::fmt::Write;

use xinim_os::{Error, Flock, mode, open};

use super::spawn::run_program;
use crate::{Context, Options, parse_size};

/// `mkfifo [-m MODE] NAME...`
pub fn mkfifo(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "m:", "mkfifo [-m MODE] NAME...") {
        Ok(options) if !options.operands.is_empty() => options,
        Ok(_) => return c.usage("name missing"),
        Err(message) => return c.usage(message),
    };
    for path in &options.operands {
        if let Err(error) = make(c, &options, path, mode::FIFO, 0) {
            match error {
                Ok(error) => c.problem(path, error),
                Err(message) => return c.usage(message),
            }
        }
    }
    0
}

/// With `-m` the mode is exactly that, whatever the umask. The inner error is a wrong mode.
fn make(
    c: &mut Context<'_>,
    options: &Options,
    path: &str,
    kind: u32,
    rdev: u32,
) -> Result<(), Result<Error, alloc::string::String>> {
    let permissions = match options.value('m') {
        None => None,
        Some(text) => {
            let bits = super::chmod::change(text, 0o666, false, 0);
            Some(bits.ok_or_else(|| Err(format!("{text}: bad mode")))?)
        }
    };
    c.os.mknod(path, kind | 0o666, rdev).map_err(Ok)?;
    permissions.map_or(Ok(()), |bits| c.os.chmod(path, bits)).map_err(Ok)
}

/// `mknod [-m MODE] NAME p`, `mknod [-m MODE] NAME b|c MAJOR MINOR`
pub fn mknod(c: &mut Context<'_>) -> i32 {
    let usage = "mknod [-m MODE] NAME b|c|p [MAJOR MINOR]";
    let options = match Options::parse(c.args, "m:", usage) {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let number = |text: &str| text.parse::<u16>().ok().map(u32::from);
    let (path, kind, rdev) = match options.operands.as_slice() {
        [path, kind] if kind == "p" => (path, mode::FIFO, 0),
        [path, kind, major, minor] if matches!(kind.as_str(), "b" | "c" | "u") => {
            let (Some(major), Some(minor)) = (number(major), number(minor)) else {
                return c.usage("device numbers are 0 to 65535");
            };
            let kind = if kind == "b" { mode::BLOCK } else { mode::CHARACTER };
            (path, kind, major << 16 | minor)
        }
        _ => return c.usage(format!("usage: {usage}")),
    };
    match make(c, &options, path, kind, rdev) {
        Ok(()) => 0,
        Err(Ok(error)) => {
            c.problem(path, error);
            1
        }
        Err(Err(message)) => c.usage(message),
    }
}

/// `truncate [-c] -s [+|-|<|>|/|%]SIZE FILE...`, `truncate [-c] -r OTHER FILE...`
pub fn truncate(c: &mut Context<'_>) -> i32 {
    let usage = "truncate [-c] -s [+-<>/%]SIZE | -r OTHER FILE...";
    let options = match Options::parse(c.args, "cs:r:", usage) {
        Ok(options) if !options.operands.is_empty() => options,
        Ok(_) => return c.usage("file missing"),
        Err(message) => return c.usage(message),
    };
    let base = match options.value('r').map(|path| (path, c.os.stat(path))) {
        None => None,
        Some((_, Ok(stat))) => Some(stat.size),
        Some((path, Err(error))) => {
            c.problem(path, error);
            return 1;
        }
    };
    let text = match (options.value('s'), base) {
        (Some(text), _) => text.to_string(),
        (None, Some(size)) => size.to_string(),
        (None, None) => return c.usage("one of -s and -r must be given"),
    };
    let digits = text.trim_start_matches(['+', '-', '<', '>', '/', '%']);
    let Some(size) = parse_size(digits) else { return c.usage(format!("{text}: bad size")) };
    let how = if digits.len() < text.len() { text.as_bytes()[0] } else { b'=' };
    if matches!(how, b'/' | b'%') && size == 0 {
        return c.usage("division by zero");
    }
    for path in &options.operands {
        let create = if options.has('c') { 0 } else { open::CREATE };
        let result = match c.os.open(path, open::WRITE | create, 0o666) {
            Err(Error::NoEnt) if options.has('c') => Ok(()),
            Err(error) => Err(error),
            Ok(fd) => {
                let new = c.os.fstat(fd).map(|stat| {
                    let old = base.unwrap_or(stat.size);
                    match how {
                        b'+' => old.saturating_add(size),
                        b'-' => old.saturating_sub(size),
                        b'<' => old.min(size),
                        b'>' => old.max(size),
                        b'/' => old / size * size,
                        b'%' => old.div_ceil(size) * size,
                        _ => size,
                    }
                });
                let done = new.and_then(|new| c.os.ftruncate(fd, new));
                c.os.close(fd).and(done)
            }
        };
        if let Err(error) = result {
            c.problem(path, error);
        }
    }
    0
}

/// `flock [-s|-x|-u] [-n] [-E STATUS] FILE|DIRECTORY COMMAND [ARG...]`, the same with `-c COMMAND`,
/// `flock [-s|-x|-u] [-n] DESCRIPTOR`
pub fn flock(c: &mut Context<'_>) -> i32 {
    // What follows the file belongs to the command.
    let takes_value = |arg: &str| arg == "-E";
    let mut count = 0;
    while let Some(arg) = c.args.get(count)
        && arg.starts_with('-')
    {
        count += if takes_value(arg) { 2 } else { 1 };
    }
    let (own, rest) = c.args.split_at(count.min(c.args.len()));
    let options = match Options::parse(own, "sxeunE:", "flock [-s|-x|-u] [-n] FILE COMMAND...") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let conflict = match options.number('E') {
        Ok(status) => status.unwrap_or(1) as i32,
        Err(message) => return c.usage(message),
    };
    let Some((file, command)) = rest.split_first() else { return c.usage("file missing") };
    let kind = match () {
        () if options.has('u') => Flock::Unlock,
        () if options.has('s') => Flock::Shared,
        () => Flock::Exclusive,
    };
    let opened = match file.parse() {
        Ok(fd) if command.is_empty() => Ok(fd),
        _ if command.is_empty() => return c.usage("command missing"),
        _ => c.os.open(file, open::READ | open::CREATE, 0o666).or_else(|error| match error {
            // A directory, or a file that may not be written.
            Error::IsDir | Error::Access => c.os.open(file, open::READ, 0),
            error => Err(error),
        }),
    };
    let fd = match opened {
        Ok(fd) => fd,
        Err(error) => {
            c.problem(file, error);
            return 66;
        }
    };
    match c.os.flock(fd, kind, !options.has('n')) {
        Ok(()) => {}
        Err(Error::Again) => return conflict,
        Err(error) => {
            c.problem(file, error);
            return 1;
        }
    }
    match command {
        [] => 0,
        [dash, text] if dash == "-c" => {
            let shell = ["/bin/sh", "-c", text].map(ToString::to_string);
            run_program(c, &shell, c.env)
        }
        command => run_program(c, command, c.env),
    }
}

/// `fstrim [-v] [-m BYTES] DIRECTORY...`
pub fn fstrim(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "vm:", "fstrim [-v] [-m BYTES] DIRECTORY...") {
        Ok(options) if !options.operands.is_empty() => options,
        Ok(_) => return c.usage("directory missing"),
        Err(message) => return c.usage(message),
    };
    let least = match options.value('m').map(|text| (text, parse_size(text))) {
        None => 0,
        Some((_, Some(size))) => size,
        Some((text, None)) => return c.usage(format!("{text}: bad size")),
    };
    for path in &options.operands {
        match c.os.trim(path, least) {
            Ok(bytes) if options.has('v') => {
                let _ = writeln!(c.out, "{path}: {bytes} bytes trimmed");
            }
            Ok(_) => {}
            Err(error) => c.problem(path, error),
        }
    }

    0
}
