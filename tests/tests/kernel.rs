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

/// A panic of the real kernel: status 134 and a report with registers and instruction bytes; on KVM
/// with the last exits too.
#[test]
fn a_panic_is_reported() {
    for (engine, cpus) in
        engines("a_panic_is_reported").into_iter().flat_map(|e| [(e, "1"), (e, "3")])
    {
        let output = Command::new(vmm())
            .args(["run", "--engine", engine, "--console", "none", "--timeout", "60s"])
            .args(["--cpus", cpus, "--cmdline", "first=no/such/program"])
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(134), "{engine}, {cpus}: {report}");
        for word in ["kernel panic: the first program", "rip ffff", "rflags", "cr3", "  code "] {
            assert!(report.contains(word), "{engine}: no \"{word}\" in\n{report}");
        }
        assert!(engine == "qemu" || report.contains("last VM exits"), "{report}");
    }
}
