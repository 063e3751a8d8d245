//! Descriptors, positions, unlinked files, inheritance.

use std::format;
use std::prelude::v1::*;

use super::host::*;
use crate::Target;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{FD_MAX, open};
use xinim_fs_kit::entries;

fn write(vfs: &mut Direct, fd: u32, data: &[u8]) -> Result<u64> {
    vfs.write_bytes(PID, fd, -1, data)
}

fn read(vfs: &mut Direct, fd: u32, len: usize) -> Result<Vec<u8>> {
    vfs.read_bytes(PID, fd, -1, len)
}

fn content(vfs: &mut Direct, path: &str) -> Vec<u8> {
    let fd = vfs.open(PID, path.as_bytes(), open::READ, 0).unwrap();
    let data = vfs.read_bytes(PID, fd, 0, 1 << 20).unwrap();
    vfs.close(PID, fd).unwrap();
    data
}

#[test]
fn positions() {
    let (mut vfs, _) = vfs();
    let fd = vfs.open(PID, b"/f", NEW, 0o644).unwrap();
    assert_eq!(write(&mut vfs, fd, b"hello "), Ok(6));
    assert_eq!(write(&mut vfs, fd, b"world"), Ok(5));
    assert_eq!(read(&mut vfs, fd, 5).unwrap(), b"");
    assert_eq!(vfs.seek(PID, fd, 0, 0), Ok(0));
    assert_eq!(read(&mut vfs, fd, 7).unwrap(), b"hello w");
    assert_eq!(vfs.seek(PID, fd, -2, 1), Ok(5));
    assert_eq!(vfs.seek(PID, fd, -1, 2), Ok(10));
    assert_eq!(read(&mut vfs, fd, 7).unwrap(), b"d");
    assert_eq!(vfs.read_bytes(PID, fd, 6, 3).unwrap(), b"wor");
    assert_eq!(vfs.seek(PID, fd, 0, 1), Ok(11), "reading at an offset moves nothing");
    assert_eq!(vfs.write_bytes(PID, fd, 0, b"J"), Ok(1));
    assert_eq!(content(&mut vfs, "/f"), b"Jello world");
    for (offset, whence) in [(-1, 0), (0, 3), (i64::MIN, 1)] {
        assert_eq!(vfs.seek(PID, fd, offset, whence), Err(Error::Inval));
    }
    assert_eq!(vfs.read_bytes(PID, fd, -2, 3), Err(Error::Inval));
    vfs.seek(PID, fd, i64::MAX, 0).unwrap();
    assert_eq!(read(&mut vfs, fd, 5).unwrap(), b"");
    assert!(write(&mut vfs, fd, b"x").is_err());
    assert_eq!(vfs.seek(PID, fd, 1, 1), Err(Error::Inval));
}

#[test]
fn open_flags() {
    let (mut vfs, _) = vfs();
    assert_eq!(vfs.open(PID, b"/f", RW, 0), Err(Error::NoEnt));
    let fd = vfs.open(PID, b"/f", NEW | open::EXCLUSIVE, 0o600).unwrap();
    write(&mut vfs, fd, b"12345").unwrap();
    assert_eq!(vfs.open(PID, b"/f", NEW | open::EXCLUSIVE, 0o600), Err(Error::Exist));
    let reader = vfs.open(PID, b"/f", open::READ, 0).unwrap();
    assert_eq!(write(&mut vfs, reader, b"x"), Err(Error::BadF));
    assert_eq!(vfs.ftruncate(PID, reader, 0), Err(Error::Inval));
    let writer = vfs.open(PID, b"/f", open::WRITE, 0).unwrap();
    assert_eq!(read(&mut vfs, writer, 1), Err(Error::BadF));
    vfs.open(PID, b"/f", open::WRITE | open::TRUNCATE, 0).unwrap();
    assert_eq!(content(&mut vfs, "/f"), b"");
    vfs.ftruncate(PID, writer, 3).unwrap();
    assert_eq!(content(&mut vfs, "/f"), b"\0\0\0");
    assert_eq!(vfs.open(PID, b"/f", 3, 0), Err(Error::Inval));
    assert_eq!(vfs.open(PID, b"/f", open::DIRECTORY, 0), Err(Error::NotDir));
    assert_eq!(vfs.open(PID, b"/", open::WRITE, 0), Err(Error::IsDir));
    assert_eq!(vfs.open(PID, b"/", open::CREATE, 0), Err(Error::IsDir));
    assert_eq!(vfs.open(PID, b"/new/", NEW, 0), Err(Error::IsDir));
    let dir = vfs.open(PID, b"/", open::DIRECTORY, 0).unwrap();
    assert_eq!(read(&mut vfs, dir, 1), Err(Error::IsDir));
}

#[test]
fn append() {
    let (mut vfs, _) = vfs();
    let one = vfs.open(PID, b"/f", open::WRITE | open::CREATE | open::APPEND, 0o644).unwrap();
    let two = vfs.open(PID, b"/f", open::WRITE | open::APPEND, 0).unwrap();
    write(&mut vfs, one, b"a").unwrap();
    write(&mut vfs, two, b"b").unwrap();
    vfs.seek(PID, one, 0, 0).unwrap();
    write(&mut vfs, one, b"c").unwrap();
    assert_eq!(content(&mut vfs, "/f"), b"abc");
}

#[test]
fn numbers_of_descriptors() {
    let (mut vfs, _) = vfs();
    for n in 0..5 {
        assert_eq!(vfs.open(PID, b"/", 0, 0), Ok(n));
    }
    vfs.close(PID, 1).unwrap();
    vfs.close(PID, 3).unwrap();
    assert_eq!(vfs.close(PID, 3), Err(Error::BadF));
    assert_eq!(vfs.open(PID, b"/", 0, 0), Ok(1));
    assert_eq!(vfs.dup(PID, 0, 0), Ok(3));
    assert_eq!(vfs.dup(PID, 0, 100), Ok(100));
    assert_eq!(vfs.dup(PID, 0, FD_MAX), Err(Error::Inval));
    assert_eq!(vfs.dup2(PID, 0, FD_MAX - 1), Ok(FD_MAX - 1));
    assert_eq!(vfs.dup2(PID, 0, FD_MAX), Err(Error::BadF));
    assert_eq!(vfs.dup2(PID, 50, 0), Err(Error::BadF));
    assert_eq!(vfs.close(PID, u32::MAX), Err(Error::BadF));
    let full = std::iter::repeat_with(|| vfs.open(PID, b"/", 0, 0)).find_map(Result::err);
    assert_eq!(full, Some(Error::MFile));
    assert_eq!(vfs.pipe(PID), Err(Error::MFile));
    assert_eq!(vfs.open(99, b"/", 0, 0), Err(Error::Fault), "a process that never connected");
}

#[test]
fn duplicates_share_a_position() {
    let (mut vfs, _) = vfs();
    let fd = vfs.open(PID, b"/f", NEW, 0o644).unwrap();
    let dup = vfs.dup(PID, fd, 0).unwrap();
    write(&mut vfs, fd, b"abc").unwrap();
    write(&mut vfs, dup, b"def").unwrap();
    vfs.close(PID, fd).unwrap();
    assert_eq!(vfs.seek(PID, dup, 0, 1), Ok(6));
    assert_eq!(vfs.dup2(PID, dup, dup), Ok(dup));
    assert_eq!(content(&mut vfs, "/f"), b"abcdef");
}

#[test]
fn unlinked_files_live_while_open() {
    let (mut vfs, control) = vfs();
    let fd = vfs.open(PID, b"/f", NEW, 0o644).unwrap();
    write(&mut vfs, fd, b"data").unwrap();
    vfs.unlink(PID, b"/f", false).unwrap();
    assert_eq!(control.holds.get(), 1);
    assert_eq!(vfs.open(PID, b"/f", 0, 0), Err(Error::NoEnt));
    let other = vfs.open(PID, b"/f", NEW, 0o644).unwrap();
    write(&mut vfs, other, b"another").unwrap();
    assert_eq!(vfs.read_bytes(PID, fd, 0, 10).unwrap(), b"data");
    write(&mut vfs, fd, b"+").unwrap();
    assert_eq!(vfs.fstat(PID, fd).unwrap().size, 5);
    vfs.close(PID, fd).unwrap();
    assert_eq!(control.holds.get(), 0, "released with its last descriptor");
    assert_eq!(content(&mut vfs, "/f"), b"another");
    // Replaced by a rename while open.
    vfs.open(PID, b"/g", NEW, 0o644).unwrap();
    vfs.rename(PID, b"/g", b"/f").unwrap();
    assert_eq!(vfs.read_bytes(PID, other, 0, 10).unwrap(), b"another");
    assert_eq!(content(&mut vfs, "/f"), b"");
    // Nothing is held for files nobody has open.
    vfs.remove_process(PID);
    assert_eq!(control.holds.get(), 0);
}

#[test]
fn renamed_files_stay_open() {
    let (mut vfs, control) = vfs();
    vfs.mkdir(PID, b"/d", 0o755).unwrap();
    let fd = vfs.open(PID, b"/f", NEW, 0o644).unwrap();
    vfs.rename(PID, b"/f", b"/d/g").unwrap();
    write(&mut vfs, fd, b"data").unwrap();
    assert_eq!(content(&mut vfs, "/d/g"), b"data");
    vfs.close(PID, fd).unwrap();
    assert_eq!(control.holds.get(), 0);
    assert_eq!(content(&mut vfs, "/d/g"), b"data");
}

#[test]
fn directories() {
    let (mut vfs, _) = vfs();
    for n in 0..50 {
        let fd = vfs.open(PID, format!("/file{n:02}").as_bytes(), NEW, 0o644).unwrap();
        vfs.close(PID, fd).unwrap();
    }
    let fd = vfs.open(PID, b"/", open::DIRECTORY, 0).unwrap();
    let all = |vfs: &mut Direct| {
        let mut names = Vec::new();
        loop {
            let buffer = vfs.read_dir(PID, fd, 300).unwrap();
            if buffer.bytes().is_empty() {
                return names;
            }
            names.extend(
                entries(buffer.bytes()).map(|e| String::from_utf8_lossy(e.name).into_owned()),
            );
        }
    };
    assert_eq!(all(&mut vfs).len(), 52);
    assert!(all(&mut vfs).is_empty());
    vfs.seek(PID, fd, 0, 0).unwrap();
    assert_eq!(all(&mut vfs)[2], "file00");
    assert_eq!(vfs.read_dir(PID, fd, 10).err(), Some(Error::Inval));
    let file = vfs.open(PID, b"/file00", 0, 0).unwrap();
    assert_eq!(vfs.read_dir(PID, file, 300).err(), Some(Error::NotDir));
}

#[test]
fn children_inherit() {
    let (mut vfs, _) = vfs();
    vfs.mkdir(PID, b"/d", 0o755).unwrap();
    vfs.chdir(PID, b"/d").unwrap();
    let fd = vfs.open(PID, b"f", NEW, 0o644).unwrap();
    vfs.inherit(PID, 20, &[(1, fd), (2, fd)]).unwrap();
    assert_eq!(vfs.getcwd(20).unwrap(), b"/d");
    vfs.write_bytes(20, 1, -1, b"child ").unwrap();
    write(&mut vfs, fd, b"parent").unwrap();
    assert_eq!(vfs.open(20, b"f", 0, 0), Ok(0));
    assert_eq!(vfs.read_bytes(20, 0, -1, 20).unwrap(), b"child parent");
    vfs.remove_process(PID);
    assert_eq!(vfs.write_bytes(20, 2, -1, b"!"), Ok(1), "the open file is the child's too");
    assert_eq!(vfs.inherit(20, 21, &[(0, 77)]), Err(Error::BadF));
    assert_eq!(vfs.inherit(20, 21, &[(FD_MAX, 0)]), Err(Error::BadF));
    assert_eq!(vfs.inherit(20, 20, &[]), Err(Error::Inval));
    assert_eq!(vfs.inherit(99, 21, &[]), Err(Error::Fault));
    // open_for resolves from the other's directory but the descriptor is the caller's.
    vfs.add_process(30);
    assert_eq!(vfs.open_for(30, 20, b"f"), Err(Error::Access), "nobody may execute it");
    vfs.chmod(20, Target::Path(b"f", true), 0o755).unwrap();
    let fd = vfs.open_for(30, 20, b"f").unwrap();
    assert_eq!(vfs.read_bytes(30, fd, 0, 5).unwrap(), b"child");
    assert_eq!(vfs.open_for(30, 20, b"/d"), Err(Error::Access));
}
