//! The device's configuration (VIRTIO 5.2.4), read of one generation and judged.

use xinim_abi::hw::virtio_blk::{SECTOR_SIZE, config, feature};
use xinim_abi::services::block::{Text, info};
use xinim_block_service::device::RANGE_MAX;
use xinim_block_service::{Limits, Unit};
use xinim_driver_kit::Mmio;
use xinim_virtio::transport::Config;
use xinim_virtio::{DeviceError, Transport};

/// Segments of data per request, at most: 256 KiB in scattered pages, starting anywhere.
const DATA_SEGMENTS_MAX: u32 = 65;
/// Header before and status byte behind the data.
pub const EXTRA_SEGMENTS: u32 = 2;

/// The fields as the device has them; `None` where it has no such feature.
struct Fields {
    sectors: Option<u64>,
    size_max: Option<u32>,
    seg_max: Option<u32>,
    block_size: Option<u32>,
    physical_exponent: Option<u8>,
    writeback: Option<u8>,
    discard: Option<(u32, u32)>,
    zeroes: Option<u32>,
}

fn fields<M: Mmio>(c: &Config<'_, M>, features: u64) -> Fields {
    let has = |bit| features & bit != 0;
    let word = |bit, at| has(bit).then(|| c.u32(at)).flatten();
    Fields {
        sectors: c.u64(config::CAPACITY),
        size_max: word(feature::SIZE_MAX, config::SIZE_MAX),
        seg_max: word(feature::SEG_MAX, config::SEG_MAX),
        block_size: word(feature::BLK_SIZE, config::BLK_SIZE),
        physical_exponent: has(feature::TOPOLOGY)
            .then(|| c.u8(config::PHYSICAL_BLOCK_EXP))
            .flatten(),
        writeback: has(feature::CONFIG_WCE).then(|| c.u8(config::WRITEBACK)).flatten(),
        discard: word(feature::DISCARD, config::MAX_DISCARD_SECTORS)
            .zip(word(feature::DISCARD, config::DISCARD_SECTOR_ALIGNMENT)),
        zeroes: word(feature::WRITE_ZEROES, config::MAX_WRITE_ZEROES_SECTORS),
    }
}

/// Queues of requests the device has: `num_queues`, or one.
pub fn queue_count<M: Mmio>(transport: &Transport<M>, features: u64) -> Result<u16, DeviceError> {
    if features & feature::MQ == 0 {
        return Ok(1);
    }
    match transport.config(|c| c.u16(config::NUM_QUEUES))? {
        Some(count) if count > 0 => Ok(count),
        _ => Err(DeviceError::Config("number of queues")),
    }
}

/// The capacity in sectors.
pub fn capacity<M: Mmio>(transport: &Transport<M>) -> Result<u64, DeviceError> {
    let sectors = transport.config(|c| c.u64(config::CAPACITY))?;
    check_capacity(sectors)
}

fn check_capacity(sectors: Option<u64>) -> Result<u64, DeviceError> {
    let sectors = sectors.ok_or(DeviceError::Config("no capacity"))?;
    (sectors <= u64::MAX / SECTOR_SIZE).then_some(sectors).ok_or(DeviceError::Config("capacity"))
}

/// The longest range of a DISCARD or WRITE_ZEROES in whole blocks, in bytes.
fn longest(sectors: Option<u32>, block_size: u32) -> u32 {
    let bytes = u64::from(sectors.unwrap_or(0)) * SECTOR_SIZE;
    let bytes = bytes.min(RANGE_MAX.into()) as u32;
    bytes - bytes % block_size
}

/// Reads and judges the configuration: the unit without its serial number, and the longest segment
/// in bytes. A request's segments must fit into a queue of `size`; `depth` requests can be under way.
pub fn read_unit<M: Mmio>(
    transport: &Transport<M>,
    features: u64,
    size: u16,
    depth: u32,
) -> Result<(Unit, u32), DeviceError> {
    let fields = transport.config(|c| fields(c, features))?;
    let sectors = check_capacity(fields.sectors)?;
    let block_size = fields.block_size.unwrap_or(SECTOR_SIZE as u32);
    if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
        return Err(DeviceError::Config("block size"));
    }
    let mut max_segments = DATA_SEGMENTS_MAX.min(u32::from(size).saturating_sub(EXTRA_SEGMENTS));
    if let Some(seg_max) = fields.seg_max {
        max_segments = max_segments.min(seg_max.max(1));
    }
    // Longer segments are cut. Less than a page would be no limit but a nuisance.
    let max_segment = fields.size_max.unwrap_or(u32::MAX);
    if max_segment < 4096 {
        return Err(DeviceError::Config("segments of less than a page"));
    }
    // Memory may start anywhere in a page, which costs one segment more than its pages. One
    // segment alone never crosses a page boundary only if it is a sector.
    let max_bytes = match max_segments {
        0 | 1 => 512,
        n => (n - 1) * 4096,
    };
    if max_bytes < block_size {
        return Err(DeviceError::Config("fewer segments than a block needs"));
    }
    let has = |bit| features & bit != 0;
    let mut flags = 0;
    if has(feature::RO) {
        flags |= info::READ_ONLY;
    }
    // Without CONFIG_WCE a device that offers FLUSH has a cache (5.2.5.2).
    if has(feature::FLUSH) && fields.writeback != Some(0) {
        flags |= info::WRITE_CACHE;
    }
    let exponent = u32::from(fields.physical_exponent.unwrap_or(0)).min(16);
    let physical_block = block_size.saturating_mul(1 << exponent);
    let granule = fields.discard.map_or(0, |(_, sectors)| sectors.saturating_mul(512));
    let limits = Limits {
        physical_block,
        discard_granule: granule.max(block_size),
        max_discard: longest(fields.discard.map(|(sectors, _)| sectors), block_size),
        max_zeroes: longest(fields.zeroes, block_size),
        rotation: 0,
    };
    let unit = Unit {
        sectors,
        block_size,
        flags,
        max_bytes,
        max_segments,
        depth,
        limits,
        model: Text::from_device(b"virtio-blk"),
        ..Unit::default()
    };
    Ok((unit, max_segment))
}
