//! The single checks. Each gets a fresh file system and may leave anything behind.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_abi::services::vfs::{NAME_MAX, mode};

use super::{Abilities, DIR, FILE, LINK, crowds, list};
use crate::{DirBuffer, FileSystem, Ino, NewFile, SetAttributes, entries};

type Check<F> = fn(&mut F, Ino, &Abilities);

pub(super) fn all<F: FileSystem>() -> Vec<Check<F>> {
    vec![
        root_is_a_directory,
        created_files_are_found,
        what_is_written_is_read,
        reads_stop_at_the_end,
        holes_read_as_zeros,
        truncation,
        directories_count_as_not_empty,
        unlink_refuses_the_wrong_kind,
        long_names,
        case,
        read_dir_in_pieces,
        read_dir_dots,
        rename_moves,
        rename_replaces,
        rename_onto_itself,
        rename_refusals,
        rename_directory_across,
        symbolic_links,
        hard_links,
        held_files_outlive_their_names,
        held_files_outlive_replacement,
        attributes_are_kept,
        owners_are_kept,
        times_move,
        special_files,
        wrong_kinds,
        unknown_inodes,
        many_files,
        crowds::reading_while_names_come_and_go,
        crowds::every_kind_renamed_over_every_kind,
        crowds::a_full_volume_recovers,
        figures,
    ]
}

fn file<F: FileSystem>(fs: &mut F, dir: Ino, name: &[u8], data: &[u8]) -> Ino {
    let ino = fs.create(dir, name, &NewFile::new(FILE)).expect("create").ino;
    assert_eq!(fs.write(ino, 0, data), Ok(data.len()));
    ino
}

fn content<F: FileSystem>(fs: &mut F, ino: Ino) -> Vec<u8> {
    let size = fs.attributes(ino).expect("attributes").size as usize;
    let mut data = vec![0xEE; size + 16];
    let count = fs.read(ino, 0, &mut data).expect("read");
    assert_eq!(count, size, "a read ends at the size");
    data.truncate(count);
    data
}

fn root_is_a_directory<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let stat = fs.attributes(root).expect("attributes of the root");
    assert_eq!(stat.mode & mode::TYPE_MASK, mode::DIRECTORY);
    assert_eq!(stat.ino, root);
    assert_eq!(fs.lookup(root, b"nothing").err(), Some(Error::NoEnt));
    assert!(list(fs, root, 4096).expect("list").is_empty(), "the checks need an empty root");
}

fn created_files_are_found<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let made = fs.create(root, b"a", &NewFile::new(FILE)).expect("create");
    assert_eq!((made.size, made.mode & mode::TYPE_MASK), (0, mode::REGULAR));
    assert_eq!(fs.lookup(root, b"a").map(|s| s.ino), Ok(made.ino));
    assert_eq!(fs.create(root, b"a", &NewFile::new(FILE)).err(), Some(Error::Exist));
    assert_eq!(fs.create(root, b"a", &NewFile::new(DIR)).err(), Some(Error::Exist));
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir");
    assert_eq!(dir.mode & mode::TYPE_MASK, mode::DIRECTORY);
    let inner = fs.create(dir.ino, b"a", &NewFile::new(FILE)).expect("create below");
    assert_ne!(inner.ino, made.ino);
    assert_eq!(fs.unlink(root, b"a", false), Ok(()));
    assert_eq!(fs.lookup(root, b"a").err(), Some(Error::NoEnt));
    assert_eq!(fs.unlink(root, b"a", false), Err(Error::NoEnt));
    assert_eq!(fs.lookup(dir.ino, b"a").map(|s| s.ino), Ok(inner.ino));
}

fn what_is_written_is_read<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let data: Vec<u8> = (0..70_001u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let ino = file(fs, root, b"data", &data);
    assert!(content(fs, ino) == data, "the bytes come back");
    assert_eq!(fs.write(ino, 4090, b"0123456789ab"), Ok(12));
    let mut part = [0; 14];
    assert_eq!(fs.read(ino, 4089, &mut part), Ok(14));
    assert_eq!(&part[1..13], b"0123456789ab");
    assert_eq!((part[0], part[13]), (data[4089], data[4102]));
    assert_eq!(fs.fsync(ino), Ok(()));
    assert_eq!(fs.sync(), Ok(()));
    assert_eq!(fs.write(ino, 10, b""), Ok(0));
    assert_eq!(fs.attributes(ino).map(|s| s.size), Ok(data.len() as u64));
}

fn reads_stop_at_the_end<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let ino = file(fs, root, b"f", b"12345");
    let mut buffer = [0; 8];
    assert_eq!(fs.read(ino, 3, &mut buffer), Ok(2));
    assert_eq!(fs.read(ino, 5, &mut buffer), Ok(0));
    assert_eq!(fs.read(ino, 1 << 60, &mut buffer), Ok(0));
    assert_eq!(fs.read(ino, u64::MAX, &mut buffer), Ok(0));
    assert_eq!(fs.read(ino, 0, &mut []), Ok(0));
    assert!(fs.write(ino, u64::MAX - 2, b"12345").is_err(), "no file is that long");
    assert_eq!(content(fs, ino), b"12345");
}

fn holes_read_as_zeros<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    let ino = file(fs, root, b"f", b"start");
    assert_eq!(fs.write(ino, 20_000, b"end"), Ok(3));
    let data = content(fs, ino);
    assert_eq!((data.len(), &data[..5], &data[20_000..]), (20_003, &b"start"[..], &b"end"[..]));
    assert!(data[5..20_000].iter().all(|&byte| byte == 0), "a hole reads as zeros");
    if can.sparse && can.max_size > 1 << 33 {
        assert_eq!(fs.write(ino, 1 << 33, b"far"), Ok(3));
        let mut buffer = [9; 6];
        assert_eq!(fs.read(ino, (1 << 33) - 3, &mut buffer), Ok(6));
        assert_eq!(&buffer, b"\0\0\0far");
    }
}

fn truncation<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let ino = file(fs, root, b"f", &[7; 10_000]);
    let to = |size| SetAttributes { size: Some(size), ..SetAttributes::default() };
    assert_eq!(fs.set_attributes(ino, &to(5_001)).map(|s| s.size), Ok(5_001));
    assert_eq!(content(fs, ino), [7; 5_001]);
    assert_eq!(fs.set_attributes(ino, &to(9_000)).map(|s| s.size), Ok(9_000));
    let data = content(fs, ino);
    assert!(data[5_001..].iter().all(|&byte| byte == 0), "what was cut off does not come back");
    assert_eq!(fs.set_attributes(ino, &to(0)).map(|s| s.size), Ok(0));
    assert_eq!(content(fs, ino), b"");
    assert_eq!(fs.write(ino, 0, b"new"), Ok(3));
    assert_eq!(content(fs, ino), b"new");
}

fn directories_count_as_not_empty<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir").ino;
    file(fs, dir, b"f", b"");
    assert_eq!(fs.unlink(root, b"d", true), Err(Error::NotEmpty));
    assert_eq!(fs.unlink(dir, b"f", false), Ok(()));
    assert_eq!(fs.unlink(root, b"d", true), Ok(()));
    assert_eq!(fs.lookup(root, b"d").err(), Some(Error::NoEnt));
}

fn unlink_refuses_the_wrong_kind<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir");
    file(fs, root, b"f", b"");
    assert_eq!(fs.unlink(root, b"d", false), Err(Error::IsDir));
    assert_eq!(fs.unlink(root, b"f", true), Err(Error::NotDir));
    assert_eq!(list(fs, root, 4096).expect("list").len(), 2);
}

fn long_names<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    let longest = vec![b'n'; can.name_max];
    let ino = file(fs, root, &longest, b"x");
    assert_eq!(fs.lookup(root, &longest).map(|s| s.ino), Ok(ino));
    assert_eq!(list(fs, root, 4096).expect("list")[0].0, longest);
    assert_eq!(fs.statfs().map(|s| s.name_max), Ok(can.name_max as u64));
    if can.name_max < NAME_MAX {
        let longer = vec![b'n'; can.name_max + 1];
        let refused = Some(Error::NameTooLong);
        assert_eq!(fs.create(root, &longer, &NewFile::new(FILE)).err(), refused);
        assert_eq!(fs.lookup(root, &longer).err(), refused, "never cut short to another name");
        assert_eq!(fs.rename((root, &longest), (root, &longer)).err(), refused);
    }
    let other = b"A name with Spaces, dots.and.more and lower case.text";
    if can.name_max >= other.len() {
        file(fs, root, other, b"y");
        assert!(list(fs, root, 4096).expect("list").iter().any(|entry| entry.0 == other));
    }
}

fn case<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    file(fs, root, b"Name", b"1");
    let other = fs.create(root, b"name", &NewFile::new(FILE));
    if can.case_sensitive {
        assert!(other.is_ok());
    } else {
        assert_eq!(other.err(), Some(Error::Exist));
        assert!(fs.lookup(root, b"NAME").is_ok());
    }
}

fn read_dir_in_pieces<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir").ino;
    let mut expected = Vec::new();
    for n in 0..60u8 {
        let name = [b"file".as_slice(), &[b'a' + n / 10, b'a' + n % 10]].concat();
        let (mode, ino) = if n % 3 == 0 {
            (mode::DIRECTORY, fs.create(dir, &name, &NewFile::new(DIR)).expect("mkdir").ino)
        } else {
            (mode::REGULAR, file(fs, dir, &name, b""))
        };
        expected.push((name, ino, mode));
    }
    expected.sort();
    // 64 bytes hold one entry of these or two.
    for piece in [64, 200, 65_536] {
        assert_eq!(list(fs, dir, piece).as_ref(), Ok(&expected), "in pieces of {piece}");
    }
    // Removing what was just read must not hide the rest.
    let mut removed = 0;
    let mut cookie = 0;
    loop {
        let mut buffer = DirBuffer::new(200);
        fs.read_dir(dir, cookie, &mut buffer).expect("read_dir");
        let mut any = false;
        for entry in entries(buffer.bytes()) {
            (any, cookie) = (true, entry.next);
            if entry.name != b"." && entry.name != b".." {
                let directory = u32::from(entry.kind) << 12 == mode::DIRECTORY;
                fs.unlink(dir, entry.name, directory).expect("unlink while reading");
                removed += 1;
            }
        }
        if !any {
            break;
        }
    }
    assert_eq!(removed, expected.len());
    assert_eq!(fs.unlink(root, b"d", true), Ok(()));
}

fn read_dir_dots<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir").ino;
    for dir in [root, dir] {
        let mut buffer = DirBuffer::new(4096);
        fs.read_dir(dir, 0, &mut buffer).expect("read_dir");
        for dots in [&b"."[..], b".."] {
            assert_eq!(entries(buffer.bytes()).filter(|entry| entry.name == dots).count(), 1);
        }
    }
    let mut tiny = DirBuffer::new(8);
    let answer = fs.read_dir(dir, 0, &mut tiny);
    assert!(answer == Err(Error::Inval) || tiny.bytes().is_empty());
}

fn rename_moves<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir").ino;
    file(fs, root, b"a", b"data");
    assert_eq!(fs.rename((root, b"a"), (dir, b"b")), Ok(()));
    assert_eq!(fs.lookup(root, b"a").err(), Some(Error::NoEnt));
    let moved = fs.lookup(dir, b"b").expect("the new name").ino;
    assert_eq!(content(fs, moved), b"data");
    assert_eq!(fs.rename((root, b"a"), (dir, b"c")), Err(Error::NoEnt));
}

fn rename_replaces<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    file(fs, root, b"a", b"new");
    file(fs, root, b"b", b"old");
    assert_eq!(fs.rename((root, b"a"), (root, b"b")), Ok(()));
    let ino = fs.lookup(root, b"b").expect("target").ino;
    assert_eq!(content(fs, ino), b"new");
    assert_eq!(list(fs, root, 4096).expect("list").len(), 1);
    fs.create(root, b"x", &NewFile::new(DIR)).expect("mkdir");
    fs.create(root, b"y", &NewFile::new(DIR)).expect("mkdir");
    assert_eq!(fs.rename((root, b"x"), (root, b"y")), Ok(()), "an empty directory is replaced");
    assert_eq!(list(fs, root, 4096).expect("list").len(), 2);
}

fn rename_onto_itself<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let ino = file(fs, root, b"a", b"data");
    assert_eq!(fs.rename((root, b"a"), (root, b"a")), Ok(()));
    assert_eq!(content(fs, ino), b"data");
    assert_eq!(list(fs, root, 4096).expect("list").len(), 1);
}

fn rename_refusals<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    file(fs, root, b"f", b"");
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir").ino;
    let full = fs.create(root, b"full", &NewFile::new(DIR)).expect("mkdir").ino;
    file(fs, full, b"x", b"");
    assert_eq!(fs.rename((root, b"f"), (root, b"d")), Err(Error::IsDir));
    assert_eq!(fs.rename((root, b"d"), (root, b"f")), Err(Error::NotDir));
    assert_eq!(fs.rename((root, b"d"), (root, b"full")), Err(Error::NotEmpty));
    assert_eq!(fs.rename((root, b"d"), (dir, b"below")), Err(Error::Inval));
    assert_eq!(list(fs, root, 4096).expect("list").len(), 3);
}

fn rename_directory_across<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let one = fs.create(root, b"one", &NewFile::new(DIR)).expect("mkdir").ino;
    let two = fs.create(root, b"two", &NewFile::new(DIR)).expect("mkdir").ino;
    let inner = fs.create(one, b"inner", &NewFile::new(DIR)).expect("mkdir").ino;
    file(fs, inner, b"f", b"data");
    assert_eq!(fs.rename((one, b"inner"), (two, b"moved")), Ok(()));
    assert_eq!(fs.unlink(root, b"one", true), Ok(()));
    let moved = fs.lookup(two, b"moved").expect("moved").ino;
    let ino = fs.lookup(moved, b"f").expect("below").ino;
    assert_eq!(content(fs, ino), b"data");
    // `..` now means the new parent: moving the parent below itself is still refused.
    assert_eq!(fs.rename((root, b"two"), (moved, b"loop")), Err(Error::Inval));
}

fn symbolic_links<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    let made = fs.create(root, b"s", &NewFile::link(LINK, b"../some/target"));
    if !can.symbolic_links {
        assert!(matches!(made.err(), Some(Error::NotSup | Error::Perm)));
        return;
    }
    let stat = made.expect("symlink");
    assert_eq!(stat.mode & mode::TYPE_MASK, mode::SYMLINK);
    assert_eq!(stat.size, 14, "the size of a link is its target's length");
    assert_eq!(fs.read_link(stat.ino).as_deref(), Ok(&b"../some/target"[..]));
    assert_eq!(fs.unlink(root, b"s", false), Ok(()));
    let ino = file(fs, root, b"f", b"");
    assert_eq!(fs.read_link(ino).err(), Some(Error::Inval));
}

fn hard_links<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    let ino = file(fs, root, b"a", b"data");
    if !can.hard_links {
        assert!(matches!(fs.link(ino, root, b"b"), Err(Error::NotSup | Error::Perm)));
        return;
    }
    assert_eq!(fs.link(ino, root, b"b"), Ok(()));
    assert_eq!(fs.attributes(ino).map(|s| s.links), Ok(2));
    assert_eq!(fs.lookup(root, b"b").map(|s| s.ino), Ok(ino));
    assert_eq!(fs.link(ino, root, b"b"), Err(Error::Exist));
    assert_eq!(fs.rename((root, b"a"), (root, b"b")), Ok(()), "two names of one file");
    assert!(fs.lookup(root, b"a").is_ok(), "POSIX: nothing happens");
    assert_eq!(fs.unlink(root, b"a", false), Ok(()));
    assert_eq!(content(fs, ino), b"data");
    assert_eq!(fs.attributes(ino).map(|s| s.links), Ok(1));
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir").ino;
    assert!(matches!(fs.link(dir, root, b"e"), Err(Error::Perm | Error::IsDir)));
}

fn held_files_outlive_their_names<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let before = fs.statfs().expect("statfs").blocks_free;
    let ino = file(fs, root, b"f", &[5; 9_000]);
    assert_eq!(fs.hold(ino), Ok(()));
    assert_eq!(fs.hold(ino), Ok(()));
    assert_eq!(fs.unlink(root, b"f", false), Ok(()));
    assert_eq!(fs.lookup(root, b"f").err(), Some(Error::NoEnt));
    let other = file(fs, root, b"f", b"another");
    assert_ne!(other, ino, "a held number is not given out again");
    assert_eq!(content(fs, ino), [5; 9_000]);
    assert_eq!(fs.write(ino, 9_000, b"more"), Ok(4));
    assert_eq!(content(fs, ino).len(), 9_004);
    assert_eq!(fs.release(ino), Ok(()));
    assert_eq!(content(fs, ino).len(), 9_004);
    assert_eq!(fs.release(ino), Ok(()));
    assert_eq!(content(fs, other), b"another");
    assert_eq!(fs.unlink(root, b"f", false), Ok(()));
    assert_eq!(fs.sync(), Ok(()));
    assert_eq!(fs.statfs().expect("statfs").blocks_free, before, "the space comes back");
}

fn held_files_outlive_replacement<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir").ino;
    let moved = file(fs, root, b"a", b"mover");
    let replaced = file(fs, dir, b"b", b"replaced");
    assert_eq!((fs.hold(moved), fs.hold(replaced)), (Ok(()), Ok(())));
    assert_eq!(fs.rename((root, b"a"), (dir, b"b")), Ok(()));
    assert_eq!(content(fs, moved), b"mover", "a held number survives a rename");
    assert_eq!(content(fs, replaced), b"replaced", "and being replaced");
    assert_eq!(fs.write(moved, 5, b"!"), Ok(1));
    let found = fs.lookup(dir, b"b").expect("the new name").ino;
    assert_eq!(content(fs, found), b"mover!");
    assert_eq!((fs.release(moved), fs.release(replaced)), (Ok(()), Ok(())));
    let found = fs.lookup(dir, b"b").expect("the new name").ino;
    assert_eq!(content(fs, found), b"mover!");
}

fn attributes_are_kept<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    let ino = file(fs, root, b"f", b"12345");
    let time = 1_700_000_000_123_456_789;
    let set = SetAttributes { mode: Some(0o600), mtime: Some(time), ..SetAttributes::default() };
    let stat = fs.set_attributes(ino, &set).expect("set");
    assert_eq!(
        fs.attributes(ino).map(|s| (s.mode, s.mtime, s.size)),
        Ok((stat.mode, stat.mtime, 5))
    );
    assert!(stat.mtime <= time && time - stat.mtime <= can.time_step, "{}", stat.mtime);
    assert_eq!(stat.mode & mode::TYPE_MASK, mode::REGULAR);
    if can.modes {
        assert_eq!(stat.mode & 0o7777, 0o600);
    }
    let wild = SetAttributes { mode: Some(u32::MAX), ..SetAttributes::default() };
    let stat = fs.set_attributes(ino, &wild).expect("the type is not for setting");
    assert_eq!(stat.mode & mode::TYPE_MASK, mode::REGULAR);
}

fn owners_are_kept<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    let new = NewFile { uid: 1000, gid: 100, ..NewFile::new(FILE) };
    let made = fs.create(root, b"f", &new).expect("create");
    let gid = can.gid_max.min(60_000);
    let set = SetAttributes { uid: Some(1001), gid: Some(gid), ..SetAttributes::default() };
    let stat = fs.set_attributes(made.ino, &set).expect("an owner may be told in any case");
    let only_gid = SetAttributes { gid: Some(7), ..SetAttributes::default() };
    let last = fs.set_attributes(made.ino, &only_gid).expect("a group alone");
    if can.owners {
        assert_eq!((made.uid, made.gid), (1000, 100));
        assert_eq!((stat.uid, stat.gid), (1001, gid));
        assert_eq!(fs.lookup(root, b"f").map(|s| (s.uid, s.gid)), Ok((1001, 7)));
        let new = NewFile { uid: 5, gid: 6, ..NewFile::new(DIR) };
        assert_eq!(fs.create(root, b"d", &new).map(|s| (s.uid, s.gid)), Ok((5, 6)));
    } else {
        assert_eq!((made.uid, made.gid, last.uid, last.gid), (0, 0, 0, 0), "all is root's");
    }
    assert_eq!(stat.mode, made.mode, "permissions stay");
}

fn times_move<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    let ino = file(fs, root, b"f", b"12345");
    let (early, late) = (1_000_000_000_000_000_000, 1_500_000_000_000_000_000);
    let both = SetAttributes { atime: Some(early), mtime: Some(early), ..Default::default() };
    let stat = fs.set_attributes(ino, &both).expect("set");
    assert!(stat.mtime <= early && early - stat.mtime <= can.time_step);
    let read = SetAttributes { atime: Some(late), ..SetAttributes::default() };
    let after = fs.set_attributes(ino, &read).expect("set");
    assert_eq!((after.mtime, after.ctime), (stat.mtime, stat.ctime), "a read changes neither");
    if can.access_times {
        assert!(after.atime <= late && late - after.atime <= can.time_step, "{}", after.atime);
    }
    assert_eq!(fs.write(ino, 0, b"x"), Ok(1));
    assert_ne!(fs.attributes(ino).map(|s| s.mtime), Ok(stat.mtime), "a write sets mtime");
    fs.set_attributes(ino, &both).expect("set");
    let cut = SetAttributes { size: Some(1), ..SetAttributes::default() };
    assert_ne!(fs.set_attributes(ino, &cut).map(|s| s.mtime), Ok(stat.mtime), "truncation too");
}

fn special_files<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities) {
    let kinds = [mode::FIFO, mode::SOCKET, mode::CHARACTER, mode::BLOCK];
    for (kind, name) in kinds.into_iter().zip([b"fifo", b"sock", b"char", b"bloc"]) {
        let rdev = if matches!(kind, mode::CHARACTER | mode::BLOCK) { 8 << 16 | 17 } else { 0 };
        let made = fs.create(root, name, &NewFile { rdev, ..NewFile::new(kind | 0o640) });
        if !can.special_files {
            assert!(matches!(made.err(), Some(Error::NotSup | Error::Perm)));
            continue;
        }
        let made = made.expect("mknod");
        assert_eq!((made.mode & mode::TYPE_MASK, made.size), (kind, 0));
        let found = fs.lookup(root, name).expect("look-up");
        assert_eq!((found.ino, found.mode, found.rdev), (made.ino, made.mode, rdev));
        assert!(list(fs, root, 4096).expect("list").contains(&(name.to_vec(), made.ino, kind)));
        assert_eq!(fs.create(root, name, &NewFile::new(FILE)).err(), Some(Error::Exist));
        assert_eq!(fs.unlink(root, name, false), Ok(()));
    }
    assert!(list(fs, root, 4096).expect("list").is_empty());
}

fn wrong_kinds<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let ino = file(fs, root, b"f", b"12345");
    assert_eq!(fs.lookup(ino, b"x").err(), Some(Error::NotDir));
    assert_eq!(fs.create(ino, b"x", &NewFile::new(FILE)).err(), Some(Error::NotDir));
    assert_eq!(fs.unlink(ino, b"x", false).err(), Some(Error::NotDir));
    assert_eq!(fs.read_dir(ino, 0, &mut DirBuffer::new(512)).err(), Some(Error::NotDir));
    assert_eq!(fs.read(root, 0, &mut [0; 4]).err(), Some(Error::IsDir));
    assert_eq!(fs.write(root, 0, &[0; 4]).err(), Some(Error::IsDir));
    let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
    assert_eq!(fs.set_attributes(root, &cut).err(), Some(Error::IsDir));
    assert!(fs.create(root, b"none", &NewFile::new(0o644)).is_err(), "a mode without a type");
}

fn unknown_inodes<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    for ino in [0, 0xDEAD_BEEF_0BAD_F00D, u64::MAX] {
        if ino != root {
            assert!(fs.attributes(ino).is_err());
            assert!(fs.lookup(ino, b"x").is_err());
            assert!(fs.read(ino, 0, &mut [0; 4]).is_err());
            assert!(fs.write(ino, 0, b"x").is_err());
            assert!(fs.create(ino, b"x", &NewFile::new(FILE)).is_err());
            assert!(fs.read_dir(ino, 0, &mut DirBuffer::new(512)).is_err());
            assert!(fs.hold(ino).is_err());
            assert!(fs.release(ino).is_err());
            assert!(fs.read_link(ino).is_err());
        }
    }
    assert!(fs.read_dir(root, u64::MAX, &mut DirBuffer::new(512)).is_ok(), "a wild cookie");
}

fn many_files<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let dir = fs.create(root, b"many", &NewFile::new(DIR)).expect("mkdir").ino;
    let name = |n: u32| -> Vec<u8> {
        let mut name = b"entry-num-".to_vec();
        name.extend((0..4).map(|digit| b'0' + (n / 10u32.pow(digit) % 10) as u8));
        name
    };
    for n in 0..300 {
        file(fs, dir, &name(n), &n.to_le_bytes());
    }
    for n in (0..300).step_by(2) {
        assert_eq!(fs.unlink(dir, &name(n), false), Ok(()));
    }
    assert_eq!(list(fs, dir, 4096).expect("list").len(), 150);
    for n in 0..300 {
        match fs.lookup(dir, &name(n)) {
            Ok(stat) => assert_eq!((n % 2, content(fs, stat.ino)), (1, n.to_le_bytes().to_vec())),
            Err(error) => assert_eq!((n % 2, error), (0, Error::NoEnt)),
        }
    }
}

fn figures<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let before = fs.statfs().expect("statfs");
    assert!(before.block_size > 0 && before.blocks_free <= before.blocks);
    assert!(before.name_max >= 12 && before.fs_type[0] != 0);
    let ino = file(fs, root, b"f", &vec![1; 200_000]);
    fs.sync().expect("sync");
    let after = fs.statfs().expect("statfs");
    let used = (before.blocks_free - after.blocks_free) * before.block_size;
    assert!(used >= 200_000, "200000 bytes take space, not {used}");
    let blocks = fs.attributes(ino).expect("attributes").blocks;
    assert!(blocks * 512 >= 200_000, "blocks {blocks}");
}
