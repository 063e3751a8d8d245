//! Variables, options, positional parameters, the working directory.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::parse::is_name;
use crate::shell::{Result, STATUS_USAGE, Shell};
use crate::unparse::quote;

pub fn cd(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let back = args.get(1).is_some_and(|arg| arg == "-");
    let target = match args.get(1) {
        None => shell.vars.get("HOME").unwrap_or("/").to_string(),
        Some(_) if back => match shell.vars.get("OLDPWD") {
            Some(dir) => dir.to_string(),
            None => return Ok(shell.misused("cd", "OLDPWD not set")),
        },
        Some(dir) => dir.clone(),
    };
    let old = shell.os.getcwd().unwrap_or_default();
    if let Err(error) = shell.os.chdir(&target) {
        shell.complain_about(&format!("cd: {target}"), error);
        return Ok(1);
    }
    let new = shell.os.getcwd().unwrap_or(target);
    let _ = shell.vars.set("OLDPWD", old);
    let _ = shell.vars.set("PWD", new.clone());
    Ok(if back { shell.print("cd", format!("{new}\n").as_bytes()) } else { 0 })
}

pub fn pwd(shell: &mut Shell<'_>, _args: &[String]) -> Result<u32> {
    match shell.os.getcwd() {
        Ok(dir) => Ok(shell.print("pwd", format!("{dir}\n").as_bytes())),
        Err(error) => {
            shell.complain_about("pwd", error);
            Ok(1)
        }
    }
}

/// `umask [-S] [MODE]`: permission bits that new files do not get; octal, or as chmod has them for the
/// bits that stay.
pub fn umask(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let symbolic = args.get(1).is_some_and(|arg| arg == "-S");
    let rest = &args[1 + usize::from(symbolic)..];
    let old = shell.os.umask(0);
    let result = old.and_then(|old| shell.os.umask(old).map(|_| old));
    let old = match result {
        Ok(old) => old,
        Err(error) => {
            shell.complain_about("umask", error);
            return Ok(1);
        }
    };
    let Some(text) = rest.first() else {
        let line = if symbolic {
            let class = |shift: u32| -> String {
                let bits = !old >> shift & 7;
                let letters = [(4, 'r'), (2, 'w'), (1, 'x')];
                letters.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, c)| c).collect()
            };
            format!("u={},g={},o={}\n", class(6), class(3), class(0))
        } else {
            format!("{old:04o}\n")
        };
        return Ok(shell.print("umask", line.as_bytes()));
    };
    let new = match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777),
        false => xinim_tools::mode_change(text, !old & 0o777).map(|stay| !stay & 0o777),
    };
    let Some(new) = new else {
        return Ok(shell.misused("umask", &format!("{text}: bad mode")));
    };
    match shell.os.umask(new) {
        Ok(_) => Ok(0),
        Err(error) => {
            shell.complain_about("umask", error);
            Ok(1)
        }
    }
}

/// `NAME` or `NAME=value` arguments, each given to `mark`.
fn declare(
    shell: &mut Shell<'_>,
    args: &[String],
    mark: fn(&mut crate::vars::Variables, &str),
) -> u32 {
    let mut status = 0;
    for arg in &args[1..] {
        if arg == "-p" {
            continue;
        }
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg.as_str(), None),
        };
        if !is_name(name) {
            shell.complain(&format!("{}: {name}: bad variable name", args[0]));
            status = 1;
            continue;
        }
        if let Some(value) = value
            && let Err(message) = shell.vars.set(name, value.to_string())
        {
            shell.complain(&message);
            status = 1;
            continue;
        }
        mark(&mut shell.vars, name);
    }
    status
}

fn list(shell: &mut Shell<'_>, name: &str, only: fn(&crate::vars::Variable) -> bool) -> u32 {
    let mut text = String::new();
    for (variable_name, variable) in shell.vars.iter().filter(|(_, variable)| only(variable)) {
        let prefix = if name == "set" { String::new() } else { format!("{name} ") };
        match &variable.value {
            Some(value) => text += &format!("{prefix}{variable_name}={}\n", quote(value)),
            None if name == "set" => {}
            None => text += &format!("{prefix}{variable_name}\n"),
        }
    }
    shell.print(name, text.as_bytes())
}

pub fn export(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    if args.len() == 1 || args[1] == "-p" {
        return Ok(list(shell, "export", |variable| variable.exported));
    }
    Ok(declare(shell, args, |vars, name| vars.export(name)))
}

pub fn readonly(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    if args.len() == 1 || args[1] == "-p" {
        return Ok(list(shell, "readonly", |variable| variable.read_only));
    }
    Ok(declare(shell, args, |vars, name| vars.make_read_only(name)))
}

pub fn unset(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let (functions, names) = match args.get(1).map(String::as_str) {
        Some("-f") => (true, &args[2..]),
        Some("-v") => (false, &args[2..]),
        _ => (false, &args[1..]),
    };
    let mut status = 0;
    for name in names {
        if functions {
            shell.functions.remove(name);
        } else if let Err(message) = shell.vars.unset(name) {
            shell.complain(&message);
            status = 1;
        }
    }
    Ok(status)
}

pub fn set(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    if args.len() == 1 {
        return Ok(list(shell, "set", |_| true));
    }
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        let on = match arg.as_bytes() {
            b"--" => {
                shell.args = args[at + 1..].to_vec();
                return Ok(0);
            }
            [b'-', _, ..] => true,
            [b'+', _, ..] => false,
            _ => {
                shell.args = args[at..].to_vec();
                return Ok(0);
            }
        };
        for letter in arg[1..].chars() {
            match shell.options.by_letter(letter) {
                Some(option) => *option = on,
                None => {
                    shell.complain(&format!("set: -{letter}: unknown option"));
                    return Ok(STATUS_USAGE);
                }
            }
        }
        at += 1;
    }
    Ok(0)
}

pub fn shift(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let count = match args.get(1).map(|text| text.parse::<usize>()) {
        None => 1,
        Some(Ok(count)) => count,
        Some(Err(_)) => return Ok(shell.misused("shift", "bad number")),
    };
    if count > shell.args.len() {
        shell.complain("shift: not so many arguments");
        return Ok(1);
    }
    let rest: Vec<String> = shell.args.drain(..).skip(count).collect();
    shell.args = rest;
    Ok(0)
}
