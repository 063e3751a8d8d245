//! Slabs and lists.

use std::alloc::{Layout, alloc_zeroed};
use std::collections::VecDeque;
use std::vec::Vec;

use core::ptr::NonNull;
use proptest::prelude::*;

use super::*;
use crate::list::{Link, Linked, List};

struct Item {
    id: u64,
    link: Link<Item>,
}

impl Linked<0> for Item {
    fn link(&self) -> &Link<Self> {
        &self.link
    }
}

fn page() -> Option<SlabPage> {
    let layout = Layout::from_size_align(PAGE, PAGE).unwrap();
    // SAFETY: the layout is not empty; the page is leaked.
    NonNull::new(unsafe { alloc_zeroed(layout) }).map(|p| unsafe { SlabPage::new(p) })
}

fn item(id: u64) -> Item {
    Item { id, link: Link::new() }
}

#[test]
fn slots_are_reused_and_distinct() {
    let slab: Slab<Item> = Slab::new();
    let all: Vec<_> = (0..500).map(|id| slab.allocate(item(id), page).unwrap()).collect();
    assert!(all.iter().enumerate().all(|(i, r)| r.id == i as u64));
    assert_eq!(slab.live(), 500);
    slab.release(all[7]);
    assert_eq!(all[7].id, 7, "still readable");
    let again = slab.allocate(item(1000), || None).unwrap();
    assert!(again == all[7] && again.id == 1000);
}

#[test]
fn no_page_no_object() {
    let slab: Slab<Item> = Slab::new();
    assert!(slab.allocate(item(0), || None).is_none());
    assert_eq!(slab.live(), 0);
}

proptest! {
    #[test]
    fn list_behaves_like_a_deque(ops in prop::collection::vec((0u8..4, any::<u16>()), 1..200)) {
        let slab: Slab<Item> = Slab::new();
        let list: List<Item, 0> = List::new();
        let mut model: VecDeque<Ref<Item>> = VecDeque::new();
        for (n, (op, pick)) in ops.into_iter().enumerate() {
            match op {
                0 | 1 => {
                    let new = slab.allocate(item(n as u64), page).unwrap();
                    if op == 0 { list.push_back(new); model.push_back(new) }
                    else { list.push_front(new); model.push_front(new) }
                }
                2 => prop_assert_eq!(list.pop_front(), model.pop_front()),
                _ => if !model.is_empty() {
                    let gone = model.remove(usize::from(pick) % model.len()).unwrap();
                    list.remove(gone);
                },
            }
            prop_assert!(list.iter().eq(model.iter().copied()));
            prop_assert_eq!(list.is_empty(), model.is_empty());
        }
    }
}
