//! `rm [-r] [-f] FILE...`

use xinim_os::{Error, base_name, is_kind, join, mode};

use crate::{Context, Options};

const DEPTH_MAX: usize = 128;

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "rRfv", "rm [-r] [-f] FILE...") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let force = options.has('f');
    if options.operands.is_empty() && !force {
        return c.usage("file missing");
    }
    for path in &options.operands {
        if matches!(base_name(path), "." | ".." | "/") {
            c.problem(path, "refusing to remove it");
            continue;
        }
        if options.has('r') || options.has('R') {
            if force && c.os.lstat(path) == Err(Error::NoEnt) {
                continue;
            }
            remove_tree(c, path, 0);
            continue;
        }
        match c.os.unlink(path) {
            Ok(()) => {}
            Err(Error::NoEnt) if force => {}
            Err(error) => c.problem(path, error),
        }
    }
    0
}

/// Removes a file, or a directory with all that is in it. Links are not followed.
pub fn remove_tree(c: &mut Context<'_>, path: &str, depth: usize) {
    let result = c.os.lstat(path).and_then(|stat| {
        if !is_kind(&stat, mode::DIRECTORY) {
            return c.os.unlink(path);
        }
        if depth == DEPTH_MAX {
            return Err(Error::NameTooLong);
        }
        for entry in c.os.read_dir(path)? {
            remove_tree(c, &join(path, &entry.name), depth + 1);
        }
        c.os.rmdir(path)
    });
    if let Err(error) = result {
        c.problem(path, error);
    }
}
