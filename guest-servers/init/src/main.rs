//! init: the first program with files. With `mode=exec` on the kernel's command line it runs the
//! host's command on the host's streams, tells the host the status and has the system powered
//! off; else it keeps a shell on the console.
//!
//! It is a service (RS starts it again when it dies), but serves nobody.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hostlink::MAX_PAYLOAD;
use xinim_abi::object::{MemoryFlags, Protection, Rights};
use xinim_abi::services::hostlink::hostlink;
use xinim_abi::services::vfs::open;
use xinim_init::{Mode, Respawn, STATUS_FAILED, mode};
use xinim_rt::ipc::Service;
use xinim_rt::memory::Memory;
use xinim_rt::process::{self, SpawnRequest};
use xinim_rt::{fs, kip, log, rs, server, start, time};

xinim_rt::program!(main);

const SHELL: &str = "/bin/sh";
/// Instances of the host link's driver that the status is tried on.
const TELL_TRIES: u32 = 8;
const CONSOLE: &str = "/dev/console";
const ENVIRONMENT: [&str; 3] = ["PATH=/bin:/sbin", "HOME=/", "TERM=vt100"];

fn main() -> i32 {
    if let Err(error) = server::announce() {
        log!("cannot announce: {error}");
        return 1;
    }
    match mode(kip::cmdline()) {
        Mode::Exec => exec(),
        Mode::Console => console(),
    }
}

/// Runs the host's command. Returns only when the system cannot be powered off.
fn exec() -> i32 {
    let link = Service::new("virtio-console");
    let status = if start::incarnation() > 0 {
        log!("init died while the command ran");
        STATUS_FAILED
    } else {
        run_command(&link).unwrap_or_else(|error| {
            log!("the host's command: {error}");
            STATUS_FAILED
        })
    };
    // A driver that died before it sent the frame is made up for; one that died between sending
    // and answering makes the host report a second frame, which is the truth.
    let mut told = Err(Error::ServerDied);
    for _ in 0..TELL_TRIES {
        told = link.call(&hostlink::Exit { status }).map(drop);
        if told != Err(Error::ServerDied) {
            break;
        }
    }
    if let Err(error) = told {
        log!("the host does not hear the status: {error}");
    }
    if let Err(error) = rs::shutdown(false) {
        log!("cannot shut down: {error}");
    }
    1
}

/// Status of the host's command.
fn run_command(link: &Service) -> Result<u32> {
    let command = command(link)?;
    let mut fds = Vec::new();
    for (fd, (name, flags)) in
        (0..).zip([("stdin", open::READ), ("stdout", open::WRITE), ("stderr", open::WRITE)])
    {
        fds.push((fd, fs::open(&alloc::format!("/dev/host/{name}"), flags, 0)?));
    }
    let request =
        SpawnRequest { path: SHELL, args: &["sh", "-c", &command], env: &ENVIRONMENT, fds: &fds };
    let pid = process::spawn(&request).inspect_err(|error| log!("{SHELL}: {error}"))?;
    Ok(process::wait(pid)?.1)
}

fn command(link: &Service) -> Result<String> {
    let memory = Memory::create(MAX_PAYLOAD as u64, MemoryFlags::empty())?;
    let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER;
    let shared = memory.handle().mint(rights, 0)?;
    let len = link.call(&hostlink::Command { memory: shared.raw() })?.len;
    let mapping = memory.map(Protection::READ)?;
    let bytes = mapping.to_vec(0, usize::try_from(len).map_err(|_| Error::BadReply)?)?;
    String::from_utf8(bytes).map_err(|_| Error::Inval)
}

/// A shell on the console, for ever.
fn console() -> i32 {
    let mut respawn = Respawn::default();
    let mut greeted = start::incarnation() > 0;
    loop {
        let began = kip::now_ns();
        // Why there was no shell is in the log.
        let _ = shell(&mut greeted);
        time::sleep_ms(respawn.pause(kip::now_ns() - began));
    }
}

/// One life of the shell.
fn shell(greeted: &mut bool) -> Result<()> {
    let console = fs::File::open(CONSOLE, open::READ_WRITE, 0)
        .inspect_err(|error| log!("{CONSOLE}: {error}"))?;
    if !*greeted {
        let memory = kip::memory_total() >> 20;
        let banner =
            alloc::format!("XINIM {}, {memory} MiB of memory\n", env!("CARGO_PKG_VERSION"));
        fs::write_all(console.fd(), banner.as_bytes())?;
        *greeted = true;
    }
    let fd = console.fd();
    let request = SpawnRequest {
        path: SHELL,
        args: &["sh", "-i"],
        env: &ENVIRONMENT,
        fds: &[(0, fd), (1, fd), (2, fd)],
    };
    let pid = process::spawn(&request).inspect_err(|error| log!("{SHELL}: {error}"))?;
    process::wait(pid).map(drop)
}
