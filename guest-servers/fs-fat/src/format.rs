//! Making a volume: mkfs.fat. lamfat's own function, over a storage.

use lamfat::{FatType, FormatVolumeOptions};
use xinim_abi::error::{Error, Result};
use xinim_block_client::Storage;

use crate::device::Device;
use crate::volume::error;

/// What is to be made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// 12, 16 or 32; `None`: by the size.
    pub width: Option<u32>,
    /// 512-byte units of a cluster.
    pub cluster: Option<u32>,
    /// Padded with spaces.
    pub label: Option<[u8; 11]>,
    pub volume_id: u32,
}

/// Sectors of a partition that FAT can name.
const SECTORS_MAX: u64 = u32::MAX as u64;

/// Makes an empty file system. `Inval`: a width or cluster that does not go with the size.
pub fn format(storage: &mut dyn Storage, options: &Options) -> Result<()> {
    let sectors = storage.len() / 512;
    // Smaller ones have no room for a FAT and a root directory.
    if sectors < 64 {
        return Err(Error::NoSpc);
    }
    let mut wanted = FormatVolumeOptions::new()
        .total_sectors(sectors.min(SECTORS_MAX) as u32)
        .volume_id(options.volume_id);
    if let Some(width) = options.width {
        wanted = wanted.fat_type(match width {
            12 => FatType::Fat12,
            16 => FatType::Fat16,
            32 => FatType::Fat32,
            _ => return Err(Error::Inval),
        });
    }
    if let Some(cluster) = options.cluster {
        // The crate asserts what is checked here.
        if !cluster.is_power_of_two() || cluster > 128 {
            return Err(Error::Inval);
        }
        wanted = wanted.bytes_per_cluster(cluster * 512);
    }
    if let Some(label) = options.label {
        wanted = wanted.volume_label(label);
    }
    lamfat::format_volume(&mut Device::new(&mut *storage), wanted).map_err(|from| match from {
        lamfat::Error::InvalidInput | lamfat::Error::CorruptedFileSystem => Error::Inval,
        other => error(other),
    })?;
    storage.flush()
}
