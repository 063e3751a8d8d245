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
        assert!(refused >= 42, "{engine}: {text}");
        assert!(text.ends_with("status 0\nsame services\n"), "{engine}: {text}{}", output.err());
        for way in [
            "kernel memory",
            "another process",
            "ports",
            "handle",
            "endpoint",
            "priority",
            "threads",
            "memory for devices",
            "counts",
        ] {
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

/// A process that floods with several threads gets at most what as many processes would: beside it one
/// that does the same with one thread gets its share. Counts taken at the same time, so that the speed of
/// this machine does not matter; half a share is allowed for what the start costs.
#[test]
fn who_floods_does_not_starve_others() {
    const THREADS: u64 = 4;
    for engine in engines("who_floods_does_not_starve_others") {
        for kind in ["vfs", "rs", "pm", "spin", "forged", "memory"] {
            let script = format!(
                "breakout flood {kind} {THREADS} 1500 > /tmp/many & breakout flood {kind} 1 1500
                wait; cat /tmp/many; service list | grep -c failed"
            );
            let output = exec(engine, &script, &[]).output();
            let counts: Vec<u64> =
                output.out().lines().map(|line| line.parse().expect("a count")).collect();
            let [honest, many, sick] = counts.as_slice() else {
                panic!("{engine} {kind}: {}{}", output.out(), output.err());
            };
            assert_eq!(*sick, 0, "{engine} {kind}");
            assert!(
                *honest >= many / THREADS / 2,
                "{engine} {kind}: {honest} beside {many} of {THREADS} threads"
            );
        }
    }
}

#[test]
fn small_programs_go_on_beside_one_that_takes_everything() {
    for engine in engines("small programs beside a large one") {
        // Taking it is slow where ring 0 is emulated.
        let times = if engine == "qemu" { 60 } else { 5 };
        let script = format!(
            "echo 1 > /tmp/x
            (n=0; while [ $n -lt {times} ]; do n=$((n + 1)); breakout exhaust > /tmp/x; done; touch /tmp/over) &
            right=0; told=0
            while [ ! -f /tmp/over ]; do
                if [ \"$(echo word | cat)\" = word ]; then right=$((right + 1)); else told=$((told + 1)); fi
            done
            wait; echo told $told; [ $right -ge 5 ] && echo enough; cat /tmp/x"
        );
        let output = exec(engine, &script, &["--memory", "128M"]).output().expect(0);
        let text = output.out();
        assert!(text.starts_with("told 0\nenough\n"), "{engine}: {text}{}", output.err());
        // It had most of what there was.
        let taken =
            text.lines().nth(3).and_then(|line| line.split(' ').next()?.parse::<u32>().ok());
        assert!(taken.is_some_and(|mib| mib > 32), "{engine}: {text}");
    }
}

#[test]
fn who_takes_everything_gives_it_back_and_garbage_harms_nobody() {
    for engine in engines("exhaustion and garbage") {
        // procfs starts when it is first used, and ramfs takes a chunk of memory when first written to.
        let script =
            "ls /proc > /dev/null; echo 1 > /tmp/x; free | grep Mem > /tmp/before; service list > /tmp/services
            breakout exhaust; echo took $?
            for seed in 1 2 3; do breakout messages $seed > /tmp/x; echo sent $?; done
            service list > /tmp/after; cmp /tmp/services /tmp/after && echo same services
            cat /tmp/before; free | grep Mem";
        let output = exec(engine, script, &[]).output().expect(0);
        let text = output.out();
        assert!(
            text.contains("took 0\nsent 0\nsent 0\nsent 0\nsame services\n"),
            "{engine}: {text}"
        );
        let used = |line: &str| -> i64 {
            line.split_whitespace().nth(2).and_then(|used| used.parse().ok()).expect("KiB")
        };
        let mut lines = text.lines().rev();
        let (after, before) =
            (used(lines.next().expect("a line")), used(lines.next().expect("two")));
        assert!(after - before < 2048, "{engine}: {before} KiB before, {after} after");
    }
}
