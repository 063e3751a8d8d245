//! Virtqueues as both sides have them: what was completed, by content and not by time.

use super::peer::{Peer, PeerError};
use crate::entry::{Answer, Ask};
use std::collections::VecDeque;
use xinim_abi::hw::virtio::{Status, common, split};

/// A completion: the chain's head and the bytes written.
pub type Completion = (u32, u32);

/// Completions of one side that the other has not made yet are kept at most.
const WAITING: usize = 1 << 16;

#[derive(Clone, Debug, Default)]
pub struct Queue {
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
    enabled: bool,
    /// MSI-X vector, and whether something was completed since the queue is enabled.
    vector: u16,
    used_before: bool,
    /// Published chains that the other has been told of.
    told: u16,
    ours_index: u16,
    theirs_index: u16,
    pub ours: VecDeque<Completion>,
    pub theirs: VecDeque<Completion>,
}

/// All of a device's, as the driver sets them up.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    select: u16,
    pub queues: Vec<Queue>,
}

/// More queues than any device of ours has.
const QUEUES_MAX: u16 = 256;

impl Queues {
    /// The driver wrote to the common structure.
    pub fn common_write(&mut self, offset: u64, size: u8, value: u64) {
        let offset = offset as usize;
        if offset == common::QUEUE_SELECT {
            self.select = value as u16;
            return;
        }
        if offset == common::DEVICE_STATUS && value as u8 == Status::empty().bits() {
            self.queues.clear();
            return;
        }
        if self.select >= QUEUES_MAX || !(common::QUEUE_SIZE..common::SIZE).contains(&offset) {
            return;
        }
        let index = usize::from(self.select);
        if self.queues.len() <= index {
            self.queues.resize(index + 1, Queue::default());
        }
        let queue = &mut self.queues[index];
        let half = |old: u64, at: usize| match (size, offset - at) {
            (8, _) => value,
            (_, 0) => (old & !0xFFFF_FFFF) | (value & 0xFFFF_FFFF),
            _ => (old & 0xFFFF_FFFF) | (value << 32),
        };
        match offset {
            common::QUEUE_SIZE => queue.size = value as u16,
            common::QUEUE_MSIX_VECTOR => queue.vector = value as u16,
            common::QUEUE_ENABLE => queue.enabled = value != 0,
            0x20..0x28 => queue.desc = half(queue.desc, common::QUEUE_DESC),
            0x28..0x30 => queue.avail = half(queue.avail, common::QUEUE_DRIVER),
            0x30..0x38 => queue.used = half(queue.used, common::QUEUE_DEVICE),
            _ => {}
        }
    }

    /// A queue's size as the device had it, when the driver does not write one.
    pub fn common_read(&mut self, offset: u64, value: u64) {
        if offset as usize == common::QUEUE_SIZE {
            self.common_write(offset, 2, value);
        }
    }

    fn live(&mut self) -> impl Iterator<Item = (usize, &mut Queue)> {
        let live = |(_, queue): &(usize, &mut Queue)| queue.enabled && queue.size > 0;
        self.queues.iter_mut().enumerate().filter(live)
    }

    /// Whether an address is in a used ring: its content is compared here.
    pub fn is_used_ring(&self, address: u64) -> bool {
        self.queues.iter().any(|queue| {
            let length = split::used_bytes(queue.size) as u64;
            queue.enabled && (queue.used..queue.used + length).contains(&address)
        })
    }

    /// Whether it is where the driver says which completion it wants to hear of.
    pub fn is_used_event(&self, address: u64) -> bool {
        self.queues.iter().any(|queue| {
            queue.enabled && address == queue.avail + split::used_event(queue.size) as u64
        })
    }

    /// Takes the completions out of what our device did in a call. `ring`: its used rings.
    pub fn ours(&mut self, asks: &[(Ask, Answer)]) {
        let mut elements: Vec<(u64, Vec<u8>)> = Vec::new();
        for (ask, _) in asks {
            match ask {
                Ask::Write { address, data } => elements.push((*address, data.clone())),
                Ask::Store { address, value } => {
                    let at = *address;
                    let queue = self.live().map(|(_, queue)| queue);
                    let mut found = queue.filter(|queue| queue.used + split::USED_IDX as u64 == at);
                    if let Some(queue) = found.next() {
                        queue.completed_by_us(*value, &elements);
                    }
                }
                _ => {}
            }
        }
    }

    /// Takes the completions out of the other's memory.
    pub fn theirs(&mut self, peer: &Peer) -> Result<(), PeerError> {
        for (_, queue) in self.live() {
            let mut index = [0; 2];
            peer.read(queue.used + split::USED_IDX as u64, &mut index)?;
            let index = u16::from_le_bytes(index);
            while queue.theirs_index != index && queue.theirs.len() < WAITING {
                let slot = u64::from(queue.theirs_index % queue.size);
                let mut bytes = [0; split::USED_ELEM_SIZE];
                peer.read(queue.element(slot), &mut bytes)?;
                queue.theirs.push_back(completion(&bytes));
                queue.theirs_index = queue.theirs_index.wrapping_add(1);
            }
        }
        Ok(())
    }

    /// Queues with chains that our device found by itself, without having been told in this call.
    pub fn untold(&mut self, asks: &[(Ask, Answer)], told: Option<u16>) -> Vec<u16> {
        let mut untold = Vec::new();
        for (ask, answer) in asks {
            let (Ask::Load { address }, Answer::Word(Some(word))) = (ask, answer) else { continue };
            for (index, queue) in self.live() {
                if *address == queue.avail + split::AVAIL_IDX as u64 && queue.told != *word {
                    queue.told = *word;
                    let index = index as u16;
                    if told != Some(index) && !untold.contains(&index) {
                        untold.push(index);
                    }
                }
            }
        }
        untold
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether the other has completed what we have.
    pub fn caught_up(&self) -> bool {
        self.queues.iter().all(|queue| queue.theirs.len() >= queue.ours.len())
    }

    pub fn is_even(&self) -> bool {
        self.queues.iter().all(|queue| queue.theirs.len() == queue.ours.len())
    }
}

impl Queue {
    fn element(&self, slot: u64) -> u64 {
        self.used + (split::USED_RING + split::USED_ELEM_SIZE * slot as usize) as u64
    }

    fn completed_by_us(&mut self, index: u16, elements: &[(u64, Vec<u8>)]) {
        while self.ours_index != index && self.ours.len() < WAITING {
            let at = self.element(u64::from(self.ours_index % self.size));
            let end = at + split::USED_ELEM_SIZE as u64;
            // A write may hold several elements.
            let inside =
                |(from, data): &&(u64, Vec<u8>)| *from <= at && end <= from + data.len() as u64;
            if let Some((from, data)) = elements.iter().rev().find(inside) {
                let start = (at - from) as usize;
                self.ours.push_back(completion(&data[start..start + split::USED_ELEM_SIZE]));
            }
            self.ours_index = self.ours_index.wrapping_add(1);
        }
    }
}

fn completion(bytes: &[u8]) -> Completion {
    let word = |at: usize| {
        bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    };
    (word(0), word(4))
}

/// What is different of a completion: what, ours, theirs.
pub type Uneven = Option<(&'static str, String, String)>;

impl Queues {
    /// Clears the rings of the selected queue, and says its size.
    pub fn clear_rings(&self, peer: &Peer) -> Result<Option<u16>, PeerError> {
        let Some(queue) = self.queues.get(usize::from(self.select)) else { return Ok(None) };
        peer.write(queue.used, &vec![0; split::used_bytes(queue.size)])?;
        peer.write(queue.avail, &vec![0; split::avail_bytes(queue.size)])?;
        Ok(Some(queue.size))
    }

    /// Vectors of queues that complete something for the first time.
    pub fn first(&mut self) -> Vec<u16> {
        let new = |queue: &&mut Queue| !queue.used_before && !queue.theirs.is_empty();
        let first = self.queues.iter_mut().filter(new).map(|queue| {
            queue.used_before = true;
            queue.vector
        });
        first.collect()
    }

    /// Takes what both have completed and compares it, whatever the order. By queue.
    pub fn compare(&mut self) -> Vec<(usize, Uneven)> {
        let mut result = Vec::new();
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let mut ours: Vec<_> = queue.ours.drain(..).collect();
            let mut theirs: Vec<_> = queue.theirs.drain(..).collect();
            ours.sort_unstable();
            theirs.sort_unstable();
            let count = |list: &[Completion]| format!("{} completions", list.len());
            if ours.len() != theirs.len() {
                result.push((index, Some(("completions", count(&ours), count(&theirs)))));
                continue;
            }
            for (a, b) in ours.iter().zip(&theirs) {
                let difference = if a == b {
                    None
                } else if a.0 == b.0 {
                    Some(("used length", format!("{:#x}", a.1), format!("{:#x}", b.1)))
                } else {
                    Some(("head", a.0.to_string(), b.0.to_string()))
                };
                result.push((index, difference));
            }
        }
        result
    }
}
