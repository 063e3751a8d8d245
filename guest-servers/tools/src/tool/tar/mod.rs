//! `tar -c|-x|-t [-v] [-f ARCHIVE] [-C DIRECTORY] [-p] [-o] [PATH...]`
//!
//! Without `-f`, or with `-f -`, standard output or input. Members' names never lead out of the
//! directory they are unpacked to: a leading `/` is taken off, `..` refused, and what a symbolic link
//! in the archive points to is only created after everything else.

mod create;
mod extract;
mod format;

use crate::{Context, Options};

const USAGE: &str = "tar -c|-x|-t [-v] [-p] [-o] [-f ARCHIVE] [-C DIRECTORY] [PATH...]";

/// Wrong usage is an error like others.
fn wrong(c: &mut Context<'_>, message: impl core::fmt::Display) -> i32 {
    c.usage(message);
    2
}

pub fn run(c: &mut Context<'_>) -> i32 {
    let mut args = c.args.to_vec();
    // As in `tar cf x`.
    if let Some(first) = args.first_mut()
        && !first.starts_with('-')
    {
        first.insert(0, '-');
    }
    let options = match Options::parse(&args, "cxtvpof:C:", USAGE) {
        Ok(options) => options,
        Err(message) => return wrong(c, message),
    };
    let (create, extract) = (options.has('c'), options.has('x'));
    if [create, extract, options.has('t')].into_iter().filter(|&given| given).count() != 1 {
        return wrong(c, "one of -c, -x and -t must be given");
    }
    if create && options.operands.is_empty() {
        return wrong(c, "no files to pack");
    }
    let archive = options.value('f').unwrap_or("-");
    // Opened before -C: the archive's name is not below it.
    let file = match create {
        true if archive == "-" => None,
        true => match c.create(archive, xinim_os::open::TRUNCATE) {
            Some(file) => Some(file),
            None => return 2,
        },
        false => match c.open_input(archive) {
            Some(file) => Some(file),
            None => return 2,
        },
    };
    if let Some(dir) = options.value('C')
        && let Err(error) = c.os.chdir(dir)
    {
        c.problem(dir, error);
        return 2;
    }
    let status = match create {
        true => create::run(c, &options, file.as_ref().map_or(xinim_os::STDOUT, |file| file.fd)),
        false => extract::run(c, &options, file.as_ref().map_or(xinim_os::STDIN, |file| file.fd)),
    };
    if let Some(file) = file
        && let Err(error) = file.close()
    {
        c.problem(archive, error);
    }
    // As others' tar: 2 for any error.
    if status != 0 || c.failed() { 2 } else { 0 }
}
