//! QEMU as a child process: inherits exactly the descriptors it is given, never outlives us, and
//! gets no signal from our terminal.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::io::FdFlags;
use rustix::process::Signal;

use crate::stream;

/// Of what QEMU says on standard error, so much is kept.
const STDERR_KEPT: usize = 16 * 1024;

/// Descriptors the child keeps; a descriptor has the same number there as here.
#[derive(Debug, Default)]
pub struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// Adds a descriptor and returns its number.
    pub fn add(&mut self, fd: impl Into<OwnedFd>) -> i32 {
        let fd = fd.into();
        let number = fd.as_raw_fd();
        self.0.push(fd);
        number
    }

    /// A file in memory with these bytes; returns its path as the child sees it.
    pub fn add_bytes(&mut self, name: &str, bytes: &[u8]) -> io::Result<String> {
        let fd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = File::from(fd);
        io::Write::write_all(&mut file, bytes)?;
        Ok(format!("/proc/self/fd/{}", self.add(file)))
    }
}

/// A running QEMU.
#[derive(Debug)]
pub struct Process {
    pub child: Child,
    stderr: JoinHandle<String>,
}

impl Process {
    #[allow(unsafe_code)]
    pub fn start(program: &Path, args: &[String], inherited: Inherited) -> io::Result<Self> {
        let parent = rustix::process::getpid();
        let mut command = Command::new(program);
        command.args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C is for us: we end QEMU ourselves, and say why.
        command.process_group(0);
        let prepare = move || {
            for fd in &inherited.0 {
                rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
            }
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // We may have died before the line above.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; `prepare` makes
        // three system calls and allocates nothing.
        unsafe { command.pre_exec(prepare) };
        let mut child = command.spawn()?;
        // Dropping the command closes our copies of what the child inherited.
        drop(command);
        let stderr = child.stderr.take().map(OwnedFd::from);
        let stderr = std::thread::spawn(move || {
            let mut kept = Vec::new();
            if let Some(stderr) = stderr {
                stream::drain(stderr, |bytes| {
                    kept.extend_from_slice(&bytes[..bytes.len().min(STDERR_KEPT - kept.len())]);
                    true
                });
            }
            String::from_utf8_lossy(&kept).into_owned()
        });
        Ok(Self { child, stderr })
    }

    /// Waits for the end; returns the status and what was said on standard error.
    pub fn finish(mut self) -> io::Result<(std::process::ExitStatus, String)> {
        let status = self.child.wait()?;
        Ok((status, self.stderr.join().unwrap_or_default()))
    }
}
