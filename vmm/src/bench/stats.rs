//! Several measurements of one thing.

use serde_json::{Value, json};

/// Median, extremes and count of measurements in nanoseconds, as milliseconds.
pub fn milliseconds(mut nanoseconds: Vec<u64>) -> Value {
    nanoseconds.sort_unstable();
    let (Some(least), Some(most)) = (nanoseconds.first(), nanoseconds.last()) else {
        return json!({ "error": "nothing was measured" });
    };
    let ms = |ns: u64| (ns as f64 / 10_000.0).round() / 100.0;
    json!({
        "median": ms(median(&nanoseconds)),
        "min": ms(*least),
        "max": ms(*most),
        "runs": nanoseconds.len(),
    })
}

/// The middle of sorted values; of the two in the middle, their mean.
fn median(sorted: &[u64]) -> u64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { sorted[middle - 1].midpoint(sorted[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        let summary = milliseconds(vec![3_000_000, 1_000_000, 2_340_000]);
        assert_eq!(summary, json!({ "median": 2.34, "min": 1.0, "max": 3.0, "runs": 3 }));
        assert_eq!(milliseconds(vec![1_000_000, 3_000_000])["median"], 2.0);
        assert!(milliseconds(vec![])["error"].is_string());
    }
}
