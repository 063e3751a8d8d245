//! Small files made here, whole and mutilated.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn file() -> Vec<u8> {
    let mut f = vec![0u8; 0x1100];
    f[..7].copy_from_slice(&[0x7F, b'E', b'L', b'F', 2, 1, 1]);
    f[16] = 2;
    f[18] = 62;
    f[24..32].copy_from_slice(&0x40_0123u64.to_le_bytes());
    f[32] = 64;
    f[54] = 56;
    f[56] = 2;
    for (n, kind) in [(0usize, 6u8), (1, 1)] {
        let at = 64 + n * 56;
        f[at] = kind;
        f[at + 4] = 5;
        f[at + 8..at + 16].copy_from_slice(&0x1000u64.to_le_bytes());
        f[at + 16..at + 24].copy_from_slice(&0x40_0000u64.to_le_bytes());
        f[at + 32..at + 40].copy_from_slice(&0x100u64.to_le_bytes());
        f[at + 40..at + 48].copy_from_slice(&0x200u64.to_le_bytes());
    }
    f
}

#[test]
fn reads_segments() {
    let f = file();
    let p = Program::parse(&f).unwrap();
    assert_eq!(p.entry, 0x40_0123);
    let segments: Vec<_> = p.segments().collect();
    assert_eq!(
        segments,
        [Segment {
            offset: 0x1000,
            address: 0x40_0000,
            file_size: 0x100,
            memory_size: 0x200,
            writable: false,
            executable: true
        }]
    );
}

#[test]
fn refuses_other_files() {
    for (at, byte) in [(0, 0), (4, 1), (16, 3), (18, 3), (54, 55)] {
        let mut f = file();
        f[at] = byte;
        assert!(Program::parse(&f).is_none(), "byte {at}");
    }
    assert!(Program::parse(&file()[..0x10FF]).is_none(), "data cut off");
}

proptest! {
    #[test]
    fn segments_stay_inside(at in 0usize..200, bytes in prop::collection::vec(any::<u8>(), 1..16)) {
        let mut f = file();
        f[at..at + bytes.len()].copy_from_slice(&bytes);
        if let Some(p) = Program::parse(&f) {
            for s in p.segments() {
                prop_assert!(s.offset + s.file_size <= f.len() as u64);
                prop_assert!(s.address + s.memory_size < 1 << 47);
            }
        }
    }
}
