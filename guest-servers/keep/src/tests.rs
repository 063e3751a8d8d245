use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};

use crate::codec::{Reader, Writer};
use crate::{Area, Found, Journal};

/// Memory whose writer dies after so many bytes.
#[derive(Clone, Debug)]
struct Memory {
    bytes: Rc<RefCell<Vec<u8>>>,
    left: Rc<Cell<usize>>,
}

impl Memory {
    fn new(len: usize) -> Self {
        let bytes = Rc::new(RefCell::new(std::vec![0; len]));
        Self { bytes, left: Rc::new(Cell::new(usize::MAX)) }
    }
}

impl Area for Memory {
    fn len(&self) -> usize {
        self.bytes.borrow().len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.bytes.borrow()[at..at + out.len()]);
        Ok(())
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let len = bytes.len().min(self.left.get());
        self.bytes.borrow_mut()[at..at + len].copy_from_slice(&bytes[..len]);
        if self.left.get() != usize::MAX {
            self.left.set(self.left.get() - len);
        }
        Ok(())
    }
}

type Map = BTreeMap<u64, Vec<u8>>;

fn contents(journal: &Journal<Memory>) -> Map {
    journal.range(0..=u64::MAX).map(|(key, record)| (key, record.to_vec())).collect()
}

#[test]
fn the_next_instance_finds_what_was_committed() {
    let memory = Memory::new(4096);
    let (mut journal, found) = Journal::open(memory.clone()).unwrap();
    assert_eq!(found, Found::Fresh);
    journal.put(7, b"seven");
    journal.put(8, b"");
    journal.commit().unwrap();
    journal.put(7, b"another");
    journal.remove(8);
    assert_eq!(journal.get(8), None);
    // Not committed: it never was.
    let (journal, found) = Journal::open(memory).unwrap();
    assert_eq!(found, Found::Restored);
    assert_eq!(contents(&journal), Map::from([(7, b"seven".to_vec()), (8, Vec::new())]));
}

#[test]
fn an_empty_journal_is_restored_as_empty() {
    let memory = Memory::new(1024);
    Journal::open(memory.clone()).unwrap();
    let (journal, found) = Journal::open(memory).unwrap();
    assert_eq!((found, contents(&journal).len()), (Found::Restored, 0));
}

#[test]
fn what_does_not_fit_is_not_half_kept() {
    let memory = Memory::new(1024);
    let (mut journal, _) = Journal::open(memory.clone()).unwrap();
    journal.put(1, &[1; 100]);
    journal.commit().unwrap();
    journal.put(2, &[2; 1000]);
    assert_eq!(journal.commit(), Err(Error::NoSpc));
    journal.put(1, b"x");
    assert_eq!(journal.commit(), Err(Error::NoSpc));
    let (journal, found) = Journal::open(memory).unwrap();
    assert_eq!((found, contents(&journal).len()), (Found::Fresh, 0));
}

#[test]
fn any_damaged_byte_is_seen() {
    let memory = Memory::new(2048);
    let (mut journal, _) = Journal::open(memory.clone()).unwrap();
    for round in 0..5u64 {
        journal.put(round, &[round as u8; 21]);
        journal.commit().unwrap();
    }
    let end = 128 + 5 * (32 + 16 + 24) + 32;
    let good = contents(&Journal::open(memory.clone()).unwrap().0);
    assert_eq!(good.len(), 5);
    let half = 128 + (2048 - 128) / 2;
    for at in (0..128).chain(half..half + end - 128) {
        let copy = Memory::new(2048);
        copy.bytes.borrow_mut().copy_from_slice(&memory.bytes.borrow());
        copy.bytes.borrow_mut()[at] ^= 0x10;
        let (journal, found) = Journal::open(copy).unwrap();
        // A damaged head has a twin, and the batch behind that one's end is whole.
        match found {
            Found::Restored => assert_eq!(contents(&journal), good, "byte {at}"),
            found => assert_eq!((found, at >= 128), (Found::Garbage, true), "byte {at}"),
        }
    }
}

#[test]
fn records_are_taken_apart_as_they_were_put_together() {
    let record = Writer::new().u8(3).u32(4).u64(5).option(None).option(Some(0)).bytes(b"abc");
    let record = record.bool(true).done();
    let mut reader = Reader::new(&record);
    assert_eq!((reader.u8(), reader.u32(), reader.u64()), (Ok(3), Ok(4), Ok(5)));
    assert_eq!((reader.option(), reader.option()), (Ok(None), Ok(Some(0))));
    assert_eq!((reader.str(), reader.bool()), (Ok("abc"), Ok(true)));
    assert_eq!(reader.u8(), Err(Error::BadMessage));
    assert_eq!(Reader::new(&record).end(), Err(Error::BadMessage));
}

proptest! {
    /// The writer dies after any byte: the next instance finds the last commit or the one under way,
    /// as a whole, and can go on.
    #[test]
    fn a_commit_is_whole_or_not_there(
        commits in prop::collection::vec(
            prop::collection::vec((0u64..12, prop::option::of(0usize..90)), 1..5), 1..40),
        dies in 0usize..6000,
    ) {
        let memory = Memory::new(4096);
        let (mut journal, _) = Journal::open(memory.clone()).unwrap();
        memory.left.set(dies);
        let (mut before, mut now) = (Map::new(), Map::new());
        for commit in &commits {
            if memory.left.get() == 0 {
                break;
            }
            before = now.clone();
            for &(key, len) in commit {
                match len {
                    Some(len) => {
                        let record = std::vec![len as u8; len];
                        journal.put(key, &record);
                        now.insert(key, record);
                    }
                    None => {
                        journal.remove(key);
                        now.remove(&key);
                    }
                }
            }
            journal.commit().unwrap();
        }
        memory.left.set(usize::MAX);
        let (mut journal, found) = Journal::open(memory.clone()).unwrap();
        prop_assert_eq!(found, Found::Restored);
        let kept = contents(&journal);
        prop_assert!(kept == now || kept == before);
        journal.put(99, b"more");
        journal.commit().unwrap();
        let (journal, _) = Journal::open(memory).unwrap();
        prop_assert_eq!(journal.get(99), Some(&b"more"[..]));
    }
}
