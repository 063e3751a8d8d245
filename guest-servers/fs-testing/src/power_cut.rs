//! What a medium may hold after the power failed.
//!
//! ```text
//! steps:  write write BARRIER write MARK write write │ write BARRIER …
//!         └─ all of it ─────┘ └ any of its sectors ┘ └ the cut: nothing from here on
//! ```
//! Within the epoch that the cut hits, a disk may have done the writes in any order and torn them
//! between sectors: each 512-byte sector holds, by chance and independently of the others, one of
//! the states it went through in that epoch, the one before it included.

use std::collections::BTreeMap;

use crate::{Random, Recording, Step};

const SECTOR: usize = 512;

/// One possible medium after a power cut.
#[derive(Debug)]
pub struct Cut {
    pub image: Vec<u8>,
    /// Marks set before the cut. A test sets one when a call that promises durability has returned:
    /// what it stands for must be there.
    pub marks: Vec<u64>,
    /// Step at which it was cut.
    pub at: usize,
}

impl Recording {
    /// The medium after a cut at a random instant.
    pub fn cut(&self, random: &mut Random) -> Cut {
        let at = random.below(self.steps.len() as u64 + 1) as usize;
        self.cut_at(at, random)
    }

    /// The medium after a cut before step `at`.
    pub fn cut_at(&self, at: usize, random: &mut Random) -> Cut {
        let done = &self.steps[..at];
        let barrier = done.iter().rposition(|step| *step == Step::Barrier).map_or(0, |at| at + 1);
        let mut image = self.start.clone();
        for step in &done[..barrier] {
            if let Step::Write { offset, data } = step {
                image[*offset as usize..][..data.len()].copy_from_slice(data);
            }
        }
        for (sector, states) in states(&image, &done[barrier..]) {
            // Half of the time the newest or nothing, so that whole epochs are likely too.
            let pick = match random.below(4) {
                0 => states.len(),
                1 => 0,
                _ => random.below(states.len() as u64 + 1) as usize,
            };
            if let Some(state) = pick.checked_sub(1).and_then(|pick| states.get(pick)) {
                let start = sector * SECTOR;
                image[start..start + state.len()].copy_from_slice(state);
            }
        }
        let marks = done.iter().filter_map(|step| match step {
            Step::Mark(mark) => Some(*mark),
            _ => None,
        });
        let marks = marks.collect();
        Cut { image, marks, at }
    }
}

/// The states each sector goes through in one epoch, oldest first.
fn states(image: &[u8], epoch: &[Step]) -> BTreeMap<usize, Vec<Vec<u8>>> {
    let mut states: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for step in epoch {
        let Step::Write { offset, data } = step else { continue };
        let (start, end) = (*offset as usize, *offset as usize + data.len());
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(image.len());
            let history = states.entry(sector).or_default();
            let mut next = history.last().cloned().unwrap_or_else(|| image[from..to].to_vec());
            let (first, last) = (start.max(from), end.min(to));
            next[first - from..last - from].copy_from_slice(&data[first - start..last - start]);
            history.push(next);
        }
    }
    states
}
