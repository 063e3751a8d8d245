//! Mounting, unmounting, devices, read-only file systems.

use std::prelude::v1::*;

use super::host::*;
use crate::Target;
use xinim_abi::error::Error;
use xinim_abi::services::vfs::{mode, mount, open};

fn dirs(vfs: &mut Direct, names: &[&str]) {
    for name in names {
        vfs.mkdir(PID, name.as_bytes(), 0o755).unwrap();
    }
}

fn fat(vfs: &mut Direct, at: &str, flags: u32) -> Result<std::rc::Rc<Control>, Error> {
    let control = add_fat(vfs);
    let result = vfs.mount_at(PID, b"/dev/vda", at.as_bytes(), b"fat", flags);
    vfs.host().inner().servers.clear();
    result.map(|()| control)
}

fn touch(vfs: &mut Direct, path: &str) -> Result<(), Error> {
    let fd = vfs.open(PID, path.as_bytes(), NEW, 0o644)?;
    vfs.close(PID, fd)
}

fn exists(vfs: &mut Direct, path: &str) -> bool {
    vfs.stat(PID, path.as_bytes(), false).is_ok()
}

#[test]
fn a_mount_covers_its_directory_and_no_other() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    dirs(&mut vfs, &["/mnt", "/mnt2", "/mnt/sub"]);
    touch(&mut vfs, "/mnt/below").unwrap();
    fat(&mut vfs, "/mnt", 0).unwrap();
    assert!(!exists(&mut vfs, "/mnt/below"));
    touch(&mut vfs, "/mnt/on-fat").unwrap();
    assert!(!exists(&mut vfs, "/mnt2/on-fat"));
    // `..` leads out, and back in by name.
    assert!(exists(&mut vfs, "/mnt/../mnt2/../mnt/on-fat"));
    vfs.chdir(PID, b"/mnt").unwrap();
    dirs(&mut vfs, &["x", "x/y"]);
    vfs.chdir(PID, b"x/y").unwrap();
    assert_eq!(vfs.getcwd(PID).unwrap(), b"/mnt/x/y");
    assert!(exists(&mut vfs, "../../../mnt2"));
    assert_ne!(
        vfs.stat(PID, b"/mnt", true).unwrap().device,
        vfs.stat(PID, b"/mnt2", true).unwrap().device
    );
    vfs.chdir(PID, b"/").unwrap();
    vfs.umount(PID, b"/mnt", false).unwrap();
    assert!(exists(&mut vfs, "/mnt/below") && !exists(&mut vfs, "/mnt/on-fat"));
}

#[test]
fn mounts_stack_and_nest() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    dirs(&mut vfs, &["/mnt"]);
    fat(&mut vfs, "/mnt", 0).unwrap();
    touch(&mut vfs, "/mnt/one").unwrap();
    dirs(&mut vfs, &["/mnt/dir"]);
    vfs.mount_ready(TestFs::new("two"), "two", b"/mnt", "ramfs", 0).unwrap();
    assert!(!exists(&mut vfs, "/mnt/one"));
    touch(&mut vfs, "/mnt/two").unwrap();
    assert_eq!(vfs.umount(PID, b"/dev/vda", false), Err(Error::Busy), "covered");
    vfs.umount(PID, b"/mnt", false).unwrap();
    assert!(exists(&mut vfs, "/mnt/one"));
    vfs.mount_ready(TestFs::new("three"), "three", b"/mnt/dir", "ramfs", 0).unwrap();
    dirs(&mut vfs, &["/mnt/dir/d"]);
    vfs.chdir(PID, b"/mnt/dir/d").unwrap();
    assert_eq!(vfs.getcwd(PID).unwrap(), b"/mnt/dir/d");
    assert!(exists(&mut vfs, "../../one"));
    assert_eq!(vfs.umount(PID, b"/mnt", false), Err(Error::Busy));
    assert_eq!(vfs.umount(PID, b"/mnt/dir", false), Err(Error::Busy));
    vfs.chdir(PID, b"/").unwrap();
    vfs.umount(PID, b"/mnt/dir", false).unwrap();
    vfs.umount(PID, b"/dev/vda", false).unwrap();
    assert!(!exists(&mut vfs, "/mnt/one"));
}

#[test]
fn refused_mounts() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    dirs(&mut vfs, &["/mnt"]);
    touch(&mut vfs, "/file").unwrap();
    assert_eq!(fat(&mut vfs, "/nothing", 0).err(), Some(Error::NoEnt));
    assert_eq!(fat(&mut vfs, "/file", 0).err(), Some(Error::NotDir));
    assert_eq!(fat(&mut vfs, "/mnt", 1 << 20).err(), Some(Error::Inval));
    let mut mount = |source: &str, fs_type: &str| {
        vfs.mount_at(PID, source.as_bytes(), b"/mnt", fs_type.as_bytes(), 0)
    };
    assert_eq!(mount("/dev/vdb", "fat"), Err(Error::NoEnt));
    assert_eq!(mount("/file", "fat"), Err(Error::NotBlk));
    assert_eq!(mount("/dev/null", ""), Err(Error::NotBlk));
    assert_eq!(mount("/dev/vda", "unheard-of"), Err(Error::NoDev));
    fat(&mut vfs, "/mnt", 0).unwrap();
    assert_eq!(fat(&mut vfs, "/mnt", 0).err(), Some(Error::Busy), "the device is mounted");
    assert_eq!(vfs.umount(PID, b"/", false), Err(Error::Busy));
    assert_eq!(vfs.umount(PID, b"/file", false), Err(Error::Inval));
}

#[test]
fn the_type_is_found_out() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    dirs(&mut vfs, &["/mnt"]);
    let other = TestFs::new("something else");
    vfs.host().inner().servers.push(("other", other));
    let control = add_fat(&mut vfs);
    vfs.mount_at(PID, b"/dev/vda", b"/mnt", b"", 0).unwrap();
    assert_eq!(control.mounts.get(), 1);
    assert_eq!(vfs.host().inner().stopped, 1, "the one that did not know it was ended");
    assert!(vfs.mounts_text().ends_with("/dev/vda /mnt fat rw\n"), "{}", vfs.mounts_text());
    vfs.umount(PID, b"/mnt", false).unwrap();
    assert_eq!((control.unmounts.get(), vfs.host().inner().stopped), (1, 2));
    vfs.host().inner().servers.push(("other", TestFs::new("something else")));
    vfs.host().inner().servers.push(("fat", TestFs::new("nor this")));
    assert_eq!(vfs.mount_at(PID, b"/dev/vda", b"/mnt", b"", 0), Err(Error::Inval));
}

#[test]
fn busy_and_lazy() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    dirs(&mut vfs, &["/mnt"]);
    let control = fat(&mut vfs, "/mnt", 0).unwrap();
    let fd = vfs.open(PID, b"/mnt/f", NEW, 0o644).unwrap();
    assert_eq!(vfs.umount(PID, b"/mnt", false), Err(Error::Busy));
    vfs.umount(PID, b"/mnt", true).unwrap();
    assert!(!exists(&mut vfs, "/mnt/f"));
    assert!(!vfs.mounts_text().contains("/mnt"));
    assert_eq!(vfs.write_bytes(PID, fd, -1, b"still"), Ok(5));
    assert_eq!(control.unmounts.get(), 0);
    vfs.close(PID, fd).unwrap();
    assert_eq!(vfs.host().inner().stopped, 1);
    assert_eq!(control.unmounts.get(), 1);
    // A working directory keeps it too; it leads nowhere else.
    let control = fat(&mut vfs, "/mnt", 0).unwrap();
    dirs(&mut vfs, &["/mnt/d"]);
    vfs.chdir(PID, b"/mnt/d").unwrap();
    vfs.umount(PID, b"/mnt", true).unwrap();
    assert_eq!(vfs.getcwd(PID), Err(Error::NoEnt));
    assert!(exists(&mut vfs, "../d") && exists(&mut vfs, "../../d"));
    vfs.remove_process(PID);
    vfs.finish();
    assert_eq!(control.unmounts.get(), 1);
}

#[test]
fn read_only() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    dirs(&mut vfs, &["/mnt"]);
    let fs = TestFs::new("vda");
    vfs.host().inner().servers.push(("fat", fs));
    vfs.mount_at(PID, b"/dev/vda", b"/mnt", b"fat", mount::READ_ONLY | mount::NO_EXEC).unwrap();
    assert!(vfs.mounts_text().contains(" ro,noexec\n"));
    assert_eq!(touch(&mut vfs, "/mnt/f"), Err(Error::RoFs));
    assert_eq!(vfs.mkdir(PID, b"/mnt/d", 0o755), Err(Error::RoFs));
    assert_eq!(vfs.symlink(PID, b"x", b"/mnt/s"), Err(Error::RoFs));
    assert_eq!(vfs.chmod(PID, Target::Path(b"/mnt", true), 0o700), Err(Error::RoFs));
    assert_eq!(vfs.open(PID, b"/mnt", 0, 0), Ok(0));
}

#[test]
fn no_links_or_renames_across() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    dirs(&mut vfs, &["/mnt", "/d"]);
    touch(&mut vfs, "/f").unwrap();
    fat(&mut vfs, "/mnt", 0).unwrap();
    touch(&mut vfs, "/mnt/g").unwrap();
    assert_eq!(vfs.rename(PID, b"/f", b"/mnt/f"), Err(Error::XDev));
    assert_eq!(vfs.rename(PID, b"/mnt/g", b"/f"), Err(Error::XDev));
    assert_eq!(vfs.link(PID, b"/f", b"/mnt/f"), Err(Error::XDev));
    assert_eq!(vfs.rename(PID, b"/mnt", b"/d/x"), Err(Error::Busy));
    assert_eq!(vfs.rename(PID, b"/d", b"/mnt"), Err(Error::Busy));
    assert_eq!(vfs.unlink(PID, b"/mnt", true), Err(Error::Busy));
    // A link may lead across.
    vfs.symlink(PID, b"/mnt/g", b"/d/link").unwrap();
    assert!(vfs.stat(PID, b"/d/link", true).is_ok());
}

#[test]
fn devices() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    let null = vfs.open(PID, b"/dev/null", RW, 0).unwrap();
    assert_eq!(vfs.write_bytes(PID, null, -1, b"away"), Ok(4));
    assert_eq!(vfs.redirect(PID, null), Err(Error::NotSup));
    let tty = vfs.open(PID, b"/dev/tty", RW, 0).unwrap();
    assert_eq!(vfs.write_bytes(PID, tty, -1, b"hello"), Err(Error::Redirect));
    assert_eq!(vfs.read_bytes(PID, tty, -1, 5), Err(Error::Redirect));
    assert_eq!(vfs.redirect(PID, tty), Ok((5, 77)));
    assert_eq!(vfs.host().inner().closed, [77], "the probe's handle is closed");
    assert_eq!(vfs.seek(PID, tty, 0, 0), Err(Error::SPipe));
    let disk = vfs.open(PID, b"/dev/vda", RW, 0).unwrap();
    assert_eq!(vfs.read_bytes(PID, disk, 100, 3).unwrap(), b"zzz");
    assert_eq!(vfs.seek(PID, disk, 0, 2), Ok(1 << 20));
    assert_eq!(vfs.fstat(PID, disk).unwrap().mode & mode::TYPE_MASK, mode::BLOCK);
    assert_eq!(vfs.ftruncate(PID, disk, 0), Err(Error::Inval));
    // On a file system that shall have no devices they cannot be opened.
    dirs(&mut vfs, &["/x"]);
    let fs = TestFs::new("x");
    fs.devices.borrow_mut().insert(b"null".to_vec(), (mode::CHARACTER, false));
    vfs.mount_ready(fs, "x", b"/x", "ramfs", mount::NO_DEV).unwrap();
    assert_eq!(vfs.open(PID, b"/x/null", open::READ, 0), Err(Error::Access));
}

#[test]
fn volatile_names_are_looked_up_each_time() {
    let (mut vfs, _) = vfs();
    dirs(&mut vfs, &["/dev"]);
    let mut fs = TestFs::new("devfs");
    fs.mount_flags = xinim_abi::services::fs::mounted::VOLATILE;
    let devices = fs.devices.clone();
    devices.borrow_mut().insert(b"7".to_vec(), (mode::CHARACTER, false));
    vfs.mount_ready(fs, "devfs", b"/dev", "devfs", 0).unwrap();
    let fd = vfs.open(PID, b"/dev/7", 0, 0).unwrap();
    assert!(exists(&mut vfs, "/dev/7"));
    devices.borrow_mut().clear();
    assert!(!exists(&mut vfs, "/dev/7"), "the device is gone");
    vfs.close(PID, fd).unwrap();
}

#[test]
fn a_volume_that_cannot_be_written_stays_mounted_unless_its_device_is_gone() {
    let (mut vfs, _) = vfs();
    with_devices(&mut vfs);
    dirs(&mut vfs, &["/mnt"]);
    let control = fat(&mut vfs, "/mnt", 0).unwrap();
    touch(&mut vfs, "/mnt/file").unwrap();
    control.unmount_error.set(Some(Error::Io));
    assert_eq!(vfs.umount(PID, b"/mnt", false), Err(Error::Io));
    assert!(exists(&mut vfs, "/mnt/file"));
    assert_eq!((control.mounts.get(), vfs.host().inner().stopped), (1, 0), "the same server");
    control.unmount_error.set(None);
    assert_eq!(vfs.umount(PID, b"/mnt", false), Ok(()));
    for (error, lazy) in [(Error::NxIo, false), (Error::Io, true)] {
        let control = fat(&mut vfs, "/mnt", 0).unwrap();
        control.unmount_error.set(Some(error));
        assert_eq!(vfs.umount(PID, b"/mnt", lazy), Ok(()));
        assert!(!vfs.mounts_text().contains("/mnt"));
    }
    assert_eq!(vfs.host().inner().stopped, 3);
}

#[test]
fn names_of_disks_are_looked_up_each_time_and_of_other_devices_once() {
    let (mut vfs, _) = vfs();
    dirs(&mut vfs, &["/dev"]);
    let mut fs = TestFs::new("devfs");
    fs.mount_flags = xinim_abi::services::fs::mounted::VOLATILE_DISKS;
    let (devices, control) = (fs.devices.clone(), fs.control.clone());
    devices.borrow_mut().insert(b"sda".to_vec(), (mode::BLOCK, false));
    devices.borrow_mut().insert(b"null".to_vec(), (mode::CHARACTER, false));
    vfs.mount_ready(fs, "devfs", b"/dev", "devfs", 0).unwrap();
    let fd = vfs.open(PID, b"/dev/sda", 0, 0).unwrap();
    assert!(exists(&mut vfs, "/dev/sda") && exists(&mut vfs, "/dev/null"));
    let lookups = control.lookups.get();
    assert!(exists(&mut vfs, "/dev/null"));
    assert_eq!(control.lookups.get(), lookups, "remembered");
    // Another device has the name now: another file.
    devices.borrow_mut().insert(b"aaa".to_vec(), (mode::BLOCK, false));
    let old = vfs.fstat(PID, fd).map(|stat| stat.ino);
    let new = vfs.stat(PID, b"/dev/sda", true).map(|stat| stat.ino);
    assert_ne!(old, new);
    devices.borrow_mut().remove(&b"sda"[..]);
    assert!(!exists(&mut vfs, "/dev/sda"), "the disk is gone");
    assert!(exists(&mut vfs, "/dev/null"));
    vfs.close(PID, fd).unwrap();
}

#[test]
fn mounted_when_first_visited() {
    let (mut vfs, _) = vfs();
    dirs(&mut vfs, &["/proc"]);
    vfs.mount_later(b"/proc", "procfs").unwrap();
    assert!(exists(&mut vfs, "/") && !vfs.mounts_text().contains("procfs"));
    // No server yet: an empty directory.
    assert!(exists(&mut vfs, "/proc") && !exists(&mut vfs, "/proc/x"));
    let fs = TestFs::new("procfs");
    let control = fs.control.clone();
    vfs.host().inner().servers.push(("procfs", fs));
    touch(&mut vfs, "/proc/x").unwrap();
    assert_eq!(control.mounts.get(), 1);
    assert!(vfs.mounts_text().ends_with("procfs /proc procfs rw\n"));
    assert_eq!(vfs.unlink(PID, b"/proc", true), Err(Error::Busy));
    vfs.umount(PID, b"/proc", false).unwrap();
    vfs.unlink(PID, b"/proc", true).unwrap();
    // `mount` without arguments shows it too.
    dirs(&mut vfs, &["/other"]);
    vfs.mount_later(b"/other", "procfs").unwrap();
    vfs.host().inner().servers.push(("procfs", TestFs::new("procfs")));
    vfs.mount_all();
    assert!(vfs.mounts_text().contains(" /other procfs "));
}
