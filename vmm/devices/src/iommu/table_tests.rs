use super::*;
use proptest::prelude::*;

/// Pages of the model.
const PAGES: u64 = 24;
const PAGE: u64 = 0x1000;
const BOTH: u32 = map_flag::READ | map_flag::WRITE;

/// What the specification says, page by page: which mapping a page belongs to.
#[derive(Clone, Default)]
struct Model {
    /// Number of the mapping, physical page, flags.
    pages: [Option<(u32, u64, u32)>; PAGES as usize],
}

impl Model {
    fn map(&mut self, number: u32, first: u64, count: u64, physical: u64, flags: u32) -> bool {
        let range = first as usize..(first + count) as usize;
        if self.pages[range.clone()].iter().any(Option::is_some) {
            return false;
        }
        for (page, to) in self.pages[range].iter_mut().zip(physical..) {
            *page = Some((number, to, flags));
        }
        true
    }

    fn unmap(&mut self, first: u64, count: u64) -> bool {
        let range = first as usize..(first + count) as usize;
        let inside: Vec<u32> = self.pages[range.clone()].iter().flatten().map(|p| p.0).collect();
        let outside = |(index, page): (usize, &Option<(u32, u64, u32)>)| {
            !range.contains(&index) && page.is_some_and(|p| inside.contains(&p.0))
        };
        if self.pages.iter().enumerate().any(outside) {
            return false;
        }
        self.pages[range].fill(None);
        true
    }

    fn byte(&self, address: u64, write: bool) -> Option<u64> {
        let wanted = if write { map_flag::WRITE } else { map_flag::READ };
        let (_, to, flags) = (*self.pages.get((address / PAGE) as usize)?)?;
        (flags & wanted != 0).then_some(to * PAGE + address % PAGE)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64, u64, u32),
    Unmap(u64, u64),
    Look(u64, u64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = (0..PAGES).prop_flat_map(|first| (Just(first), 1..=PAGES - first));
    let small = (0..PAGES).prop_flat_map(|first| (Just(first), 1..=4.min(PAGES - first)));
    let step = prop_oneof![
        4 => (small, 0..64u64, 0..4u32).prop_map(|((f, c), p, flags)| Step::Map(f, c, p, flags)),
        2 => range.prop_map(|(first, count)| Step::Unmap(first, count)),
        4 => (0..PAGES * PAGE, 0..3 * PAGE, any::<bool>()).prop_map(|(a, l, w)| Step::Look(a, l, w)),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn agrees_with_a_table_of_pages(steps in steps()) {
        let (mut mappings, mut model) = (Mappings::default(), Model::default());
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Map(first, count, physical, flags) => {
                    let (start, end) = (first * PAGE, (first + count) * PAGE - 1);
                    let done = mappings.map(start, end, physical * PAGE, flags);
                    let expected = model.map(number, first, count, physical, flags);
                    prop_assert_eq!(done.is_ok(), expected);
                }
                Step::Unmap(first, count) => {
                    let done = mappings.unmap(first * PAGE, (first + count) * PAGE - 1);
                    prop_assert_eq!(done.is_ok(), model.unmap(first, count));
                }
                Step::Look(address, length, write) => {
                    let bytes = address..address + length;
                    let bad = bytes.clone().find(|at| model.byte(*at, write).is_none());
                    match mappings.translate(address, length, write) {
                        Err(at) => prop_assert_eq!(Some(at), bad),
                        Ok(pieces) => {
                            prop_assert_eq!(bad, None);
                            let total: u64 = pieces.iter().map(|piece| piece.length).sum();
                            prop_assert_eq!(total, length);
                            // One byte of each page tells where the whole page is.
                            let mut at = address;
                            for piece in pieces {
                                let mut skip = 0;
                                while skip < piece.length {
                                    let expected = model.byte(at + skip, write);
                                    prop_assert_eq!(Some(piece.address + skip), expected);
                                    skip += (PAGE - (at + skip) % PAGE).min(piece.length - skip);
                                }
                                at += piece.length;
                            }
                        }
                    }
                }
            }
            let numbers: std::collections::BTreeSet<_> =
                model.pages.iter().flatten().map(|page| page.0).collect();
            prop_assert_eq!(mappings.len(), numbers.len());
        }
    }
}

#[test]
fn the_ends_of_all_addresses() {
    let mut mappings = Mappings::default();
    mappings.map(u64::MAX - 0xFFF, u64::MAX, 0x5000, BOTH).unwrap();
    let last = mappings.translate(u64::MAX - 1, 2, true).unwrap();
    assert_eq!(last, [Piece { address: 0x5FFE, length: 2 }]);
    assert_eq!(mappings.translate(u64::MAX, 2, false), Err(0));
    assert_eq!(mappings.unmap(0, u64::MAX), Ok(1));
}
