//! Paths, symbolic links, names.

use std::format;
use std::prelude::v1::*;

use super::host::*;
use crate::Target;
use xinim_abi::error::Error;
use xinim_abi::services::vfs::{NAME_MAX, PATH_MAX, mode, open, time};

fn touch(vfs: &mut Direct, path: &str) {
    let fd = vfs.open(PID, path.as_bytes(), NEW, 0o644).unwrap();
    vfs.close(PID, fd).unwrap();
}

fn kind(vfs: &mut Direct, path: &str) -> Result<u32, Error> {
    vfs.stat(PID, path.as_bytes(), true).map(|stat| stat.mode & mode::TYPE_MASK)
}

fn ino(vfs: &mut Direct, path: &str) -> Result<u64, Error> {
    vfs.stat(PID, path.as_bytes(), true).map(|stat| stat.ino)
}

#[test]
fn dots_and_slashes() {
    let (mut vfs, _) = vfs();
    vfs.mkdir(PID, b"/a", 0o755).unwrap();
    vfs.mkdir(PID, b"/a/b/", 0o755).unwrap();
    touch(&mut vfs, "/a/b/f");
    let f = ino(&mut vfs, "/a/b/f").unwrap();
    for same in ["//a//b///f", "/a/./b/../b/f", "/../../a/b/f", "a/b/f", "./a/b/f"] {
        assert_eq!(ino(&mut vfs, same), Ok(f), "{same}");
    }
    assert_eq!(kind(&mut vfs, "/"), Ok(mode::DIRECTORY));
    assert_eq!(kind(&mut vfs, "/a/b/.."), Ok(mode::DIRECTORY));
    for (wrong, error) in [
        ("", Error::NoEnt),
        ("/a/b/f/", Error::NotDir),
        ("/a/b/f/.", Error::NotDir),
        ("/a/b/f/x", Error::NotDir),
        ("/a/x/f", Error::NoEnt),
        ("/a/b\0", Error::Inval),
    ] {
        assert_eq!(kind(&mut vfs, wrong), Err(error), "{wrong}");
    }
    assert_eq!(kind(&mut vfs, &format!("/{}", "n".repeat(NAME_MAX + 1))), Err(Error::NameTooLong));
    assert_eq!(kind(&mut vfs, &"/".repeat(PATH_MAX)), Err(Error::NameTooLong));
    assert_eq!(kind(&mut vfs, &"/.".repeat(PATH_MAX / 2 - 1)), Ok(mode::DIRECTORY));
}

#[test]
fn working_directory() {
    let (mut vfs, _) = vfs();
    vfs.mkdir(PID, b"/a", 0o755).unwrap();
    vfs.mkdir(PID, b"/a/b", 0o755).unwrap();
    assert_eq!(vfs.getcwd(PID).unwrap(), b"/");
    vfs.chdir(PID, b"a/b").unwrap();
    assert_eq!(vfs.getcwd(PID).unwrap(), b"/a/b");
    touch(&mut vfs, "f");
    assert!(ino(&mut vfs, "/a/b/f").is_ok());
    assert_eq!(vfs.chdir(PID, b"f"), Err(Error::NotDir));
    // It follows its directory when that is renamed.
    vfs.rename(PID, b"/a", b"/c").unwrap();
    assert_eq!(vfs.getcwd(PID).unwrap(), b"/c/b");
    assert!(ino(&mut vfs, "f").is_ok());
    assert!(ino(&mut vfs, "../b/f").is_ok());
    // A removed working directory has no name, and nothing can be made in it.
    vfs.unlink(PID, b"/c/b/f", false).unwrap();
    vfs.unlink(PID, b"/c/b", true).unwrap();
    assert_eq!(vfs.getcwd(PID), Err(Error::NoEnt));
    assert_eq!(vfs.open(PID, b"x", NEW, 0o644), Err(Error::NoEnt));
    assert_eq!(vfs.mkdir(PID, b"x", 0o755), Err(Error::NoEnt));
    vfs.chdir(PID, b"..").unwrap();
    assert_eq!(vfs.getcwd(PID).unwrap(), b"/c");
}

#[test]
fn symbolic_links() {
    let (mut vfs, _) = vfs();
    vfs.mkdir(PID, b"/dir", 0o755).unwrap();
    touch(&mut vfs, "/dir/file");
    let file = ino(&mut vfs, "/dir/file").unwrap();
    vfs.symlink(PID, b"dir", b"/to-dir").unwrap();
    vfs.symlink(PID, b"/dir/file", b"/dir/absolute").unwrap();
    vfs.symlink(PID, b"../to-dir/./file", b"/dir/relative").unwrap();
    for path in ["/to-dir/file", "/dir/absolute", "/to-dir/relative", "/dir/relative"] {
        assert_eq!(ino(&mut vfs, path), Ok(file), "{path}");
    }
    assert_eq!(vfs.read_link(PID, b"/to-dir").unwrap(), b"dir");
    assert_eq!(vfs.read_link(PID, b"/dir/file"), Err(Error::Inval));
    let link = vfs.stat(PID, b"/to-dir", false).unwrap();
    assert_eq!(link.mode & mode::TYPE_MASK, mode::SYMLINK);
    assert_eq!(vfs.stat(PID, b"/to-dir/", false).unwrap().mode & mode::TYPE_MASK, mode::DIRECTORY);
    assert_eq!(vfs.open(PID, b"/to-dir", open::NOFOLLOW, 0), Err(Error::Loop));
    // Removing removes the link.
    vfs.unlink(PID, b"/dir/absolute", false).unwrap();
    assert!(ino(&mut vfs, "/dir/file").is_ok());
    assert_eq!(vfs.symlink(PID, b"x", b"/to-dir"), Err(Error::Exist));
    assert_eq!(vfs.symlink(PID, b"", b"/empty"), Err(Error::NoEnt));
    // A link to nothing: opening creates what it names, exclusively it does not.
    vfs.symlink(PID, b"dir/new", b"/dangling").unwrap();
    assert_eq!(kind(&mut vfs, "/dangling"), Err(Error::NoEnt));
    assert_eq!(vfs.open(PID, b"/dangling", NEW | open::EXCLUSIVE, 0o644), Err(Error::Exist));
    touch(&mut vfs, "/dangling");
    assert!(ino(&mut vfs, "/dir/new").is_ok());
}

#[test]
fn too_many_links() {
    let (mut vfs, _) = vfs();
    vfs.symlink(PID, b"/b", b"/a").unwrap();
    vfs.symlink(PID, b"/a", b"/b").unwrap();
    assert_eq!(kind(&mut vfs, "/a"), Err(Error::Loop));
    assert_eq!(kind(&mut vfs, "/a/x"), Err(Error::Loop));
    // A chain of forty is followed, of forty-one not.
    touch(&mut vfs, "/l0");
    for n in 1..=41 {
        vfs.symlink(PID, format!("l{}", n - 1).as_bytes(), format!("/l{n}").as_bytes()).unwrap();
    }
    assert!(kind(&mut vfs, "/l40").is_ok());
    assert_eq!(kind(&mut vfs, "/l41"), Err(Error::Loop));
    // Links that grow the path end too.
    vfs.symlink(PID, &[b"big/".as_slice(), &b"x".repeat(200)].concat(), b"/big").unwrap();
    assert!(matches!(kind(&mut vfs, "/big"), Err(Error::Loop | Error::NameTooLong)));
}

#[test]
fn mkdir_and_unlink() {
    let (mut vfs, _) = vfs();
    vfs.mkdir(PID, b"/d", 0o700).unwrap();
    assert_eq!(vfs.mkdir(PID, b"/d", 0o755), Err(Error::Exist));
    assert_eq!(vfs.mkdir(PID, b"/", 0o755), Err(Error::Exist));
    assert_eq!(vfs.mkdir(PID, b"/x/y", 0o755), Err(Error::NoEnt));
    assert_eq!(vfs.stat(PID, b"/d", true).unwrap().mode, mode::DIRECTORY | 0o700);
    touch(&mut vfs, "/d/f");
    assert_eq!(vfs.unlink(PID, b"/d", true), Err(Error::NotEmpty));
    assert_eq!(vfs.unlink(PID, b"/d", false), Err(Error::IsDir));
    assert_eq!(vfs.unlink(PID, b"/d/f", true), Err(Error::NotDir));
    assert_eq!(vfs.unlink(PID, b"/d/f/", false), Err(Error::NotDir));
    assert_eq!(vfs.unlink(PID, b"/d/.", true), Err(Error::Inval));
    assert_eq!(vfs.unlink(PID, b"/d/..", true), Err(Error::NotEmpty));
    assert_eq!(vfs.unlink(PID, b"/", true), Err(Error::Busy));
    assert_eq!(vfs.unlink(PID, b"/nothing", false), Err(Error::NoEnt));
    vfs.unlink(PID, b"/d/f", false).unwrap();
    vfs.unlink(PID, b"/d/", true).unwrap();
    assert_eq!(kind(&mut vfs, "/d"), Err(Error::NoEnt));
}

#[test]
fn rename() {
    let (mut vfs, _) = vfs();
    for dir in ["/a", "/b", "/a/sub"] {
        vfs.mkdir(PID, dir.as_bytes(), 0o755).unwrap();
    }
    touch(&mut vfs, "/a/f");
    touch(&mut vfs, "/a/sub/deep");
    let f = ino(&mut vfs, "/a/f").unwrap();
    vfs.rename(PID, b"/a/f", b"/b/g").unwrap();
    assert_eq!((ino(&mut vfs, "/a/f"), ino(&mut vfs, "/b/g")), (Err(Error::NoEnt), Ok(f)));
    vfs.rename(PID, b"/a/sub", b"/b/moved/").unwrap();
    assert!(ino(&mut vfs, "/b/moved/deep").is_ok());
    assert_eq!(ino(&mut vfs, "/a/sub/deep"), Err(Error::NoEnt));
    vfs.rename(PID, b"/b", b"/b").unwrap();
    for (from, to, error) in [
        ("/b", "/b/moved/x", Error::Inval),
        ("/b", "/b/moved", Error::Inval),
        ("/b/g", "/a", Error::IsDir),
        ("/a", "/b/g", Error::NotDir),
        ("/a", "/b", Error::NotEmpty),
        ("/b/g", "/new/", Error::NotDir),
        ("/none", "/x", Error::NoEnt),
        ("/b/.", "/x", Error::Inval),
        ("/", "/x", Error::Inval),
        ("/a", "/", Error::Busy),
        ("/b/g", "/a/..", Error::Busy),
    ] {
        assert_eq!(vfs.rename(PID, from.as_bytes(), to.as_bytes()), Err(error), "{from} {to}");
    }
    touch(&mut vfs, "/a/h");
    vfs.rename(PID, b"/a/h", b"/b/g").unwrap();
    assert_ne!(ino(&mut vfs, "/b/g"), Ok(f), "replaced");
}

#[test]
fn hard_links() {
    let (mut vfs, _) = vfs();
    touch(&mut vfs, "/a");
    vfs.mkdir(PID, b"/d", 0o755).unwrap();
    vfs.link(PID, b"/a", b"/d/b").unwrap();
    assert_eq!(ino(&mut vfs, "/a"), ino(&mut vfs, "/d/b"));
    assert_eq!(vfs.stat(PID, b"/a", true).unwrap().links, 2);
    assert_eq!(vfs.link(PID, b"/a", b"/d/b"), Err(Error::Exist));
    assert_eq!(vfs.link(PID, b"/d", b"/e"), Err(Error::Perm));
    assert_eq!(vfs.link(PID, b"/none", b"/e"), Err(Error::NoEnt));
    vfs.rename(PID, b"/a", b"/d/b").unwrap();
    assert!(ino(&mut vfs, "/a").is_ok(), "two names of one file: nothing happens");
    vfs.unlink(PID, b"/a", false).unwrap();
    assert_eq!(vfs.stat(PID, b"/d/b", true).unwrap().links, 1);
}

#[test]
fn attributes() {
    let (mut vfs, _) = vfs();
    touch(&mut vfs, "/f");
    vfs.chmod(PID, Target::Path(b"/f", true), 0o755).unwrap();
    vfs.set_times(PID, Target::Path(b"/f", true), time::OMIT, 12_345).unwrap();
    vfs.truncate(PID, b"/f", 100).unwrap();
    let stat = vfs.stat(PID, b"/f", true).unwrap();
    assert_eq!((stat.mode, stat.size), (mode::REGULAR | 0o755, 100));
    assert!(stat.device != 0);
    assert_eq!(vfs.truncate(PID, b"/", 0), Err(Error::IsDir));
    assert!(vfs.statfs(PID, b"/f").unwrap().blocks > 0);
}

#[test]
fn what_was_looked_up_is_remembered() {
    let (mut vfs, control) = vfs();
    vfs.mkdir(PID, b"/a", 0o755).unwrap();
    touch(&mut vfs, "/a/f");
    let before = control.lookups.get();
    for _ in 0..10 {
        ino(&mut vfs, "/a/f").unwrap();
    }
    assert_eq!(control.lookups.get(), before);
}
