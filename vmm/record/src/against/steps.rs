//! One device's share of a recording, call by call, with a look at what comes.

use crate::entry::{Answer, Ask, Call, Description, DiskInfo, Entry, Return};
use crate::file::{Damage, Reader, Record};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

/// Calls that are read ahead.
const AHEAD: usize = 64;
/// Places on disks that are remembered of a recording, one for each request at most.
const PLACES: usize = 1 << 20;

/// A call, what the device asked meanwhile, and what came of it.
#[derive(Clone, Debug)]
pub struct Step {
    pub call: Call,
    pub asks: Vec<(Ask, Answer)>,
    pub result: Return,
}

impl Step {
    /// Whether the guest made it, not the machine around the device.
    pub fn is_guest(&self) -> bool {
        matches!(self.call, Call::Config(_) | Call::Bar { .. } | Call::Notify { .. })
    }
}

/// The calls of one device, in order.
pub struct Steps<R> {
    reader: Reader<R>,
    device: u16,
    /// What the device asked before the first call.
    pub start: Vec<(Ask, Answer)>,
    queue: VecDeque<Step>,
    call: Option<Call>,
    asks: Vec<(Ask, Answer)>,
    end: bool,
}

impl<R: Read> Steps<R> {
    pub fn new(source: R, device: u16) -> Result<Self, Damage> {
        let (start, queue, asks) = (Vec::new(), VecDeque::new(), Vec::new());
        let reader = Reader::new(source)?;
        let mut steps = Self { reader, device, start, queue, call: None, asks, end: false };
        steps.fill()?;
        Ok(steps)
    }

    fn fill(&mut self) -> Result<(), Damage> {
        while !self.end && self.queue.len() < AHEAD {
            match self.reader.record()? {
                None => self.end = true,
                Some(Record::Entry(device, entry)) if device == self.device => match entry {
                    Entry::Asked(ask, answer) => self.asks.push((ask, answer)),
                    Entry::Call(call) => {
                        if self.call.replace(call).is_none() && !self.asks.is_empty() {
                            self.start.append(&mut self.asks);
                        }
                    }
                    Entry::Return(result) => {
                        if let Some(call) = self.call.take() {
                            let asks = std::mem::take(&mut self.asks);
                            self.queue.push_back(Step { call, asks, result });
                        }
                    }
                },
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The next call.
    pub fn next(&mut self) -> Result<Option<Step>, Damage> {
        let step = self.queue.pop_front();
        self.fill()?;
        Ok(step)
    }

    /// What comes after it.
    pub fn ahead(&self) -> &VecDeque<Step> {
        &self.queue
    }
}

/// What must be known of a device before its other self is made.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// End of the memory that it touched.
    pub memory: u64,
    pub disks: BTreeMap<u16, DiskInfo>,
    /// What was read of the disks: unit, offset, length.
    pub places: Vec<(u16, u64, u64)>,
}

impl Survey {
    fn note(&mut self, ask: &Ask, answer: &Answer) {
        let end = match ask {
            Ask::Read { address, length } if *answer != Answer::Data(None) => {
                address.saturating_add((*length).into())
            }
            Ask::Write { address, data } if *answer == Answer::Ok(true) => {
                address.saturating_add(data.len() as u64)
            }
            Ask::Load { address } | Ask::Store { address, .. } => address.saturating_add(2),
            Ask::DiskInfo { unit } => {
                if let Answer::Info(info) = answer {
                    self.disks.entry(*unit).or_insert(*info);
                }
                0
            }
            Ask::Submit { unit, request } => {
                if request.operation == "Read" && self.places.len() < PLACES {
                    self.places.push((*unit, request.offset, request.length));
                }
                let ends =
                    request.segments.iter().map(|(at, len)| at.saturating_add((*len).into()));
                ends.max().unwrap_or(0)
            }
            _ => 0,
        };
        self.memory = self.memory.max(end);
    }
}

/// The devices of a recording.
pub fn survey(source: impl Read) -> Result<Vec<(Description, Survey)>, Damage> {
    let mut reader = Reader::new(source)?;
    let mut devices = Vec::new();
    while let Some(record) = reader.record()? {
        match record {
            Record::Device(description) => devices.push((description, Survey::default())),
            Record::Entry(device, Entry::Asked(ask, answer)) => {
                if let Some((_, survey)) = devices.get_mut(usize::from(device)) {
                    survey.note(&ask, &answer);
                }
            }
            Record::Entry(..) => {}
        }
    }
    Ok(devices)
}
