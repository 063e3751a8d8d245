//! Descriptors: positions, duplicates, appending, holes, times, descriptors of children, files in
//! memory.

use alloc::vec;

use xinim_abi::error::Error;
use xinim_abi::services::vfs::control;
use xinim_rt::fs::{self, flags};

use crate::World;
use crate::check::{Check, Entry, Must, NEW, content, make, open, same};
use crate::roles;

pub const CHECKS: &[Entry] = &[
    ("positions", false, positions),
    ("append", false, append),
    ("synchronous writes", false, synchronous),
    ("duplicates share", false, duplicates),
    ("children inherit", false, children),
    ("close on exec", false, close_on_exec),
    ("access modes", false, access_modes),
    ("truncation and holes", false, holes),
    ("times", true, times),
    ("file in memory", false, shared_memory),
    ("statfs and sync", false, figures),
];

fn positions(_: &World) -> Check {
    let file = open("f", NEW)?;
    file.write_all(b"0123456789").must("write")?;
    same("to the start", fs::seek(file.fd(), 2, 0), Ok(2))?;
    let mut bytes = [0; 3];
    same("read", (fs::read(file.fd(), &mut bytes), &bytes), (Ok(3), b"234"))?;
    same("pread", (fs::pread(file.fd(), &mut bytes, 7), &bytes), (Ok(3), b"789"))?;
    same("position after pread", fs::seek(file.fd(), 0, 1), Ok(5))?;
    same("pwrite", fs::pwrite(file.fd(), b"ab", 0), Ok(2))?;
    same("position after pwrite", fs::seek(file.fd(), 0, 1), Ok(5))?;
    same("from the end", fs::seek(file.fd(), -1, 2), Ok(9))?;
    same("before the start", fs::seek(file.fd(), -11, 2), Err(Error::Inval))?;
    same("past the end", fs::seek(file.fd(), 5, 2), Ok(15))?;
    same("read there", fs::read(file.fd(), &mut bytes), Ok(0))?;
    same("content", content("f")?, b"ab23456789".to_vec())
}

fn append(_: &World) -> Check {
    make("f", b"start")?;
    let one = open("f", flags::WRITE | flags::APPEND)?;
    let two = open("f", flags::WRITE | flags::APPEND)?;
    one.write_all(b"-one").must("write")?;
    two.write_all(b"-two").must("write")?;
    fs::seek(one.fd(), 0, 0).must("seek")?;
    one.write_all(b"-end").must("write")?;
    same("content", content("f")?, b"start-one-two-end".to_vec())
}

fn synchronous(_: &World) -> Check {
    for flag in [flags::SYNC, flags::DSYNC] {
        let file = open("f", NEW | flag)?;
        let got = fs::descriptor_control(file.fd(), control::GET_FLAGS, 0).must("flags")?;
        same("flags", got as u32 & flags::SYNC, flag)?;
        file.write_all(b"0123456789").must("write")?;
        same("pwrite", fs::pwrite(file.fd(), b"ab", 4), Ok(2))?;
        same("position", fs::seek(file.fd(), 0, 1), Ok(10))?;
        same("content", content("f")?, b"0123ab6789".to_vec())?;
        // As on Linux, it cannot be changed afterwards.
        fs::descriptor_control(file.fd(), control::SET_FLAGS, 0).must("set flags")?;
        let got = fs::descriptor_control(file.fd(), control::GET_FLAGS, 0).must("flags")?;
        same("flags after a change", got as u32 & flags::SYNC, flag)?;
        fs::unlink("f").must("unlink")?;
    }
    let (_, write) = fs::pipe().must("pipe")?;
    same("a pipe", fs::write(write, b"x"), Ok(1))
}

fn duplicates(_: &World) -> Check {
    make("f", b"0123456789")?;
    let file = open("f", flags::READ)?;
    let dup = fs::dup(file.fd(), 20).must("dup")?;
    same("the number", dup >= 20, true)?;
    let mut bytes = [0; 4];
    fs::read(file.fd(), &mut bytes).must("read")?;
    same("shared position", (fs::read(dup, &mut bytes), &bytes), (Ok(4), b"4567"))?;
    let other = open("f", flags::READ)?;
    same("another's own", (fs::read(other.fd(), &mut bytes), &bytes), (Ok(4), b"0123"))?;
    fs::dup2(other.fd(), dup).must("dup2")?;
    same("after dup2", fs::seek(dup, 0, 1), Ok(4))?;
    fs::close(dup).must("close")?;
    same("closed", fs::read(dup, &mut bytes), Err(Error::BadF))?;
    same("twice", fs::close(dup), Err(Error::BadF))?;
    same("beyond the last", fs::dup2(file.fd(), 1 << 20), Err(Error::BadF))
}

fn children(world: &World) -> Check {
    make("f", b"parent child")?;
    let file = open("f", flags::READ_WRITE)?;
    fs::seek(file.fd(), 7, 0).must("seek")?;
    let status = roles::run(world, &["read-five"], &[(5, file.fd()), (1, 1)])?;
    same("the child", status, 0)?;
    same("the position it left", fs::seek(file.fd(), 0, 1), Ok(12))
}

fn close_on_exec(world: &World) -> Check {
    make("f", b"12345")?;
    let file = open("f", flags::READ | flags::CLOSE_ON_EXEC)?;
    let get = |fd| fs::descriptor_control(fd, control::GET_CLOSE_ON_EXEC, 0);
    same("set by open", get(file.fd()), Ok(1))?;
    let dup = fs::dup(file.fd(), 0).must("dup")?;
    same("not of a duplicate", get(dup), Ok(0))?;
    fs::descriptor_control(dup, control::SET_CLOSE_ON_EXEC, 1).must("set")?;
    same("set afterwards", get(dup), Ok(1))?;
    // Named in so many words it is handed on all the same.
    same("a child's", roles::run(world, &["read-five"], &[(5, dup)])?, 0)?;
    fs::close(dup).must("close")
}

fn access_modes(_: &World) -> Check {
    make("f", b"x")?;
    let reader = open("f", flags::READ)?;
    let writer = open("f", flags::WRITE)?;
    let mut byte = [0];
    same("writing to a reader", fs::write(reader.fd(), b"y"), Err(Error::BadF))?;
    same("reading from a writer", fs::read(writer.fd(), &mut byte), Err(Error::BadF))?;
    same("cutting a reader", fs::ftruncate(reader.fd(), 0), Err(Error::Inval))?;
    same("no such descriptor", fs::read(900, &mut byte), Err(Error::BadF))
}

fn holes(_: &World) -> Check {
    let file = open("f", NEW)?;
    fs::pwrite(file.fd(), b"end", 100_000).must("pwrite")?;
    let bytes = content("f")?;
    same("size", bytes.len(), 100_003)?;
    same("the hole", bytes[..100_000].iter().all(|&byte| byte == 0), true)?;
    fs::ftruncate(file.fd(), 100_001).must("cut")?;
    fs::ftruncate(file.fd(), 200_000).must("lengthen")?;
    let bytes = content("f")?;
    same("size", bytes.len(), 200_000)?;
    same("what is left", bytes[100_000], b'e')?;
    let tail = bytes[100_001..].iter().all(|&byte| byte == 0);
    same("what was cut off does not come back", tail, true)?;
    fs::truncate("f", 5).must("truncate")?;
    same("size", fs::stat("f").must("stat")?.size, 5)?;
    fs::mkdir("d", 0o777).must("mkdir")?;
    same("of a directory", fs::truncate("d", 0), Err(Error::IsDir))
}

fn times(_: &World) -> Check {
    make("f", b"x")?;
    let early = 1_000_000_000_000_000_000;
    fs::set_times("f", true, early, early).must("utimens")?;
    let stat = fs::stat("f").must("stat")?;
    same("set", (stat.atime, stat.mtime), (early, early))?;
    same("change time is now", stat.ctime > early, true)?;
    content("f")?;
    let read = fs::stat("f").must("stat")?;
    same("a read sets the access time", read.atime > early, true)?;
    same("and nothing else", (read.mtime, read.ctime), (early, stat.ctime))?;
    let file = open("f", flags::WRITE)?;
    file.write_all(b"y").must("write")?;
    same("a write sets the other", fs::stat("f").must("stat")?.mtime > early, true)?;
    fs::set_times("f", true, fs::time::OMIT, early).must("utimens")?;
    let stat = fs::stat("f").must("stat")?;
    same("only one", (stat.mtime, stat.atime), (early, read.atime))?;
    fs::set_times(".", true, early, early).must("utimens")?;
    make("g", b"")?;
    same("a directory's, by a new name", fs::stat(".").must("stat")?.mtime > early, true)
}

fn shared_memory(world: &World) -> Check {
    let bytes = vec![7; 9000];
    make("f", &bytes)?;
    let file = open("f", flags::READ_WRITE)?;
    let map = fs::share(file.fd(), true).must("mmap")?;
    same("length", map.len(), 9000)?;
    fs::pwrite(file.fd(), b"from the file", 4090).must("pwrite")?;
    let mut seen = [0; 13];
    map.read(4090, &mut seen).must("memory")?;
    same("a write shows", &seen, b"from the file")?;
    map.write(8000, b"from memory").must("memory")?;
    let mut seen = [0; 11];
    fs::pread(file.fd(), &mut seen, 8000).must("pread")?;
    same("a read shows", &seen, b"from memory")?;
    same("another process", roles::run(world, &["map", "f"], &[])?, 0)?;
    let mut seen = [0; 10];
    map.read(100, &mut seen).must("memory")?;
    same("its bytes", &seen, b"from child")?;
    map.sync().must("msync")?;
    same("the file", &content("f")?[100..110], b"from child")?;
    let reader = open("f", flags::READ)?;
    same("writable from a reader", fs::share(reader.fd(), true).err(), Some(Error::Access))
}

fn figures(_: &World) -> Check {
    make("f", b"x")?;
    let stat = fs::statfs(".").must("statfs")?;
    same("a block size", stat.block_size > 0, true)?;
    same("free of all", stat.blocks_free <= stat.blocks, true)?;
    same("longest name", stat.name_max >= 255, true)?;
    let file = open("f", flags::WRITE)?;
    fs::fsync(file.fd()).must("fsync")?;
    fs::sync().must("sync")?;
    let (read, _write) = fs::pipe().must("pipe")?;
    same("fsync of a pipe", fs::fsync(read), Err(Error::Inval))?;

    Ok(())
}
