//! A client of the block interface at its bare ring, for tests of drivers' services.

use std::cell::Cell;
use std::rc::Rc;

use xinim_abi::services::block::{
    CQ_OFFSET, Completion, DATA_OFFSET, ENTRIES, SQ_OFFSET, Submission, index,
};
use xinim_block_service::BlockDevice;
use xinim_block_service::service::{Notify, Pumped, Service};
use xinim_driver_kit::{Constraints, Dma, SharedMemory};

use crate::pair::{Machine, RamBuffer};

/// Bytes of data memory a [`Client`] has.
pub const DATA: usize = 256 * 1024;

/// A service for [`Client`]s.
pub type TestService<B> = Service<B, Rc<RamBuffer>, Told>;

/// Counts how often a client was told: completions in ones, units in thousands.
#[derive(Clone, Default)]
pub struct Told(pub Rc<Cell<usize>>);

impl Notify for Told {
    fn completed(&self) {
        self.0.set(self.0.get() + 1);
    }
    fn units_changed(&self) {
        self.0.set(self.0.get() + 1000);
    }
}

/// A well-behaved client.
pub struct Client {
    pub memory: Rc<RamBuffer>,
    pub told: Told,
    pub tail: u32,
    pub head: u32,
}

impl Client {
    pub fn new(machine: &Machine) -> Self {
        let memory = machine.ram.allocate(DATA_OFFSET + DATA, Constraints::DATA);
        let memory = Rc::new(memory.expect("memory for a client"));
        Self { memory, told: Told::default(), tail: 0, head: 0 }
    }

    pub fn attach(&self, owner: u32, unit: u32, service: &mut TestService<impl BlockDevice>) {
        let attached = service.attach(owner, unit, Rc::clone(&self.memory), self.told.clone());
        attached.expect("attached");
    }

    pub fn submit(&mut self, submission: Submission) {
        let slot = (self.tail % ENTRIES) as usize;
        self.memory.write_value(SQ_OFFSET + slot * size_of::<Submission>(), &submission);
        self.tail = self.tail.wrapping_add(1);
        self.memory.store_u32(index::SQ_TAIL, self.tail);
    }

    pub fn request(&mut self, id: u64, op: u32, sector: u64, offset: usize, len: usize) {
        let (offset, len) = ((DATA_OFFSET + offset) as u32, len as u32);
        self.submit(Submission { id, sector, offset, len, op, flags: 0 });
    }

    /// Ids and states of what has completed.
    pub fn completions(&mut self) -> Vec<(u64, u32)> {
        let mut found = Vec::new();
        while self.head != self.memory.load_u32(index::CQ_TAIL) {
            let slot = (self.head % ENTRIES) as usize;
            let entry: Completion =
                self.memory.read_value(CQ_OFFSET + slot * size_of::<Completion>());
            found.push((entry.id, entry.status));
            self.head = self.head.wrapping_add(1);
        }
        self.memory.store_u32(index::CQ_HEAD, self.head);
        self.memory.store_u32(index::CQ_EVENT, self.head);
        found
    }
}

/// Pumps until there is nothing to do at once.
pub fn pump(service: &mut TestService<impl BlockDevice>) {
    while service.pump().expect("a device that works") == Pumped::Again {}
}
