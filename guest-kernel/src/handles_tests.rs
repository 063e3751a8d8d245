//! Handle tables against a map.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn page() -> Option<Ref<HandlePage>> {
    let entries = core::array::from_fn(|_| Entry {
        object: Cell::new(0),
        badge: Cell::new(0),
        rights: Cell::new(0),
        generation: Cell::new(0),
        reserved: 0,
    });
    // SAFETY: leaked, so valid for ever; changed through cells only.
    Some(unsafe { Ref::new(Box::leak(Box::new(HandlePage(entries))).into()) })
}

fn slot(object: u64) -> Slot {
    Slot { object, badge: object * 3, rights: 7 }
}

#[test]
fn stale_numbers_fail() {
    let table = HandleTable::new(16);
    let first = table.insert(slot(1), page).unwrap();
    assert_ne!(first, 0);
    assert_eq!(table.remove(first), Some(slot(1)));
    let second = table.insert(slot(2), page).unwrap();
    assert_ne!(first, second);
    assert_eq!(table.get(first), None);
    assert_eq!(table.remove(first), None);
    assert_eq!(table.get(second), Some(slot(2)));
    assert_eq!(table.get(0), None);
    assert_eq!(table.get(u32::MAX), None);
}

#[test]
fn limits() {
    let table = HandleTable::new(2);
    assert_eq!(table.insert(slot(1), || None), Err(Full::Memory));
    table.insert(slot(1), page).unwrap();
    table.insert(slot(2), page).unwrap();
    assert_eq!(table.insert(slot(3), page), Err(Full::Limit));
    table.set_limit(u32::MAX);
    let mut count = 2;
    while table.insert(slot(9), page).is_ok() {
        count += 1;
    }
    assert_eq!(count, MAX_HANDLES);
}

proptest! {
    #[test]
    fn behaves_like_a_map(ops in prop::collection::vec((any::<bool>(), any::<u16>()), 1..600)) {
        let table = HandleTable::new(300);
        let mut map: BTreeMap<u32, u64> = BTreeMap::new();
        let mut closed: Vec<u32> = Vec::new();
        for (i, (close, pick)) in ops.into_iter().enumerate() {
            if close && !map.is_empty() {
                let number = *map.keys().nth(usize::from(pick) % map.len()).unwrap();
                let object = map.remove(&number).unwrap();
                prop_assert_eq!(table.remove(number), Some(slot(object)));
                closed.push(number);
            } else if let Ok(number) = table.insert(slot(i as u64 + 1), page) {
                prop_assert!(map.insert(number, i as u64 + 1).is_none());
            } else {
                prop_assert_eq!(map.len(), 300);
            }
            prop_assert_eq!(table.count() as usize, map.len());
        }
        for (number, object) in &map {
            prop_assert_eq!(table.get(*number), Some(slot(*object)));
        }
        for number in closed {
            prop_assert_eq!(table.get(number), None);
        }
        let mut from = 0;
        while let Some((_, next)) = table.take_any(from) {
            from = next;
        }
        prop_assert_eq!(table.count(), 0);
    }
}
