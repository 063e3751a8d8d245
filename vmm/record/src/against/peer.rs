//! QEMU with one device and no guest: its qtest socket, its monitor, its memory as a file, and what
//! is on the far side of the device.

use super::Running;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The device's slot on the root bus.
pub const SLOT: u32 = 4;
/// How long an answer may take: QEMU's start-up, on a loaded host.
const PATIENCE: Duration = Duration::from_secs(60);
/// A line of the protocol that is longer is not QEMU's.
const LINE_MAX: usize = 1 << 20;

/// A failure of the comparison itself.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("QEMU's device cannot be driven: {context}: {source}")]
    Io { context: &'static str, source: io::Error },
    #[error("QEMU refused `{0}`: {1}")]
    Refused(String, String),
    #[error("QEMU ended: {0}")]
    Ended(String),
}

fn io_error(context: &'static str) -> impl FnOnce(io::Error) -> PeerError {
    move |source| PeerError::Io { context, source }
}

/// What is on the far side of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    None,
    Stream,
    Network,
}

/// What is to be connected to QEMU, before it runs.
pub struct Sockets {
    pub dir: TempDir,
    qtest: UnixListener,
    monitor: UnixListener,
    far: UnixListener,
}

impl Sockets {
    pub fn new() -> Result<Self, PeerError> {
        let dir = tempfile::tempdir().map_err(io_error("making a directory"))?;
        let listen = |name: &str| {
            UnixListener::bind(dir.path().join(name)).map_err(io_error("making a socket"))
        };
        let (qtest, monitor, far) = (listen("qtest")?, listen("monitor")?, listen("far")?);
        Ok(Self { dir, qtest, monitor, far })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Takes QEMU's connections; `far`: what is on its device's far side.
    pub fn accept(self, mut process: Box<dyn Running>, far: Far) -> Result<Peer, PeerError> {
        let mut take = |listener: &UnixListener| -> Result<UnixStream, PeerError> {
            listener.set_nonblocking(true).map_err(io_error("waiting for QEMU"))?;
            let deadline = Instant::now() + PATIENCE;
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).map_err(io_error("waiting for QEMU"))?;
                        return Ok(stream);
                    }
                    Err(error) if error.kind() != ErrorKind::WouldBlock => {
                        return Err(io_error("waiting for QEMU")(error));
                    }
                    Err(_) if process.has_ended() || Instant::now() > deadline => {
                        return Err(PeerError::Ended(process.end()));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        };
        let qtest = take(&self.qtest)?;
        let monitor = take(&self.monitor)?;
        let is_network = far == Far::Network;
        let far = if far == Far::None { None } else { Some(take(&self.far)?) };
        for stream in [&qtest, &monitor] {
            stream.set_read_timeout(Some(PATIENCE)).map_err(io_error("setting a time limit"))?;
        }
        if let Some(far) = &far {
            far.set_nonblocking(true).map_err(io_error("setting up the far side"))?;
        }
        // It connects before it makes its memory.
        let deadline = Instant::now() + PATIENCE;
        let path = self.dir.path().join("ram");
        let memory = loop {
            match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(memory) => break memory,
                Err(_) if process.has_ended() => return Err(PeerError::Ended(process.end())),
                Err(error) if Instant::now() > deadline => {
                    return Err(io_error("opening its memory")(error));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut peer = Peer {
            qtest: Lines::new(qtest),
            monitor: Lines::new(monitor),
            far,
            memory,
            raised: BTreeSet::new(),
            received: Vec::new(),
            process,
            dir: self.dir,
        };
        peer.monitor("{\"execute\": \"qmp_capabilities\"}")?;
        peer.command("irq_intercept_in ioapic")?;
        if is_network {
            peer.connected()?;
        }
        Ok(peer)
    }
}

/// A stream taken apart into lines.
struct Lines {
    stream: UnixStream,
    held: Vec<u8>,
}

impl Lines {
    fn new(stream: UnixStream) -> Self {
        Self { stream, held: Vec::new() }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.held.len() > LINE_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.held.extend_from_slice(&bytes[..count]),
            }
        }
    }
}

/// QEMU and its device.
pub struct Peer {
    qtest: Lines,
    monitor: Lines,
    far: Option<UnixStream>,
    memory: File,
    /// Interrupt lines that went up since last asked.
    pub raised: BTreeSet<u32>,
    received: Vec<u8>,
    process: Box<dyn Running>,
    dir: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.end();
    }
}

impl Peer {
    /// One command of the qtest protocol; its answer.
    pub fn command(&mut self, command: &str) -> Result<String, PeerError> {
        let result = self.qtest.stream.write_all(format!("{command}\n").as_bytes());
        result.map_err(io_error("asking it"))?;
        loop {
            let line = match self.qtest.line() {
                Ok(line) => line,
                Err(_) if self.process.has_ended() => {
                    return Err(PeerError::Ended(self.process.end()));
                }
                Err(error) => return Err(io_error("waiting for its answer")(error)),
            };
            if let Some(number) = line.strip_prefix("IRQ raise ") {
                self.raised.extend(number.parse::<u32>());
            } else if let Some(answer) = line.strip_prefix("OK") {
                return Ok(answer.trim().to_owned());
            } else if !line.starts_with("IRQ ") {
                return Err(PeerError::Refused(command.to_owned(), line));
            }
        }
    }

    fn number(&mut self, command: &str) -> Result<u64, PeerError> {
        let answer = self.command(command)?;
        let digits = answer.strip_prefix("0x").unwrap_or("");
        u64::from_str_radix(digits, 16).map_err(|_| PeerError::Refused(command.into(), answer))
    }

    /// Waits until QEMU knows that its network is connected: it does that when it is idle, for which
    /// commands in close succession leave it no time, and loses what is sent until then.
    fn connected(&mut self) -> Result<(), PeerError> {
        const QUESTION: &str = r#"{"execute": "human-monitor-command", "arguments":
            {"command-line": "info network"}}"#;
        let deadline = Instant::now() + PATIENCE;
        while !self.monitor(&QUESTION.replace('\n', " "))?.contains("type=stream,unix:") {
            if Instant::now() > deadline {
                let late = ErrorKind::TimedOut.into();
                return Err(io_error("waiting until its network is connected")(late));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// A command of the monitor; the line with its answer.
    pub fn monitor(&mut self, command: &str) -> Result<String, PeerError> {
        let result = self.monitor.stream.write_all(format!("{command}\n").as_bytes());
        result.map_err(io_error("asking its monitor"))?;
        loop {
            let line = self.monitor.line().map_err(io_error("waiting for its monitor"))?;
            if line.starts_with("{\"return\"") {
                return Ok(line);
            }
            if line.starts_with("{\"error\"") {
                return Err(PeerError::Refused(command.to_owned(), line));
            }
        }
    }

    /// Resets the whole machine, and waits until that is done.
    pub fn reset(&mut self) -> Result<(), PeerError> {
        let result = self.monitor.stream.write_all(b"{\"execute\": \"system_reset\"}\n");
        result.map_err(io_error("resetting it"))?;
        while !self.monitor.line().map_err(io_error("waiting for its reset"))?.contains("\"RESET\"")
        {
        }
        // It answers when it is through.
        self.command("inb 0x80").map(drop)
    }

    fn config_address(&mut self, offset: u64) -> Result<(), PeerError> {
        let address = 0x8000_0000 | (u64::from(SLOT) << 11) | (offset & 0xFC);
        self.command(&format!("outl 0xcf8 {address:#x}")).map(drop)
    }

    /// Configuration space: 1, 2 or 4 bytes.
    pub fn config_read(&mut self, offset: u64, size: u8) -> Result<u64, PeerError> {
        self.config_address(offset)?;
        let port = 0xCFC + (offset & 3);
        self.number(&format!("in{} {port:#x}", letter(size)))
    }

    pub fn config_write(&mut self, offset: u64, size: u8, value: u64) -> Result<(), PeerError> {
        self.config_address(offset)?;
        let port = 0xCFC + (offset & 3);
        self.command(&format!("out{} {port:#x} {value:#x}", letter(size))).map(drop)
    }

    /// A read by the processor.
    pub fn mmio_read(&mut self, address: u64, size: u8) -> Result<u64, PeerError> {
        self.number(&format!("read{} {address:#x}", letter(size)))
    }

    pub fn mmio_write(&mut self, address: u64, size: u8, value: u64) -> Result<(), PeerError> {
        self.command(&format!("write{} {address:#x} {value:#x}", letter(size))).map(drop)
    }

    /// Memory, beside the device.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), PeerError> {
        self.memory.read_exact_at(data, address).map_err(io_error("reading its memory"))
    }

    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), PeerError> {
        self.memory.write_all_at(data, address).map_err(io_error("writing its memory"))
    }

    /// An image, as it is now.
    pub fn image(&self, unit: u16) -> Result<File, PeerError> {
        File::open(self.dir.path().join(format!("disk{unit}")))
            .map_err(io_error("opening an image"))
    }

    /// Sends to the device's far side.
    pub fn send(&mut self, mut data: &[u8]) -> Result<(), PeerError> {
        let deadline = Instant::now() + PATIENCE;
        while !data.is_empty() {
            self.receive()?;
            let Some(far) = &mut self.far else { return Ok(()) };
            match far.write(data) {
                Ok(count) => data = &data[count..],
                Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    // The device takes no more until its main loop has run.
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(error) => return Err(io_error("sending to its far side")(error)),
            }
        }
        Ok(())
    }

    /// What has come from the device's far side and was not taken yet.
    pub fn receive(&mut self) -> Result<&mut Vec<u8>, PeerError> {
        let mut bytes = [0; 1 << 16];
        while let Some(far) = &mut self.far {
            match far.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(io_error("receiving from its far side")(error)),
            }
        }
        Ok(&mut self.received)
    }
}

fn letter(size: u8) -> char {
    match size {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        _ => 'q',
    }
}
