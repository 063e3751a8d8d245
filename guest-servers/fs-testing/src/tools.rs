//! The host's own tools as judges.

use std::process::Command;

/// Is `tool` installed (also in /sbin)?
pub fn have(tool: &str) -> bool {
    find(tool).is_some()
}

fn find(tool: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|dir| std::path::Path::new(dir).join(tool)).find(|file| file.is_file())
}

/// True if the test can run. Where one of `tools` is missing the test counts as skipped
/// ([`xinim_machine::testing::skip`]).
pub fn require(test: &str, tools: &[&str]) -> bool {
    let Some(missing) = tools.iter().find(|tool| !have(tool)) else { return true };
    xinim_machine::testing::skip(test, &format!("{missing} is not installed"));
    false
}

/// Runs a tool: its status (-1: killed) and everything it said.
pub fn run(tool: &str, args: &[&str]) -> (i32, String) {
    let program = find(tool).unwrap_or_else(|| panic!("{tool} is not installed"));
    let output = Command::new(program).args(args).output().expect(tool);
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}
