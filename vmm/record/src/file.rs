//! The file: a magic number, then records of `length, device, content`, little-endian.
//!
//! ```text
//!   "XINIMREC" u32 version
//!   u32 length  u16 0xFFFF  Description      a device; they are counted from 0
//!   u32 length  u16 device  Entry            what happened at it
//! ```
//! Content is in postcard's encoding. The file is a stranger's: lengths are bounded, and whatever makes
//! no sense is a [`Damage`], never a panic. A file that was cut off is good up to there.

use crate::entry::{Description, Entry};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: [u8; 8] = *b"XINIMREC";
pub(crate) const VERSION: u32 = 3;
/// Number of a record that describes a device.
const DESCRIBES: u16 = 0xFFFF;
/// Devices of a machine are far fewer.
const DEVICES_MAX: usize = 256;
/// Longest record: a frame, or one of DMA's largest pieces, with room to spare.
const RECORD_MAX: u32 = 64 << 20;
/// Large, so that recording costs few system calls.
const BUFFER: usize = 1 << 20;

/// Why a file is no recording.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("it is no recording: it does not begin with XINIMREC")]
    Magic,
    #[error("it has format {0}; this program reads format {VERSION}")]
    Version(u32),
    #[error("record {0} has an impossible length")]
    Length(u64),
    #[error("record {0} does not make sense")]
    Content(u64),
    #[error("record {0} belongs to a device that is not described")]
    Device(u64),
    #[error("it describes more than {DEVICES_MAX} devices")]
    Devices,
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
}

/// Writes a recording, from any thread.
pub struct Recorder {
    state: Mutex<State>,
}

struct State {
    file: BufWriter<Box<dyn Write + Send>>,
    devices: u16,
    error: Option<io::Error>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    pub fn create(path: &Path) -> io::Result<Arc<Self>> {
        Self::to(File::create(path)?)
    }

    /// Writes to anything, which is a file's content in the end.
    pub fn to(output: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let output: Box<dyn Write + Send> = Box::new(output);
        let mut file = BufWriter::with_capacity(BUFFER, output);
        file.write_all(&MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        Ok(Arc::new(Self { state: Mutex::new(State { file, devices: 0, error: None }) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Describes a device; its number.
    pub fn device(&self, description: &Description) -> u16 {
        let mut state = self.lock();
        state.write(DESCRIBES, postcard::to_stdvec(description));
        let number = state.devices;
        state.devices = state.devices.saturating_add(1);
        number
    }

    pub fn entry(&self, device: u16, entry: &Entry) {
        let content = postcard::to_stdvec(entry);
        self.lock().write(device, content);
    }

    /// Writes out what is buffered; the first error of all, if there was one.
    pub fn finish(&self) -> io::Result<()> {
        let mut state = self.lock();
        match state.error.take() {
            Some(error) => Err(error),
            None => state.file.flush(),
        }
    }
}

impl State {
    fn write(&mut self, device: u16, content: Result<Vec<u8>, postcard::Error>) {
        if self.error.is_some() {
            return;
        }
        let result = content.map_err(io::Error::other).and_then(|content| {
            let length = u32::try_from(content.len()).map_err(io::Error::other)?;
            self.file.write_all(&length.to_le_bytes())?;
            self.file.write_all(&device.to_le_bytes())?;
            self.file.write_all(&content)
        });
        self.error = result.err();
    }
}

/// One record.
#[derive(Debug)]
pub enum Record {
    Device(Description),
    Entry(u16, Entry),
}

/// Reads a recording record by record.
#[derive(Debug)]
pub struct Reader<R> {
    source: BufReader<R>,
    devices: usize,
    number: u64,
}

impl<R: Read> Reader<R> {
    pub fn new(source: R) -> Result<Self, Damage> {
        let mut source = BufReader::with_capacity(BUFFER, source);
        let mut head = [0; 12];
        source.read_exact(&mut head).map_err(|_| Damage::Magic)?;
        if head[..8] != MAGIC {
            return Err(Damage::Magic);
        }
        let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        Ok(Self { source, devices: 0, number: 0 })
    }

    /// The next record; `None` at the end, also at one in the middle of a record.
    pub fn record(&mut self) -> Result<Option<Record>, Damage> {
        let mut head = [0; 6];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        self.number += 1;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let device = u16::from_le_bytes([head[4], head[5]]);
        if length > RECORD_MAX {
            return Err(Damage::Length(self.number));
        }
        // As much as there is, not as much as is claimed.
        let mut content = Vec::new();
        let read = (&mut self.source).take(length.into()).read_to_end(&mut content);
        if read.map_err(Damage::Read)? < length as usize {
            return Ok(None);
        }
        let broken = |_| Damage::Content(self.number);
        if device == DESCRIBES {
            if self.devices == DEVICES_MAX {
                return Err(Damage::Devices);
            }
            self.devices += 1;
            return postcard::from_bytes(&content).map(Record::Device).map(Some).map_err(broken);
        }
        if usize::from(device) >= self.devices {
            return Err(Damage::Device(self.number));
        }
        let entry = postcard::from_bytes(&content).map_err(broken)?;
        Ok(Some(Record::Entry(device, entry)))
    }

    fn fill(&mut self, data: &mut [u8]) -> Result<bool, Damage> {
        if self.source.fill_buf().map_err(Damage::Read)?.is_empty() {
            return Ok(false);
        }
        match self.source.read_exact(data) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Damage::Read(error)),
        }
    }
}
