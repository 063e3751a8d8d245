//! Where control goes next.

use alloc::string::String;

use crate::builtin;
use crate::shell::{Result, STATUS_NOT_FOUND, Shell, Unwind};
use crate::spawn::Started;

pub fn colon(_shell: &mut Shell<'_>, _args: &[String]) -> Result<u32> {
    Ok(0)
}

pub fn false_(_shell: &mut Shell<'_>, _args: &[String]) -> Result<u32> {
    Ok(1)
}

/// Loops to leave: the argument, at most as many as there are.
fn levels(shell: &mut Shell<'_>, args: &[String]) -> core::result::Result<u32, u32> {
    let wanted = match args.get(1).map(|text| text.parse::<u32>()) {
        None => 1,
        Some(Ok(levels)) if levels > 0 => levels,
        Some(_) => return Err(shell.misused(&args[0], "bad number")),
    };
    Ok(wanted.min(shell.loops))
}

pub fn break_(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    shell.status = 0;
    match levels(shell, args) {
        Ok(0) => Ok(0),
        Ok(levels) => Err(Unwind::Break(levels)),
        Err(status) => Ok(status),
    }
}

pub fn continue_(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    shell.status = 0;
    match levels(shell, args) {
        Ok(0) => Ok(0),
        Ok(levels) => Err(Unwind::Continue(levels)),
        Err(status) => Ok(status),
    }
}

/// The status that `exit` and `return` name.
fn take_status(shell: &mut Shell<'_>, args: &[String]) {
    match args.get(1).map(|text| text.parse::<i64>()) {
        None => {}
        Some(Ok(number)) => shell.status = (number & 0xFF) as u32,
        Some(Err(_)) => shell.status = shell.misused(&args[0], "bad number"),
    }
}

pub fn exit(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    take_status(shell, args);
    Err(Unwind::Exit)
}

pub fn return_(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    take_status(shell, args);
    Err(Unwind::Return)
}

pub fn eval(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let text = args[1..].join(" ");
    shell.status = 0;
    shell.deeper(|shell| shell.run_text(&text))?;
    Ok(shell.status)
}

pub fn source(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let Some(path) = args.get(1) else { return Ok(shell.misused(&args[0], "file name missing")) };
    shell.status = 0;
    shell.source(path)?;
    Ok(shell.status)
}

/// Without a command, redirections stay (the caller sees to it). With one, the command takes the
/// shell's place as far as that is to be seen: the shell waits for it and ends with its status.
pub fn exec(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    if args.len() < 2 {
        return Ok(0);
    }
    match shell.start_program(&args[1..], &[]) {
        Started::Process(pid) => shell.wait_foreground(&[pid], &args[1])?,
        Started::Ended(status) => shell.status = status,
    }
    Err(Unwind::Exit)
}

/// `command NAME …` passes functions by; `command -v NAME` says what it is.
pub fn command(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    if args.get(1).is_some_and(|option| option == "-v" || option == "-V") {
        return super::output::which(shell, &args[2..], args[1] == "-V");
    }
    let Some(name) = args.get(1) else { return Ok(0) };
    if let Some(run) = builtin::find(name) {
        return run(shell, &args[1..]);
    }
    match shell.start_program(&args[1..], &[]) {
        Started::Process(pid) => shell.wait_foreground(&[pid], name)?,
        Started::Ended(status) => shell.status = status,
    }
    Ok(shell.status)
}

pub fn builtin(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let Some(name) = args.get(1) else { return Ok(0) };
    match builtin::find(name) {
        Some(run) => run(shell, &args[1..]),
        None => {
            shell.complain(&alloc::format!("builtin: {name}: not a built-in"));
            Ok(STATUS_NOT_FOUND)
        }
    }
}
