//! Page tables against a map from page to frame.

use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

struct Memory {
    tables: RefCell<Vec<&'static Table>>,
    room: usize,
}

impl Memory {
    fn new(room: usize) -> (Self, u64) {
        let memory = Self { tables: RefCell::new(Vec::new()), room };
        let pml4 = memory.allocate().unwrap();
        (memory, pml4)
    }
}

impl TableMemory for Memory {
    fn table(&self, address: u64) -> &'static Table {
        self.tables.borrow()[(address / PAGE) as usize - 1]
    }

    fn allocate(&self) -> Option<u64> {
        let mut tables = self.tables.borrow_mut();
        if tables.len() == self.room {
            return None;
        }
        tables.push(Box::leak(Box::new([const { Cell::new(0) }; 512])));
        Some(tables.len() as u64 * PAGE)
    }
}

#[test]
fn large_pages_where_possible() {
    let (memory, pml4) = Memory::new(100);
    map(&memory, pml4, 0x40_0000, 0x80_0000, 0x20_1000, PRESENT | USER).unwrap();
    let (physical, entry) = translate(&memory, pml4, 0x41_2345).unwrap();
    assert_eq!((physical, entry & LARGE), (0x81_2345, LARGE));
    let (physical, entry) = translate(&memory, pml4, 0x60_0FFF).unwrap();
    assert_eq!((physical, entry & LARGE), (0xA0_0FFF, 0));
    assert_eq!(translate(&memory, pml4, 0x60_1000), None);
    let mut gone = Vec::new();
    unmap(&memory, pml4, 0x40_0000, 0x20_1000, |page| gone.push(page));
    assert_eq!(gone, [0x40_0000, 0x60_0000]);
    assert_eq!(translate(&memory, pml4, 0x40_0000), None);
}

#[test]
fn lack_of_tables_is_an_error() {
    let (memory, pml4) = Memory::new(3);
    assert_eq!(map(&memory, pml4, 0x1000, 0x1000, 0x1000, PRESENT), Err(NoTable));
}

proptest! {
    #[test]
    fn behaves_like_a_map(ops in prop::collection::vec(
        (any::<bool>(), 0u64..3000, 1u64..1200, 0u64..1 << 20), 1..40)) {
        let (memory, pml4) = Memory::new(1000);
        let base = 0x7F00_0000_0000u64;
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (add, page, count, frame) in ops {
            if add {
                if (page..page + count).any(|p| model.contains_key(&p)) {
                    continue;
                }
                map(&memory, pml4, base + page * PAGE, frame * PAGE, count * PAGE, PRESENT).unwrap();
                (0..count).for_each(|i| { model.insert(page + i, frame + i); });
                ranges.push((page, count));
            } else if !ranges.is_empty() {
                let (page, count) = ranges.swap_remove(page as usize % ranges.len());
                unmap(&memory, pml4, base + page * PAGE, count * PAGE, |_| ());
                (0..count).for_each(|i| { model.remove(&(page + i)); });
            }
        }
        for page in 0..4300 {
            let got = translate(&memory, pml4, base + page * PAGE + 5).map(|(p, _)| p);
            prop_assert_eq!(got, model.get(&page).map(|f| f * PAGE + 5));
        }
    }
}
