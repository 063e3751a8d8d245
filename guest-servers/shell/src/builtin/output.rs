//! Built-ins that write: they are the tools of the same names.

use alloc::format;
use alloc::string::String;

use xinim_os::{is_kind, join, mode};
use xinim_tools::{echo as echo_tool, printf as printf_tool, test as test_tool};

use crate::builtin;
use crate::shell::{Result, Shell};

pub fn echo(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let text = echo_tool::render(&args[1..]);
    Ok(shell.print("echo", &text))
}

pub fn printf(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let Some(format) = args.get(1) else {
        return Ok(shell.misused("printf", "format missing"));
    };
    let (text, problem) = printf_tool::render(format, &args[2..]);
    let status = shell.print("printf", &text);
    match problem {
        None => Ok(status),
        Some(message) => {
            shell.complain(&format!("printf: {message}"));
            Ok(1)
        }
    }
}

pub fn test(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let terminal = |fd: u32| {
        let own = shell.files.get(fd);
        own.is_ok_and(|fd| shell.os.is_terminal(fd))
    };
    Ok(match test_tool::evaluate(shell.os, &terminal, &args[0], &args[1..]) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(message) => shell.misused(&args[0], &message),
    })
}

pub fn type_(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    which(shell, &args[1..], true)
}

/// What each name would run.
pub fn which(shell: &mut Shell<'_>, names: &[String], wordy: bool) -> Result<u32> {
    let mut status = 0;
    for name in names {
        let text = if shell.functions.contains_key(name) {
            if wordy { format!("{name} is a function\n") } else { format!("{name}\n") }
        } else if builtin::find(name).is_some() {
            if wordy { format!("{name} is a shell built-in\n") } else { format!("{name}\n") }
        } else if let Some(path) = search(shell, name) {
            if wordy { format!("{name} is {path}\n") } else { format!("{path}\n") }
        } else {
            if wordy {
                shell.complain(&format!("type: {name}: not found"));
            }
            status = 1;
            continue;
        };
        status |= shell.print("type", text.as_bytes());
    }
    Ok(status)
}

fn search(shell: &Shell<'_>, name: &str) -> Option<String> {
    let is_file = |path: &str| shell.os.stat(path).is_ok_and(|stat| is_kind(&stat, mode::REGULAR));
    if name.contains('/') {
        return is_file(name).then(|| name.into());
    }
    let path = shell.vars.get("PATH").unwrap_or("");
    path.split(':').map(|dir| join(dir, name)).find(|path| is_file(path))
}

pub fn help(shell: &mut Shell<'_>, _args: &[String]) -> Result<u32> {
    let mut text = String::from("Built into the shell:\n");
    for name in builtin::names() {
        text += " ";
        text += name;
    }
    text += "\nPrograms are in /bin and /sbin. `service list` shows the system's services,\n\
             `mount` and `df` its file systems, `ps` its processes, `dmesg` its log.\n\
             `poweroff` ends the machine.\n";
    Ok(shell.print("help", text.as_bytes()))
}
