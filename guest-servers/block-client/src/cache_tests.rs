use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::Error;

use crate::cache::Cache;
use crate::fake::FakeDisk;

const SECTORS: u64 = 1000;

#[derive(Clone, Debug)]
enum Step {
    Read { at: usize, len: usize },
    Write { at: usize, len: usize, value: u8 },
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = (0..SECTORS as usize * 512, 1..90_000usize);
    let step = prop_oneof![
        range.clone().prop_map(|(at, len)| Step::Read { at, len }),
        (range, any::<u8>()).prop_map(|((at, len), value)| Step::Write { at, len, value }),
        Just(Step::Flush),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Against a plain array, with a cache much smaller than the device and completions out of
    /// order.
    #[test]
    fn as_a_plain_disk(
        steps in steps(),
        seed: u64,
        large_blocks: bool,
        lines in prop_oneof![Just(3usize), Just(9)],
    ) {
        let block_size = if large_blocks { 4096 } else { 512 };
        let start = if large_blocks { 8 } else { 3 };
        let sectors = SECTORS - 40;
        let disk = FakeDisk::new(SECTORS, block_size, lines * 64 * block_size as usize, seed);
        let mut cache = Cache::new(disk, start, sectors).unwrap();
        let mut model = vec![0u8; sectors as usize * 512];
        for step in steps {
            match step {
                Step::Read { at, len } => {
                    let mut out = vec![0xEE; len];
                    let result = cache.read(at as u64, &mut out);
                    match model.get(at..at + len) {
                        Some(expected) => {
                            prop_assert_eq!(result, Ok(()));
                            prop_assert!(out == expected);
                        }
                        None => prop_assert_eq!(result, Err(Error::Inval)),
                    }
                }
                Step::Write { at, len, value } => {
                    let data: Vec<u8> = (0..len).map(|i| value.wrapping_add(i as u8)).collect();
                    let result = cache.write(at as u64, &data);
                    match model.get_mut(at..at + len) {
                        Some(place) => {
                            prop_assert_eq!(result, Ok(()));
                            place.copy_from_slice(&data);
                        }
                        None => prop_assert_eq!(result, Err(Error::Inval)),
                    }
                }
                Step::Flush => {
                    prop_assert_eq!(cache.flush(), Ok(()));
                    let disk = &cache.transport().disk;
                    let from = start as usize * 512;
                    prop_assert!(disk[from..from + model.len()] == model[..]);
                }
            }
        }
    }
}

#[test]
fn a_write_error_is_reported_and_nothing_is_dropped() {
    let mut disk = FakeDisk::new(SECTORS, 512, 4 * 64 * 512, 1);
    disk.bad = Some(5);
    let mut cache = Cache::new(disk, 0, SECTORS).unwrap();
    assert_eq!(cache.write(5 * 512, &[7; 512]), Ok(()));
    assert_eq!(cache.flush(), Err(Error::Io));
    let mut out = [0; 512];
    assert_eq!(cache.read(5 * 512, &mut out), Ok(()), "still there");
    assert_eq!(out, [7; 512]);
    assert_eq!(cache.flush(), Err(Error::Io), "and still not on the device");
}

#[test]
fn a_read_error_is_the_readers() {
    let mut disk = FakeDisk::new(SECTORS, 512, 4 * 64 * 512, 1);
    disk.bad = Some(5);
    let mut cache = Cache::new(disk, 0, SECTORS).unwrap();
    let mut out = [0; 512];
    assert_eq!(cache.read(0, &mut out), Err(Error::Io));
    assert_eq!(cache.read(64 * 512, &mut out), Ok(()), "the next line is good");
    assert_eq!(cache.flush(), Ok(()));
}

#[test]
fn sequential_reads_run_ahead() {
    let disk = FakeDisk::new(8192, 512, 64 * 64 * 512, 1);
    let mut cache = Cache::new(disk, 0, 8192).unwrap();
    let mut out = vec![0; 4096];
    for at in 0..8192 * 512 / 4096 {
        cache.read(at * 4096, &mut out).unwrap();
    }
    assert!(cache.transport().deepest > 2, "several requests at once");
    assert!(cache.stats.hits > 4 * cache.stats.misses);
}

#[test]
fn nonsense_is_refused() {
    let disk = || FakeDisk::new(100, 512, 4 * 64 * 512, 1);
    assert_eq!(Cache::new(disk(), 50, 51).err(), Some(Error::Inval));
    assert_eq!(Cache::new(disk(), u64::MAX, 2).err(), Some(Error::Inval));
    assert_eq!(Cache::new(FakeDisk::new(100, 512, 512, 1), 0, 100).err(), Some(Error::Inval));
}
