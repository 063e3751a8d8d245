//! Owners and permission bits, as users see them.

use std::prelude::v1::*;

use super::host::*;
use crate::{Credentials, Target};
use std::sync::Arc;
use xinim_abi::error::Error;
use xinim_abi::services::vfs::{KEEP_ID, mode, mount, open, time};

const USER: u32 = 40;
const OTHER: u32 = 41;

/// A process of uid 1000 in groups 100 and 7, one of uid 2000 in group 200.
fn world() -> (Direct, std::rc::Rc<Control>) {
    let (mut vfs, control) = vfs();
    for (pid, uid, gid, groups) in [(USER, 1000, 100, vec![7]), (OTHER, 2000, 200, vec![])] {
        vfs.add_process(pid);
        vfs.process_mut(pid).unwrap().who = Arc::new(Credentials { uid, gid, groups });
    }
    vfs.mkdir(PID, b"/tmp", 0o777).unwrap();
    vfs.chmod(PID, Target::Path(b"/tmp", true), 0o1777).unwrap();
    vfs.mkdir(PID, b"/home", 0o755).unwrap();
    vfs.chown(PID, Target::Path(b"/home", true), 1000, 100).unwrap();
    (vfs, control)
}

fn mode_of(vfs: &mut Direct, path: &[u8]) -> u32 {
    vfs.stat(PID, path, false).unwrap().mode & mode::PERMISSIONS
}

#[test]
fn new_files_belong_to_their_maker() {
    let (mut vfs, _) = world();
    assert_eq!(vfs.open(USER, b"/f", NEW, 0o666), Err(Error::Access));
    vfs.open(USER, b"/home/f", NEW, 0o666).unwrap();
    let stat = vfs.stat(PID, b"/home/f", true).unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mode & 0o7777), (1000, 100, 0o644), "umask 022");
    vfs.process_mut(USER).unwrap().umask = 0o077;
    vfs.mkdir(USER, b"/home/d", 0o777).unwrap();
    assert_eq!(mode_of(&mut vfs, b"/home/d"), 0o700);
    // A set-group-ID directory hands its group down.
    vfs.chown(PID, Target::Path(b"/home/d", true), KEEP_ID, 7).unwrap();
    vfs.chmod(USER, Target::Path(b"/home/d", true), 0o2770).unwrap();
    vfs.mkdir(USER, b"/home/d/e", 0o770).unwrap();
    let stat = vfs.stat(PID, b"/home/d/e", true).unwrap();
    assert_eq!((stat.gid, stat.mode & 0o7777), (7, 0o2700));
}

#[test]
fn reading_writing_searching() {
    let (mut vfs, _) = world();
    let fd = vfs.open(USER, b"/home/f", NEW, 0o600).unwrap();
    vfs.write_bytes(USER, fd, -1, b"secret").unwrap();
    assert_eq!(vfs.open(OTHER, b"/home/f", open::READ, 0), Err(Error::Access));
    assert_eq!(vfs.open(OTHER, b"/home/f", open::WRITE, 0), Err(Error::Access));
    assert_eq!(vfs.truncate(OTHER, b"/home/f", 0), Err(Error::Access));
    assert_eq!(vfs.access(OTHER, b"/home/f", 4), Err(Error::Access));
    vfs.chmod(USER, Target::Path(b"/home/f", true), 0o604).unwrap();
    assert!(vfs.open(OTHER, b"/home/f", open::READ, 0).is_ok());
    assert_eq!(vfs.open(OTHER, b"/home/f", RW, 0), Err(Error::Access));
    assert_eq!(vfs.open(OTHER, b"/home/f", open::READ | open::TRUNCATE, 0), Err(Error::Access));
    assert_eq!(vfs.access(OTHER, b"/home/f", 4), Ok(()));
    assert_eq!(vfs.open_for(PID, OTHER, b"/home/f"), Err(Error::Access));
    // What is open stays open.
    vfs.chmod(USER, Target::Path(b"/home/f", true), 0).unwrap();
    assert_eq!(vfs.read_bytes(USER, fd, 0, 6).unwrap(), b"secret");
    assert_eq!(vfs.open(USER, b"/home/f", open::READ, 0), Err(Error::Access));
    assert!(vfs.open(PID, b"/home/f", RW, 0).is_ok(), "root may");
    // A directory that may not be searched hides even what would be readable, `..` included.
    vfs.chmod(USER, Target::Path(b"/home", true), 0o700).unwrap();
    assert_eq!(vfs.stat(OTHER, b"/home/f", true).err(), Some(Error::Access));
    assert_eq!(vfs.stat(OTHER, b"/home/../tmp", true).err(), Some(Error::Access));
    assert_eq!(vfs.chdir(OTHER, b"/home"), Err(Error::Access));
    vfs.chmod(USER, Target::Path(b"/home", true), 0o711).unwrap();
    assert!(vfs.stat(OTHER, b"/home/f", true).is_ok());
    assert_eq!(vfs.open(OTHER, b"/home", open::READ | open::DIRECTORY, 0), Err(Error::Access));
}

#[test]
fn names_need_the_directory() {
    let (mut vfs, _) = world();
    vfs.open(USER, b"/home/f", NEW, 0o666).unwrap();
    assert_eq!(vfs.unlink(OTHER, b"/home/f", false), Err(Error::Access));
    assert_eq!(vfs.rename(OTHER, b"/home/f", b"/tmp/f"), Err(Error::Access));
    assert_eq!(vfs.link(OTHER, b"/home/f", b"/home/g"), Err(Error::Access));
    assert_eq!(vfs.symlink(OTHER, b"f", b"/home/s"), Err(Error::Access));
    assert_eq!(vfs.mkdir(OTHER, b"/home/d", 0o777), Err(Error::Access));
    // In a sticky directory only the owners of file or directory remove.
    vfs.open(USER, b"/tmp/f", NEW, 0o666).unwrap();
    vfs.open(OTHER, b"/tmp/g", NEW, 0o666).unwrap();
    assert_eq!(vfs.unlink(OTHER, b"/tmp/f", false), Err(Error::Perm));
    assert_eq!(vfs.rename(OTHER, b"/tmp/f", b"/tmp/h"), Err(Error::Perm));
    assert_eq!(vfs.rename(OTHER, b"/tmp/g", b"/tmp/f"), Err(Error::Perm));
    assert_eq!(vfs.rename(OTHER, b"/tmp/g", b"/tmp/h"), Ok(()));
    assert_eq!(vfs.unlink(USER, b"/tmp/f", false), Ok(()));
    assert_eq!(vfs.unlink(PID, b"/tmp/h", false), Ok(()));
}

#[test]
fn owners_change_what_is_theirs() {
    let (mut vfs, _) = world();
    vfs.open(USER, b"/home/f", NEW, 0o666).unwrap();
    let f = Target::Path(b"/home/f", true);
    assert_eq!(vfs.chmod(OTHER, f, 0o777), Err(Error::Perm));
    assert_eq!(vfs.chown(OTHER, f, 2000, KEEP_ID), Err(Error::Perm));
    assert_eq!(vfs.chown(USER, f, 2000, KEEP_ID), Err(Error::Perm), "nobody gives files away");
    assert_eq!(vfs.chown(USER, f, KEEP_ID, 200), Err(Error::Perm), "not their group");
    assert_eq!(vfs.chown(USER, f, 1000, 7), Ok(()));
    assert_eq!(vfs.stat(PID, b"/home/f", true).unwrap().gid, 7);
    // Set-ID bits go when the file changes hands or contents.
    vfs.chmod(PID, f, 0o6755).unwrap();
    assert_eq!(vfs.chown(USER, f, KEEP_ID, 100), Ok(()));
    assert_eq!(mode_of(&mut vfs, b"/home/f"), 0o755);
    vfs.chmod(USER, f, 0o4777).unwrap();
    let fd = vfs.open(OTHER, b"/home/f", open::WRITE, 0).unwrap();
    vfs.write_bytes(OTHER, fd, -1, b"x").unwrap();
    assert_eq!(mode_of(&mut vfs, b"/home/f"), 0o777);
    vfs.chown(PID, f, KEEP_ID, 200).unwrap();
    vfs.chmod(USER, f, 0o2777).unwrap();
    assert_eq!(mode_of(&mut vfs, b"/home/f"), 0o777, "set-group-ID is for members");
    // Times: now for writers, others for the owner.
    vfs.host().inner().now = 77;
    assert_eq!(vfs.set_times(OTHER, f, time::NOW, time::NOW), Ok(()));
    assert_eq!(vfs.stat(PID, b"/home/f", true).unwrap().mtime, 77);
    assert_eq!(vfs.set_times(OTHER, f, 5, time::OMIT), Err(Error::Perm));
    assert_eq!(vfs.set_times(USER, f, 5, time::OMIT), Ok(()));
    let stat = vfs.stat(PID, b"/home/f", true).unwrap();
    assert_eq!((stat.atime, stat.mtime), (5, 77));
    vfs.chmod(USER, f, 0o600).unwrap();
    assert_eq!(vfs.set_times(OTHER, f, time::NOW, time::NOW), Err(Error::Access));
}

#[test]
fn only_root_mounts_and_makes_devices() {
    let (mut vfs, _) = world();
    assert_eq!(vfs.mount_at(USER, b"none", b"/tmp", b"tmpfs", 0), Err(Error::Perm));
    assert_eq!(vfs.umount(USER, b"/", false), Err(Error::Perm));
    assert_eq!(vfs.remount(USER, b"/", mount::READ_ONLY), Err(Error::Perm));
    assert_eq!(vfs.mknod(USER, b"/tmp/c", mode::CHARACTER | 0o666, 1 << 16 | 3), Err(Error::Perm));
    assert_eq!(vfs.mknod(USER, b"/tmp/p", mode::FIFO | 0o666, 9), Ok(()));
    assert_eq!(vfs.mknod(PID, b"/tmp/c", mode::CHARACTER | 0o666, 1 << 16 | 3), Ok(()));
    assert_eq!(vfs.stat(PID, b"/tmp/c", true).unwrap().rdev, 1 << 16 | 3);
    assert_eq!(vfs.stat(PID, b"/tmp/p", true).unwrap().rdev, 0);
}

#[test]
fn children_act_as_their_parents() {
    let (mut vfs, _) = world();
    vfs.process_mut(USER).unwrap().umask = 0o027;
    vfs.inherit(USER, 50, &[]).unwrap();
    assert_eq!(vfs.mkdir(50, b"/d", 0o777), Err(Error::Access));
    vfs.mkdir(50, b"/home/d", 0o777).unwrap();
    assert_eq!(mode_of(&mut vfs, b"/home/d"), 0o750);
}

#[test]
fn attributes_survive_a_server() {
    let (mut vfs, control) = world();
    vfs.open(USER, b"/home/f", NEW, 0o600).unwrap();
    control.die_after.set(Some(0));
    assert_eq!(vfs.open(OTHER, b"/home/f", open::READ, 0), Err(Error::Access));
    assert_eq!(vfs.chmod(USER, Target::Path(b"/home/f", true), 0o644), Ok(()));
    assert!(control.mounts.get() > 1, "the server died");
    assert!(vfs.open(OTHER, b"/home/f", open::READ, 0).is_ok());
}

#[test]
fn reads_set_access_times_after_changes_only() {
    let (mut vfs, _) = world();
    let fd = vfs.open(PID, b"/f", NEW, 0o644).unwrap();
    vfs.write_bytes(PID, fd, 0, b"data").unwrap();
    let atime = |vfs: &mut Direct| vfs.stat(PID, b"/f", true).unwrap().atime;
    vfs.host().inner().now = 5_000_000_000;
    vfs.read_bytes(PID, fd, 0, 4).unwrap();
    assert_eq!(atime(&mut vfs), 5_000_000_000);
    vfs.host().inner().now = 6_000_000_000;
    vfs.read_bytes(PID, fd, 0, 4).unwrap();
    assert_eq!(atime(&mut vfs), 5_000_000_000, "later than the last change already");
    vfs.set_times(PID, Target::Fd(fd), time::OMIT, 5_500_000_000).unwrap();
    vfs.read_bytes(PID, fd, 0, 4).unwrap();
    assert_eq!(atime(&mut vfs), 6_000_000_000);
    vfs.remount(PID, b"/", mount::NO_ATIME).unwrap();
    vfs.set_times(PID, Target::Fd(fd), time::OMIT, 7_000_000_000).unwrap();
    vfs.host().inner().now = 8_000_000_000;
    vfs.read_bytes(PID, fd, 0, 4).unwrap();
    assert_eq!(atime(&mut vfs), 6_000_000_000, "noatime");
}

#[test]
fn remounting() {
    let (mut vfs, _) = world();
    let fd = vfs.open(PID, b"/f", NEW, 0o644).unwrap();
    assert_eq!(vfs.remount(PID, b"/", mount::READ_ONLY), Err(Error::Busy), "open for writing");
    assert_eq!(vfs.remount(PID, b"/home", mount::READ_ONLY), Err(Error::Inval));
    assert_eq!(vfs.remount(PID, b"/", 1 << 20), Err(Error::Inval));
    vfs.close(PID, fd).unwrap();
    assert_eq!(vfs.remount(PID, b"/", mount::READ_ONLY | mount::NO_EXEC), Ok(()));
    assert!(vfs.mounts_text().starts_with("root / ramfs ro,noexec"));
    assert_eq!(vfs.mkdir(PID, b"/d", 0o777), Err(Error::RoFs));
    assert_eq!(vfs.access(PID, b"/f", 2), Err(Error::RoFs));
    assert_eq!(vfs.access(PID, b"/f", 1), Err(Error::Access));
    assert_eq!(vfs.remount(PID, b"/", 0), Ok(()));
    assert_eq!(vfs.mkdir(PID, b"/d", 0o777), Ok(()));
}
