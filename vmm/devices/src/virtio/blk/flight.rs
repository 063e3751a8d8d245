//! Requests the back end works on, by slot: the slot is the tag.

use crate::dma::Segment;
use crate::trace::Asked;
use xinim_abi::hw::virtio_blk::Status;

/// A request the driver waits for.
#[derive(Debug)]
pub(super) struct Flight {
    pub queue: u16,
    pub head: u16,
    pub kind: u32,
    pub sector: u64,
    /// Bytes of its data.
    pub length: u64,
    /// Bytes of its device-writable part before the status.
    pub room: u64,
    /// Of those, how many hold data if all goes well.
    pub written: u64,
    pub status_address: u64,
    /// Completions of the back end it still waits for.
    pub parts: u32,
    /// So far.
    pub status: Status,
    pub errno: i32,
    /// Pieces of guest memory it occupies.
    pub segments: usize,
    /// The same for the trace, if there is one.
    pub traced: Vec<Segment>,
    /// What the back end was asked for, for the trace.
    pub asked: Vec<Asked>,
}

impl Flight {
    pub fn new(status_address: u64) -> Self {
        Self {
            queue: 0,
            head: 0,
            kind: 0,
            sector: 0,
            length: 0,
            room: 0,
            written: 0,
            status_address,
            parts: 0,
            status: Status::Ok,
            errno: 0,
            segments: 0,
            traced: Vec::new(),
            asked: Vec::new(),
        }
    }
}

/// The slots.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
    segments: usize,
}

impl Flights {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Pieces of guest memory of all together.
    pub fn segments(&self) -> usize {
        self.segments
    }

    pub fn insert(&mut self, flight: Flight) -> u32 {
        self.segments += flight.segments;
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(flight);
                slot
            }
            None => {
                self.slots.push(Some(flight));
                (self.slots.len() - 1) as u32
            }
        }
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Flight> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub fn remove(&mut self, slot: u32) -> Option<Flight> {
        let flight = self.slots.get_mut(slot as usize)?.take()?;
        self.segments -= flight.segments;
        self.free.push(slot);
        Some(flight)
    }
}
