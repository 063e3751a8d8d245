use super::*;
use crate::testing::FlatMemory;
use proptest::collection::vec;
use proptest::prelude::*;

fn table(memory: &FlatMemory, prds: &[Prd]) {
    for (index, prd) in prds.iter().enumerate() {
        memory.write(16 * index as u64, prd.as_bytes()).unwrap();
    }
}

#[test]
fn adjacent_regions_are_one_segment() {
    let memory = FlatMemory::new(0, 0x10000);
    let last = Prd { dbc: 511 | Prd::INTERRUPT, ..Prd::new(0x3000, 512) };
    table(&memory, &[Prd::new(0x1000, 512), Prd::new(0x1200, 512), last]);
    let regions = collect(&*memory, 0, 3, (4096, true)).unwrap();
    let segment = |address, length| Segment { address, length };
    assert_eq!(regions.segments, [segment(0x1000, 1024), segment(0x3000, 512)]);
    assert_eq!((regions.bytes, regions.interrupt), (1536, true));
    let less = collect(&*memory, 0, 3, (1030, true)).unwrap();
    assert_eq!(less.segments, [segment(0x1000, 1024), segment(0x3000, 6)]);
    assert!(!less.interrupt, "the region is not used up");
    assert_eq!(regions.slice(1000, 100), [segment(0x13E8, 24), segment(0x3000, 76)]);
}

#[test]
fn what_is_not_memory_is_an_error_of_its_kind() {
    let memory = FlatMemory::new(0, 0x1000);
    table(&memory, &[Prd::new(0x2000, 512)]);
    assert!(matches!(collect(&*memory, 0, 1, (512, true)), Err(PrdtError::Region(_))));
    assert!(matches!(collect(&*memory, 0xFF8, 1, (512, true)), Err(PrdtError::Table(_))));
    assert!(matches!(collect(&*memory, u64::MAX - 4, 2, (512, true)), Err(PrdtError::Table(_))));
    assert_eq!(collect(&*memory, 0xFF8, 0, (512, true)), Ok(Regions::default()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the regions, slices put together are the transfer, byte by byte.
    #[test]
    fn slices_cover_the_transfer(
        sizes in vec(1u32..200, 1..100),
        length in 1u64..20_000,
        step in 1u64..700,
    ) {
        let memory = FlatMemory::new(0, 0x10000);
        let mut at = 0x4000;
        let mut prds = Vec::new();
        for size in &sizes {
            prds.push(Prd::new(at, size * 2));
            at += u64::from(size * 2) + u64::from(size % 3) * 2;
        }
        table(&memory, &prds);
        let regions = collect(&*memory, 0, prds.len() as u16, (length, true)).unwrap();
        let room: u64 = sizes.iter().map(|size| u64::from(size * 2)).sum();
        prop_assert_eq!(regions.bytes, room.min(length));
        let data: Vec<u8> = (0..regions.bytes).map(|i| (i % 251) as u8).collect();
        prop_assert_eq!(regions.write(&*memory, 0, &data).unwrap(), regions.bytes);
        prop_assert_eq!(&regions.read(&*memory, data.len()).unwrap(), &data);
        let mut seen = Vec::new();
        let mut offset = 0;
        while offset < regions.bytes {
            for segment in regions.slice(offset, step) {
                seen.extend(memory.dump(segment.address, segment.length as usize));
            }
            offset += step;
        }
        prop_assert_eq!(seen, data);
    }
}
