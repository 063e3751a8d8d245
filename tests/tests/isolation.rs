//! What a process may not do, it cannot; nothing else notices.

use xinim_tests::machine::{engines, exec};

#[test]
fn every_way_out_is_refused() {
    for engine in engines("every_way_out_is_refused") {
        // A service's process id before and after: nobody died of the attempts.
        let script = "service list > /tmp/before; breakout; echo status $?
            service list > /tmp/after; cmp /tmp/before /tmp/after && echo same services";
        let output = exec(engine, script, &[]).output().expect(0);
        let text = output.out();
        let refused = text.lines().filter(|line| line.starts_with("refused: ")).count();
        assert!(refused >= 10, "{engine}: {text}");
        assert!(text.ends_with("status 0\nsame services\n"), "{engine}: {text}{}", output.err());
        for way in ["kernel memory", "another process", "ports", "handle", "endpoint"] {
            assert!(text.lines().any(|l| l.contains(way)), "{engine}: {way} is not tried: {text}");
        }
    }
}

#[test]
fn a_program_that_faults_dies_alone() {
    for engine in engines("a_program_that_faults_dies_alone") {
        let script = "breakout kernel-read; echo status $?; echo still here";
        let output = exec(engine, script, &[]).output().expect(0);
        assert!(output.out().ends_with("still here\n"), "{engine}: {}", output.out());
    }
}
