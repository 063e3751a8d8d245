//! Every feature set passes the conformance suite and the exerciser, and e2fsck agrees.

use std::cell::RefCell;
use std::vec::Vec;

use xinim_fs_kit::conformance::{self, Abilities};
use xinim_fs_kit::{FileSystem, NewFile};
use xinim_fs_testing::{Image, campaign};

use super::{DIR, VARIANTS, check, made_empty, mounted, ready};

fn abilities(name: &str) -> Abilities {
    let seconds = ["128-byte", "no features", "revision 0"].iter().any(|part| name.contains(part));
    let extents = name.starts_with("ext4") && !name.contains("block maps");
    Abilities {
        // Without larger inodes there are only seconds.
        time_step: if seconds { 1_000_000_000 } else { 0 },
        max_size: if extents { 1 << 40 } else { 1 << 34 },
        ..Abilities::default()
    }
}

#[test]
fn conformance_suite() {
    if !ready("conformance_suite") {
        return;
    }
    for (name, args) in VARIANTS {
        let image = made_empty(10, args);
        let used: RefCell<Vec<Image>> = Vec::new().into();
        conformance::check_all(&abilities(name), &mut || {
            let fresh = Image::new(image.clone());
            used.borrow_mut().push(fresh.clone());
            mounted(&fresh)
        });
        // What each check left, e2fsck may look at after the next mount has cleaned up.
        for left in used.take().iter().step_by(5) {
            let (mut ext, _) = mounted(left);
            ext.unmount().expect("unmounted");
            if !name.starts_with("ext2") && !name.contains("no journal") {
                check(&left.bytes(), name);
            }
        }
    }
}

#[test]
fn exerciser() {
    if !ready("exerciser") {
        return;
    }
    for (index, (name, args)) in VARIANTS.into_iter().enumerate() {
        let image = Image::new(made_empty(12, args));
        for round in campaign(2) {
            let (mut ext, root) = mounted(&image);
            let seed = 1000 * index as u64 + round;
            let place = format!("round {round}");
            let dir = ext.create(root, place.as_bytes(), &NewFile::new(DIR)).expect("directory");
            conformance::model::exercise(&mut ext, dir.ino, &abilities(name), seed, 400);
            ext.unmount().expect("unmounted");
            check(&image.bytes(), name);
        }
    }
}
