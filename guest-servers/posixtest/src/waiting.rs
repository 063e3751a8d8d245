//! Waiting: pipes, named pipes, locks, polls.

use xinim_abi::error::Error;
use xinim_abi::services::vfs::poll;
use xinim_rt::fs::{self, File, Lock, PollFd, flags};
use xinim_rt::time;

use crate::World;
use crate::check::{Check, Entry, Must, make, open, same};
use crate::roles;

pub const CHECKS: &[Entry] = &[
    ("pipes", false, pipes),
    ("broken pipes", false, broken_pipes),
    ("named pipes", true, named_pipes),
    ("record locks", false, record_locks),
    ("whole-file locks", false, whole_locks),
    ("deadlock", false, deadlock),
    ("poll", false, polls),
];

const MS: u64 = 1_000_000;

fn pipes(_: &World) -> Check {
    let (read, write) = fs::pipe().must("pipe")?;
    same("write", fs::write(write, b"hello"), Ok(5))?;
    let mut bytes = [0; 10];
    same("read", fs::read(read, &mut bytes), Ok(5))?;
    same("seek", fs::seek(read, 0, 0), Err(Error::SPipe))?;
    same("pread", fs::pread(read, &mut bytes, 0), Err(Error::SPipe))?;
    fs::descriptor_control(read, 4, flags::NONBLOCK.into()).must("O_NONBLOCK")?;
    same("empty", fs::read(read, &mut bytes), Err(Error::Again))?;
    fs::close(write).must("close")?;
    same("the end", fs::read(read, &mut bytes), Ok(0))?;
    fs::close(read).must("close")
}

fn broken_pipes(_: &World) -> Check {
    let (read, write) = fs::pipe().must("pipe")?;
    fs::close(read).must("close")?;
    same("EPIPE", fs::write(write, b"x"), Err(Error::Pipe))?;
    fs::close(write).must("close")
}

fn named_pipes(world: &World) -> Check {
    fs::mkfifo("p", 0o666).must("mkfifo")?;
    let alone = File::open("p", flags::WRITE | flags::NONBLOCK, 0).err();
    same("a writer alone", alone, Some(Error::NxIo))?;
    let child = roles::start(world, &["write", "p", "through the pipe"], &[])?;
    // Waits for the child.
    let reader = open("p", flags::READ)?;
    let mut bytes = [0; 32];
    let count = fs::read(reader.fd(), &mut bytes).must("read")?;
    same("content", &bytes[..count], b"through the pipe")?;
    same("the end", fs::read(reader.fd(), &mut bytes), Ok(0))?;
    same("the child", roles::wait(child)?, 0)
}

fn record_locks(world: &World) -> Check {
    make("f", b"0123456789")?;
    let file = open("f", flags::READ_WRITE)?;
    fs::lock(file.fd(), &Lock::range(true, 2, 3), false).must("lock")?;
    let try_lock = |start: &str| roles::run(world, &["try-lock", "f", start, "1"], &[]);
    same("a byte in it", try_lock("4")?, Error::Again as u32 & 0xFF)?;
    same("a byte behind it", try_lock("5")?, 0)?;
    let child = roles::start(world, &["wait-lock", "f", "3", "1"], &[])?;
    time::sleep_ns(50 * MS);
    same("it waits", roles::ended(child)?, None)?;
    fs::unlock(file.fd(), &Lock::range(true, 2, 3)).must("unlock")?;
    same("until it is free", roles::wait(child)?, 0)?;
    // Closing any descriptor of the file gives the process's locks up.
    fs::lock(file.fd(), &Lock::range(true, 0, 0), false).must("lock")?;
    drop(open("f", flags::READ)?);
    same("after a close", try_lock("0")?, 0)?;
    // So does death: the child that held it is gone.
    same("of a dead process", try_lock("9")?, 0)?;
    same("test", fs::lock_test(file.fd(), &Lock::range(true, 0, 0)), Ok(None))
}

fn whole_locks(world: &World) -> Check {
    make("f", b"")?;
    let file = open("f", flags::READ_WRITE)?;
    fs::lock(file.fd(), &Lock::whole(false), false).must("shared")?;
    same("another reader", roles::run(world, &["flock", "f", "shared"], &[])?, 0)?;
    let busy = Error::Again as u32 & 0xFF;
    same("a writer", roles::run(world, &["flock", "f", "exclusive"], &[])?, busy)?;
    let own = open("f", flags::READ_WRITE)?;
    let result = fs::lock(own.fd(), &Lock::whole(true), false);
    same("another open file of this process", result, Err(Error::Again))?;
    drop(file);
    same("after its close", fs::lock(own.fd(), &Lock::whole(true), false), Ok(()))
}

fn deadlock(world: &World) -> Check {
    make("f", b"01")?;
    let file = open("f", flags::READ_WRITE)?;
    fs::lock(file.fd(), &Lock::range(true, 0, 1), false).must("lock")?;
    // The child takes byte 1, then waits for byte 0.
    let child = roles::start(world, &["cross-lock", "f"], &[])?;
    let end = time::now_ns() + 20_000 * MS;
    let probe = Lock::range(true, 1, 1);
    while fs::lock_test(file.fd(), &probe).must("test")?.is_none() {
        if time::now_ns() > end {
            return Err("the child does not come".into());
        }
        time::sleep_ns(MS);
    }
    time::sleep_ns(50 * MS);
    let result = fs::lock(file.fd(), &probe, true);
    same("waiting for each other", result, Err(Error::Deadlk))?;
    fs::unlock(file.fd(), &Lock::range(true, 0, 1)).must("unlock")?;
    same("the child", roles::wait(child)?, 0)
}

fn polls(world: &World) -> Check {
    make("f", b"")?;
    let file = open("f", flags::READ)?;
    let (read, write) = fs::pipe().must("pipe")?;
    let wish = |fd, events| PollFd { fd, events, ready: 0 };
    let soon = || Some(time::now_ns() + 20 * MS);
    let mut fds = [wish(read, poll::IN)];
    let before = time::now_ns();
    same("nothing", fs::poll(&mut fds, soon()), Ok(0))?;
    same("after the time", time::now_ns() >= before + 20 * MS, true)?;
    let mut fds = [wish(read, poll::IN), wish(write, poll::OUT), wish(file.fd(), poll::IN)];
    same("ready", fs::poll(&mut fds, None), Ok(2))?;
    same("which", fds.map(|fd| fd.ready), [0, poll::OUT, poll::IN])?;
    let child = roles::start(world, &["late-write"], &[(5, write)])?;
    let mut fds = [wish(read, poll::IN)];
    let limit = Some(time::now_ns() + 20_000 * MS);
    same("what comes later", fs::poll(&mut fds, limit), Ok(1))?;
    same("the child", roles::wait(child)?, 0)?;
    let mut bytes = [0; 8];
    fs::read(read, &mut bytes).must("read")?;
    fs::close(write).must("close")?;
    same("the end", (fs::poll(&mut fds, None), fds[0].ready), (Ok(1), poll::HANG_UP))?;
    let mut fds = [wish(777, poll::IN)];
    same("no descriptor", (fs::poll(&mut fds, None), fds[0].ready), (Ok(1), poll::INVALID))?;
    // A device that another server serves.
    let null = open("/dev/null", flags::READ)?;
    let log = open("/dev/log", flags::READ)?;
    let mut fds = [wish(null.fd(), poll::IN), wish(log.fd(), poll::IN)];
    same("devices", fs::poll(&mut fds, soon()), Ok(2))?;
    fs::close(read).must("close")
}
