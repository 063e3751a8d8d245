//! What has to be asked of the IOMMU so that a domain has the mappings that are wanted.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Memory: address and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    pub address: u64,
    pub bytes: u64,
}

/// One request, or (of ATTACH and DETACH) what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The endpoint joins its domain.
    Attach,
    Map(Range),
    Unmap(Range),
}

/// A domain as the device has it.
#[derive(Clone, Debug, Default)]
pub struct Domain {
    attached: bool,
    /// Bytes by address. They do not overlap.
    mapped: BTreeMap<u64, u64>,
}

impl Domain {
    /// Mappings.
    pub fn len(&self) -> usize {
        self.mapped.len()
    }

    pub fn is_empty(&self) -> bool {
        self.mapped.is_empty()
    }

    /// The changes, those that take away first. Ranges that overlap (the same memory, granted
    /// twice) count as one.
    pub fn changes(
        &self,
        wanted: impl IntoIterator<Item = Range>,
        granule: u64,
    ) -> impl Iterator<Item = Change> {
        let wanted = merged(wanted, granule);
        let mut changes = Vec::new();
        for (&address, &bytes) in &self.mapped {
            if wanted.get(&address) != Some(&bytes) {
                changes.push(Change::Unmap(Range { address, bytes }));
            }
        }
        if !self.attached {
            changes.push(Change::Attach);
        }
        for (address, bytes) in wanted {
            if self.mapped.get(&address) != Some(&bytes) {
                changes.push(Change::Map(Range { address, bytes }));
            }
        }
        changes.into_iter()
    }

    /// They have been carried out.
    pub fn done(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Attach => self.attached = true,
                Change::Map(range) => {
                    self.mapped.insert(range.address, range.bytes);
                }
                Change::Unmap(range) => {
                    self.mapped.remove(&range.address);
                }
            }
        }
    }
}

/// Bytes by address, without overlaps. Neighbours stay apart: a mapping then has the bounds of a
/// grant, and goes with it without touching the next.
fn merged(ranges: impl IntoIterator<Item = Range>, granule: u64) -> BTreeMap<u64, u64> {
    let whole = |range: &Range| {
        range.bytes > 0
            && range.address.is_multiple_of(granule)
            && range.bytes.is_multiple_of(granule)
            && range.address.checked_add(range.bytes).is_some()
    };
    let mut sorted: Vec<Range> = ranges.into_iter().filter(whole).collect();
    sorted.sort_unstable();
    let mut all: BTreeMap<u64, u64> = BTreeMap::new();
    for Range { address, bytes } in sorted {
        match all.last_entry() {
            Some(mut last) if *last.key() + *last.get() > address => {
                let end = (address + bytes).max(*last.key() + *last.get());
                *last.get_mut() = end - *last.key();
            }
            _ => {
                all.insert(address, bytes);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const PAGE: u64 = 4096;

    fn pages(ranges: impl IntoIterator<Item = Range>) -> BTreeSet<u64> {
        ranges
            .into_iter()
            .flat_map(|range| (range.address..range.address + range.bytes).step_by(4096))
            .collect()
    }

    proptest! {
        /// Whatever was granted before, the changes make the device have exactly the pages that are
        /// granted now, and are requests that it must take.
        #[test]
        fn the_device_ends_with_what_is_granted(
            rounds in prop::collection::vec(prop::collection::vec((0..40u64, 1..5u64), 0..8), 1..8)
        ) {
            let mut domain = Domain::default();
            let mut device: BTreeMap<u64, u64> = BTreeMap::new();
            for (round, grants) in rounds.into_iter().enumerate() {
                let wanted: Vec<Range> = grants
                    .iter()
                    .map(|(page, count)| Range { address: page * PAGE, bytes: count * PAGE })
                    .collect();
                let changes: Vec<Change> = domain.changes(wanted.clone(), PAGE).collect();
                prop_assert_eq!(changes.contains(&Change::Attach), round == 0);
                for change in &changes {
                    match *change {
                        Change::Attach => {}
                        Change::Map(range) => {
                            let taken = pages(device.iter().map(|(&address, &bytes)| Range { address, bytes }));
                            prop_assert!(pages([range]).is_disjoint(&taken));
                            device.insert(range.address, range.bytes);
                        }
                        Change::Unmap(range) => {
                            prop_assert_eq!(device.remove(&range.address), Some(range.bytes));
                        }
                    }
                }
                domain.done(&changes);
                let has = pages(device.iter().map(|(&address, &bytes)| Range { address, bytes }));
                prop_assert_eq!(has, pages(wanted.clone()));
                prop_assert_eq!(domain.changes(wanted, PAGE).count(), 0, "nothing is left to do");
                prop_assert_eq!(domain.len(), device.len());
            }
        }
    }

    #[test]
    fn what_is_no_page_is_left_out() {
        let domain = Domain::default();
        let odd = [(0, 0), (0x10, 4096), (0x1000, 5), (u64::MAX - 4095, 4096)];
        let odd = odd.map(|(address, bytes)| Range { address, bytes });
        assert_eq!(domain.changes(odd, PAGE).collect::<Vec<_>>(), [Change::Attach]);
    }
}
