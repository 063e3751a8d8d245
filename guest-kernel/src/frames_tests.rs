//! The frame allocator against a set of handed-out frames.

use std::boxed::Box;
use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn frames(ranges: &[(u64, u64)], zeroed: bool) -> Frames {
    let total: u64 = ranges.iter().map(|(s, e)| (e - s).div_ceil(CHUNK) + 1).sum();
    let table: Vec<Chunk> = (0..total).map(|_| Chunk::new()).collect();
    let frames = Frames::new();
    frames.start(Box::leak(table.into_boxed_slice()), zeroed);
    ranges.iter().for_each(|&(s, e)| frames.add_ram(s, e));
    frames
}

#[test]
fn counts_only_ram() {
    let f = frames(&[(MIB, 16 * MIB - 8192)], true);
    assert_eq!(f.counts(), (15 * 256 - 2, 15 * 256 - 2));
    assert!(f.overlaps_ram(15 * MIB, 17 * MIB));
    assert!(!f.overlaps_ram(16 * MIB, 17 * MIB));
}

#[test]
fn fresh_until_released() {
    let f = frames(&[(2 * MIB, 4 * MIB)], true);
    let a = f.allocate(0, u64::MAX).unwrap();
    assert!(a.fresh);
    f.release(a.address, 1);
    // All other frames first, as they are fresh, then the dirty one.
    for _ in 0..511 {
        let b = f.allocate(0, u64::MAX).unwrap();
        assert!(b.fresh && b.address != a.address);
    }
    assert_eq!(f.allocate(0, u64::MAX), Some(Block { address: a.address, fresh: false }));
    assert_eq!(f.allocate(0, u64::MAX), None);
    assert_eq!(f.counts().1, 0);
}

#[test]
fn untrusted_ram_is_never_fresh() {
    let f = frames(&[(2 * MIB, 4 * MIB)], false);
    assert!(!f.allocate(3, u64::MAX).unwrap().fresh);
}

#[test]
fn limits_are_kept() {
    let f = frames(&[(2 * MIB, 64 * MIB)], true);
    f.prefer_from(16 * MIB);
    assert!(f.allocate(0, u64::MAX).unwrap().address >= 16 * MIB);
    assert!(f.allocate(4, 16 * MIB).unwrap().address < 16 * MIB);
    assert!(f.allocate_chunks(4, 16 * MIB).unwrap().address + 8 * MIB <= 16 * MIB);
    assert_eq!(f.allocate_chunks(8, 16 * MIB), None);
}

#[test]
fn reserved_islands_are_not_given() {
    let f = frames(&[(0, 4 * MIB)], true);
    f.reserve(MIB, MIB + 100);
    f.reserve(MIB, MIB + 100);
    assert_eq!(f.counts().1, 1023);
    let mut got = BTreeSet::new();
    while let Some(b) = f.allocate(0, u64::MAX) {
        assert!(got.insert(b.address));
    }
    assert_eq!(got.len(), 1023);
    assert!(!got.contains(&MIB));
}

proptest! {
    #[test]
    fn blocks_never_overlap(ops in prop::collection::vec((0u32..=9, any::<bool>(), any::<u16>()), 1..200)) {
        let f = frames(&[(MIB, 9 * MIB + 12288), (32 * MIB, 40 * MIB)], true);
        let (total, _) = f.counts();
        let mut live: Vec<(u64, u64)> = Vec::new();
        let mut owned = BTreeSet::new();
        let mut ever = BTreeSet::new();
        for (order, release, pick) in ops {
            if release && !live.is_empty() {
                let (address, count) = live.swap_remove(usize::from(pick) % live.len());
                f.release(address, count);
                (0..count).for_each(|i| { owned.remove(&(address + i * FRAME)); });
            } else if let Some(b) = f.allocate(order, u64::MAX) {
                let count = 1u64 << order;
                prop_assert_eq!(b.address % (count * FRAME), 0);
                for i in 0..count {
                    let frame = b.address + i * FRAME;
                    prop_assert!((MIB..9 * MIB + 12288).contains(&frame) || (32 * MIB..40 * MIB).contains(&frame));
                    prop_assert!(owned.insert(frame));
                    let new = ever.insert(frame);
                    prop_assert!(new || !b.fresh);
                }
                live.push((b.address, count));
            }
            prop_assert_eq!(f.counts(), (total, total - owned.len() as u64));
        }
    }
}
