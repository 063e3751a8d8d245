//! How long random tests run.

/// `short` rounds, times `XINIM_LONG` where that is set to a number. With the number of the round
/// as seed a failure can be repeated.
pub fn campaign(short: u64) -> std::ops::Range<u64> {
    let factor = std::env::var("XINIM_LONG").ok().and_then(|text| text.parse::<u64>().ok());
    0..short * factor.unwrap_or(1).max(1)
}
