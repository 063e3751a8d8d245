//! Runs scripts with XINIM's tools and with the host's.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::Path;
use std::process::{Command, Output};

/// Runs `script` with the host's shell, tools found in `tools` first.
pub fn run(tools: &Path, script: &str) -> (Output, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", format!("{}:/bin:/usr/bin", tools.display()))
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    // What is left in the directory counts too.
    let list =
        "find . -type f | sort | xargs -r md5sum; find . ! -type f -printf '%p %y %l\\n' | sort";
    let tree = Command::new("/bin/sh").args(["-c", list]).current_dir(dir.path()).output().unwrap();
    (output, String::from_utf8_lossy(&tree.stdout).into_owned())
}

pub fn tool_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in xinim_tools::names() {
        let link = dir.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_xinim-host"), link).unwrap();
    }
    dir
}

/// The same output, status of standard error and files, script by script.
pub fn compare(scripts: &[&str]) {
    let tools = tool_dir();
    let mut different = String::new();
    for script in scripts {
        let ours = run(tools.path(), script);
        let host = run(Path::new("/bin"), script);
        let seen = |(output, tree): &(Output, String)| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (text, output.stderr.is_empty(), tree.clone())
        };
        if seen(&ours) != seen(&host) {
            different += &format!("--- {script}\nours: {ours:?}\nhost: {host:?}\n");
        }
    }
    assert!(different.is_empty(), "{different}");
}
