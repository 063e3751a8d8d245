//! Moving bytes between descriptors, for people who handed us descriptors in any state.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};

pub const CHUNK: usize = 64 * 1024;

/// A descriptor of ours for standard input, output or error, without the standard library's
/// buffers in between.
pub fn standard(fd: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(fd.try_clone_to_owned()?))
}

/// Waits until `fd` is ready for `flags` (or in error).
pub fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    loop {
        match rustix::event::poll(&mut [PollFd::new(&fd, flags)], None) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result.map(|_| ())?),
        }
    }
}

/// Reads like [`Read::read`], but waits on a descriptor that somebody made non-blocking.
pub fn read_some(from: &mut (impl Read + AsFd), buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait_for(from.as_fd(), PollFlags::IN)?,
            result => return result,
        }
    }
}

/// Writes all of `data`, waiting on a descriptor that somebody made non-blocking.
pub fn write_all(to: &mut (impl Write + AsFd), mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match to.write(data) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => data = &data[written..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait_for(to.as_fd(), PollFlags::OUT)?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Hands everything read from `from` to `sink`, until the end or until `sink` says stop.
pub fn drain(from: OwnedFd, mut sink: impl FnMut(&[u8]) -> bool) {
    let mut from = File::from(from);
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = read_some(&mut from, &mut buffer) {
        if !sink(&buffer[..length]) {
            return;
        }
    }
}
