//! A ring of descriptors: what receiving and transmitting have in common (8254x 3.2.6, 3.4).
//!
//! ```text
//!   head ..... published ..... tail            head: next to be looked at; tail: next to be filled in
//!     device's       not told yet              never full: head and tail being equal means empty
//! ```

use xinim_driver_kit::{DmaBuffer, SharedMemory, Slice};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use xinim_abi::hw::e1000::descriptor::SIZE;

/// Where the status of both kinds of descriptors is.
const STATUS: usize = 12;

pub struct Ring<B> {
    memory: Slice<B>,
    entries: u32,
    pub head: u32,
    pub tail: u32,
    published: u32,
}

impl<B: DmaBuffer> Ring<B> {
    /// `memory`: room for `entries` descriptors.
    pub fn new(memory: Slice<B>, entries: u32) -> Self {
        let mut ring = Self { memory, entries, head: 0, tail: 0, published: 0 };
        ring.clear();
        ring
    }

    pub fn address(&self) -> u64 {
        self.memory.device_address(0).address
    }

    /// As the reset device finds it.
    pub fn clear(&mut self) {
        let empty = [0u8; SIZE];
        for at in 0..self.entries as usize {
            self.memory.write_value(at * SIZE, &empty);
        }
        (self.head, self.tail, self.published) = (0, 0, 0);
    }

    /// Descriptors that can be filled in.
    pub fn room(&self) -> u32 {
        (self.head + self.entries - self.tail - 1) % self.entries
    }

    pub fn next(&self, at: u32) -> u32 {
        (at + 1) % self.entries
    }

    /// Fills in the descriptor at the tail; there must be room. Its place.
    pub fn put<T: IntoBytes + Immutable>(&mut self, descriptor: &T) -> u32 {
        let at = self.tail;
        self.memory.write_value(at as usize * SIZE, descriptor);
        self.tail = self.next(at);
        at
    }

    /// The tail to be written to the device's register, if the device does not know it.
    pub fn publish(&mut self) -> Option<u32> {
        let news = self.published != self.tail;
        self.published = self.tail;
        news.then_some(self.tail)
    }

    /// The device knows of the descriptor at the head.
    pub fn is_head_published(&self) -> bool {
        self.head != self.published
    }

    /// A descriptor's status, in the third dword; loading it orders what follows.
    pub fn status(&self, at: u32) -> u8 {
        self.memory.load_u32(at as usize * SIZE + STATUS) as u8
    }

    pub fn read<T: FromBytes + IntoBytes>(&self, at: u32) -> T {
        self.memory.read_value(at as usize * SIZE)
    }
}
