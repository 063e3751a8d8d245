use super::*;

fn answer(time_ns: u64, done: u64, busy: u64) -> Value {
    json!({
        "ok": true, "time_ns": time_ns,
        "devices": [{
            "name": "virtio-blk.0", "reads": 10, "writes": done, "interrupts": done,
            "dma_read": 0, "dma_written": done * 512, "frames_sent": 0, "frames_received": 0, "errors": 0,
            "queues": [{ "name": "queue 0", "notified": done, "begun": done + 1, "done": done,
                         "time_ns": done * 20_000 }],
        }],
        "cpus": [{ "cpu": 1, "exits": done, "exit_ns": done * 3_000, "ran_ns": busy,
                   "switches": done, "process": "virtio-blk" }],
        "exits": [{ "reason": "mmio-write", "count": done, "time_ns": done * 3_000 }],
        "processes": [
            { "pid": 3, "name": "vfs", "ran_ns": 0, "switches": 0 },
            { "pid": 7, "name": "virtio-blk", "ran_ns": busy, "switches": done },
        ],
        "services": [{ "name": "virtio-blk", "state": "up" }],
    })
}

#[test]
fn rates_are_differences_over_time() {
    let rates = rates(&answer(1_000_000_000, 100, 0), &answer(3_000_000_000, 500, 1_000_000_000));
    let device = &rates["devices"][0];
    assert_eq!(device["interrupts_per_s"], 200.0);
    assert_eq!(device["dma_written_per_s"], 102_400.0);
    assert_eq!(device["queues"][0]["latency_ns"], 20_000);
    assert_eq!(device["queues"][0]["under_way"], 1);
    assert_eq!(rates["exits"][0]["cost_ns"], 3_000);
    assert_eq!(rates["cpus"][0]["busy_percent"], 50.0);
    assert_eq!(rates["cpus"][0]["exits_per_s"], 200.0);
    assert_eq!(rates["processes"][0]["pid"], 7, "the busiest first");
    assert_eq!(rates["processes"][0]["cpu_percent"], 50.0);
    let text = text(&rates);
    for part in
        ["virtio-blk.0", "queue 0", "mmio-write 200/s at 3000 ns", "50.0", "virtio-blk up", "VCPU"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn what_is_new_or_gone_is_no_trouble() {
    let empty = json!({ "time_ns": 5 });
    let _ = text(&rates(&empty, &answer(10, 1, 1)));
    let _ = text(&rates(&answer(10, 1, 1), &empty));
    assert_eq!(rates(&empty, &empty)["span_ns"], 0);
}
