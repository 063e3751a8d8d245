//! The server dies at any byte it writes to kept memory: its next instance has everything.

use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_keep::{Area, Found};

use super::Cache;
use crate::Transport;
use crate::fake::FakeDisk;

const SECTORS: usize = 600;
const IDENTITY: u64 = 7;

/// Memory that stays. Its writer dies after so many bytes.
#[derive(Clone)]
struct Memory(Arc<Mutex<(Vec<u8>, usize)>>);

impl Memory {
    fn new(len: usize) -> Self {
        Self(Arc::new(Mutex::new((vec![0; len], usize::MAX))))
    }

    fn set_left(&self, left: usize) {
        self.0.lock().unwrap().1 = left;
    }

    fn is_dead(&self) -> bool {
        self.0.lock().unwrap().1 == 0
    }
}

impl Area for Memory {
    fn len(&self) -> usize {
        self.0.lock().unwrap().0.len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let memory = self.0.lock().unwrap();
        out.copy_from_slice(memory.0.get(at..at + out.len()).ok_or(Error::Fault)?);
        Ok(())
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let mut memory = self.0.lock().unwrap();
        let count = bytes.len().min(memory.1);
        memory.0[at..at + count].copy_from_slice(&bytes[..count]);
        if memory.1 != usize::MAX {
            memory.1 -= count;
        }
        Ok(())
    }
}

fn cache(disk: FakeDisk, memory: &Memory) -> (Cache<FakeDisk>, Found) {
    let mut cache = Cache::new(disk, 0, SECTORS as u64).unwrap();
    let found = cache.keep(Box::new(memory.clone()), IDENTITY).unwrap();
    assert_eq!(cache.recovered(), found == Found::Restored);
    (cache, found)
}

/// The device as the dead server leaves it: of what was under way some is done, some is not.
fn left_behind(mut cache: Cache<FakeDisk>, block: u32, lines: usize, seed: u64) -> FakeDisk {
    let mut completions = Vec::new();
    if !cache.requests.is_empty() && !seed.is_multiple_of(3) {
        cache.transport.wait(&mut completions).unwrap();
    }
    let mut next = FakeDisk::new(SECTORS as u64, block, lines * 32768, seed);
    next.disk = cache.transport.disk;
    next
}

#[derive(Clone, Debug)]
enum Step {
    /// Bytes, at any place.
    Write {
        at: usize,
        len: usize,
    },
    Read {
        at: usize,
        len: usize,
    },
    Discard {
        at: usize,
        len: usize,
    },
    Flush,
    Background,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || {
        (0..SECTORS * 512, prop_oneof![1..600usize, 1..70_000usize])
            .prop_map(|(at, len)| (at, len.min(SECTORS * 512 - at)))
    };
    let step = prop_oneof![
        6 => range().prop_map(|(at, len)| Step::Write { at, len }),
        1 => range().prop_map(|(at, len)| Step::Read { at, len }),
        1 => range().prop_map(|(at, len)| Step::Discard { at, len }),
        1 => Just(Step::Flush),
        1 => Just(Step::Background),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Does a step on the cache and on what it should be. Bytes that were discarded may be anything.
fn act(cache: &mut Cache<FakeDisk>, model: &mut [Option<u8>], step: &Step, value: u8) {
    match *step {
        Step::Write { at, len } => {
            cache.write(at as u64, &vec![value; len]).unwrap();
            model[at..at + len].fill(Some(value));
        }
        Step::Read { at, len } => {
            let mut out = vec![0; len];
            cache.read(at as u64, &mut out).unwrap();
            assert!(out.iter().zip(&model[at..at + len]).all(|(a, b)| b.is_none_or(|b| *a == b)));
        }
        Step::Discard { at, len } => {
            cache.discard(at as u64, len as u64).unwrap();
            model[at..at + len].fill(None);
        }
        Step::Flush => cache.flush().unwrap(),
        Step::Background => drop(cache.background(true)),
    }
}

proptest! {
    #[test]
    fn nothing_that_was_answered_is_lost(
        lives in proptest::collection::vec((steps(), 1..300_000usize), 1..4),
        seed: u64,
        block in prop_oneof![Just(512u32), Just(4096)],
        lines in prop_oneof![Just(3usize), Just(8), Just(40)],
    ) {
        let mut disk = FakeDisk::new(SECTORS as u64, block, lines * 32768, seed);
        let memory = Memory::new(Cache::new(FakeDisk::new(600, block, lines * 32768, 0), 0, 600)
            .unwrap()
            .kept_len());
        let mut model = vec![Some(0); SECTORS * 512];
        let mut value = 0;
        for (life, (steps, budget)) in lives.into_iter().enumerate() {
            memory.set_left(usize::MAX);
            let (mut cache, found) = cache(disk, &memory);
            prop_assert_eq!(found, if life == 0 { Found::Fresh } else { Found::Restored });
            memory.set_left(budget);
            let mut before = model.clone();
            for step in &steps {
                value = u8::wrapping_add(value, 1);
                before.copy_from_slice(&model);
                act(&mut cache, &mut model, step, value);
                if memory.is_dead() {
                    break;
                }
            }
            if !memory.is_dead() {
                before.copy_from_slice(&model);
            }
            memory.set_left(usize::MAX);
            let left = left_behind(cache, block, lines, seed ^ life as u64);
            let (mut next, found) = self::cache(left, &memory);
            prop_assert_eq!(found, Found::Restored);
            let mut now = vec![0; SECTORS * 512];
            next.read(0, &mut now).unwrap();
            for (at, &byte) in now.iter().enumerate() {
                let right = |model: &[Option<u8>]| model[at].is_none_or(|wanted| wanted == byte);
                prop_assert!(right(&model) || right(&before), "byte {}: {}", at, byte);
                // Whichever it is, it stays so.
                model[at] = Some(byte);
            }
            disk = left_behind(next, block, lines, seed);
        }
    }

    #[test]
    fn a_damaged_byte_is_seen(
        steps in steps(),
        seed: u64,
        damage in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let lines = 8;
        let disk = FakeDisk::new(SECTORS as u64, 512, lines * 32768, seed);
        let len = Cache::new(FakeDisk::new(600, 512, lines * 32768, 0), 0, 600).unwrap().kept_len();
        let memory = Memory::new(len);
        let (mut cache, _) = cache(disk, &memory);
        let mut model = vec![Some(0); SECTORS * 512];
        let mut value = 0;
        for step in &steps {
            value = u8::wrapping_add(value, 1);
            act(&mut cache, &mut model, step, value);
        }
        let left = left_behind(cache, 512, lines, seed);
        let old = left.disk.clone();
        memory.0.lock().unwrap().0[damage.index(len)] ^= 1 << bit;
        let (mut next, found) = self::cache(left, &memory);
        let mut now = vec![0; SECTORS * 512];
        next.read(0, &mut now).unwrap();
        match found {
            Found::Restored => {
                let all = now.iter().zip(&model).all(|(a, b)| b.is_none_or(|b| *a == b));
                prop_assert!(all);
            }
            Found::Garbage => prop_assert_eq!(now, old),
            Found::Fresh => prop_assert!(false, "damage looks like nothing"),
        }
    }
}

#[test]
fn another_device_gets_nothing() {
    let memory = Memory::new(1 << 20);
    let (mut first, _) = cache(FakeDisk::new(600, 512, 8 * 32768, 1), &memory);
    first.write(0, &[1; 512]).unwrap();
    let mut other = Cache::new(FakeDisk::new(600, 512, 8 * 32768, 1), 0, 600).unwrap();
    assert_eq!(other.keep(Box::new(memory), 8), Ok(Found::Garbage));
    let mut out = [9; 512];
    other.read(0, &mut out).unwrap();
    assert_eq!(out, [0; 512]);
    assert!(!other.recovered());
}

#[test]
fn what_the_device_refuses_is_kept_and_told() {
    let memory = Memory::new(1 << 20);
    let (mut first, _) = cache(FakeDisk::new(600, 512, 8 * 32768, 1), &memory);
    first.write(512, &[5; 512]).unwrap();
    let mut disk = left_behind(first, 512, 8, 0);
    disk.bad = Some(1);
    let (mut second, found) = cache(disk, &memory);
    assert_eq!(found, Found::Restored);
    assert_eq!(second.flush(), Err(Error::Io));
    let mut disk = left_behind(second, 512, 8, 0);
    disk.bad = None;
    let (mut third, found) = cache(disk, &memory);
    assert_eq!((found, third.flush()), (Found::Restored, Ok(())));
    let mut out = [0; 512];
    third.read(512, &mut out).unwrap();
    assert_eq!(out, [5; 512]);
}

/// A disk that was out may have been elsewhere: what is on it counts, not what was to be written.
#[test]
fn a_disk_that_was_torn_away_gets_nothing() {
    for (plugged, wanted) in
        [((1, 1), Found::Restored), ((2, 1), Found::Restored), ((1, 2), Found::Garbage)]
    {
        let memory = Memory::new(1 << 20);
        let (mut first, _) = cache(FakeDisk::new(600, 512, 8 * 32768, 1), &memory);
        first.write(0, &[1; 512]).unwrap();
        let mut disk = left_behind(first, 512, 8, 0);
        disk.plugged = plugged;
        assert_eq!(cache(disk, &memory).1, wanted, "{plugged:?}");
    }
}
