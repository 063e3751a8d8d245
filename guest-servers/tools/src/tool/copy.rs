//! `cp [-r] [-f] [-p] SOURCE... TARGET` and `mv [-f] SOURCE... TARGET`.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_os::{Error, Os, Result, Stat, base_name, is_kind, join, mode, open, write_all};

use crate::tool::{BUFFER, remove};
use crate::{Context, Options};

const DEPTH_MAX: usize = 64;

pub fn cp(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "rRafpv", "cp [-rRafpv] SOURCE... TARGET") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let all = options.has('a');
    let recursive = all || options.has('r') || options.has('R');
    let keep = all || options.has('p');
    for (source, target) in pairs(c, &options.operands) {
        Copy { recursive, keep, links: recursive, verbose: options.has('v') }
            .copy(c, &source, &target, 0);
    }
    0
}

pub fn mv(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "fv", "mv [-f] [-v] SOURCE... TARGET") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    for (source, target) in pairs(c, &options.operands) {
        match c.os.rename(&source, &target) {
            Ok(()) => {}
            Err(Error::XDev) => {
                // To another file system: copied, then removed if all of it arrived.
                let copy = Copy { recursive: true, keep: true, links: true, verbose: false };
                if copy.copy(c, &source, &target, 0) {
                    remove::remove_tree(c, &source, 0);
                }
            }
            Err(error) => c.problem(&source, error),
        }
        if options.has('v') {
            let _ =
                core::fmt::Write::write_fmt(&mut c.out, format_args!("'{source}' -> '{target}'\n"));
        }
    }
    0
}

/// What goes where. Nothing after a usage error, which is reported.
fn pairs(c: &mut Context<'_>, operands: &[String]) -> Vec<(String, String)> {
    let Some((target, sources)) = operands.split_last().filter(|(_, rest)| !rest.is_empty()) else {
        c.problem("", "source and target expected");
        return Vec::new();
    };
    let into = c.os.stat(target).is_ok_and(|stat| is_kind(&stat, mode::DIRECTORY));
    if sources.len() > 1 && !into {
        c.problem(target, Error::NotDir);
        return Vec::new();
    }
    let path = |source: &String| match into {
        true => join(target, base_name(source)),
        false => target.clone(),
    };
    sources.iter().map(|source| (source.clone(), path(source))).collect()
}

struct Copy {
    recursive: bool,
    keep: bool,
    /// Symbolic links are copied as such.
    links: bool,
    verbose: bool,
}

impl Copy {
    /// Copies one thing; `true` if all of it arrived.
    fn copy(&self, c: &mut Context<'_>, source: &str, target: &str, depth: usize) -> bool {
        let stat = if self.links { c.os.lstat(source) } else { c.os.stat(source) };
        let stat = match stat {
            Ok(stat) => stat,
            Err(error) => return refuse(c, source, error),
        };
        if self.verbose {
            let line = format_args!("'{source}' -> '{target}'\n");
            let _ = core::fmt::Write::write_fmt(&mut c.out, line);
        }
        if is_kind(&stat, mode::SYMLINK) {
            let made = c.os.readlink(source).and_then(|link| match c.os.symlink(&link, target) {
                Err(Error::Exist) => {
                    c.os.unlink(target)?;
                    c.os.symlink(&link, target)
                }
                other => other,
            });
            return made.map_or_else(|error| refuse(c, target, error), |()| true);
        }
        if is_kind(&stat, mode::DIRECTORY) {
            return self.copy_directory(c, source, target, &stat, depth);
        }
        if let Ok(other) = c.os.stat(target)
            && (other.device, other.ino) == (stat.device, stat.ino)
            && stat.ino != 0
        {
            return refuse(c, target, "source and target are the same file");
        }
        if let Err((path, error)) = copy_file(c.os, source, target, stat.mode & 0o777) {
            return refuse(c, path, error);
        }
        if self.keep {
            let _ = c.os.chmod(target, stat.mode & 0o7777);
            let _ = c.os.set_mtime(target, stat.mtime);
        }
        true
    }

    fn copy_directory(
        &self,
        c: &mut Context<'_>,
        source: &str,
        target: &str,
        stat: &Stat,
        depth: usize,
    ) -> bool {
        if !self.recursive {
            return refuse(c, source, "is a directory (use -r)");
        }
        if depth == DEPTH_MAX {
            return refuse(c, source, "directories nested too deeply");
        }
        let entries = match c.os.read_dir(source) {
            Ok(entries) => entries,
            Err(error) => return refuse(c, source, error),
        };
        match c.os.mkdir(target, stat.mode & 0o777) {
            Ok(()) => {}
            Err(Error::Exist) if c.os.stat(target).is_ok_and(|s| is_kind(&s, mode::DIRECTORY)) => {}
            Err(error) => return refuse(c, target, error),
        }
        let made = c.os.stat(target).map(|made| (made.device, made.ino));
        let mut complete = true;
        for entry in entries {
            let path = join(source, &entry.name);
            // A directory copied into itself would never end.
            let own = c.os.lstat(&path).map(|stat| (stat.device, stat.ino));
            if own.is_ok() && own == made {
                complete = refuse(c, &path, "cannot be copied into itself");
                continue;
            }
            complete &= self.copy(c, &path, &join(target, &entry.name), depth + 1);
        }
        if self.keep {
            let _ = c.os.set_mtime(target, stat.mtime);
        }
        complete
    }
}

fn refuse(c: &mut Context<'_>, what: &str, error: impl core::fmt::Display) -> bool {
    c.problem(what, error);
    false
}

/// Copies bytes; on failure the path it is about.
fn copy_file<'p>(
    os: &dyn Os,
    source: &'p str,
    target: &'p str,
    mode: u32,
) -> core::result::Result<(), (&'p str, Error)> {
    let from = os.open(source, open::READ, 0).map_err(|error| (source, error))?;
    let result = copy_to(os, from, source, target, mode);
    let _ = os.close(from);
    result
}

fn copy_to<'p>(
    os: &dyn Os,
    from: u32,
    source: &'p str,
    target: &'p str,
    mode: u32,
) -> core::result::Result<(), (&'p str, Error)> {
    let flags = open::WRITE | open::CREATE | open::TRUNCATE;
    let to = os.open(target, flags, mode).map_err(|error| (target, error))?;
    let mut buffer = vec![0; BUFFER];
    let copied = loop {
        match os.read(from, &mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                if let Err(error) = write_all(os, to, &buffer[..count]) {
                    break Err((target, error));
                }
            }
            Err(error) => break Err((source, error)),
        }
    };
    // What the target's end brings to light counts as well.
    let closed: Result<()> = os.close(to);
    copied.and(closed.map_err(|error| (target, error)))
}
