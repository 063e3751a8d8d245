//! Damaged images: errors, and nothing worse.

use xinim_fs_kit::{FileSystem, NewFile, conformance};
use xinim_fs_testing::{Image, Random, campaign, hostile};

use super::{FILE, VARIANTS, made, mounted, on, ready};

#[test]
fn damaged_volumes_end_in_errors() {
    if !ready("damaged_volumes_end_in_errors") {
        return;
    }
    for (_, args) in VARIANTS {
        let image = Image::new(made(10, args));
        let (mut ext, root) = mounted(&image);
        conformance::model::exercise(&mut ext, root, &Default::default(), 9, 60);
        for index in 0..120u8 {
            let long = [&[b'n'; 40][..], &[index]].concat();
            ext.create(root, &long, &NewFile::new(FILE)).expect("create");
        }
        let far = ext.create(root, b"far", &NewFile::new(FILE)).expect("create").ino;
        for offset in [0, 40_000, 3 << 20, 80 << 20, 1 << 30] {
            ext.write(far, offset, b"somewhere").expect("write");
        }
        // A journal that has something to replay.
        ext.sync().expect("sync");
        drop(ext);
        let good = image.bytes();
        // Checksums would stop most of the damage at the door: half of it comes without.
        let hot = [1024..2048, 2048..(64 << 10), (64 << 10)..(512 << 10)];
        for seed in campaign(40) {
            let mut damaged = hostile::damage(&good, &hot, &mut Random::new(seed));
            if seed % 2 == 0 {
                without_checksums(&mut damaged);
            }
            hostile::survive(seed, damaged, |image| on(&image));
        }
    }
}

/// Lets a volume say that it has no metadata checksums.
pub fn without_checksums(image: &mut [u8]) {
    if let Some(raw) = image.get_mut(1024 + 0x64..1024 + 0x68) {
        raw[0] &= !0x10;
        raw[1] &= !0x04;
    }
}
