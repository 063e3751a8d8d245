use super::*;

/// On a host without KVM there is nothing to measure, but a sentence to give.
#[test]
fn the_probe_finishes_quickly_and_makes_sense() {
    // The best of three: other tests keep the processors busy at the same time.
    let mut best = Duration::MAX;
    for _ in 0..2 {
        let start = Instant::now();
        let _ = probe();
        best = best.min(start.elapsed());
    }
    let start = Instant::now();
    match probe() {
        Ok(report) => {
            best = best.min(start.elapsed());
            println!("{report:?} in {best:?}");
            assert_eq!(report.kvm_version, 12);
            assert!(report.pio_exit_ns > 100, "{report:?}");
            assert!(report.ring0_instruction_ns > 0.0, "{report:?}");
            // Interpreting ring 0 and losing the ring switch go together on known hosts, but a
            // KVM that executes ring 0 must enter it properly.
            assert!(report.ring0_emulated || report.syscall_enters_ring0, "{report:?}");
            assert!(best < Duration::from_millis(200), "{best:?}");
        }
        Err(EngineError::Unavailable(message)) => assert!(message.len() > 10),
        Err(other) => panic!("{other}"),
    }
}
