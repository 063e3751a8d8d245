//! Which of the refusals an IOMMU reports are worth a line of the log.
//!
//! A driver that tries again is refused the same page again and again, and what it tries next must be
//! seen all the same; one that walks through all of memory must not fill the log.

use alloc::collections::BTreeMap;
use xinim_abi::hw::virtio_iommu::{Fault, fault};

/// Refusals of each function unlike the one before that are logged one by one.
const LOGGED: u32 = 8;
const PAGE_SHIFT: u32 = 12;

#[derive(Default)]
struct OfFunction {
    count: u64,
    logged: u32,
    /// Page and direction of the last one.
    last: Option<(u64, bool)>,
}

/// What was refused each function, by its endpoint at the IOMMU.
#[derive(Default)]
pub struct Refused(BTreeMap<u32, OfFunction>);

impl Refused {
    /// How many the function has had with this one, if it is to be logged: the first of each page and
    /// direction up to [`LOGGED`], any other when their number doubles.
    pub fn note(&mut self, report: &Fault) -> Option<u64> {
        let of = self.0.entry(report.endpoint).or_default();
        of.count += 1;
        let this = (report.address >> PAGE_SHIFT, report.flags & fault::WRITE != 0);
        let unlike = of.last.replace(this) != Some(this);
        if unlike && of.logged < LOGGED {
            of.logged += 1;
            return Some(of.count);
        }
        of.count.is_power_of_two().then_some(of.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn refusal(endpoint: u32, address: u64, flags: u32) -> Fault {
        Fault { endpoint, address, flags, ..Fault::default() }
    }

    fn logged(reports: impl IntoIterator<Item = Fault>) -> Vec<(u32, u64)> {
        let mut refused = Refused::default();
        reports
            .into_iter()
            .filter_map(|report| Some((report.endpoint, refused.note(&report)?)))
            .collect()
    }

    #[test]
    fn what_is_tried_again_does_not_hide_what_is_tried_next() {
        let again =
            |address: u64, flags| (0..5).map(move |word| refusal(8, address + 8 * word, flags));
        let reports =
            again(0x1000, fault::WRITE).chain(again(0x1000, 0)).chain(again(0x20_0000, 0));
        assert_eq!(logged(reports), [(8, 1), (8, 2), (8, 4), (8, 6), (8, 8), (8, 11)]);
    }

    #[test]
    fn a_walk_through_memory_does_not_fill_the_log() {
        let walk = (0..1000).map(|page| refusal(8, page << PAGE_SHIFT, 0));
        let counts: Vec<u64> = logged(walk).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512]);
    }

    #[test]
    fn functions_are_counted_for_themselves() {
        let reports = [refusal(8, 0, 0), refusal(16, 0, 0), refusal(8, 0, 0), refusal(8, 0, 0)];
        assert_eq!(logged(reports), [(8, 1), (16, 1), (8, 2)]);
    }
}
