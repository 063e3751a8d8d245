//! What a dead server took with it is told once to everybody concerned.

use std::prelude::v1::*;
use std::rc::Rc;

use xinim_abi::error::Error;
use xinim_abi::services::vfs::{control, open};

use super::host::*;

/// /mnt can die.
fn world() -> (Direct, Rc<Control>) {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    vfs.mkdir(PID, b"/mnt", 0o755).unwrap();
    let control = add_fat(&mut vfs);
    vfs.mount_at(PID, b"/dev/vda", b"/mnt", b"", 0).unwrap();
    (vfs, control)
}

/// The server dies at its next operation.
fn dies(control: &Control, late: bool) {
    control.dies_late.set(late);
    control.die_after.set(Some(0));
}

#[test]
fn an_interrupted_fsync_is_an_error_once_for_each_descriptor() {
    for late in [false, true] {
        let (mut vfs, control) = world();
        let one = vfs.open(PID, b"/mnt/f", NEW, 0o644).unwrap();
        let two = vfs.open(PID, b"/mnt/f", RW, 0).unwrap();
        let copy = vfs.dup(PID, one, 0).unwrap();
        vfs.write_bytes(PID, one, 0, b"data").unwrap();
        dies(&control, late);
        assert_eq!(vfs.fsync(PID, one), Err(Error::Io));
        assert_eq!(vfs.fsync(PID, one), Ok(()));
        assert_eq!(vfs.fsync(PID, copy), Ok(()), "the same open file");
        assert_eq!(vfs.fsync(PID, two), Err(Error::Io));
        assert_eq!(vfs.fsync(PID, two), Ok(()));
        let later = vfs.open(PID, b"/mnt/f", RW, 0).unwrap();
        assert_eq!(vfs.fsync(PID, later), Ok(()), "others have heard of it");
        assert_eq!(vfs.sync(), Err(Error::Io));
        assert_eq!(vfs.sync(), Ok(()));
        // And so the next time.
        vfs.write_bytes(PID, two, 0, b"more").unwrap();
        dies(&control, late);
        assert_eq!(vfs.fsync(PID, two), Err(Error::Io));
        assert_eq!(vfs.fsync(PID, one), Err(Error::Io));
        assert_eq!((vfs.fsync(PID, one), vfs.fsync(PID, two)), (Ok(()), Ok(())));
    }
}

#[test]
fn a_death_between_write_and_fsync_counts_too() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/f", NEW, 0o644).unwrap();
    vfs.write_bytes(PID, fd, 0, b"data").unwrap();
    vfs.close(PID, fd).unwrap();
    dies(&control, false);
    vfs.stat(PID, b"/mnt/f", true).unwrap();
    // Nobody has heard of it: the first to open the file does.
    let fd = vfs.open(PID, b"/mnt/f", open::READ, 0).unwrap();
    assert_eq!(vfs.fsync(PID, fd), Err(Error::Io));
    assert_eq!(vfs.fsync(PID, fd), Ok(()));
    // The directory was changed as well.
    let dir = vfs.open(PID, b"/mnt", open::READ, 0).unwrap();
    assert_eq!(vfs.fsync(PID, dir), Err(Error::Io));
    assert_eq!(vfs.fsync(PID, dir), Ok(()));
}

#[test]
fn what_was_durable_is_no_loss() {
    let (mut vfs, control) = world();
    let saved = vfs.open(PID, b"/mnt/saved", NEW, 0o644).unwrap();
    let read = vfs.open(PID, b"/mnt/saved", open::READ, 0).unwrap();
    vfs.write_bytes(PID, saved, 0, b"data").unwrap();
    vfs.sync().unwrap();
    let fd = vfs.open(PID, b"/mnt/fsynced", NEW, 0o644).unwrap();
    vfs.write_bytes(PID, fd, 0, b"data").unwrap();
    vfs.fsync(PID, fd).unwrap();
    dies(&control, false);
    assert_eq!(vfs.fsync(PID, saved), Ok(()));
    assert_eq!(vfs.fsync(PID, read), Ok(()));
    assert_eq!(vfs.fsync(PID, fd), Ok(()));
    // The name made after the sync was not synced for all that VFS knows.
    assert_eq!(vfs.sync(), Err(Error::Io));
    assert_eq!(vfs.sync(), Ok(()));
    dies(&control, false);
    assert_eq!(vfs.sync(), Ok(()), "nothing was changed since");
}

/// A server whose next instance has everything: nobody hears of its death.
#[test]
fn what_is_restored_is_no_loss() {
    let (mut vfs, _) = vfs();
    vfs.mkdir(PID, b"/kept", 0o755).unwrap();
    let mut fs = TestFs::new("ramfs");
    fs.mount_flags = xinim_abi::services::fs::mounted::RESTORED;
    let control = fs.control.clone();
    vfs.mount_ready(fs, "ramfs", b"/kept", "ramfs", 0).unwrap();
    let fd = vfs.open(PID, b"/kept/f", NEW, 0o644).unwrap();
    for late in [false, true] {
        vfs.write_bytes(PID, fd, 0, b"data").unwrap();
        dies(&control, late);
        assert_eq!(vfs.fsync(PID, fd), Ok(()));
        assert_eq!(vfs.sync(), Ok(()));
    }
}

#[test]
fn a_synchronous_write_is_durable_or_an_error() {
    for flag in [open::SYNC, open::DSYNC] {
        let (mut vfs, control) = world();
        let fd = vfs.open(PID, b"/mnt/f", NEW | flag, 0o644).unwrap();
        assert_eq!(vfs.control(PID, fd, control::GET_FLAGS, 0).unwrap() as u32 & open::SYNC, flag);
        let asked = control.fsyncs.get();
        assert_eq!(vfs.write_bytes(PID, fd, -1, b"data"), Ok(4));
        assert_eq!(control.fsyncs.get(), asked + 1);
        assert_eq!(vfs.write_bytes(PID, fd, -1, b""), Ok(0));
        assert_eq!(control.fsyncs.get(), asked + 1, "nothing was written");
        dies(&control, false);
        vfs.stat(PID, b"/mnt/f", true).unwrap();
        assert_eq!(vfs.fsync(PID, fd), Ok(()), "no loss");
        // The write has been done when the server dies: its bytes may be lost.
        control.die_after.set(Some(1));
        assert_eq!(vfs.write_bytes(PID, fd, -1, b"lost"), Err(Error::Io));
        assert_eq!(vfs.seek(PID, fd, 0, 1), Ok(4), "it does not count");
        assert_eq!(vfs.write_bytes(PID, fd, -1, b"more"), Ok(4));
        // Another descriptor of the file writes as before.
        let other = vfs.open(PID, b"/mnt/f", RW, 0).unwrap();
        let asked = control.fsyncs.get();
        vfs.write_bytes(PID, other, 0, b"x").unwrap();
        assert_eq!(control.fsyncs.get(), asked);
    }
}

#[test]
fn every_name_of_a_file_is_concerned() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/f", NEW, 0o644).unwrap();
    vfs.link(PID, b"/mnt/f", b"/mnt/g").unwrap();
    let other = vfs.open(PID, b"/mnt/g", RW, 0).unwrap();
    vfs.sync().unwrap();
    vfs.write_bytes(PID, fd, 0, b"data").unwrap();
    dies(&control, false);
    assert_eq!(vfs.fsync(PID, other), Err(Error::Io));
    assert_eq!(vfs.fsync(PID, fd), Err(Error::Io));
    assert_eq!((vfs.fsync(PID, fd), vfs.fsync(PID, other)), (Ok(()), Ok(())));
}

#[test]
fn many_files_do_not_make_vfs_forget_a_loss() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/f", NEW, 0o644).unwrap();
    vfs.write_bytes(PID, fd, 0, b"data").unwrap();
    vfs.close(PID, fd).unwrap();
    for n in 0..5000 {
        let path = format!("/tmp{n}");
        vfs.mkdir(PID, path.as_bytes(), 0o755).unwrap();
        if n == 2500 {
            vfs.sync().unwrap();
            let fd = vfs.open(PID, b"/mnt/f", RW, 0).unwrap();
            vfs.write_bytes(PID, fd, 0, b"lost").unwrap();
            vfs.close(PID, fd).unwrap();
        }
        vfs.tree.trim();
    }
    dies(&control, false);
    let fd = vfs.open(PID, b"/mnt/f", RW, 0).unwrap();
    assert_eq!(vfs.fsync(PID, fd), Err(Error::Io));
}

/// Its device could not be read when the next instance came up: that is asked to mount again at the next use.
#[test]
fn a_server_that_could_not_mount_is_asked_again() {
    let (mut vfs, control) = world();
    let fd = vfs.open(PID, b"/mnt/f", NEW, 0o644).unwrap();
    vfs.write_bytes(PID, fd, 0, b"data").unwrap();
    vfs.fsync(PID, fd).unwrap();
    dies(&control, false);
    control.mount_error.set(Some(Error::Io));
    assert_eq!(vfs.stat(PID, b"/mnt/f", true).map(drop), Err(Error::Io));
    assert_eq!(vfs.stat(PID, b"/mnt/f", true).map(|stat| stat.size), Ok(4));
    assert_eq!(vfs.write_bytes(PID, fd, 0, b"more"), Ok(4));
}
