use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn time_in_the_queue_does_not_count() {
    assert_eq!(left(S(45), S(20), S(0)), S(25));
    assert_eq!(left(S(45), S(60), S(0)), S(0));
    assert_eq!(left(S(45), S(60), S(40)), S(25));
    assert_eq!(left(S(45), S(60), S(70)), S(45), "more than there was");
    assert_eq!(left(S(45), S(440), S(430)), S(10), "but not for ever");
    assert_eq!(left(S(45), S(460), S(460)), S(0));
}

#[test]
fn the_longest_wait_counts() {
    let delays = |list: &[(&str, u64)]| -> Delays {
        list.iter().map(|(thread, ns)| ((*thread).to_owned(), *ns)).collect()
    };
    let (before, now) = (delays(&[("1", 5), ("2", 900)]), delays(&[("1", 25), ("2", 907)]));
    assert_eq!(delayed(&before, &now), Duration::from_nanos(20));
    assert_eq!(delayed(&before, &delays(&[("3", 7)])), Duration::from_nanos(7));
    assert_eq!(delayed(&before, &Delays::new()), Duration::ZERO);
}

#[test]
fn the_scheduler_is_understood() {
    assert_eq!(waited("120 63895 1\n"), Some(63895));
    assert_eq!(waited(""), None);
    assert_eq!(waited("1 x 3"), None);
    // Where the host counts: this very thread has a line.
    if std::fs::exists("/proc/self/schedstat").unwrap_or(false) {
        assert!(!delays(std::process::id()).is_empty());
    }
    assert!(delays(u32::MAX).is_empty());
}
