//! The kernel's self-test (guest-servers/kernel-test) in place of RS, on each engine: every system
//! call, every refusal, every way to die.

use std::process::Command;

use xinim_tests::machine::{engines, vmm};

#[test]
fn self_test_passes() {
    for engine in engines("self_test_passes") {
        let output = Command::new(vmm())
            .args(["run", "--engine", engine, "-v", "--console", "none", "--timeout", "120s"])
            .args(["--cmdline", "first=sbin/kernel-test klog=debugcon"])
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("kernel-test: all passed"), "{engine}:\n{log}");
    }
}
