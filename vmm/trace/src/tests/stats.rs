use xinim_abi::hw::virtio;
use xinim_devices::device::Op;
use xinim_devices::trace::{EventKind, ExitReason};

use super::samples::{access, event};
use crate::stat::{Histogram, Stat};

#[test]
fn percentiles_are_right_to_a_fifth() {
    let mut histogram = Histogram::default();
    (1..=1000u64).for_each(|n| histogram.add(n * 1000));
    for (percent, value) in [(50, 500_000u64), (90, 900_000), (99, 990_000)] {
        let found = histogram.percentile(percent);
        assert!(found >= value && found <= value * 5 / 4 + 1, "{percent}: {found}");
    }
    assert_eq!((histogram.max, histogram.mean()), (1_000_000, 500_500));
    let mut extremes = Histogram::default();
    [0, u64::MAX].into_iter().for_each(|n| extremes.add(n));
    assert_eq!(extremes.percentile(99), u64::MAX);
}

#[test]
fn faults_and_broken_rules_are_counted() {
    let mut stat = Stat::default();
    for time in [1, 2] {
        stat.event(&event(time, "virtio-blk.0", EventKind::Fault { rule: 3 }));
    }
    let rule = "register-reserved";
    stat.event(&event(3, "virtio-blk.0", EventKind::Violation { rule }));
    let json = stat.json();
    assert_eq!(json["kinds"]["fault"], 2);
    assert_eq!(
        json["faults"][0],
        serde_json::json!({ "device": "virtio-blk.0", "rule": 3, "count": 2 })
    );
    assert_eq!((&json["violations"][0]["rule"], &json["errors"]), (&rule.into(), &1.into()));
    let text = stat.text();
    for part in ["2 times fault rule 3", "1 times broken: register-reserved"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn sums_by_device_register_process_and_request() {
    let mut stat = Stat::default();
    stat.event(&access(1000, virtio::COMMON, 0x14, Op::Write(1), 0));
    let mut exit = access(1000, virtio::COMMON, 0, Op::Read, 0);
    exit.device = "cpu";
    exit.kind = EventKind::Exit { reason: ExitReason::MmioWrite, address: 0, nanos: 700 };
    stat.event(&exit);
    let device = "virtio-blk.0";
    let pop = EventKind::QueuePop { queue: 0, head: 5, segments: 3, readable: 16, writable: 513 };
    stat.event(&event(2000, device, pop));
    let request = EventKind::BlockRequest {
        queue: 0,
        head: 5,
        kind: 0,
        sector: 0,
        length: 512,
        status: 0,
        errno: 0,
    };
    stat.event(&event(9000, device, request));
    stat.event(&event(9500, device, EventKind::QueuePush { queue: 0, head: 5, written: 513 }));
    stat.lost(3);
    let json = stat.json();
    assert_eq!(json["events"], 5);
    assert_eq!(json["lost"], 3);
    assert_eq!(json["devices"][0]["exit_ns"], 700);
    assert_eq!(json["registers"][0]["name"], "device_status");
    assert_eq!(json["processes"][0]["name"], "virtio-blk");
    assert_eq!(json["exits"][0]["reason"], "mmio-write");
    assert_eq!(json["requests"][0]["kind"], "read");
    assert_eq!(json["requests"][0]["max_ns"], 7500);
    let text = stat.text();
    for part in ["virtio-blk.0 device_status", "7 virtio-blk", "virtio-blk.0 read", "7500 ns"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}
