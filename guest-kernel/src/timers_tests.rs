//! The heap against a sorted map.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

struct Item {
    id: usize,
    node: Node<Item>,
}

impl Timed for Item {
    fn timer(&self) -> &Node<Self> {
        &self.node
    }
}

fn items(count: usize) -> Vec<Ref<Item>> {
    (0..count)
        .map(|id| {
            let item = Box::leak(Box::new(Item { id, node: Node::new() }));
            // SAFETY: leaked, so valid for ever; changed through cells only.
            unsafe { Ref::new(item.into()) }
        })
        .collect()
}

proptest! {
    #[test]
    fn behaves_like_a_sorted_map(ops in prop::collection::vec((0u8..3, 0usize..20, 0u64..100), 1..400)) {
        let items = items(20);
        let timers = Timers::new();
        let mut model: BTreeMap<usize, u64> = BTreeMap::new();
        for (op, id, time) in ops {
            match op {
                0 => {
                    timers.set(items[id], time);
                    model.insert(id, time);
                }
                1 => {
                    timers.cancel(items[id]);
                    model.remove(&id);
                }
                _ => while let Some(item) = timers.pop_expired(time) {
                    let earliest = model.values().min().copied().unwrap();
                    prop_assert_eq!(model.remove(&item.id), Some(earliest));
                    prop_assert!(earliest <= time && !item.node.is_active());
                },
            }
            prop_assert_eq!(timers.earliest(), model.values().min().copied().unwrap_or(u64::MAX));
        }
    }
}
