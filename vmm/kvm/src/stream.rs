//! The host's end of a byte stream: COM1, the host link, the debug console.
//!
//! Nothing is buffered here, so nothing can be lost here. A device writes straight to the
//! descriptor as long as it takes bytes; when it does not, the stream asks the I/O thread's epoll
//! for one event at the moment there is room again, and the device keeps what it has. In the other
//! direction bytes stay in the descriptor until a device has room.
//!
//! Descriptors may be sockets, pipes, terminals or files, blocking or not; none is switched to
//! non-blocking mode, which its other holders (a shell, say) would see. Sockets are asked with
//! `MSG_DONTWAIT`. Of the others, `poll` says when a read or a small write cannot block.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use xinim_devices::backend::ByteStream;

/// What a writable pipe takes without blocking (`PIPE_BUF`).
const PIPE_CHUNK: usize = 4096;
/// The same for a terminal that is ready for output.
const TERMINAL_CHUNK: usize = 256;

/// How a descriptor is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Socket,
    /// `poll` first, then at most so many bytes.
    Polled(usize),
    /// A regular file never blocks for long.
    File,
}

impl Manner {
    fn of(fd: RawFd) -> Self {
        // SAFETY: an all-zero `stat` is a valid value to be filled.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` is writable and of the right type; a bad descriptor is an error.
        if unsafe { libc::fstat(fd, &mut stat) } != 0 {
            return Self::Polled(TERMINAL_CHUNK);
        }
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFREG => Self::File,
            libc::S_IFIFO => Self::Polled(PIPE_CHUNK),
            _ => Self::Polled(TERMINAL_CHUNK),
        }
    }
}

/// One direction's descriptor.
#[derive(Debug)]
struct End {
    fd: Arc<OwnedFd>,
    manner: Manner,
}

impl End {
    fn new(fd: Arc<OwnedFd>) -> Self {
        let manner = Manner::of(fd.as_raw_fd());
        Self { fd, manner }
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Reads without blocking; `WouldBlock` when there is nothing, 0 at the end.
    fn read(&self, data: &mut [u8]) -> io::Result<usize> {
        if matches!(self.manner, Manner::Polled(_)) && !ready(self.raw(), libc::POLLIN) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (buffer, length) = (data.as_mut_ptr().cast(), data.len());
        match self.manner {
            Manner::Socket => {
                let flags = libc::MSG_DONTWAIT;
                // SAFETY: the buffer is `length` bytes of writable memory.
                count(|| unsafe { libc::recv(self.raw(), buffer, length, flags) })
            }
            // SAFETY: as above.
            _ => count(|| unsafe { libc::read(self.raw(), buffer, length) }),
        }
    }

    /// Writes without blocking as much as goes; `WouldBlock` when nothing does.
    fn write(&self, data: &[u8]) -> io::Result<usize> {
        let mut length = data.len();
        if let Manner::Polled(chunk) = self.manner {
            if !ready(self.raw(), libc::POLLOUT) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            length = length.min(chunk);
        }
        let buffer = data.as_ptr().cast();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        match self.manner {
            // SAFETY: the buffer is at least `length` bytes of readable memory.
            Manner::Socket => count(|| unsafe { libc::send(self.raw(), buffer, length, flags) }),
            // SAFETY: as above.
            _ => count(|| unsafe { libc::write(self.raw(), buffer, length) }),
        }
    }
}

/// Repeats a call that a signal interrupted.
fn count(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(length) => return Ok(length),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

fn ready(fd: RawFd, events: libc::c_short) -> bool {
    poll(fd, events, 0)
}

/// Waits up to `milliseconds` for one of `events`, an error or a hang-up.
fn poll(fd: RawFd, events: libc::c_short, milliseconds: i32) -> bool {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one entry, as the count says.
    unsafe { libc::poll(&mut entry, 1, milliseconds) > 0 }
}

/// The I/O thread's view of one stream's output.
#[derive(Debug)]
pub struct OutputState {
    epoll: Arc<Epoll>,
    token: u64,
    /// Bytes wait in the device for room in the descriptor.
    blocked: AtomicBool,
    fd: RawFd,
}

impl OutputState {
    /// Whether the device could not get rid of all its bytes.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst)
    }

    /// To be called before the device is told to go on.
    pub fn unblock(&self) {
        self.blocked.store(false, Ordering::SeqCst);
    }

    /// Waits up to `milliseconds` for room.
    pub fn wait(&self, milliseconds: i32) {
        poll(self.fd, libc::POLLOUT, milliseconds);
    }

    fn block(&self) {
        self.blocked.store(true, Ordering::SeqCst);
        // One event, also if room has appeared since.
        let events = EventSet::OUT | EventSet::ONE_SHOT;
        let event = EpollEvent::new(events, self.token);
        let _ = self.epoll.ctl(ControlOperation::Modify, self.fd, event);
    }
}

/// A [`ByteStream`] over descriptors.
#[derive(Debug)]
pub struct HostStream {
    input: Option<End>,
    output: Option<End>,
    state: Option<Arc<OutputState>>,
}

/// The tokens by which a stream's events come out of epoll.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
}

impl HostStream {
    /// Takes the descriptors and makes them known to `epoll`.
    pub fn new(
        epoll: &Arc<Epoll>,
        tokens: Tokens,
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let input = input.map(|fd| End::new(Arc::new(fd)));
        let output = output.map(|fd| End::new(Arc::new(fd)));
        if let Some(end) = &input {
            let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
            watch(epoll, end, EpollEvent::new(events, tokens.input))?;
        }
        let mut state = None;
        if let Some(end) = &output {
            // Nothing is wanted until a write does not go through.
            watch(epoll, end, EpollEvent::new(EventSet::ONE_SHOT, tokens.output))?;
            state = Some(Arc::new(OutputState {
                epoll: epoll.clone(),
                token: tokens.output,
                blocked: AtomicBool::new(false),
                fd: end.raw(),
            }));
        }
        Ok(Self { input, output, state })
    }

    /// A stream whose both directions are one socket.
    pub fn duplex(epoll: &Arc<Epoll>, tokens: Tokens, fd: OwnedFd) -> io::Result<Self> {
        let output = fd.try_clone()?;
        Self::new(epoll, tokens, Some(fd), Some(output))
    }

    /// The output's state, if there is an output.
    pub fn output(&self) -> Option<Arc<OutputState>> {
        self.state.clone()
    }
}

/// Regular files cannot be watched and need not be: they are always ready.
fn watch(epoll: &Epoll, end: &End, event: EpollEvent) -> io::Result<()> {
    match epoll.ctl(ControlOperation::Add, end.raw(), event) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        result => result,
    }
}

impl ByteStream for HostStream {
    fn write(&mut self, data: &[u8]) -> usize {
        let mut written = 0;
        while written < data.len() {
            let Some(end) = &self.output else { return data.len() };
            match end.write(&data[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(state) = &self.state {
                        state.block();
                    }
                    return written;
                }
                // The reader has gone. What is written from now on has nobody to miss it.
                Err(_) => self.output = None,
            }
        }
        written
    }

    fn read(&mut self, data: &mut [u8]) -> usize {
        let Some(end) = &self.input else { return 0 };
        if data.is_empty() {
            return 0;
        }
        match end.read(data) {
            Ok(0) => {
                self.input = None;
                0
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.input = None;
                0
            }
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
