//! Names: creating, linking, renaming, removing, symbolic links, directories that change while they
//! are read.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_rt::fs::{self, File, flags, mode};

use crate::World;
use crate::check::{Check, Entry, Must, NEW, content, make, open, same};

pub const CHECKS: &[Entry] = &[
    ("create flags", false, create_flags),
    ("unlink while open", false, unlink_while_open),
    ("rename over files", false, rename_over_files),
    ("rename over directories", false, rename_directories),
    ("rename across mounts", false, rename_across),
    ("dot and dot-dot", false, dots),
    ("hard links", true, hard_links),
    ("symbolic links", true, symbolic_links),
    ("forty links", true, forty_links),
    ("directory read while it changes", false, changing_directory),
    ("long names and paths", false, long_names),
];

fn create_flags(world: &World) -> Check {
    make("f", b"content")?;
    let refused = |how, mode| File::open("f", how, mode).err();
    same("O_EXCL on a file", refused(NEW | flags::EXCLUSIVE, 0o666), Some(Error::Exist))?;
    same("O_DIRECTORY on a file", refused(flags::DIRECTORY, 0), Some(Error::NotDir))?;
    same("no O_CREAT", File::open("none", flags::READ, 0).err(), Some(Error::NoEnt))?;
    same("a slash behind a file", File::open("f/", flags::READ, 0).err(), Some(Error::NotDir))?;
    fs::mkdir("d", 0o777).must("mkdir")?;
    same("writing a directory", File::open("d", flags::WRITE, 0).err(), Some(Error::IsDir))?;
    same("mkdir on a name", fs::mkdir("f", 0o777), Err(Error::Exist))?;
    drop(open("f", flags::WRITE)?);
    same("content after open", content("f")?.len(), 7)?;
    drop(open("f", flags::WRITE | flags::TRUNCATE)?);
    same("content after O_TRUNC", content("f")?.len(), 0)?;
    if world.full {
        fs::symlink("f", "s").must("symlink")?;
        let found = File::open("s", flags::READ | flags::NOFOLLOW, 0).err();
        same("O_NOFOLLOW", found, Some(Error::Loop))?;
        fs::symlink("nowhere", "dangling").must("symlink")?;
        let found = File::open("dangling", NEW | flags::EXCLUSIVE, 0o666).err();
        same("O_EXCL on a dangling link", found, Some(Error::Exist))?;
        drop(open("dangling", NEW)?);
        same("a file made through a link", fs::stat("nowhere").is_ok(), true)?;
    }
    Ok(())
}

fn unlink_while_open(_: &World) -> Check {
    let file = open("f", NEW)?;
    file.write_all(b"still here").must("write")?;
    fs::unlink("f").must("unlink")?;
    same("the name", fs::stat("f").err(), Some(Error::NoEnt))?;
    make("f", b"another")?;
    let mut bytes = [0; 10];
    same("bytes read", fs::pread(file.fd(), &mut bytes, 0), Ok(10))?;
    same("content", &bytes, b"still here")?;
    file.write_all(b", and more").must("write")?;
    same("size", fs::fstat(file.fd()).must("fstat")?.size, 20)?;
    same("content of the new one", content("f")?, b"another".to_vec())?;
    // A directory without a name takes nothing new and lists nothing.
    fs::mkdir("d", 0o777).must("mkdir")?;
    fs::chdir("d").must("chdir")?;
    fs::rmdir("../d").must("rmdir")?;
    same("a file in it", File::open("x", NEW, 0o666).err(), Some(Error::NoEnt))?;
    same("getcwd", fs::getcwd().err(), Some(Error::NoEnt))
}

fn rename_over_files(world: &World) -> Check {
    make("a", b"new")?;
    make("b", b"old")?;
    let old = open("b", flags::READ)?;
    fs::rename("a", "b").must("rename")?;
    same("content", content("b")?, b"new".to_vec())?;
    let mut bytes = [0; 3];
    same("what was open", (fs::pread(old.fd(), &mut bytes, 0), &bytes), (Ok(3), b"old"))?;
    same("onto itself", fs::rename("b", "b"), Ok(()))?;
    same("of nothing", fs::rename("none", "b"), Err(Error::NoEnt))?;
    if world.full {
        fs::link("b", "c").must("link")?;
        same("two names of one file", fs::rename("b", "c"), Ok(()))?;
        same("both stay", (fs::stat("b").is_ok(), fs::stat("c").is_ok()), (true, true))?;
    }
    Ok(())
}

fn rename_directories(_: &World) -> Check {
    for dir in ["empty", "full", "full/in", "other"] {
        fs::mkdir(dir, 0o777).must(dir)?;
    }
    make("f", b"")?;
    same("a file over a directory", fs::rename("f", "empty"), Err(Error::IsDir))?;
    same("a directory over a file", fs::rename("empty", "f"), Err(Error::NotDir))?;
    same("over a full one", fs::rename("empty", "full"), Err(Error::NotEmpty))?;
    same("below itself", fs::rename("full", "full/in/x"), Err(Error::Inval))?;
    same("`.`", fs::rename("full/.", "x").is_err(), true)?;
    same("over an empty one", fs::rename("full", "empty"), Ok(()))?;
    same("what was in it", fs::stat("empty/in").is_ok(), true)?;
    fs::chdir("empty/in").must("chdir")?;
    fs::rename("../../empty", "../../other/moved").must("moving the parent away")?;
    let cwd = fs::getcwd().must("getcwd")?;
    same("getcwd follows", cwd.ends_with("/other/moved/in"), true)?;
    same("`..` follows", fs::stat("../../moved").is_ok(), true)
}

fn rename_across(_: &World) -> Check {
    make("f", b"")?;
    same("rename", fs::rename("f", "/proc/f"), Err(Error::XDev))?;
    let here = fs::stat(".").must("stat")?.device;
    same("other device", fs::stat("/dev").must("stat")?.device == here, false)?;
    same("link", fs::link("f", "/dev/f"), Err(Error::XDev))?;
    same("over a mount", fs::rename("/dev", "/x"), Err(Error::Busy))?;
    same("rmdir of a mount", fs::rmdir("/dev"), Err(Error::Busy))
}

fn dots(_: &World) -> Check {
    fs::mkdir("d", 0o777).must("mkdir")?;
    fs::mkdir("d/e", 0o777).must("mkdir")?;
    let ino = |path: &str| fs::stat(path).map(|stat| (stat.device, stat.ino)).must(path);
    same("d/e/..", ino("d/e/..")?, ino("d")?)?;
    same("d/./e/../.", ino("d/./e/../.")?, ino("d")?)?;
    same("/..", ino("/../..")?, ino("/")?)?;
    same("out of a mount", ino("/dev/..")?, ino("/")?)?;
    same("rmdir .", fs::rmdir("d/."), Err(Error::Inval))?;
    same("rmdir ..", fs::rmdir("d/e/.."), Err(Error::NotEmpty))?;
    same("a full directory", fs::rmdir("d"), Err(Error::NotEmpty))?;
    same("unlink of a directory", fs::unlink("d"), Err(Error::IsDir))?;
    make("f", b"")?;
    same("rmdir of a file", fs::rmdir("f"), Err(Error::NotDir))?;
    same("through a file", fs::stat("f/x").err(), Some(Error::NotDir))
}

fn hard_links(_: &World) -> Check {
    make("a", b"data")?;
    fs::link("a", "b").must("link")?;
    let stat = fs::stat("b").must("stat")?;
    same("links", stat.links, 2)?;
    same("number", stat.ino, fs::stat("a").must("stat")?.ino)?;
    same("on a name", fs::link("a", "b"), Err(Error::Exist))?;
    fs::mkdir("d", 0o777).must("mkdir")?;
    same("of a directory", fs::link("d", "e"), Err(Error::Perm))?;
    fs::unlink("a").must("unlink")?;
    same("content", content("b")?, b"data".to_vec())?;
    same("links left", fs::stat("b").must("stat")?.links, 1)
}

fn symbolic_links(_: &World) -> Check {
    fs::mkdir("d", 0o777).must("mkdir")?;
    make("d/f", b"data")?;
    fs::symlink("d", "l").must("symlink")?;
    fs::symlink("../d/f", "d/up").must("symlink")?;
    same("through it", content("l/f")?, b"data".to_vec())?;
    same("relative to its directory", content("l/up")?, b"data".to_vec())?;
    same("readlink", fs::readlink("d/up").must("readlink")?, "../d/f".to_string())?;
    let stat = fs::lstat("l").must("lstat")?;
    same("its type", stat.mode & mode::TYPE_MASK, mode::SYMLINK)?;
    same("its size", stat.size, 1)?;
    same("readlink of a file", fs::readlink("d/f").err(), Some(Error::Inval))?;
    same("unlink takes the link", fs::unlink("l"), Ok(()))?;
    same("not what it leads to", fs::stat("d/f").is_ok(), true)?;
    same("an empty target", fs::symlink("", "x"), Err(Error::NoEnt))
}

fn forty_links(_: &World) -> Check {
    make("target", b"reached")?;
    fs::symlink("target", "link0").must("symlink")?;
    for n in 1..41 {
        fs::symlink(&format!("link{}", n - 1), &format!("link{n}")).must("symlink")?;
    }
    same("forty", content("link39")?, b"reached".to_vec())?;
    same("forty-one", fs::stat("link40").err(), Some(Error::Loop))?;
    fs::symlink("self", "self").must("symlink")?;
    same("a link to itself", fs::stat("self").err(), Some(Error::Loop))
}

fn changing_directory(_: &World) -> Check {
    const FILES: usize = 200;
    fs::mkdir("many", 0o777).must("mkdir")?;
    for n in 0..FILES {
        make(&format!("many/file-{n:03}"), b"")?;
    }
    let dir = open("many", flags::READ | flags::DIRECTORY)?;
    let mut seen: Vec<_> = Vec::new();
    let mut more = true;
    while more {
        let mut batch = Vec::new();
        more = fs::read_dir_fd(dir.fd(), &mut batch).must("readdir")?;
        for entry in &batch {
            if entry.name.starts_with("file-") {
                fs::unlink(&format!("many/{}", entry.name)).must("unlink")?;
            }
        }
        if more {
            // What comes meanwhile may be seen or not, but once at most.
            make("many/new", b"")?;
        }
        seen.extend(batch.into_iter().map(|entry| entry.name));
    }
    let count = seen.iter().filter(|name| name.starts_with("file-")).count();
    same("names seen", count, FILES)?;
    seen.sort();
    let before = seen.len();
    seen.dedup();
    same("names seen twice", before - seen.len(), 0)?;
    fs::seek(dir.fd(), 0, 0).must("rewind")?;
    let mut again = Vec::new();
    while fs::read_dir_fd(dir.fd(), &mut again).must("readdir")? {}
    let names: Vec<_> = again.iter().filter(|entry| !entry.name.starts_with('.')).collect();
    same("left", names.len(), 1)
}

fn long_names(_: &World) -> Check {
    let longest = "n".repeat(255);
    make(&longest, b"x")?;
    same("255 bytes", content(&longest)?, b"x".to_vec())?;
    let longer = "n".repeat(256);
    same("256 bytes", fs::stat(&longer).err(), Some(Error::NameTooLong))?;
    let path = "./".repeat(2100);
    same("a path of 4200", fs::stat(&path).err(), Some(Error::NameTooLong))?;
    same("no path", fs::stat("").err(), Some(Error::NoEnt))
}
