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

/// True if the test can run. Where one of `tools` is missing it says so and answers false; with
/// `XINIM_NO_SKIP` in the environment it fails instead.
pub fn require(test: &str, tools: &[&str]) -> bool {
    let Some(missing) = tools.iter().find(|tool| !have(tool)) else { return true };
    let no_skip = std::env::var_os("XINIM_NO_SKIP").is_some();
    assert!(!no_skip, "{test}: {missing} is not installed (scripts/install-test-tools.sh)");
    eprintln!("SKIPPED {test}: {missing} is not installed");
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
