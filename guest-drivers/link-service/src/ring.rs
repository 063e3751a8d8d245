//! The driver's side of the server's rings (`services::link`). Everything in the memory is the server's
//! word: indices are compared with own copies, entries are read once.

use xinim_abi::services::link::{
    Buffer, DATA_OFFSET, RX_CQ_OFFSET, RX_ENTRIES, RX_SQ_OFFSET, Received, TX_CQ_OFFSET,
    TX_ENTRIES, TX_SQ_OFFSET, Transmit, index,
};
use xinim_driver_kit::SharedMemory;

/// The server broke a ring: an index further ahead than there are entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

pub struct Rings<S> {
    memory: S,
    tx_head: u32,
    tx_done: u32,
    rx_head: u32,
    rx_done: u32,
    /// Frames taken and not reported as sent; buffers taken and not given back.
    tx_taken: u32,
    rx_taken: u32,
    tx_published: u32,
    rx_published: u32,
}

impl<S: SharedMemory> Rings<S> {
    /// The server has cleared its indices. `None`: the memory is too small for the rings.
    pub fn new(memory: S) -> Option<Self> {
        if memory.len() < DATA_OFFSET {
            return None;
        }
        Some(Self {
            tx_head: memory.load_u32(index::TX_SQ_HEAD),
            tx_done: memory.load_u32(index::TX_CQ_TAIL),
            rx_head: memory.load_u32(index::RX_SQ_HEAD),
            rx_done: memory.load_u32(index::RX_CQ_TAIL),
            tx_taken: 0,
            rx_taken: 0,
            tx_published: memory.load_u32(index::TX_CQ_TAIL),
            rx_published: memory.load_u32(index::RX_CQ_TAIL),
            memory,
        })
    }

    pub fn memory(&self) -> &S {
        &self.memory
    }

    fn waiting(&self, tail: usize, head: u32, entries: u32) -> Result<u32, Broken> {
        let waiting = self.memory.load_u32(tail).wrapping_sub(head);
        if waiting > entries { Err(Broken) } else { Ok(waiting) }
    }

    /// The next frame to send, without taking it; `None`: there is none, or no place for its
    /// completion would be left.
    pub fn peek_transmit(&self) -> Result<Option<Transmit>, Broken> {
        let unread = self.tx_done.wrapping_sub(self.memory.load_u32(index::TX_CQ_HEAD));
        if unread > TX_ENTRIES {
            return Err(Broken);
        }
        let none = self.waiting(index::TX_SQ_TAIL, self.tx_head, TX_ENTRIES)? == 0;
        if none || unread + self.tx_taken >= TX_ENTRIES {
            return Ok(None);
        }
        let slot = (self.tx_head % TX_ENTRIES) as usize;
        Ok(Some(self.memory.read_value(TX_SQ_OFFSET + slot * size_of::<Transmit>())))
    }

    pub fn take_transmit(&mut self) {
        self.tx_head = self.tx_head.wrapping_add(1);
        self.tx_taken += 1;
        self.memory.store_u32(index::TX_SQ_HEAD, self.tx_head);
    }

    /// The next empty buffer, without taking it.
    pub fn peek_buffer(&self) -> Result<Option<Buffer>, Broken> {
        let unread = self.rx_done.wrapping_sub(self.memory.load_u32(index::RX_CQ_HEAD));
        if unread > RX_ENTRIES {
            return Err(Broken);
        }
        let none = self.waiting(index::RX_SQ_TAIL, self.rx_head, RX_ENTRIES)? == 0;
        if none || unread + self.rx_taken >= RX_ENTRIES {
            return Ok(None);
        }
        let slot = (self.rx_head % RX_ENTRIES) as usize;
        Ok(Some(self.memory.read_value(RX_SQ_OFFSET + slot * size_of::<Buffer>())))
    }

    pub fn take_buffer(&mut self) {
        self.rx_head = self.rx_head.wrapping_add(1);
        self.rx_taken += 1;
        self.memory.store_u32(index::RX_SQ_HEAD, self.rx_head);
    }

    pub fn sent(&mut self, id: u32) {
        let slot = (self.tx_done % TX_ENTRIES) as usize;
        self.memory.write_value(TX_CQ_OFFSET + slot * 4, &id.to_le_bytes());
        self.tx_done = self.tx_done.wrapping_add(1);
        self.tx_taken -= 1;
    }

    pub fn received(&mut self, part: &Received) {
        let slot = (self.rx_done % RX_ENTRIES) as usize;
        self.memory.write_value(RX_CQ_OFFSET + slot * size_of::<Received>(), part);
        self.rx_done = self.rx_done.wrapping_add(1);
        self.rx_taken -= 1;
    }

    /// Whether the server waits for transmit buffers.
    pub fn wants_sent(&self) -> bool {
        self.memory.load_u32(index::TX_WAKE) != 0
    }

    /// Shows the server what was done; true if it is to be told.
    pub fn publish(&mut self) -> bool {
        let mut tell = false;
        if self.tx_published != self.tx_done {
            self.tx_published = self.tx_done;
            self.memory.store_u32(index::TX_CQ_TAIL, self.tx_done);
            xinim_driver_kit::memory::full_barrier();
            tell = self.memory.load_u32(index::TX_WAKE) != 0;
        }
        if self.rx_published != self.rx_done {
            self.rx_published = self.rx_done;
            self.memory.store_u32(index::RX_CQ_TAIL, self.rx_done);
            tell = true;
        }
        tell
    }
}
