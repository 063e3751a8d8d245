//! The power is cut at a random moment: what was flushed is there, what was not is old or new by
//! sectors, and nothing else.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::Cache;
use crate::fake::FakeDisk;

const SECTORS: usize = 600;

#[derive(Clone, Debug)]
enum Step {
    Write { sector: usize, count: usize },
    Read { sector: usize, count: usize },
    Flush,
    Barrier,
    Background,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = (0..SECTORS, 1..70usize);
    let clamp = |(sector, count): (usize, usize)| (sector, count.min(SECTORS - sector));
    let step = prop_oneof![
        4 => range.clone().prop_map(clamp).prop_map(|(sector, count)| Step::Write { sector, count }),
        1 => range.prop_map(clamp).prop_map(|(sector, count)| Step::Read { sector, count }),
        1 => Just(Step::Flush),
        1 => Just(Step::Barrier),
        1 => Just(Step::Background),
    ];
    proptest::collection::vec(step, 1..80)
}

/// A sector that tells which write it is of.
fn sector(version: u32) -> Vec<u8> {
    version.to_le_bytes().repeat(128)
}

proptest! {
    #[test]
    fn only_what_was_flushed_is_safe_and_that_always(
        steps in steps(),
        seed: u64,
        budget in 0..200usize,
        lines in prop_oneof![Just(3usize), Just(8), Just(40)],
    ) {
        let mut disk = FakeDisk::new(SECTORS as u64, 512, lines * 32768, seed);
        disk.budget = Some(budget);
        let mut cache = Cache::new(disk, 0, SECTORS as u64).unwrap();
        // Versions of each sector in order; the first is what was there.
        let mut written = vec![vec![0u32]; SECTORS];
        // Place of the oldest version that may be found.
        let mut safe = vec![0usize; SECTORS];
        let mut version = 0;
        for step in steps {
            let result = match step {
                Step::Write { sector: first, count } => {
                    version += 1;
                    // Noted first: a write that fails may have been done in part.
                    for history in &mut written[first..first + count] {
                        history.push(version);
                    }
                    cache.write(first as u64 * 512, &sector(version).repeat(count))
                }
                Step::Read { sector: first, count } => {
                    let mut out = vec![0; count * 512];
                    let result = cache.read(first as u64 * 512, &mut out);
                    if result.is_ok() {
                        for (at, found) in out.chunks(512).enumerate() {
                            let newest = *written[first + at].last().unwrap();
                            prop_assert!(found == sector(newest));
                        }
                    }
                    result
                }
                Step::Flush | Step::Barrier => {
                    let barrier = matches!(step, Step::Barrier);
                    let result = if barrier { cache.barrier() } else { cache.flush() };
                    if result.is_ok() {
                        for (safe, history) in safe.iter_mut().zip(&written) {
                            *safe = history.len() - 1;
                        }
                    }
                    result
                }
                Step::Background => {
                    cache.background(true);
                    Ok(())
                }
            };
            if result.is_err() {
                break;
            }
        }
        let medium = cache.transport.cut();
        for (at, found) in medium.chunks(512).enumerate() {
            let version = u32::from_le_bytes(found[..4].try_into().unwrap());
            prop_assert!(found == sector(version), "sector {} is torn", at);
            let allowed = &written[at][safe[at]..];
            prop_assert!(allowed.contains(&version), "sector {}: {} of {:?}", at, version, allowed);
        }
    }
}
