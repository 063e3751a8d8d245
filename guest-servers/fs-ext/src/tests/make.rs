//! What mkfs makes, e2fsck finds sound, and it can be used.

use xinim_abi::error::Error;
use xinim_fs_kit::{FileSystem, NewFile, conformance};
use xinim_fs_testing::Image;

use super::{AROUND, DIR, arg, check, mounted, ready, tool};
use crate::format::{Kind, Options, format};

fn options(kind: Kind) -> Options {
    Options { label: b"volume".to_vec(), ..Options::new(kind, [0x5C; 32]) }
}

#[test]
fn e2fsck_accepts_what_mkfs_makes() {
    if !ready("e2fsck_accepts_what_mkfs_makes") {
        return;
    }
    for kind in [Kind::Ext2, Kind::Ext3, Kind::Ext4] {
        for (block, inode, mib) in
            [(1024, 128, 9), (1024, 256, 40), (2048, 256, 17), (4096, 256, 100), (4096, 512, 8)]
        {
            let what = format!("{kind:?}, blocks of {block}, inodes of {inode}, {mib} MiB");
            // Garbage, so that what is not written shows.
            let image = Image::new(vec![0xA5; mib << 20]);
            let wanted = Options { block_size: Some(block), inode_size: inode, ..options(kind) };
            let made = format(&mut image.clone(), &wanted, AROUND);
            let made = match made {
                // No room for the smallest journal.
                Err(Error::NoSpc) if kind != Kind::Ext2 && (mib << 20) / block < 2048 => continue,
                made => made.expect(&what),
            };
            assert_eq!(made.block_size, block, "{what}");
            check(&image.bytes(), &what);
            let (mut ext, root) = mounted(&image);
            let dir = ext.create(root, b"dir", &NewFile::new(DIR)).expect("mkdir").ino;
            let can = conformance::Abilities {
                time_step: if inode == 128 { 1_000_000_000 } else { 0 },
                max_size: 1 << 32,
                ..Default::default()
            };
            conformance::model::exercise(&mut ext, dir, &can, mib as u64, 100);
            ext.unmount().expect("unmounted");
            check(&image.bytes(), &what);
        }
    }
}

#[test]
fn the_copies_of_the_superblock_are_of_use() {
    if !ready("the_copies_of_the_superblock_are_of_use") {
        return;
    }
    let image = Image::new(vec![0; 40 << 20]);
    let wanted = Options { block_size: Some(1024), ..options(Kind::Ext4) };
    format(&mut image.clone(), &wanted, AROUND).expect("made");
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    let mut bytes = image.bytes();
    bytes[1024..1024 * 3].fill(0);
    std::fs::write(&path, bytes).expect("image");
    let (status, text) =
        xinim_fs_testing::run("e2fsck", &["-fy", "-b", "8193", "-B", "1024", arg(&path)]);
    assert!(status <= 1, "{text}");
    let label = tool("e2label", &[arg(&path)]);
    assert_eq!(label.trim(), "volume");
    check(&std::fs::read(&path).expect("image"), "repaired from the copy");
}

#[test]
fn what_cannot_be_made_is_refused() {
    let small = &mut Image::zeroed(40 << 10);
    let large = &mut Image::zeroed(4 << 20);
    let made = |image: &mut Image, options: Options| format(image, &options, AROUND).err();
    assert_eq!(made(small, options(Kind::Ext2)), Some(Error::NoSpc));
    assert_eq!(made(&mut Image::zeroed(0), options(Kind::Ext4)), Some(Error::NoSpc));
    let long = Options { label: vec![b'x'; 17], ..options(Kind::Ext2) };
    assert_eq!(made(large, long), Some(Error::Inval));
    for block_size in [0, 512, 3000, 1 << 20] {
        let odd = Options { block_size: Some(block_size), ..options(Kind::Ext2) };
        assert_eq!(made(large, odd), Some(Error::Inval));
    }
    let odd = Options { inode_size: 100, ..options(Kind::Ext2) };
    assert_eq!(made(large, odd), Some(Error::Inval));
    let more = Options { blocks: Some(1 << 30), ..options(Kind::Ext4) };
    assert_eq!(made(large, more), Some(Error::NoSpc));
    let journal = Options { journal_blocks: Some(100), ..options(Kind::Ext4) };
    assert_eq!(made(large, journal), Some(Error::NoSpc));
}
