//! Second processes: this program, started with a role.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_rt::fs::{self, File, Lock, flags, mode};
use xinim_rt::process::{self, Ids, SpawnRequest};
use xinim_rt::{println, time};

use crate::World;
use crate::check::{Check, Must, make, open, same};
use crate::sockets;

type Started = core::result::Result<u32, String>;

pub fn start(world: &World, role: &[&str], fds: &[(u32, u32)]) -> Started {
    let mut args = Vec::from([world.program.as_str(), "--role"]);
    args.extend(role);
    let request = SpawnRequest { path: &world.program, args: &args, env: &[], fds };
    process::spawn(&request).must("spawn")
}

pub fn wait(child: u32) -> Started {
    Ok(process::wait(child).must("wait")?.1)
}

pub fn ended(child: u32) -> core::result::Result<Option<u32>, String> {
    Ok(process::try_wait(child).must("wait")?.map(|(_, status)| status))
}

pub fn run(world: &World, role: &[&str], fds: &[(u32, u32)]) -> Started {
    wait(start(world, role, fds)?)
}

/// The status: 0, the number of an error that was expected, or 99 with a line about why.
pub fn play(role: &str, args: &[&str]) -> i32 {
    let result = match (role, args) {
        ("read-five", []) => read_five(),
        ("write", [path, text]) => write(path, text),
        ("late-write", []) => {
            time::sleep_ns(50_000_000);
            fs::write(5, b"late").must("write").map(drop)
        }
        ("map", [path]) => map(path),
        ("try-lock", [path, start, len]) => return lock(path, start, len, false),
        ("wait-lock", [path, start, len]) => return lock(path, start, len, true),
        ("flock", [path, kind]) => return flock(path, *kind == "exclusive"),
        ("cross-lock", [path]) => cross_lock(path),
        ("ids", [real, effective]) => ids(real, effective),
        ("as", [uid, program @ ..]) => return as_user(uid, program),
        ("umask", [expected]) => umask(expected),
        ("user-permissions", []) => become_user(1000).and_then(|()| user_permissions()),
        ("user-sticky", []) => become_user(1000).and_then(|()| user_sticky()),
        ("user-root-only", [pid]) => become_user(1000).and_then(|()| user_root_only(pid)),
        ("say-hello", []) => sockets::stream::say_hello(),
        ("user-port", []) => become_user(1000).and_then(|()| sockets::tcp::user_port()),
        ("user-connect", [path]) => match become_user(1000) {
            Ok(()) => return status(sockets::unix::user_connect(path)),
            Err(why) => Err(why),
        },
        _ => Err(format!("no role {role}")),
    };
    match result {
        Ok(()) => 0,
        Err(why) => {
            println!("  {role}: {why}");
            99
        }
    }
}

fn status(result: xinim_rt::Result<()>) -> i32 {
    result.map_or_else(|error| error as i32 & 0xFF, |()| 0)
}

fn read_five() -> Check {
    let mut bytes = [0; 5];
    same("read", fs::read(5, &mut bytes), Ok(5))
}

fn write(path: &str, text: &str) -> Check {
    open(path, flags::WRITE)?.write_all(text.as_bytes()).must("write")
}

fn map(path: &str) -> Check {
    let file = open(path, flags::READ_WRITE)?;
    let map = fs::share(file.fd(), true).must("mmap")?;
    let mut seen = [0; 11];
    map.read(8000, &mut seen).must("memory")?;
    same("the parent's bytes", &seen, b"from memory")?;
    map.write(100, b"from child").must("memory")
}

fn lock(path: &str, start: &str, len: &str, wait: bool) -> i32 {
    let (Ok(start), Ok(len)) = (start.parse(), len.parse()) else { return 98 };
    let Ok(file) = File::open(path, flags::READ_WRITE, 0) else { return 97 };
    status(fs::lock(file.fd(), &Lock::range(true, start, len), wait))
}

fn flock(path: &str, exclusive: bool) -> i32 {
    let Ok(file) = File::open(path, flags::READ_WRITE, 0) else { return 97 };
    status(fs::lock(file.fd(), &Lock::whole(exclusive), false))
}

fn cross_lock(path: &str) -> Check {
    let file = open(path, flags::READ_WRITE)?;
    fs::lock(file.fd(), &Lock::range(true, 1, 1), false).must("the first")?;
    fs::lock(file.fd(), &Lock::range(true, 0, 1), true).must("the second")
}

fn ids(real: &str, effective: &str) -> Check {
    let found = process::user_ids(0).must("ids")?;
    let text = format!("{} {}", found.real, found.effective);
    same("real and effective", text, format!("{real} {effective}"))?;
    make_and_own(found.effective)
}

/// What it does, it does as its effective user.
fn make_and_own(uid: u32) -> Check {
    let path = format!("/tmp/posixtest-own-{}", process::id());
    make(&path, b"")?;
    let owner = fs::stat(&path).must("stat")?.uid;
    fs::unlink(&path).must("unlink")?;
    same("owner of a new file", owner, uid)
}

fn as_user(uid: &str, program: &[&str]) -> i32 {
    let Ok(uid) = uid.parse() else { return 98 };
    if let Err(why) = become_user(uid) {
        println!("  as {uid}: {why}");
        return 99;
    }
    let Some(path) = program.first() else { return 98 };
    let request = SpawnRequest { path, args: program, env: &[], fds: &[(1, 1)] };
    match process::spawn(&request).and_then(process::wait) {
        Ok((_, status)) => status as i32,
        Err(error) => {
            println!("  as {uid}: {path}: {error}");
            99
        }
    }
}

fn umask(expected: &str) -> Check {
    let found = fs::umask(0).must("umask")?;
    same("umask", format!("{found}"), String::from(expected))
}

fn become_user(id: u32) -> Check {
    let all = |id| Ids { real: id, effective: id, saved: id };
    process::set_groups(&[]).must("setgroups")?;
    process::set_group_ids(all(id)).must("setgid")?;
    process::set_user_ids(all(id)).must("setuid")?;
    let back = process::set_user_ids(all(0));
    same("back to root", back, Err(Error::Perm))
}

fn user_permissions() -> Check {
    let refused = |path: &str, how| File::open(path, how, 0o666).err();
    same("a private file", refused("private", flags::READ), Some(Error::Access))?;
    same("writing a public one", refused("public", flags::WRITE), Some(Error::Access))?;
    same("reading it", refused("public", flags::READ), None)?;
    same("an own file", refused("theirs", flags::READ_WRITE), None)?;
    same("below a closed directory", fs::stat("closed/f").err(), Some(Error::Access))?;
    let made = refused("new", flags::WRITE | flags::CREATE);
    same("a new file in root's directory", made, Some(Error::Access))?;
    same("removing", fs::unlink("theirs"), Err(Error::Access))?;
    same("chmod of root's", fs::chmod("public", 0o666), Err(Error::Perm))?;
    same("chmod of their own", fs::chmod("theirs", 0o640), Ok(()))?;
    same("giving away", fs::chown("theirs", true, 0, fs::KEEP_ID), Err(Error::Perm))?;
    same("access", fs::access("private", 4), Err(Error::Access))?;
    same("executing what is none", fs::access("public", 1), Err(Error::Access))
}

fn user_sticky() -> Check {
    same("root's file", fs::unlink("t/roots"), Err(Error::Perm))?;
    same("renaming it", fs::rename("t/roots", "t/mine"), Err(Error::Perm))?;
    make("t/own", b"")?;
    same("their own", fs::unlink("t/own"), Ok(()))
}

fn user_root_only(roots: &str) -> Check {
    let roots = roots.parse().map_err(|_| String::from("bad process id"))?;
    same("mount", fs::mount("none", ".", "tmpfs", 0), Err(Error::Perm))?;
    same("umount", fs::umount("/proc", false), Err(Error::Perm))?;
    let device = fs::mknod("null", mode::CHARACTER | 0o666, 1 << 16 | 3);
    same("a device", device, Err(Error::Perm))?;
    same("a FIFO", fs::mkfifo("p", 0o666), Ok(()))?;
    same("killing root's", process::kill(roots, 9), Err(Error::Perm))?;
    same("its owner", fs::stat("p").must("stat")?.uid, 1000)
}
