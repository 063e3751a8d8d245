//! A hostile driver in front of the virtio-blk model.

use std::sync::{Arc, Mutex};

use xinim_abi::hw::virtio::{Desc, feature};
use xinim_abi::hw::virtio_blk::feature as blk;
use xinim_devices::backend::DriveBays;
use xinim_devices::bus::lock;
use xinim_devices::device::Origin;
use xinim_devices::dma::Dma;
use xinim_devices::testing::MemoryDisk;
use xinim_devices::testing::driver::{Driver, Ring};
use xinim_devices::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use xinim_record::Kind;

use crate::input::Input;
use crate::stage::Stage;
use crate::{DISK, STEPS};

/// Queues of the disk.
const QUEUES: u16 = 3;
const QUEUE_SIZE: u16 = 256;

/// A working virtio-blk function whose rings, descriptors and buffers are then filled with what
/// `data` says. The disk must not be asked for what it does not have, nor a read-only one change.
pub fn virtio_blk(stage: &Stage, input: &mut Input<'_>) {
    let memory = stage.memory.clone();
    let features = match input.byte() % 4 {
        0 => 0,
        1 => feature::EVENT_IDX,
        2 => feature::INDIRECT_DESC,
        _ => feature::EVENT_IDX | feature::INDIRECT_DESC,
    };
    let features = features
        | match input.byte() % 4 {
            0 => 0,
            1 => blk::MQ | blk::FLUSH | blk::CONFIG_WCE,
            2 => blk::WRITE_ZEROES,
            _ => blk::MQ | blk::WRITE_ZEROES | blk::FLUSH,
        };
    let disk = MemoryDisk {
        read_only: input.byte().is_multiple_of(8),
        held: input.byte().is_multiple_of(2),
        ..MemoryDisk::new(DISK)
    };
    let features = if disk.read_only { features & !blk::WRITE_ZEROES } else { features };
    let disk = Arc::new(Mutex::new(disk));
    let config = BlockConfig { queues: QUEUES, ..BlockConfig::default() };
    let id = config.id.clone();
    let kind = Kind::Block { id, queues: QUEUES, queue_size: QUEUE_SIZE };
    let tape = stage.tape("virtio-blk.0", kind);
    let setup = VirtioConfig {
        queue_size: QUEUE_SIZE,
        tracer: stage.tracer.clone(),
        ..VirtioConfig::new("virtio-blk.0", stage.dma(&tape), stage.msi(&tape))
    };
    let block = Block::new(stage.disk(&tape, 0, &disk), &config);
    let Ok(function) = VirtioPci::new(block, setup) else { return };
    let mut function = stage.function(function, tape);
    let mut driver = Driver::new(&mut function);
    // The first ring is the one that the input writes to; the others stay as they are.
    let mut ring = Ring::new(&memory, 0, 16);
    let spare = Ring::new(&memory, 0x1000, 16);
    driver.negotiate(features);
    driver.enable_queue(0, &ring);
    driver.enable_queue(1, &spare);
    driver.driver_ok();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 11 {
            0 | 1 => {
                let table =
                    if input.byte().is_multiple_of(4) { input.address() } else { ring.desc };
                let (addr, len) = (input.address(), input.length());
                let desc = Desc { addr, len, flags: input.u16() % 8, next: input.u16() % 20 };
                ring.set_desc(table, input.u16() % 20, desc);
            }
            2 => {
                let (header, payload) = (0x8000 + u64::from(input.byte()) * 16, input.address());
                let kind = u32::from(input.byte() % 15);
                let sector =
                    if input.byte().is_multiple_of(4) { input.u64() } else { input.u16().into() };
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&kind.to_le_bytes());
                bytes[8..].copy_from_slice(&sector.to_le_bytes());
                let _always_inside = memory.write(header, &bytes);
                let write = kind != 1;
                ring.offer(&[
                    (header, 16, false),
                    (payload, input.length(), write),
                    (0xF000, 1, true),
                ]);
                driver.notify(0);
            }
            3 => ring.offer_head(input.u16() % 20),
            4 => ring.set_avail_index(input.u16()),
            5 => {
                driver.notify(u16::from(input.byte()) % (QUEUES + 1));
            }
            // The host ends a request, and may say so at once or later.
            8 => {
                let index = usize::from(input.byte());
                lock(&disk).finish(index, &*memory);
                if index.is_multiple_of(2) {
                    driver.function.device.ready(0, &Origin::default());
                }
            }
            9 => {
                // It only grows: until the device is told, it may ask for what it knows.
                let size = DISK + 512 * usize::from(input.byte());
                {
                    let data = &mut lock(&disk).data;
                    data.resize(size.max(data.len()), 0);
                }
                if size.is_multiple_of(1024) {
                    driver.function.device.resized(0, &Origin::default());
                }
            }
            10 => stage.grant(
                !input.byte().is_multiple_of(4),
                8,
                u64::from(input.byte() % 16) << 12,
                u64::from(input.byte() % 4),
            ),
            6 => {
                let _outside = memory.write(input.address(), &input.u64().to_le_bytes());
            }
            _ => {
                if input.byte().is_multiple_of(8) {
                    ring = Ring::new(&memory, 0, 16);
                    let _always_inside = memory.write(0, &[0; 1024]);
                    driver.negotiate(features);
                    driver.enable_queue(0, &ring);
                    driver.enable_queue(1, &spare);
                    driver.driver_ok();
                } else {
                    let (register, size) = (input.u16() % 0x4000, 1 << (input.byte() % 4));
                    driver.write(usize::from(register), size, input.u64());
                }
            }
        }
    }
    drop(ring);
    while lock(&disk).finish(0, &*memory) {
        while function.device.ready(0, &Origin::default()) {}
    }
    let disk = lock(&disk);
    assert_eq!(disk.violations, 0, "a request beyond the end reached the disk");
    let blank = disk.data.iter().all(|&byte| byte == 0);
    assert!(blank || !disk.read_only, "a read-only disk was written");
}
