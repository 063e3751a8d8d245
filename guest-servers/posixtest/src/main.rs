//! `posixtest [-n] DIRECTORY`: does the system keep what POSIX promises of files? Works in a new
//! directory below the given one, so that any file system can be looked at; `-n`: the file system
//! has neither links, owners nor special files (FAT). `posixtest -s DIRECTORY`: what it promises of
//! sockets; needs no network.
//!
//! One line for each check, `ok NAME` or `FAILED NAME: why`; the status is the number of failures, at
//! most 100. Checks that need two processes start this program again with a role.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod check;
mod descriptors;
mod identity;
mod names;
mod roles;
mod sockets;
mod waiting;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use check::{Check, Entry};
use xinim_rt::{fs, println, process, start};

xinim_rt::program!(main);

/// What a check is told.
pub struct World {
    /// Links, owners, permissions, special files.
    pub full: bool,
    /// How this program was started.
    pub program: String,
}

fn main() -> i32 {
    let args: Vec<&str> = start::args().collect();
    if let [_, "--role", role, rest @ ..] = &args[..] {
        return roles::play(role, rest);
    }
    let files: &[&[Entry]] =
        &[names::CHECKS, descriptors::CHECKS, waiting::CHECKS, identity::CHECKS];
    let (full, groups, place) = match &args[..] {
        [_, "-n", place] => (false, files, *place),
        [_, "-s", place] => (true, &sockets::GROUPS[..], *place),
        [_, place] => (true, files, *place),
        _ => {
            println!("usage: posixtest [-n|-s] DIRECTORY");
            return 100;
        }
    };
    let world = World { full, program: String::from("/bin/posixtest") };
    let home = format!("{place}/posixtest.{}", process::id());
    let mut failures = 0;
    for (name, needs_full, check) in groups.iter().copied().flatten() {
        if *needs_full && !full {
            continue;
        }
        let result = prepare(&home).and_then(|()| check(&world));
        match result {
            Ok(()) => println!("ok {name}"),
            Err(why) => {
                failures += 1;
                println!("FAILED {name}: {why}");
            }
        }
    }
    if let Err(why) = leave(&home) {
        println!("FAILED to clean up: {why}");
        failures += 1;
    }
    failures.min(100)
}

/// An empty directory, made the working directory.
fn prepare(home: &str) -> Check {
    leave(home)?;
    fs::mkdir(home, 0o777).map_err(|error| format!("mkdir {home}: {error}"))?;
    fs::chdir(home).map_err(|error| format!("chdir {home}: {error}"))
}

fn leave(home: &str) -> Check {
    fs::chdir("/").map_err(|error| format!("chdir /: {error}"))?;
    match fs::lstat(home) {
        Ok(_) => remove(home),
        Err(_) => Ok(()),
    }
}

fn remove(path: &str) -> Check {
    let trouble = |error| format!("removing {path}: {error}");
    let stat = fs::lstat(path).map_err(trouble)?;
    if stat.mode & fs::mode::TYPE_MASK != fs::mode::DIRECTORY {
        return fs::unlink(path).map_err(trouble);
    }
    for entry in fs::read_dir(path).map_err(trouble)? {
        remove(&format!("{path}/{}", entry.name))?;
    }
    fs::rmdir(path).map_err(trouble)
}
