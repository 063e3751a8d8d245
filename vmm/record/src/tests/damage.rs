//! Files that are no recordings, or not whole.

use super::devices::{Scratch, record_disk};
use crate::file::VERSION;
use crate::{Damage, replay};
use proptest::prelude::*;

#[test]
fn what_is_no_recording_is_a_sentence() {
    assert!(matches!(replay(&b""[..], None), Err(Damage::Magic)));
    assert!(matches!(replay(&b"something else entirely"[..], None), Err(Damage::Magic)));
    assert!(matches!(replay(&b"XINIMREC\x09\0\0\0"[..], None), Err(Damage::Version(9))));
    let with = |rest: &[u8]| [&b"XINIMREC"[..], &VERSION.to_le_bytes(), rest].concat();
    let huge = with(b"\xFF\xFF\xFF\xFF\0\0");
    assert!(matches!(replay(&huge[..], None), Err(Damage::Length(1))));
    let stray = with(b"\x01\0\0\0\0\0\0");
    assert!(matches!(replay(&stray[..], None), Err(Damage::Device(1))));
}

#[test]
fn a_recording_that_was_cut_off_is_good_up_to_there() {
    let file = Scratch::new();
    record_disk(file.path());
    let bytes = file.bytes();
    for length in (12..bytes.len()).step_by(7) {
        let outcomes = replay(&bytes[..length], None).unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.difference.is_none()), "at {length}");
    }
}

proptest! {
    /// A byte changed anywhere ends in a difference, a sentence, or nothing, never in a panic.
    #[test]
    fn damage_is_survived(at in 12usize..4000, value: u8) {
        let file = Scratch::new();
        record_disk(file.path());
        let mut bytes = file.bytes();
        let at = at % bytes.len();
        bytes[at] = value;
        let _whatever = replay(&bytes[..], None);
    }
}
