use super::*;

#[test]
fn tsc_becomes_the_machines_time() {
    let scale = Scale { tsc: 1_000_000, ns: 5_000, ns_per_tick: 0.5 };
    assert_eq!(scale.time(1_000_000), 5_000);
    assert_eq!(scale.time(1_002_000), 6_000);
    assert_eq!(scale.time(998_000), 4_000);
    // A guest's nonsense is a time, not a panic.
    assert_eq!(scale.time(0), 0);
    let _ = (scale.time(u64::MAX), scale.time(1 << 63));
}
