//! What the tests of the program share: the program, tiny guests, and the engines to try.

#![allow(dead_code)]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

#[path = "../../src/testing.rs"]
pub mod guests;

pub const EXIT_DEVICE: u16 = 0xF4;
pub const POWER_OFF: u32 = 0x10;
pub const REBOOT: u32 = 0x11;
pub const PANIC: u32 = 0x43;
pub const DEBUGCON: u16 = 0xE9;

pub fn xinim_vmm() -> Command {
    let mut command = Command::new(program());
    command.timeout(std::time::Duration::from_secs(60));
    command
}

pub fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_xinim-vmm").into()
}

/// The engines that this host has; a missing one is said and counted.
pub fn engines() -> Vec<&'static str> {
    let output = xinim_vmm().args(["doctor", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut engines = Vec::new();
    for (name, usable) in [("kvm", &report["kvm"]["usable"]), ("qemu", &report["qemu"]["present"])]
    {
        if usable == true {
            engines.push(name);
        } else {
            xinim_machine::testing::skip("runs and bad inputs", &format!("{name} is not usable"));
        }
    }
    assert!(!engines.is_empty(), "these tests need KVM or QEMU");
    engines
}

/// A directory with files made for one test.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, data: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), data).unwrap();
        self.path(name)
    }

    /// A kernel that runs these instructions.
    pub fn kernel(&self, code: &[Vec<u8>]) -> PathBuf {
        self.file("kernel", guests::guest(&code.concat()))
    }
}

/// The program with `--kernel` and an engine.
pub fn boot(engine: &str, kernel: &Path) -> Command {
    let mut command = xinim_vmm();
    command.args(["--engine", engine, "--memory", "32M", "--kernel"]).arg(kernel);
    command
}

/// Runs, and gives status, standard output and standard error.
pub fn outcome(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let status = output.status.code().unwrap_or_else(|| panic!("killed: {:?}", output.status));
    (status, text(output.stdout), text(output.stderr))
}

/// Fails unless the program ended with `status` and one line of standard error that contains
/// every one of `words`.
pub fn refused(command: &mut Command, status: i32, words: &[&str]) {
    let (got, stdout, stderr) = outcome(command);
    assert_eq!(got, status, "{stderr}");
    assert_eq!(stdout, "");
    assert_eq!(stderr.lines().count(), 1, "one sentence, not:\n{stderr}");
    assert!(stderr.starts_with("xinim-vmm: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` is missing in: {stderr}");
    }
}
