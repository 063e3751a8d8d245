use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits(bytes: Option<(u64, u64)>, operations: Option<(u64, u64)>) -> Limits {
    let rate = |(per_second, burst)| Rate { per_second, burst };
    Limits { bytes: bytes.map(rate), operations: operations.map(rate) }
}

#[test]
fn the_burst_goes_at_once_and_then_the_rate_holds() {
    let mut buckets = Buckets::new(&limits(None, Some((10, 3))), Duration::ZERO);
    for _ in 0..3 {
        assert_eq!(buckets.pass(512, Duration::ZERO), Ok(()));
    }
    assert_eq!(buckets.pass(512, Duration::ZERO), Err(SECOND / 10));
    assert_eq!(buckets.pass(512, SECOND / 10), Ok(()));
    assert_eq!(buckets.pass(512, SECOND / 10), Err(SECOND / 10));
    // Time that nobody uses saves up no more than the burst.
    for _ in 0..3 {
        assert_eq!(buckets.pass(512, 100 * SECOND), Ok(()));
    }
    assert!(buckets.pass(512, 100 * SECOND).is_err());
}

#[test]
fn a_request_beyond_the_burst_passes_and_is_paid_back() {
    let mut buckets = Buckets::new(&limits(Some((1000, 100)), None), Duration::ZERO);
    assert_eq!(buckets.pass(5100, Duration::ZERO), Ok(()));
    assert_eq!(buckets.pass(1, Duration::ZERO), Err(Duration::from_millis(5001)));
    assert_eq!(buckets.pass(1, Duration::from_millis(5001)), Ok(()));
}

#[test]
fn flushes_wait_for_operations_only() {
    let mut buckets = Buckets::new(&limits(Some((1, 1)), None), Duration::ZERO);
    assert_eq!(buckets.pass(1 << 40, Duration::ZERO), Ok(()));
    assert_eq!(buckets.pass(0, Duration::ZERO), Ok(()));
    assert!(buckets.pass(1, SECOND).is_err());
}

proptest! {
    /// Whatever is asked for and when: what passes in any span of time is at most what the span
    /// gives, the burst, and one request of debt; and whoever waits as told may pass.
    #[test]
    fn no_span_exceeds_the_rate(
        per_second in 1u64..100_000,
        burst in 1u64..100_000,
        requests in proptest::collection::vec((1u64..50_000, 0u64..2_000_000_000), 1..60),
    ) {
        let mut buckets = Buckets::new(&limits(Some((per_second, burst)), None), Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut passed: Vec<(Duration, u64)> = Vec::new();
        for (bytes, pause) in requests {
            now += Duration::from_nanos(pause);
            if let Err(wait) = buckets.pass(bytes, now) {
                now += wait;
                prop_assert_eq!(buckets.pass(bytes, now), Ok(()));
            }
            passed.push((now, bytes));
        }
        for (i, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0u128;
            for (until, bytes) in &passed[i..] {
                // The last one may be in debt.
                let span = (*until - *from).as_nanos() * u128::from(per_second) / NANOS;
                prop_assert!(sum <= span + u128::from(burst) + 1, "{sum} in {:?}", *until - *from);
                sum += u128::from(*bytes);
            }
        }
    }

    /// Under a load that never ends, the average is the rate.
    #[test]
    fn the_rate_is_reached(per_second in 1u64..10_000, burst in 1u64..1000) {
        let mut buckets = Buckets::new(&limits(None, Some((per_second, burst))), Duration::ZERO);
        let (mut now, mut count) = (Duration::ZERO, 0u64);
        while count < burst + 500 {
            match buckets.pass(512, now) {
                Ok(()) => count += 1,
                Err(wait) => now += wait,
            }
        }
        let expected = 500.0 / per_second as f64;
        prop_assert!((now.as_secs_f64() - expected).abs() <= 2.0 / per_second as f64 + 1e-6);
    }
}
