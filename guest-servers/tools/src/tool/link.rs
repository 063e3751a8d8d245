//! `ln [-s] [-f] [-n] [-T] [-v] TARGET [LINK]`, `ln [-s] [-f] TARGET... DIRECTORY`, also with
//! `-t DIRECTORY`

use core::fmt::Write;

use xinim_os::{Error, base_name, is_kind, join, mode};

use crate::{Context, Options};

pub fn run(c: &mut Context<'_>) -> i32 {
    let options =
        match Options::parse(c.args, "sfnTvt:", "ln [-s] [-f] [-n] [-T] [-v] TARGET... LINK") {
            Ok(options) if !options.operands.is_empty() => options,
            Ok(_) => return c.usage("target missing"),
            Err(message) => return c.usage(message),
        };
    let here = alloc::string::String::from(".");
    let dir = options.value('t').map(alloc::string::String::from);
    let (link, targets) = match options.operands.as_slice() {
        targets if dir.is_some() => (dir.as_ref().unwrap_or(&here), targets),
        [only] => (&here, core::slice::from_ref(only)),
        [targets @ .., link] => (link, targets),
        [] => return 0,
    };
    let stat = if options.has('n') { c.os.lstat(link) } else { c.os.stat(link) };
    let into = !options.has('T') && stat.is_ok_and(|stat| is_kind(&stat, mode::DIRECTORY));
    if (targets.len() > 1 || dir.is_some()) && !into {
        c.problem(link, Error::NotDir);
        return 1;
    }
    for target in targets {
        let path = if into { join(link, base_name(target)) } else { link.clone() };
        if options.has('f') && c.os.lstat(&path).is_ok() {
            // What cannot be removed shows in the next step.
            let _ = c.os.unlink(&path);
        }
        let result = match options.has('s') {
            true => c.os.symlink(target, &path),
            false => c.os.link(target, &path),
        };
        match result {
            Ok(()) if options.has('v') => {
                let arrow = if options.has('s') { "->" } else { "=>" };
                let _ = writeln!(c.out, "'{path}' {arrow} '{target}'");
            }
            Ok(()) => {}
            Err(error) => c.problem(&path, error),
        }
    }
    0
}
