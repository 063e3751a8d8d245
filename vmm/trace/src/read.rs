//! Reading a binary trace. Every length is checked; a damaged file is a sentence with the place.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use serde_json::Value;
use xinim_abi::hw::register::Register;
use xinim_devices::device::{Origin, Process};
use xinim_devices::trace::Event;

use crate::code;
use crate::encode::{MAGIC, VERSION, tag};
use crate::tables::get_table;
use crate::wire::{Bad, Input};

/// Bytes of a record, and of the object in the header.
const RECORD_MAX: u64 = 1 << 20;
const ABOUT_MAX: u32 = 1 << 20;
/// Devices, tables and processes that a file may define.
const DEFINITIONS_MAX: usize = 1 << 20;

/// Why a file is no trace, or none any more from some place on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("it is no binary trace of xinim-vmm (it does not begin with XINIMTRC)")]
    NotATrace,
    #[error("it is a trace of version {0}; this program reads version {VERSION}")]
    Version(u32),
    #[error("it is damaged at byte {at}: {why}")]
    Damaged { at: u64, why: &'static str },
    #[error("it ends in the middle of a record, at byte {at}")]
    Truncated { at: u64 },
}

/// What comes next.
#[derive(Debug)]
pub enum Item<'a> {
    Event(Event<'a>),
    /// So many events are missing here.
    Lost(u64),
    /// The writer's own end: events written and lost in all.
    End {
        events: u64,
        lost: u64,
    },
}

/// A trace being read.
pub struct Reader<R> {
    input: R,
    at: u64,
    about: Value,
    devices: Vec<String>,
    tables: Vec<&'static [Register]>,
    processes: Vec<Process>,
    time: u64,
    rip: u64,
    record: Vec<u8>,
}

impl Reader<BufReader<File>> {
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::new(BufReader::with_capacity(1 << 18, File::open(path)?))
    }
}

/// What a record was, with nothing borrowed.
enum Taken {
    Event(Origin, usize, xinim_devices::trace::EventKind, std::ops::Range<usize>),
    Lost(u64),
    End(u64, u64),
    Other,
}

impl<R: Read> Reader<R> {
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let mut head = [0; 16];
        match input.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(ReadError::NotATrace);
            }
            other => other?,
        }
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if &head[..8] != MAGIC {
            return Err(ReadError::NotATrace);
        }
        if word(8) != VERSION {
            return Err(ReadError::Version(word(8)));
        }
        let length = word(12);
        if length > ABOUT_MAX {
            return Err(ReadError::Damaged { at: 12, why: "the header is too long" });
        }
        let mut about = Vec::new();
        if (&mut input).take(length.into()).read_to_end(&mut about)? < length as usize {
            return Err(ReadError::Truncated { at: 16 });
        }
        let about = serde_json::from_slice(&about);
        let about =
            about.map_err(|_| ReadError::Damaged { at: 16, why: "the header is no JSON" })?;
        Ok(Self {
            input,
            at: 16 + u64::from(length),
            about,
            devices: Vec::new(),
            tables: Vec::new(),
            processes: Vec::new(),
            time: 0,
            rip: 0,
            record: Vec::new(),
        })
    }

    /// The object in the header.
    pub fn about(&self) -> &Value {
        &self.about
    }

    /// The next event or note; `None` at the end of the file.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        loop {
            let at = self.at;
            if !self.read_record()? {
                return Ok(None);
            }
            let taken = self.take().map_err(|Bad(why)| ReadError::Damaged { at, why })?;
            match taken {
                Taken::Other => {}
                Taken::Lost(count) => return Ok(Some(Item::Lost(count))),
                Taken::End(events, lost) => return Ok(Some(Item::End { events, lost })),
                Taken::Event(origin, device, kind, data) => {
                    let data = &self.record[data];
                    let device = &self.devices[device];
                    return Ok(Some(Item::Event(Event { origin, device, kind, data })));
                }
            }
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, ReadError> {
        let mut byte = [0];
        loop {
            match self.input.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => {
                    self.at += 1;
                    return Ok(Some(byte[0]));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether there was another record.
    fn read_record(&mut self) -> Result<bool, ReadError> {
        let start = self.at;
        let mut length = 0u64;
        for shift in (0..).step_by(7) {
            let Some(byte) = self.byte()? else {
                return if shift == 0 {
                    Ok(false)
                } else {
                    Err(ReadError::Truncated { at: start })
                };
            };
            length |= u64::from(byte & 0x7F) << shift;
            if length > RECORD_MAX || shift > 21 {
                return Err(ReadError::Damaged { at: start, why: "a record is too long" });
            }
            if byte & 0x80 == 0 {
                break;
            }
        }
        self.record.clear();
        let got = (&mut self.input).take(length).read_to_end(&mut self.record)? as u64;
        self.at += got;
        if got < length {
            return Err(ReadError::Truncated { at: start });
        }
        Ok(true)
    }

    fn take(&mut self) -> Result<Taken, Bad> {
        let mut input = Input(&self.record);
        match input.u8()? {
            tag::DEVICE => {
                let number = input.u64()?;
                let name = input.text()?.replace(char::is_control, "?");
                define(&mut self.devices, number, name)?;
            }
            tag::TABLE => {
                let number = input.u64()?;
                define(&mut self.tables, number, get_table(input.0)?)?;
            }
            tag::PROCESS => {
                let (number, pid) = (input.u64()?, input.narrow()?);
                let name = input.bytes()?.try_into().map_err(|_| Bad("a name is not 28 bytes"))?;
                define(&mut self.processes, number, Process { pid, name })?;
            }
            tag::LOST => return Ok(Taken::Lost(input.u64()?)),
            tag::END => return Ok(Taken::End(input.u64()?, input.u64()?)),
            code if code >= tag::EVENT => {
                let time_ns = self.time.wrapping_add(input.signed()? as u64);
                let device: usize = input.narrow()?;
                if device >= self.devices.len() {
                    return Err(Bad("a device is not defined"));
                }
                let vcpu = input.u64()?.checked_sub(1).map(u32::try_from).transpose();
                let vcpu = vcpu.map_err(|_| Bad("a number is out of its range"))?;
                let rip = match vcpu {
                    Some(_) => self.rip.wrapping_add(input.signed()? as u64),
                    None => 0,
                };
                let process = match input.u64()? {
                    0 => None,
                    number => {
                        let process = usize::try_from(number - 1).ok();
                        let process = process.and_then(|number| self.processes.get(number));
                        Some(*process.ok_or(Bad("a process is not defined"))?)
                    }
                };
                let data = input.bytes()?.len();
                let end = self.record.len() - input.0.len();
                let tables = &self.tables;
                let table = |number: u64| tables.get(usize::try_from(number).ok()?).copied();
                let kind = code::get(code - tag::EVENT, &mut input, table)?;
                self.time = time_ns;
                if vcpu.is_some() {
                    self.rip = rip;
                }
                let origin = Origin { time_ns, vcpu, rip, process };
                if let Some(kind) = kind {
                    return Ok(Taken::Event(origin, device, kind, end - data..end));
                }
            }
            _ => {}
        }
        Ok(Taken::Other)
    }
}

/// Numbers are given in order.
fn define<T>(list: &mut Vec<T>, number: u64, value: T) -> Result<(), Bad> {
    if number != list.len() as u64 {
        return Err(Bad("a definition is out of order"));
    }
    if list.len() >= DEFINITIONS_MAX {
        return Err(Bad("there are more definitions than a trace has"));
    }
    list.push(value);
    Ok(())
}
