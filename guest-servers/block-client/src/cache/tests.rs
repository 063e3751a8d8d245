use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::Error;

use super::{Cache, OLD};
use crate::fake::{DISCARDED, FakeDisk};

const SECTORS: u64 = 1000;

#[derive(Clone, Debug)]
enum Step {
    Read { at: usize, len: usize },
    Write { at: usize, len: usize, value: u8 },
    Flush,
    Background,
    ReadAhead { at: usize, len: usize },
    Discard { at: usize, len: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = (0..SECTORS as usize * 512, 1..90_000usize);
    let step = prop_oneof![
        range.clone().prop_map(|(at, len)| Step::Read { at, len }),
        (range, any::<u8>()).prop_map(|((at, len), value)| Step::Write { at, len, value }),
        Just(Step::Flush),
        Just(Step::Background),
        (0..SECTORS as usize * 512, 1..500_000usize)
            .prop_map(|(at, len)| Step::ReadAhead { at, len }),
        (0..SECTORS as usize * 512, 1..20_000usize).prop_map(|(at, len)| Step::Discard { at, len }),
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
                Step::Background => _ = cache.background(true),
                Step::ReadAhead { at, len } => cache.read_ahead(at as u64, len as u64),
                Step::Discard { at, len } => {
                    // The fake's DISCARD fills whole blocks with a pattern; the model does too.
                    let result = cache.discard(at as u64, len as u64);
                    if at + len > model.len() {
                        prop_assert_eq!(result, Err(Error::Inval));
                        continue;
                    }
                    prop_assert_eq!(result, Ok(()));
                    let block = block_size as usize;
                    let (first, end) = (at.next_multiple_of(block), (at + len) / block * block);
                    if first < end {
                        model[first..end].fill(DISCARDED);
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
    assert_eq!(cache.read(5 * 512, &mut out), Err(Error::Io));
    assert_eq!(cache.read(4 * 512, &mut out), Ok(()), "its neighbours are good");
    assert_eq!(cache.read(0, &mut [0; 4096]), Err(Error::Io));
    assert_eq!(cache.read(64 * 512, &mut out), Ok(()), "and the next line");
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
    assert!(cache.stats.hits > 20 * cache.stats.misses, "{:?}", cache.stats);
    assert!(cache.stats.merged > 0);
    assert!(cache.stats.reads < 8192 * 512 / 32768, "requests longer than a line");
}

#[test]
fn nonsense_is_refused() {
    let disk = || FakeDisk::new(100, 512, 4 * 64 * 512, 1);
    assert_eq!(Cache::new(disk(), 50, 51).err(), Some(Error::Inval));
    assert_eq!(Cache::new(disk(), u64::MAX, 2).err(), Some(Error::Inval));
    assert_eq!(Cache::new(FakeDisk::new(100, 512, 512, 1), 0, 100).err(), Some(Error::Inval));
}

#[test]
fn random_reads_fetch_little() {
    let disk = FakeDisk::new(8192, 512, 64 * 64 * 512, 1);
    let mut cache = Cache::new(disk, 0, 8192).unwrap();
    let mut out = [0; 512];
    for at in [7u64, 901, 333, 4000, 78, 6001] {
        cache.read(at * 65536 % (8192 * 512) + 4096, &mut out).unwrap();
    }
    assert_eq!(cache.transport().bytes_read, 6 * 4096);
}

#[test]
fn a_long_read_is_under_way_as_a_whole() {
    let mut disk = FakeDisk::new(8192, 512, 64 * 64 * 512, 1);
    disk.info.max_bytes = 32768;
    let mut cache = Cache::new(disk, 0, 8192).unwrap();
    cache.read(1 << 20, &mut vec![0; 256 * 1024]).unwrap();
    assert_eq!((cache.transport().deepest, cache.stats.reads), (8, 8));
}

#[test]
fn write_back_goes_in_order_and_neighbours_go_together() {
    let disk = FakeDisk::new(8192, 512, 64 * 64 * 512, 1);
    let mut cache = Cache::new(disk, 0, 8192).unwrap();
    for line in [9u64, 3, 14, 8, 4, 2] {
        cache.write(line * 32768, &vec![line as u8; 32768]).unwrap();
    }
    cache.write(100 * 512, &[1; 512]).unwrap();
    cache.write(101 * 512, &[2; 512]).unwrap();
    cache.flush().unwrap();
    let sectors = &cache.transport().submitted;
    assert!(sectors.is_sorted(), "{sectors:?}");
    // Lines are neighbours in memory as they were written: none that is one on the device.
    assert_eq!(cache.stats.writes, 7, "{sectors:?}");
    cache.flush().unwrap();
    assert_eq!(cache.transport().flushes, 1, "nothing new, nothing to flush");
    cache.write(40 * 32768, &vec![5; 4 * 32768]).unwrap();
    cache.flush().unwrap();
    assert_eq!((cache.stats.writes, cache.transport().flushes), (9, 2), "64 KiB at a time");
}

#[test]
fn writers_wait_when_much_is_dirty_and_the_background_takes_the_rest() {
    let disk = FakeDisk::new(8192, 512, 32 * 64 * 512, 1);
    let mut cache = Cache::new(disk, 0, 8192).unwrap();
    for line in 0..128u64 {
        cache.write(line * 32768, &vec![line as u8; 32768]).unwrap();
        assert!(cache.dirty_bytes() <= (16 + 8) * 32768, "{}", cache.dirty_bytes());
    }
    assert!(cache.stats.throttled > 0);
    assert!(cache.transport().flushes == 0);
    let mut calls = 0;
    while cache.background(true) {
        calls += 1;
        assert!(calls < 40, "{} still dirty", cache.dirty_bytes());
    }
    assert!(calls >= OLD, "not before its time");
    assert_eq!(cache.dirty_bytes(), 0);
    for line in 0..128usize {
        assert_eq!(cache.transport().disk[line * 32768], line as u8);
    }
}

#[test]
fn a_device_torn_away_fails_everything_and_hangs_nothing() {
    let disk = FakeDisk::new(8192, 512, 32 * 64 * 512, 1);
    let mut cache = Cache::new(disk, 0, 8192).unwrap();
    cache.write(0, &[1; 4096]).unwrap();
    cache.read_ahead(1 << 20, 1 << 20);
    cache.transport.budget = Some(2);
    let mut out = vec![0; 65536];
    let mut at = 0;
    let error = loop {
        match cache.read(2 << 20 | at, &mut out) {
            Ok(()) => at += 65536,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::NxIo);
    assert_eq!(cache.flush(), Err(Error::NxIo));
    assert!(cache.background(true), "what is dirty stays dirty");
    let mut result = Ok(());
    for line in 0..200u64 {
        result = cache.write(line % 100 * 32768, &[7; 32768]);
    }
    assert_eq!(result, Err(Error::NxIo), "memory is bounded");
    assert_eq!(cache.read(0, &mut [0; 512]), Ok(()), "what is cached can still be read");
}

#[test]
fn what_is_discarded_is_not_written() {
    let mut disk = FakeDisk::new(8192, 512, 32 * 64 * 512, 1);
    disk.limits.write_cache = false;
    let mut cache = Cache::new(disk, 8, 8000).unwrap();
    cache.write(0, &[1; 65536]).unwrap();
    cache.discard(100, 65536 - 100).unwrap();
    cache.flush().unwrap();
    assert_eq!((cache.stats.writes, cache.transport().flushes), (1, 0));
    let disk = &cache.transport().disk;
    assert_eq!((disk[8 * 512], disk[9 * 512]), (1, DISCARDED));
    assert_eq!(cache.discard(8000 * 512 - 512, 1024), Err(Error::Inval));
}
