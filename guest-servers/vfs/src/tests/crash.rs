//! File-system servers that die: files stay open, operations are done exactly once.

use std::format;
use std::prelude::v1::*;
use std::rc::Rc;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::open;
use xinim_fs_kit::entries;

use super::host::*;

/// /mnt is a file system that can die, with /mnt/d/f ("data") in it.
fn world() -> (Direct, Rc<Control>) {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    vfs.mkdir(PID, b"/mnt", 0o755).unwrap();
    let control = add_fat(&mut vfs);
    vfs.mount_at(PID, b"/dev/vda", b"/mnt", b"", 0).unwrap();
    vfs.mkdir(PID, b"/mnt/d", 0o755).unwrap();
    let fd = vfs.open(PID, b"/mnt/d/f", NEW, 0o644).unwrap();
    vfs.write_bytes(PID, fd, -1, b"data").unwrap();
    vfs.close(PID, fd).unwrap();
    (vfs, control)
}

fn content(vfs: &mut Direct, path: &str) -> Result<Vec<u8>> {
    let fd = vfs.open(PID, path.as_bytes(), open::READ, 0)?;
    let data = vfs.read_bytes(PID, fd, 0, 1000);
    vfs.close(PID, fd).unwrap();
    data
}

fn names(vfs: &mut Direct, path: &str) -> Vec<String> {
    let fd = vfs.open(PID, path.as_bytes(), open::READ, 0).unwrap();
    let buffer = vfs.read_dir(PID, fd, 4096).unwrap();
    vfs.close(PID, fd).unwrap();
    let names = entries(buffer.bytes()).map(|e| String::from_utf8_lossy(e.name).into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn open_files_go_on() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/d/f", RW, 0).unwrap();
    assert_eq!(vfs.read_bytes(PID, fd, -1, 2).unwrap(), b"da");
    vfs.chdir(PID, b"/mnt/d").unwrap();
    control.die_after.set(Some(0));
    assert_eq!(vfs.read_bytes(PID, fd, -1, 10).unwrap(), b"ta", "position and file are VFS's");
    assert_eq!(control.mounts.get(), 2);
    control.die_after.set(Some(0));
    assert_eq!(vfs.write_bytes(PID, fd, -1, b"+more"), Ok(5));
    control.die_after.set(Some(0));
    assert_eq!(content(&mut vfs, "f").unwrap(), b"data+more", "by the working directory");
    // It dies again and again while numbers are looked up anew.
    for n in 0..4 {
        control.die_after.set(Some(n));
        assert_eq!(vfs.read_bytes(PID, fd, 0, 4).unwrap(), b"data", "{n}");
        control.die_after.set(None);
    }
}

#[test]
fn every_operation_is_done_once() {
    type Step = fn(&mut Direct) -> Result<()>;
    let steps: [(&str, Step, &[&str]); 8] = [
        ("create", |v| v.open(PID, b"/mnt/d/new", NEW, 0o644).map(|_| ()), &["f", "new"]),
        (
            "create exclusively",
            |v| v.open(PID, b"/mnt/d/new", NEW | open::EXCLUSIVE, 0o644).map(|_| ()),
            &["f", "new"],
        ),
        ("mkdir", |v| v.mkdir(PID, b"/mnt/d/new", 0o755), &["f", "new"]),
        ("symlink", |v| v.symlink(PID, b"x", b"/mnt/d/new"), &["f", "new"]),
        ("unlink", |v| v.unlink(PID, b"/mnt/d/f", false), &[]),
        ("rename", |v| v.rename(PID, b"/mnt/d/f", b"/mnt/d/g"), &["g"]),
        ("link", |v| v.link(PID, b"/mnt/d/f", b"/mnt/d/g"), &["f", "g"]),
        ("truncate", |v| v.truncate(PID, b"/mnt/d/f", 2), &["f"]),
    ];
    for (name, step, expected) in steps {
        for late in [false, true] {
            for after in 0..6 {
                let (mut vfs, control) = world();
                control.dies_late.set(late);
                control.die_after.set(Some(after));
                let result = step(&mut vfs);
                control.die_after.set(None);
                assert_eq!(result, Ok(()), "{name}, dead after {after}, late: {late}");
                assert_eq!(names(&mut vfs, "/mnt/d"), expected, "{name} {after} {late}");
            }
        }
    }
}

#[test]
fn files_without_a_name_are_stale() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/d/f", RW, 0).unwrap();
    vfs.unlink(PID, b"/mnt/d/f", false).unwrap();
    assert_eq!(vfs.read_bytes(PID, fd, 0, 4).unwrap(), b"data");
    control.die_after.set(Some(0));
    assert_eq!(vfs.read_bytes(PID, fd, 0, 4), Err(Error::Stale));
    assert_eq!(vfs.write_bytes(PID, fd, 0, b"x"), Err(Error::Stale));
    assert_eq!(vfs.close(PID, fd), Ok(()));
    assert_eq!(names(&mut vfs, "/mnt/d"), [""; 0]);
}

#[test]
fn renamed_files_are_found_by_their_new_name() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/d/f", RW, 0).unwrap();
    vfs.rename(PID, b"/mnt/d/f", b"/mnt/g").unwrap();
    vfs.rename(PID, b"/mnt/d", b"/mnt/e").unwrap();
    control.die_after.set(Some(0));
    assert_eq!(vfs.read_bytes(PID, fd, 0, 4).unwrap(), b"data");
    assert_eq!(control.holds.get(), 0, "the new instance holds nothing");
    vfs.close(PID, fd).unwrap();
    assert_eq!(content(&mut vfs, "/mnt/g").unwrap(), b"data");
}

#[test]
fn a_server_given_up_is_an_error_not_the_end() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/d/f", RW, 0).unwrap();
    control.failed.set(true);
    control.die_after.set(Some(0));
    assert_eq!(vfs.read_bytes(PID, fd, 0, 4), Err(Error::Io));
    assert_eq!(vfs.stat(PID, b"/mnt/d/f", true).err(), Some(Error::Io));
    assert_eq!(vfs.mkdir(PID, b"/mnt/x", 0o755), Err(Error::Io));
    assert_eq!(vfs.sync(), Err(Error::Io));
    assert!(vfs.mkdir(PID, b"/other", 0o755).is_ok(), "the rest lives");
    assert_eq!(vfs.umount(PID, b"/mnt", false), Err(Error::Busy));
    vfs.close(PID, fd).unwrap();
    assert_eq!(vfs.umount(PID, b"/mnt", false), Ok(()));
    assert!(vfs.stat(PID, b"/mnt", true).is_ok());
    // Someone starts it again: the mount comes back.
    let (mut vfs, control) = world();
    control.failed.set(true);
    control.die_after.set(Some(0));
    assert_eq!(vfs.sync(), Err(Error::Io));
    control.failed.set(false);
    assert_eq!(content(&mut vfs, "/mnt/d/f").unwrap(), b"data");
}

#[test]
fn unmounting_outlives_a_death() {
    for late in [false, true] {
        let (mut vfs, control) = world();
        control.dies_late.set(late);
        control.die_after.set(Some(0));
        assert_eq!(vfs.umount(PID, b"/mnt", false), Ok(()));
        assert_eq!(vfs.host().inner().stopped, 1);
    }
}

#[test]
fn many_deaths_under_load() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/d/big", NEW, 0o644).unwrap();
    for n in 0..200u32 {
        control.die_after.set((n % 3 == 0).then_some(n % 2));
        control.dies_late.set(n % 2 == 0);
        let line = format!("line {n:04}\n");
        assert_eq!(vfs.write_bytes(PID, fd, -1, line.as_bytes()), Ok(10));
    }
    control.die_after.set(None);
    let data = vfs.read_bytes(PID, fd, 0, 5000).unwrap();
    let expected: Vec<u8> = (0..200).flat_map(|n| format!("line {n:04}\n").into_bytes()).collect();
    assert!(data == expected);
    assert!(control.mounts.get() > 30);
}
