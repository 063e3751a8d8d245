//! DMA memory in the guest: what drivers are promised of it, and what becomes of it when they die.
//!
//! `XINIM_RESTARTS=1000` makes the loop of restarts that long (some minutes); 12 otherwise.

use std::process::Command;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image};
use xinim_tests::machine::{engines, vmm};

/// The restarts are in that many parts, with a report after each.
const ROUNDS: u32 = 4;

/// Constraints, coalescing, pools, release: the guest tests itself.
#[test]
fn dma_memory_is_what_was_asked_for() {
    for engine in engines("dma_memory_is_what_was_asked_for") {
        let output = Command::new(vmm())
            .args(["run", "--engine", engine, "-v", "--console", "none", "--timeout", "120s"])
            .args(["--cmdline", "first=sbin/dma-test klog=debugcon"])
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("all passed"), "{engine}:\n{log}");
        assert!(log.contains("ns to take a block"), "{engine}:\n{log}");
    }
}

/// What `sysinfo` says of the things that may not become fewer or more.
fn held(text: &str) -> Vec<(String, u64)> {
    let kept = ["frames_", "processes", "threads", "endpoints", "memory_", "interrupts", "devices"];
    let lines = text.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
    let values = lines.map(|line| {
        let (name, value) = line.split_once(' ').expect("name and value");
        (name.to_owned(), value.trim().parse().expect("a number"))
    });
    values.collect()
}

/// KiB that RS has.
fn rs_memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("RS's memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A disk driver killed again and again while its disk is read, and nothing of the kernel's is lost.
#[test]
fn restarts_leak_nothing() {
    let restarts: u32 = std::env::var("XINIM_RESTARTS").map_or(12, |n| n.parse().unwrap());
    let dir = tempdir().unwrap();
    let image = dir.path().join("disk.img");
    fat_image(&image, 32 << 20, 16);
    let engines = engines("restarts_leak_nothing");
    for (engine, iommu) in engines.iter().flat_map(|engine| [(engine, false), (engine, true)]) {
        let round = |kills: u32| {
            format!(
                "rm -f /tmp/done; grep VmRSS /proc/1/status > /dev/null
                (while [ ! -f /tmp/done ]; do cat /dev/vda > /dev/null; done) &
                sleep 0.1; i=0
                while [ $i -lt {kills} ]; do
                    service kill virtio-blk; sleep 0.05; i=$((i+1))
                done
                touch /tmp/done; wait; sleep 0.3
                until service status virtio-blk | grep 'spare: stands by' > /dev/null; do sleep 0.05; done
                sleep 0.1; echo report; sysinfo; grep VmRSS /proc/1/status
                "
            )
        };
        let script = format!(
            "{}\n{}\nservice status virtio-blk | grep restarts",
            round(restarts.min(3)),
            round(restarts.div_ceil(ROUNDS)).repeat(ROUNDS as usize)
        );
        // Long loops last longer than what the helpers of other tests allow.
        let output = Command::new(vmm())
            .args(["run", "--engine", engine, "--timeout", "3600s", "--exec", &script])
            .args(["--disk", arg(&image)])
            .args(iommu.then_some("--iommu"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let reports: Vec<_> = text.split("report\n").skip(1).collect();
        let last = reports.last().filter(|_| reports.len() == ROUNDS as usize + 1);
        let Some(last) = last else {
            panic!("{engine}: {text}{}", String::from_utf8_lossy(&output.stderr))
        };
        let killed = restarts.min(3) + restarts.div_ceil(ROUNDS) * ROUNDS;
        assert!(last.contains(&format!("restarts: {killed}\n")), "{engine}: {text}");
        assert!(held(last).len() >= 9, "{engine}: {text}");
        assert!(held(last).contains(&("frames_quarantined".into(), 0)), "{engine}: {text}");
        assert!(rs_memory(last) - rs_memory(reports[0]) <= 256, "{engine}: {text}");
        // VFS may need one more worker in a round, up to as many as it may have. A leak is in each round.
        let same = |pair: &[&str]| held(pair[0]) == held(pair[1]);
        assert!(reports.windows(2).any(same), "{engine}: {text}");
    }
}
