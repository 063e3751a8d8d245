use super::*;

/// On a host without KVM there is nothing to measure, but a sentence to give.
#[test]
fn the_probe_finishes_quickly_and_makes_sense() {
    let start = Instant::now();
    match probe() {
        Ok(report) => {
            println!("{report:?} in {:?}", start.elapsed());
            assert_eq!(report.kvm_version, 12);
            assert!(report.pio_exit_ns > 100, "{report:?}");
            assert!(report.ring0_instruction_ns > 0.0, "{report:?}");
            // Interpreting ring 0 and losing the ring switch go together on known hosts, but a
            // KVM that executes ring 0 must enter it properly.
            assert!(report.ring0_emulated || report.syscall_enters_ring0, "{report:?}");
            assert!(start.elapsed() < Duration::from_millis(400));
        }
        Err(EngineError::Unavailable(message)) => assert!(message.len() > 10),
        Err(other) => panic!("{other}"),
    }
}
