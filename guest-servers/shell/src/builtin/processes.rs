//! Jobs and signals.

use alloc::format;
use alloc::string::{String, ToString};

use xinim_tools::kill as kill_tool;

use crate::shell::{Result, STATUS_NOT_FOUND, Shell};

pub fn wait(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    if args.len() == 1 {
        shell.jobs.wait_for_all(shell.os);
        return Ok(0);
    }
    let mut status = 0;
    for what in &args[1..] {
        status = shell.jobs.wait_for(shell.os, what).unwrap_or_else(|| {
            shell.complain(&format!("wait: {what}: no such job"));
            STATUS_NOT_FOUND
        });
    }
    Ok(status)
}

pub fn jobs(shell: &mut Shell<'_>, _args: &[String]) -> Result<u32> {
    let text = shell.jobs.report(shell.os, false);
    Ok(shell.print("jobs", text.as_bytes()))
}

/// As the tool, with `%job` too.
pub fn kill(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let mut resolved = alloc::vec::Vec::new();
    for arg in &args[1..] {
        resolved.push(match arg.starts_with('%') {
            false => arg.clone(),
            true => match shell.jobs.pid(arg) {
                Some(pid) => pid.to_string(),
                None => {
                    shell.complain(&format!("kill: {arg}: no such job"));
                    return Ok(1);
                }
            },
        });
    }
    let mut out = String::new();
    let mut status = 0;
    for problem in kill_tool::run(shell.os, &resolved, &mut out) {
        shell.complain(&format!("kill: {problem}"));
        status = 1;
    }
    Ok(status | shell.print("kill", out.as_bytes()))
}
