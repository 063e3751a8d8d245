//! The host link on threads: one reads frames and writes our standard output and error, a second
//! one, started when the guest first asks, reads our standard input.
//!
//! Back-pressure comes from the streams themselves: while our output blocks, no frame is read,
//! the socket fills, and the guest waits. Standard input is read only as far as the guest asked.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use xinim_abi::hostlink::{Kind, MAX_PAYLOAD};

use super::frame::{self, FrameReader};
use super::protocol::{Protocol, State, Step};
use crate::control::{Control, StopReason};
use crate::stream;

/// Our side of what the guest's program calls standard input, output and error.
#[derive(Debug)]
pub struct Streams {
    pub stdin: File,
    pub stdout: File,
    pub stderr: File,
}

impl Streams {
    /// The process's own.
    pub fn own() -> io::Result<Self> {
        Ok(Self {
            stdin: stream::standard(rustix::stdio::stdin())?,
            stdout: stream::standard(rustix::stdio::stdout())?,
            stderr: stream::standard(rustix::stdio::stderr())?,
        })
    }
}

/// The link of one run.
#[derive(Debug)]
pub struct Link {
    thread: JoinHandle<State>,
}

impl Link {
    /// Returns the link and the machine's end of it.
    pub fn start(
        command: String,
        streams: Streams,
        control: Control,
    ) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        let writer = Arc::new(Mutex::new(ours.try_clone()?));
        let thread = std::thread::spawn(move || {
            let mut side = HostSide {
                writer,
                command,
                feeder: None,
                stdin: Some(streams.stdin),
                stdout: streams.stdout,
                stderr: Some(streams.stderr),
            };
            let mut protocol = Protocol::default();
            let result = side.serve(&mut FrameReader::new(&ours), &mut protocol);
            if let Err(reason) = result {
                control.stop(reason);
                // Nobody reads any more: the machine must not wait for us while it stops.
                let _ = ours.shutdown(Shutdown::Both);
            }
            protocol.state()
        });
        Ok((Self { thread }, theirs.into()))
    }

    /// How far the guest came, after the machine has closed its end.
    pub fn finish(self) -> State {
        self.thread.join().unwrap_or_default()
    }
}

struct HostSide {
    writer: Arc<Mutex<UnixStream>>,
    command: String,
    feeder: Option<Sender<u32>>,
    stdin: Option<File>,
    stdout: File,
    /// `None` once nobody reads it; the run goes on without.
    stderr: Option<File>,
}

impl HostSide {
    fn serve(
        &mut self,
        frames: &mut FrameReader<&UnixStream>,
        protocol: &mut Protocol,
    ) -> Result<(), StopReason> {
        loop {
            let frame = frames.read().map_err(|e| broken(&e))?;
            let Some((kind, payload)) = frame else { return Ok(()) };
            match protocol.frame(kind, payload).map_err(|e| broken(&e))? {
                Step::SendCommand => send(&self.writer, Kind::Command, self.command.as_bytes()),
                Step::Stdout(bytes) => output(&mut self.stdout, bytes)?,
                Step::Stderr(bytes) => {
                    if let Some(stderr) = &mut self.stderr
                        && stream::write_all(stderr, bytes).is_err()
                    {
                        self.stderr = None;
                    }
                }
                Step::Feed(bytes) => self.feed(bytes),
                Step::Nothing => {}
            }
        }
    }

    /// Hands the feeder what the guest asked for, starting it the first time.
    fn feed(&mut self, bytes: u32) {
        if let Some(stdin) = self.stdin.take() {
            let (sender, wanted) = mpsc::channel();
            let writer = self.writer.clone();
            // Not joined: it may wait for a key press that never comes.
            std::thread::spawn(move || feed_stdin(stdin, &wanted, &writer));
            self.feeder = Some(sender);
        }
        if let Some(feeder) = &self.feeder {
            // Fails only when the machine has gone.
            let _ = feeder.send(bytes);
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> StopReason {
    StopReason::Failed(format!("the guest broke the host link protocol: {error}"))
}

fn output(stdout: &mut File, bytes: &[u8]) -> Result<(), StopReason> {
    stream::write_all(stdout, bytes).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => StopReason::OutputClosed,
        _ => StopReason::Failed(format!("cannot write standard output: {e}")),
    })
}

/// Sends a frame. A failure means that the machine has gone, which the reader notices.
fn send(writer: &Mutex<UnixStream>, kind: Kind, payload: &[u8]) {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = frame::write(&mut *writer, kind, payload);
}

/// Sends at most as many bytes of `stdin` as were asked for, then waits to be asked again. After
/// its end every further request is answered with another `StdinEof`, so that each of several
/// programs sees it.
fn feed_stdin(mut stdin: File, wanted: &Receiver<u32>, writer: &Mutex<UnixStream>) {
    let mut buffer = vec![0; MAX_PAYLOAD];
    let mut credit: u64 = 0;
    let mut ended = false;
    loop {
        if credit == 0 || ended {
            let Ok(more) = wanted.recv() else { return };
            credit += u64::from(more);
        }
        credit += wanted.try_iter().map(u64::from).sum::<u64>();
        if credit == 0 {
            continue;
        }
        let most = usize::try_from(credit).map_or(buffer.len(), |credit| credit.min(buffer.len()));
        // An unreadable standard input (closed, a directory) is an empty one.
        let length = match ended {
            true => 0,
            false => stream::read_some(&mut stdin, &mut buffer[..most]).unwrap_or(0),
        };
        if length == 0 {
            (ended, credit) = (true, 0);
            send(writer, Kind::StdinEof, &[]);
        } else {
            credit -= length as u64;
            send(writer, Kind::Stdin, &buffer[..length]);
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
