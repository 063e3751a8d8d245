//! gdb, driven from a test.

use std::process::{Command, Stdio};

use crate::machine::vmm;

/// Whether there is one; else the test is skipped, which is said and counted.
pub fn has_gdb(test: &str) -> bool {
    let found = Command::new("gdb").arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        crate::machine::skip(test, "gdb is not installed");
    }
    found
}

/// `xinim-vmm gdb TARGET -batch` with these commands; what gdb said.
pub fn gdb(target: &str, commands: &[&str]) -> String {
    let mut gdb = Command::new(vmm());
    gdb.args(["gdb", target, "-batch", "-nx"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.stdin(Stdio::null()).output().expect("gdb runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
