//! Power cuts and damaged images.

use std::format;

use xinim_fs_kit::{FileSystem, NewFile, conformance};
use xinim_fs_testing::{Image, Random, campaign, hostile, promises};

use crate::check::check;

use xinim_abi::services::vfs::mount;

use super::{FILE, abilities, assert_clean, formatted, kinds, mounted, on};

#[global_allocator]
static MEMORY: xinim_fs_testing::memory::Counting = xinim_fs_testing::memory::Counting;

#[test]
fn a_power_cut_costs_nothing_that_was_fsynced() {
    let mut cuts = 0;
    for seed in campaign(14) {
        let options = kinds()[seed as usize % kinds().len()];
        let image = formatted(&options, 1 << 20);
        let (mut fs, root) = mounted(&image);
        let promises = promises::workload(&mut fs, root, &image, seed);
        let recording = image.recording();
        let mut random = Random::new(seed);
        for round in 0..40 {
            let cut = recording.cut(&mut random);
            let Some(&mark) = cut.marks.last() else { continue };
            let what = format!("seed {seed} round {round} step {} mark {mark}", cut.at);
            // The mount repairs; nothing is lost, and the volume is clean afterwards.
            let image = Image::new(cut.image);
            let (mut fs, root) = mounted(&image);
            promises::assert_kept(&mut fs, root, &promises[mark as usize], &what);
            fs.unmount().expect("unmount");
            assert_clean(&image);
            cuts += 1;
        }
    }
    assert!(cuts > 400, "{cuts}");
}

#[test]
fn damaged_volumes_end_in_errors() {
    for options in kinds() {
        let image = formatted(&options, 600 << 10);
        let (mut fs, root) = mounted(&image);
        conformance::model::exercise(&mut fs, root, &abilities(&options), 9, 150);
        let far = fs.create(root, b"far", &NewFile::new(FILE)).expect("create").ino;
        for offset in [0, 40_000, 3 << 20, 80 << 20] {
            fs.write(far, offset, b"indirect").expect("write");
        }
        fs.unmount().expect("unmount");
        let good = image.bytes();
        let first = fs_start(&options);
        let hot = [1024..1056, 2048..first, first..first + (40 << 10)];
        for seed in campaign(60) {
            let damaged = hostile::damage(&good, &hot, &mut Random::new(seed));
            hostile::survive(seed, damaged, |image| on(&image));
        }
    }
}

/// Where the data zones of these small volumes begin, roughly.
fn fs_start(options: &crate::format::Options) -> usize {
    crate::format::plan(600 << 10, options).expect("plan").first_data as usize * options.block
}

#[test]
fn an_indirect_block_that_names_itself_ends() {
    for options in kinds() {
        let image = formatted(&options, 600 << 10);
        let (mut fs, root) = mounted(&image);
        let ino = fs.create(root, b"loop", &NewFile::new(FILE)).expect("create").ino;
        let block = options.block as u64;
        fs.write(ino, 8 * block, b"x").expect("write");
        fs.unmount().expect("unmount");
        // The data block of the only file, through its indirect block, becomes the indirect block.
        let geometry = crate::Geometry::read(&mut image.clone()).expect("geometry");
        let mut volume = crate::volume::Volume::open(image.clone()).expect("volume");
        let mut inode = volume.inode(ino as u32).expect("inode");
        let zone = inode.zones[7];
        image.edit(|bytes| {
            let start = zone as usize * options.block;
            for at in (0..options.block).step_by(geometry.pointer_len()) {
                let number = &zone.to_le_bytes()[..geometry.pointer_len()];
                bytes[start + at..start + at + number.len()].copy_from_slice(number);
            }
        });
        inode.zones[7 + geometry.levels() - 1] = zone;
        inode.size = 0x7000_0000;
        volume.put_inode(ino as u32, &inode).expect("inode");
        hostile::survive(0, image.bytes(), |image| on(&image));
        let name = geometry.version as u32;
        let report = crate::check::check(&mut image.clone(), true).expect("check");
        assert!(report.found > 0, "version {}", name);
        assert_clean(&image);
    }
}

#[test]
fn a_volume_that_met_errors_is_put_right_when_it_is_unmounted() {
    let mut wrong = 0;
    for seed in campaign(60) {
        let mut random = Random::new(seed);
        let options = &kinds()[seed as usize % kinds().len()];
        let image = formatted(options, 2 << 20);
        let (mut fs, root) = mounted(&image);
        // The device fails in the middle of something, and comes back.
        drop(image.clone().budget(image.accesses() + random.below(300)));
        for n in 0..30u8 {
            let name = [b'x', b'0' + n];
            let Ok(stat) = fs.create(root, &name, &NewFile::new(FILE)) else {
                break;
            };
            if fs.write(stat.ino, 0, &[n; 9000]).is_err() || fs.sync().is_err() {
                break;
            }
        }
        assert!(image.exhausted(), "seed {seed}");
        drop(image.clone().budget(u64::MAX));
        wrong += u32::from(!check(&mut image.clone(), false).expect("check").problems.is_empty());
        // Once by a remount, which goes on to be used.
        if seed % 2 == 0 {
            fs.remount(mount::READ_ONLY).expect("remount");
            assert_clean(&image);
            fs.remount(0).expect("remount");
            fs.create(root, b"after", &NewFile::new(FILE)).expect("create");
        }
        fs.unmount().expect("unmount");
        assert_clean(&image);
    }
    assert!(wrong > 0, "nothing was left half done: the test tests nothing");
}
