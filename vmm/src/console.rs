//! The host's end of the guest's serial console (COM1): this terminal, a file, a unix socket, or
//! nothing.
//!
//! A [`Console`] lives as long as the process runs machines; [`Console::attach`] makes the pair
//! of descriptors for one run. The machine never gets our own standard streams themselves: it may
//! make its descriptors non-blocking, and that would reach every process that shares them.

use std::fs::File;
use std::io::{self, ErrorKind, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::control::{Control, StopReason};
use crate::error::Error;
use crate::spec::ConsoleSpec;
use crate::terminal::{Escape, HELP, Key, RawMode};
use crate::{stream, terminal};

/// A client of `unix:PATH` that takes nothing for so long is dropped: the console waits for no
/// one.
const CLIENT_PATIENCE: Duration = Duration::from_millis(500);

/// Where typed bytes go: the present run's input. Between runs they wait for the next one.
#[derive(Clone, Debug, Default)]
struct Input(Arc<(Mutex<InputState>, Condvar)>);

#[derive(Debug, Default)]
struct InputState {
    to_guest: Option<PipeWriter>,
    /// Nothing more will come; later runs get no input.
    ended: bool,
}

impl Input {
    fn state(&self) -> MutexGuard<'_, InputState> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, bytes: &[u8]) {
        let mut state = self.state();
        while state.to_guest.is_none() {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let to_guest = state.to_guest.as_ref().and_then(|pipe| pipe.try_clone().ok());
        // Written without the lock: a guest that reads nothing must not block the next run.
        drop(state);
        if let Some(mut pipe) = to_guest {
            // Fails when the machine has gone, or would block on a terminal's full pipe: as with
            // any terminal, what is typed ahead beyond the buffer is lost.
            let _ = pipe.write_all(bytes);
        }
    }

    fn end(&self) {
        *self.state() = InputState { to_guest: None, ended: true };
    }

    /// A new input for a new run.
    fn attach(&self, non_blocking: bool) -> io::Result<Option<OwnedFd>> {
        let mut state = self.state();
        if state.ended {
            return Ok(None);
        }
        let (reader, writer) = io::pipe()?;
        if non_blocking {
            rustix::io::ioctl_fionbio(&writer, true)?;
        }
        state.to_guest = Some(writer);
        self.0.1.notify_all();
        Ok(Some(reader.into()))
    }

    fn detach(&self) {
        self.state().to_guest = None;
    }
}

#[derive(Debug)]
pub struct Console {
    kind: Kind,
    input: Input,
    control: Control,
}

#[derive(Debug)]
enum Kind {
    None,
    File(File),
    Stdio { raw: Option<RawMode> },
    Unix { path: PathBuf, client: Arc<Mutex<Option<UnixStream>>> },
}

/// The machine's end of the console for one run, and the thread that carries its output.
#[derive(Debug)]
pub struct Attached {
    pub input: Option<OwnedFd>,
    pub output: Option<OwnedFd>,
    carrier: Carrier,
}

/// Ends when the machine has closed its end; joined so that no output is lost.
#[derive(Debug)]
pub struct Carrier(Option<JoinHandle<()>>, Input);

impl Carrier {
    pub fn finish(self) {
        self.1.detach();
        if let Some(thread) = self.0 {
            // A panic in there has been reported; the output is lost either way.
            let _ = thread.join();
        }
    }
}

impl Attached {
    /// The descriptors for the machine, and the carrier to finish afterwards.
    pub fn split(self) -> (Option<OwnedFd>, Option<OwnedFd>, Carrier) {
        (self.input, self.output, self.carrier)
    }
}

impl Console {
    /// Opens the console and begins to listen to it.
    pub fn open(spec: &ConsoleSpec, control: Control) -> Result<Self, Error> {
        let input = Input::default();
        let kind = match spec {
            ConsoleSpec::None => Kind::None,
            ConsoleSpec::File(path) => Kind::File(
                File::create(path).map_err(|e| Error::file("create the console file", path, e))?,
            ),
            ConsoleSpec::Stdio => {
                let raw = RawMode::enter();
                let (input, control, typed) = (input.clone(), control.clone(), raw.is_some());
                std::thread::spawn(move || read_stdin(&input, &control, typed));
                Kind::Stdio { raw }
            }
            ConsoleSpec::Unix(path) => {
                let listener =
                    listen(path).map_err(|e| Error::file("listen on the socket", path, e))?;
                let client = Arc::new(Mutex::new(None));
                let (input, current) = (input.clone(), client.clone());
                std::thread::spawn(move || accept_clients(&listener, &input, &current));
                Kind::Unix { path: path.clone(), client }
            }
        };
        Ok(Self { kind, input, control })
    }

    /// Makes the descriptors for one run.
    pub fn attach(&self) -> Result<Attached, Error> {
        self.try_attach().map_err(|e| Error::Usage(format!("cannot attach the console: {e}")))
    }

    fn try_attach(&self) -> io::Result<Attached> {
        let idle = Carrier(None, self.input.clone());
        match &self.kind {
            Kind::None => Ok(Attached { input: None, output: None, carrier: idle }),
            Kind::File(file) => {
                let output = Some(file.try_clone()?.into());
                Ok(Attached { input: None, output, carrier: idle })
            }
            Kind::Stdio { raw } => {
                let mut stdout = stream::standard(rustix::stdio::stdout())?;
                let control = self.control.clone();
                let (carrier, output) =
                    self.carry(move |bytes| match stream::write_all(&mut stdout, bytes) {
                        Ok(()) => true,
                        Err(e) => {
                            control.stop(match e.kind() {
                                ErrorKind::BrokenPipe => StopReason::OutputClosed,
                                _ => {
                                    StopReason::Failed(format!("cannot write standard output: {e}"))
                                }
                            });
                            false
                        }
                    })?;
                let input = self.input.attach(raw.is_some())?;
                Ok(Attached { input, output: Some(output), carrier })
            }
            Kind::Unix { client, .. } => {
                let client = client.clone();
                let (carrier, output) = self.carry(move |bytes| {
                    let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(stream) = client.as_mut()
                        && stream.write_all(bytes).is_err()
                    {
                        *client = None;
                    }
                    true
                })?;
                let input = self.input.attach(false)?;
                Ok(Attached { input, output: Some(output), carrier })
            }
        }
    }

    fn carry(
        &self,
        sink: impl FnMut(&[u8]) -> bool + Send + 'static,
    ) -> io::Result<(Carrier, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        let thread = std::thread::spawn(move || stream::drain(reader.into(), sink));
        Ok((Carrier(Some(thread), self.input.clone()), writer.into()))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Kind::Unix { path, .. } = &self.kind {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Hands standard input to the guest; looks for the escape key if it is typed on a terminal.
fn read_stdin(input: &Input, control: &Control, typed: bool) {
    let Ok(mut stdin) = stream::standard(rustix::stdio::stdin()) else { return input.end() };
    let mut escape = Escape::default();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream::read_some(&mut stdin, &mut buffer) {
        if !typed {
            input.send(&buffer[..length]);
            continue;
        }
        let mut keys = Vec::with_capacity(length);
        for byte in &buffer[..length] {
            match escape.key(*byte) {
                Key::Send(byte) => keys.push(byte),
                Key::Leave => control.stop(StopReason::Left),
                Key::Help => {
                    let help = terminal::for_stderr(HELP.as_bytes());
                    eprint!("{}", String::from_utf8_lossy(&help));
                }
                Key::Nothing => {}
            }
        }
        input.send(&keys);
    }
    input.end();
}

/// Binds the socket, taking the place of one that nobody listens on any more.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(e) if e.kind() == ErrorKind::AddrInUse => match UnixStream::connect(path) {
            // A file of another kind refuses connections as well, and is somebody's.
            Err(refused) if refused.kind() == ErrorKind::ConnectionRefused && is_socket(path) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            _ => Err(e),
        },
        result => result,
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Serves one client after the other.
fn accept_clients(listener: &UnixListener, input: &Input, current: &Mutex<Option<UnixStream>>) {
    let set = |client| *current.lock().unwrap_or_else(PoisonError::into_inner) = client;
    for client in listener.incoming() {
        let Ok(mut client) = client else { continue };
        // Without a time-out a stalled client would stall the guest: do without the client.
        let Ok(()) = client.set_write_timeout(Some(CLIENT_PATIENCE)) else { continue };
        let Ok(clone) = client.try_clone() else { continue };
        set(Some(clone));
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            input.send(&buffer[..length]);
        }
        set(None);
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
