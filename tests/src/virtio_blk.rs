//! The virtio-blk driver's logic on our virtio-blk model, and what tests do with them.

use std::sync::{Arc, Mutex};

use xinim_abi::error::Error;
use xinim_abi::hw::virtio::{self, common};
use xinim_block_service::{BlockDevice, Operation, Request, Unit};
use xinim_devices::testing::{FlatMemory, MemoryDisk, MsiLog};
use xinim_devices::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Constraints, Dma, Mmio, Segment, SgList, SharedMemory};
use xinim_virtio_blk::disk::ATTEMPTS;
use xinim_virtio_blk::{Disk, Vectors};

use crate::pair::{BarMmio, Machine, RamBuffer, RamDma, ram};

pub const SECTORS: usize = 256;
/// One message for everything.
pub const VECTORS: Vectors = Vectors { queues: Some(0), config: Some(0) };

pub type Model = Arc<Mutex<VirtioPci<Block<MemoryDisk>>>>;
pub type TestDisk<'a> = Disk<BarMmio, RamDma, &'a FakeClock>;

pub struct Rig {
    pub machine: Machine,
    pub memory: Arc<FlatMemory>,
    pub model: Model,
    pub msi: Arc<MsiLog>,
}

pub fn rig_with(disk: MemoryDisk, queue_size: u16, seed: Option<u64>) -> Rig {
    rig_of(MemoryDisk { shuffle: seed, ..disk }, BlockConfig::default(), queue_size)
}

pub fn rig_of(disk: MemoryDisk, config: BlockConfig, queue_size: u16) -> Rig {
    let memory = ram(4096);
    let msi = MsiLog::new();
    let block = Block::new(disk, &config);
    let mut setup = VirtioConfig::new("virtio-blk.0", memory.clone(), msi.clone());
    setup.queue_size = queue_size;
    let model = Arc::new(Mutex::new(VirtioPci::new(block, setup).unwrap()));
    Rig { machine: Machine::new(&memory, model.clone()), memory, model, msi }
}

pub fn rig() -> Rig {
    let mut disk = MemoryDisk::new(SECTORS * 512);
    for (i, byte) in disk.data.iter_mut().enumerate() {
        *byte = (i * 7 + i / 512) as u8;
    }
    rig_with(disk, 256, None)
}

impl Rig {
    pub fn start<'a>(&self, clock: &'a FakeClock) -> TestDisk<'a> {
        self.machine.function.route(0, 0x41).unwrap();
        Disk::start(&self.machine.function, &self.machine.ram, clock, VECTORS).unwrap()
    }

    pub fn contents(&self) -> Vec<u8> {
        self.model.lock().unwrap().device().backend().data.clone()
    }

    pub fn backend<T>(&self, work: impl FnOnce(&mut MemoryDisk) -> T) -> T {
        work(self.model.lock().unwrap().device_mut().backend_mut())
    }
}

pub fn list(buffer: &RamBuffer, len: usize) -> SgList {
    let mut list = SgList::new();
    list.push_buffer(buffer, 0, len);
    list
}

pub fn unit<'d>(disk: &'d TestDisk<'_>) -> &'d Unit {
    disk.unit(0).unwrap()
}

/// Submits a request of as many bytes as the segments have.
pub fn submit(
    disk: &mut TestDisk<'_>,
    operation: Operation,
    sector: u64,
    data: &[Segment],
    cookie: u64,
) -> Result<(), Error> {
    let bytes = data.iter().map(|segment| segment.len).sum();
    disk.submit(0, &Request { operation, sector, bytes, flags: 0 }, data, cookie)
}

/// One request to its end.
pub fn run(
    disk: &mut TestDisk<'_>,
    op: Operation,
    sector: u64,
    buffer: &RamBuffer,
    len: usize,
) -> Result<(), Error> {
    submit(disk, op, sector, list(buffer, len).segments(), 77)?;
    disk.kick();
    let mut done = Vec::new();
    for _ in 0..=ATTEMPTS {
        disk.poll(&mut done).unwrap();
        if let Some(completion) = done.pop() {
            assert_eq!(completion.cookie, 77);
            return completion.result;
        }
    }
    panic!("request lost");
}

pub fn works(disk: &mut TestDisk<'_>, rig: &Rig) {
    let buffer = rig.machine.ram.allocate(8192, Constraints::DATA).unwrap();
    buffer.write_bytes(0, &[0xA5; 8192]);
    run(disk, Operation::Write, 16, &buffer, 8192).unwrap();
    buffer.write_bytes(0, &[0; 8192]);
    run(disk, Operation::Read, 17, &buffer, 4096).unwrap();
    let mut seen = [0; 4096];
    buffer.read_bytes(0, &mut seen);
    assert_eq!(seen, [0xA5; 4096]);
    run(disk, Operation::Flush, 0, &buffer, 0).unwrap();
}

/// Addresses of the available and used ring as the device was told.
pub fn ring_addresses(rig: &Rig) -> (u64, u64) {
    let registers = rig.machine.fresh_function().bar(0).unwrap();
    registers.write16(common::QUEUE_SELECT, 0);
    let read = |at| u64::from(registers.read32(at)) | u64::from(registers.read32(at + 4)) << 32;
    (read(common::QUEUE_DRIVER), read(common::QUEUE_DEVICE))
}

/// Lets the device seem to offer only `mask` of its features.
pub fn mask_features(rig: &Rig, mask: u64) {
    let select = std::cell::Cell::new(0);
    rig.machine.lie(Some(Box::new(move |offset, value| {
        // The driver reads the halves in order.
        if offset == common::DEVICE_FEATURE as u64 {
            let half = select.replace(1 - select.get());
            return value & (mask >> (32 * half)) & 0xFFFF_FFFF;
        }
        value
    })));
    assert_ne!(mask & virtio::feature::VERSION_1, 0);
}
