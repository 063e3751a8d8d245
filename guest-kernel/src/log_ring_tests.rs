//! Wrapping, skipping, digits.

use std::string::String;

use super::*;

#[test]
fn overwritten_lines_are_skipped_whole() {
    let ring = LogRing::<16>::new();
    "first line\nsecond\n3\n".bytes().for_each(|b| ring.push(b));
    let from = ring.clamp(0);
    let text: String = (from..ring.end()).map(|at| ring.at(at) as char).collect();
    assert_eq!(text, "second\n3\n");
    assert_eq!(ring.clamp(19), 19);
    assert_eq!(ring.clamp(1000), ring.end());
}

#[test]
fn digits() {
    let text = |value, width| {
        let mut s = String::new();
        decimal(value, width, |d| s.push(d as char));
        s
    };
    assert_eq!(text(0, 0), "0");
    assert_eq!(text(42, 6), "000042");
    assert_eq!(text(u64::MAX, 1), "18446744073709551615");
}
