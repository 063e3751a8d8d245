//! `sh`, `sh -c COMMANDS [NAME ARGUMENT...]`, `sh SCRIPT [ARGUMENT...]`, `sh -i`.

use alloc::string::String;

use xinim_os::{Os, STDIN};

use crate::shell::{STATUS_NOT_FOUND, STATUS_USAGE, Shell, Unwind};

/// Runs a shell with these arguments (its name first) and environment (`NAME=value` each) to its
/// end; its exit status.
pub fn run(os: &dyn Os, args: &[String], env: &[String]) -> i32 {
    let name = args.first().map_or("sh", String::as_str);
    let mut shell = Shell::new(os, name, env.iter().map(String::as_str));
    let mut rest = args.get(1..).unwrap_or(&[]);
    let (mut command, mut interactive) = (false, false);
    while let Some(letters) = rest.first().and_then(|arg| arg.strip_prefix('-')) {
        rest = &rest[1..];
        if letters == "-" || letters.is_empty() {
            break;
        }
        for letter in letters.chars() {
            match (letter, shell.options.by_letter(letter)) {
                ('c', _) => command = true,
                ('i', _) => interactive = true,
                // From standard input; a log-in shell: as without.
                ('s' | 'l', _) => {}
                (_, Some(option)) => *option = true,
                (_, None) => {
                    shell.complain(&alloc::format!("-{letter}: unknown option"));
                    return STATUS_USAGE as i32;
                }
            }
        }
    }
    let result = if command {
        let Some((text, rest)) = rest.split_first() else {
            shell.complain("-c needs commands");
            return STATUS_USAGE as i32;
        };
        if let Some((name, args)) = rest.split_first() {
            shell.name = name.clone();
            shell.args = args.to_vec();
        }
        shell.run_text(text)
    } else if let Some((script, rest)) = rest.split_first() {
        shell.name = script.clone();
        shell.args = rest.to_vec();
        match shell.read_script(script) {
            Ok(text) => shell.run_text(&text),
            Err(error) => {
                shell.name = name.into();
                shell.complain_about(script, error);
                return STATUS_NOT_FOUND as i32;
            }
        }
    } else if interactive || os.is_terminal(STDIN) {
        shell.interactive = true;
        shell.interact()
    } else {
        run_input(&mut shell)
    };
    if result == Err(Unwind::Error) && shell.status == 0 {
        shell.status = 1;
    }
    shell.status as i32
}

/// A script on standard input. It is read whole first, so its commands find the input's end.
fn run_input(shell: &mut Shell<'_>) -> Result<(), Unwind> {
    match xinim_os::read_file(shell.os, STDIN) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            shell.run_text(&text)
        }
        Err(error) => {
            shell.complain_about("standard input", error);
            Err(Unwind::Error)
        }
    }
}
