//! Hostile disk images for fuzzers: one function for each format takes any bytes.
//!
//! ```text
//! input ── recipe ──> a base image (of the host's mkfs) with damage ──> mount, walk, read, write
//!                                                                   └─> check, with repairs
//! ```
//! An input is a *recipe* of damage ([`recipe`]) rather than an image: a coverage-guided fuzzer then
//! needs not find out what a superblock is, and inputs stay short. A target panics when the code
//! under test does, when it makes accesses beyond all reason (a loop along an image's lies)
//! and, where the allocator counts, when it takes more than [`hostile::MEMORY`].
//!
//! guest-servers/fuzz has the targets for cargo-fuzz, and how `bases` are made. The seeds there and random
//! recipes are part of the ordinary tests.

mod bases;
mod recipe;
#[cfg(test)]
mod tests;

use xinim_abi::error::{Error, Result};
use xinim_block_client::Storage;
use xinim_block_client::partition::table;
use xinim_block_client::probe::probe;
use xinim_fs_ext::{Ext, Surroundings};
use xinim_fs_fat::Fat;
use xinim_fs_iso::Iso;
use xinim_fs_kit::FileSystem;
use xinim_fs_minix::Minix;
use xinim_fs_testing::memory::peak_of;
use xinim_fs_testing::{Image, Random, hostile};

/// What may be spent on each sector: a write far behind the end of a file fills a FAT volume, cluster by
/// cluster, and takes it all back.
const ACCESSES_PER_SECTOR: u64 = 200;
/// Partitions that a table may have.
const PARTITIONS_MAX: usize = 1024;

fn now() -> u64 {
    1_750_000_000_000_000_000
}

/// Runs `work` on a damaged image of `bases` within bounds.
fn bounded(data: &[u8], bases: &[bases::Base], work: impl FnOnce(&Image, &mut Random)) {
    let recipe::Damaged { bytes, seed } = recipe::apply(data, bases);
    let budget = hostile::ACCESSES + bytes.len() as u64 / 512 * ACCESSES_PER_SECTOR;
    let image = Image::new(bytes).budget(budget);
    let ((), peak) = peak_of(|| work(&image, &mut Random::new(seed)));
    assert!(!image.exhausted(), "more than {budget} accesses");
    assert!(peak <= hostile::MEMORY, "{peak} bytes of memory");
}

/// The checker looks, then repairs; then the file system is let loose on what that left.
fn assault<F: FileSystem>(
    image: &Image,
    random: &mut Random,
    check: impl Fn(&mut Image, bool),
    fs: impl FnOnce(Image) -> F,
) {
    if random.below(4) == 0 {
        check(&mut image.clone(), false);
        check(&mut image.clone(), true);
    }
    hostile::assault(&mut fs(image.clone()), random);
}

/// ext2, ext3, ext4, with a journal to replay.
pub fn ext(data: &[u8]) {
    let around = Surroundings { now, log: |_| {} };
    bounded(data, bases::ext(), |image, random| {
        let check = |image: &mut Image, repair| {
            let _ = xinim_fs_ext::check::check(image, repair, around);
        };
        assault(image, random, check, |image| {
            Ext::new(Box::new(move |_| Ok(Box::new(image.clone()))), around)
        });
    });
}

/// FAT12, FAT16, FAT32.
pub fn fat(data: &[u8]) {
    bounded(data, bases::fat(), |image, random| {
        let check = |image: &mut Image, repair| {
            let _ = xinim_fs_fat::check::check(image, repair);
        };
        assault(image, random, check, |image| {
            let open = move |_: &str| -> Result<Box<dyn Storage>> { Ok(Box::new(image.clone())) };
            Fat::new(Box::new(open), now)
        });
    });
}

/// MINIX, versions 1 to 3.
pub fn minix(data: &[u8]) {
    bounded(data, bases::minix(), |image, random| {
        let check = |image: &mut Image, repair| {
            let _ = xinim_fs_minix::check::check(image, repair);
        };
        assault(image, random, check, |image| {
            Minix::new(Box::new(move |_: &str| -> Result<Image> { Ok(image.clone()) }), now)
        });
    });
}

/// ISO 9660 with Rock Ridge and Joliet.
pub fn iso(data: &[u8]) {
    bounded(data, bases::iso(), |image, random| {
        let open = move |image: Image| {
            Iso::new(Box::new(move |_: &str| -> Result<Image> { Ok(image.clone()) }))
        };
        hostile::assault(&mut open(image.clone()), random);
    });
}

/// GPT and MBR tables, with logical partitions, in sectors of both sizes; and what blkid looks for.
pub fn partitions(data: &[u8]) {
    bounded(data, bases::partitions(), |image, random| {
        let mut storage = image.clone();
        // The size a device claims is its own.
        let len = match random.below(3) {
            0 => random.below(1 << 40),
            _ => storage.len(),
        };
        let mut read = |at: u64, out: &mut [u8]| {
            if at.saturating_add(out.len() as u64) > len {
                return Err(Error::Inval);
            }
            storage.read(at, out)
        };
        for block_size in [512, 4096] {
            let found = table(len / 512, block_size, |sector, out| {
                read(sector.checked_mul(512).ok_or(Error::Inval)?, out)
            });
            if let Ok(Some(table)) = found {
                assert!(table.entries.len() <= PARTITIONS_MAX, "{}", table.entries.len());
                for entry in table.entries {
                    let end = entry.partition.start.checked_add(entry.partition.sectors);
                    assert!(end.is_some_and(|end| end <= len / 512), "{:?}", entry.partition);
                }
            }
        }
        let _ = probe(len, read);
    });
}
