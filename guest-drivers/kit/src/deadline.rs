//! When a request to a device counts as lost: 30 s after it was sent, as everywhere; and earlier where the
//! device is silent altogether, because one that works at something else tells of it.
//!
//! ```text
//! sent            last completion             lost at: sent + 30 s, or
//!  |--------------------|---- 10 s * n ----|  the end of this silence when it is the n-th attempt
//! ```
//! A host whose disk stands still for 10 s costs a reset and a second attempt that has 20 s, not the request.

/// A request that takes longer has got lost, ns.
pub const TIMEOUT_NS: u64 = 30_000_000_000;
/// So long a device with work may tell of nothing, ns; for requests sent again as many times as long.
pub const SILENCE_NS: u64 = 10_000_000_000;

/// When the oldest request in flight counts as lost, ns. `sent`: when it was, for the `attempt`th time (from 1);
/// `heard`: when the device last completed something.
pub fn lost_at(sent: u64, attempt: u8, heard: u64) -> u64 {
    let silence = SILENCE_NS.saturating_mul(attempt.max(1).into());
    sent.saturating_add(TIMEOUT_NS).min(sent.max(heard).saturating_add(silence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_device_is_found_out_sooner() {
        assert_eq!(lost_at(5, 1, 0), 5 + SILENCE_NS);
        assert_eq!(lost_at(5, 0, 0), 5 + SILENCE_NS);
        assert_eq!(lost_at(5, 2, 0), 5 + 2 * SILENCE_NS);
        assert_eq!(lost_at(5, 3, 0), 5 + TIMEOUT_NS);
        // It works at other things: there is time, but not for ever.
        assert_eq!(lost_at(5, 1, 1000), 1000 + SILENCE_NS);
        assert_eq!(lost_at(5, 1, 25_000_000_000), 5 + TIMEOUT_NS);
        assert_eq!(lost_at(u64::MAX, 255, u64::MAX), u64::MAX);
    }
}
