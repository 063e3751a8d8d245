//! The device's configuration (VIRTIO 5.2.4).

use crate::backend::BlockInfo;
use xinim_abi::hw::virtio_blk::{SECTOR_SIZE, config};

/// Data segments a driver may use in one request: its chain plus header and status fits the
/// smallest default queue.
pub(super) const SEG_MAX: u32 = 126;
/// Longest such segment, in bytes.
pub(super) const SIZE_MAX: u32 = 4 << 20;
/// Ranges in one DISCARD or WRITE_ZEROES request.
pub const MAX_RANGES: u32 = 64;
/// Longest range to discard, in bytes.
pub const MAX_DISCARD: u64 = 2 << 30;
/// Longest range to fill with zeros, in bytes: a host that cannot do it otherwise writes them.
pub const MAX_ZEROES: u64 = 64 << 20;

/// The bytes as the driver reads them.
pub(super) struct Space([u8; config::SIZE]);

impl Space {
    pub fn new(info: &BlockInfo, queues: u16) -> Self {
        let mut space = Self([0; config::SIZE]);
        space.set_length(info.length);
        let logical = info.logical_block.max(SECTOR_SIZE as u32).next_power_of_two();
        let physical = info.physical_block.max(logical).next_power_of_two();
        let blocks = physical / logical;
        space.put(config::SIZE_MAX, SIZE_MAX.to_le_bytes());
        space.put(config::SEG_MAX, SEG_MAX.to_le_bytes());
        space.put(config::BLK_SIZE, logical.to_le_bytes());
        space.put(config::PHYSICAL_BLOCK_EXP, [blocks.ilog2() as u8]);
        space.put(config::MIN_IO_SIZE, (blocks.min(0xFFFF) as u16).to_le_bytes());
        space.set_write_back(info.write_cache);
        space.put(config::NUM_QUEUES, queues.to_le_bytes());
        let sectors = |bytes: u64| ((bytes / SECTOR_SIZE) as u32).to_le_bytes();
        space.put(config::MAX_DISCARD_SECTORS, sectors(MAX_DISCARD));
        space.put(config::MAX_DISCARD_SEG, MAX_RANGES.to_le_bytes());
        space.put(config::DISCARD_SECTOR_ALIGNMENT, sectors(physical.into()));
        space.put(config::MAX_WRITE_ZEROES_SECTORS, sectors(MAX_ZEROES));
        space.put(config::MAX_WRITE_ZEROES_SEG, MAX_RANGES.to_le_bytes());
        space.put(config::WRITE_ZEROES_MAY_UNMAP, [u8::from(info.discard)]);
        space
    }

    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&bytes);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn set_length(&mut self, bytes: u64) {
        self.put(config::CAPACITY, (bytes / SECTOR_SIZE).to_le_bytes());
    }

    /// Whether an access is one to the cache mode.
    pub fn is_write_back(offset: u64, size: u8) -> bool {
        offset == config::WRITEBACK as u64 && size == 1
    }

    pub fn write_back(&self) -> bool {
        self.0[config::WRITEBACK] != 0
    }

    pub fn set_write_back(&mut self, on: bool) {
        self.put(config::WRITEBACK, [u8::from(on)]);
    }
}
