//! Archives made here, whole and mutilated.

use std::format;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn add(archive: &mut Vec<u8>, name: &str, padding: usize, data: &[u8]) {
    let name_size = name.len() + 1 + padding;
    let zero = "00000000";
    archive.extend(
        format!(
            "070701{0}{0}{0}{0}{0}{0}{1:08X}{0}{0}{0}{0}{2:08x}{0}",
            zero,
            data.len(),
            name_size
        )
        .bytes(),
    );
    archive.extend(name.bytes());
    archive.resize(archive.len() + 1 + padding, 0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn archive() -> Vec<u8> {
    let mut archive = Vec::new();
    add(&mut archive, "etc", 0, b"");
    add(&mut archive, "sbin/rs2", 3, b"wrong");
    add(&mut archive, "sbin/rs", 77, b"right one");
    add(&mut archive, "TRAILER!!!", 0, b"");
    archive
}

#[test]
fn finds_by_whole_name() {
    let archive = archive();
    let (at, len) = find(&archive, b"sbin/rs").unwrap();
    assert_eq!(&archive[at..at + len], b"right one");
    assert_eq!(find(&archive, b"sbin"), None);
    assert_eq!(find(&archive, b""), None);
}

proptest! {
    #[test]
    fn damage_never_leads_outside(cut in 0usize..700, at in 0usize..700, byte in any::<u8>()) {
        let mut archive = archive();
        archive.truncate(cut);
        if let Some(b) = archive.get_mut(at) {
            *b = byte;
        }
        if let Some((at, len)) = find(&archive, b"sbin/rs") {
            prop_assert!(at + len <= archive.len());
        }
    }
}
