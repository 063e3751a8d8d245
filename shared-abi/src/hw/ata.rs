//! ATA: commands, status and error, IDENTIFY DEVICE, logs.
//!
//! Sections are those of *ATA Command Set 3* (ACS-3). Packet commands are in [`super::atapi`].

use bitflags::bitflags;

/// Bytes of a logical sector.
pub const SECTOR_SIZE: usize = 512;
/// Sectors of a 28-bit command at most; the count 0 means this.
pub const MAX_SECTORS_28: u32 = 256;
/// Sectors of a 48-bit or queued command at most; the count 0 means this.
pub const MAX_SECTORS_48: u32 = 65_536;
/// First LBA that 28 bits cannot name (also the largest value of IDENTIFY words 60 and 61).
pub const LBA28_END: u64 = 1 << 28;
/// Bit of the device register: the address is an LBA.
pub const DEVICE_LBA: u8 = 1 << 6;
/// Queued commands: bit of the device register that forces data to the medium.
pub const DEVICE_FUA: u8 = 1 << 7;
/// Device control register: software reset (4.3 of ATA8-AAM).
pub const CONTROL_SRST: u8 = 1 << 2;

/// Command codes (7).
pub mod command {
    pub const NOP: u8 = 0x00;
    pub const DATA_SET_MANAGEMENT: u8 = 0x06;
    /// ATAPI devices only.
    pub const DEVICE_RESET: u8 = 0x08;
    pub const READ_SECTORS: u8 = 0x20;
    pub const READ_SECTORS_EXT: u8 = 0x24;
    pub const READ_DMA_EXT: u8 = 0x25;
    pub const READ_NATIVE_MAX_ADDRESS_EXT: u8 = 0x27;
    pub const READ_MULTIPLE_EXT: u8 = 0x29;
    pub const READ_LOG_EXT: u8 = 0x2F;
    pub const WRITE_SECTORS: u8 = 0x30;
    pub const WRITE_SECTORS_EXT: u8 = 0x34;
    pub const WRITE_DMA_EXT: u8 = 0x35;
    pub const WRITE_MULTIPLE_EXT: u8 = 0x39;
    pub const WRITE_DMA_FUA_EXT: u8 = 0x3D;
    pub const READ_VERIFY: u8 = 0x40;
    pub const READ_VERIFY_EXT: u8 = 0x42;
    pub const READ_LOG_DMA_EXT: u8 = 0x47;
    pub const READ_FPDMA_QUEUED: u8 = 0x60;
    pub const WRITE_FPDMA_QUEUED: u8 = 0x61;
    pub const EXECUTE_DEVICE_DIAGNOSTIC: u8 = 0x90;
    pub const INITIALIZE_DEVICE_PARAMETERS: u8 = 0x91;
    pub const PACKET: u8 = 0xA0;
    pub const IDENTIFY_PACKET_DEVICE: u8 = 0xA1;
    pub const SMART: u8 = 0xB0;
    pub const READ_MULTIPLE: u8 = 0xC4;
    pub const WRITE_MULTIPLE: u8 = 0xC5;
    pub const SET_MULTIPLE_MODE: u8 = 0xC6;
    pub const READ_DMA: u8 = 0xC8;
    pub const WRITE_DMA: u8 = 0xCA;
    pub const WRITE_MULTIPLE_FUA_EXT: u8 = 0xCE;
    pub const STANDBY_IMMEDIATE: u8 = 0xE0;
    pub const IDLE_IMMEDIATE: u8 = 0xE1;
    pub const STANDBY: u8 = 0xE2;
    pub const IDLE: u8 = 0xE3;
    pub const CHECK_POWER_MODE: u8 = 0xE5;
    pub const SLEEP: u8 = 0xE6;
    pub const FLUSH_CACHE: u8 = 0xE7;
    pub const FLUSH_CACHE_EXT: u8 = 0xEA;
    pub const IDENTIFY_DEVICE: u8 = 0xEC;
    pub const SET_FEATURES: u8 = 0xEF;
    pub const READ_NATIVE_MAX_ADDRESS: u8 = 0xF8;

    /// A command's name for people.
    pub const fn name(command: u8) -> Option<&'static str> {
        Some(match command {
            NOP => "NOP",
            DATA_SET_MANAGEMENT => "DATA SET MANAGEMENT",
            DEVICE_RESET => "DEVICE RESET",
            READ_SECTORS => "READ SECTORS",
            READ_SECTORS_EXT => "READ SECTORS EXT",
            READ_DMA_EXT => "READ DMA EXT",
            READ_NATIVE_MAX_ADDRESS_EXT => "READ NATIVE MAX ADDRESS EXT",
            READ_MULTIPLE_EXT => "READ MULTIPLE EXT",
            READ_LOG_EXT => "READ LOG EXT",
            WRITE_SECTORS => "WRITE SECTORS",
            WRITE_SECTORS_EXT => "WRITE SECTORS EXT",
            WRITE_DMA_EXT => "WRITE DMA EXT",
            WRITE_MULTIPLE_EXT => "WRITE MULTIPLE EXT",
            WRITE_DMA_FUA_EXT => "WRITE DMA FUA EXT",
            READ_VERIFY => "READ VERIFY",
            READ_VERIFY_EXT => "READ VERIFY EXT",
            READ_LOG_DMA_EXT => "READ LOG DMA EXT",
            READ_FPDMA_QUEUED => "READ FPDMA QUEUED",
            WRITE_FPDMA_QUEUED => "WRITE FPDMA QUEUED",
            EXECUTE_DEVICE_DIAGNOSTIC => "EXECUTE DEVICE DIAGNOSTIC",
            INITIALIZE_DEVICE_PARAMETERS => "INITIALIZE DEVICE PARAMETERS",
            PACKET => "PACKET",
            IDENTIFY_PACKET_DEVICE => "IDENTIFY PACKET DEVICE",
            SMART => "SMART",
            READ_MULTIPLE => "READ MULTIPLE",
            WRITE_MULTIPLE => "WRITE MULTIPLE",
            SET_MULTIPLE_MODE => "SET MULTIPLE MODE",
            READ_DMA => "READ DMA",
            WRITE_DMA => "WRITE DMA",
            WRITE_MULTIPLE_FUA_EXT => "WRITE MULTIPLE FUA EXT",
            STANDBY_IMMEDIATE => "STANDBY IMMEDIATE",
            IDLE_IMMEDIATE => "IDLE IMMEDIATE",
            STANDBY => "STANDBY",
            IDLE => "IDLE",
            CHECK_POWER_MODE => "CHECK POWER MODE",
            SLEEP => "SLEEP",
            FLUSH_CACHE => "FLUSH CACHE",
            FLUSH_CACHE_EXT => "FLUSH CACHE EXT",
            IDENTIFY_DEVICE => "IDENTIFY DEVICE",
            SET_FEATURES => "SET FEATURES",
            READ_NATIVE_MAX_ADDRESS => "READ NATIVE MAX ADDRESS",
            _ => return None,
        })
    }
}

bitflags! {
    /// Status (6.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u8 {
        /// Error, or check condition of a packet command.
        const ERR = 1 << 0;
        /// Sense data are available.
        const SENSE = 1 << 1;
        const ALIGNMENT = 1 << 2;
        const DRQ = 1 << 3;
        /// Seek complete, of old; set by devices all the same.
        const DSC = 1 << 4;
        /// Device fault.
        const DF = 1 << 5;
        const DRDY = 1 << 6;
        const BSY = 1 << 7;
    }
}

bitflags! {
    /// Error (6.3). For packet commands bits 7:4 are the sense key.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error: u8 {
        /// No medium; command completion time-out.
        const NM = 1 << 1;
        const ABRT = 1 << 2;
        const MCR = 1 << 3;
        /// Address beyond the medium.
        const IDNF = 1 << 4;
        const MC = 1 << 5;
        /// Uncorrectable data.
        const UNC = 1 << 6;
        const ICRC = 1 << 7;
    }
}

/// SET FEATURES subcommands, in the features field (7.45).
pub mod set_features {
    pub const ENABLE_WRITE_CACHE: u8 = 0x02;
    /// Transfer mode in the count field.
    pub const TRANSFER_MODE: u8 = 0x03;
    pub const DISABLE_READ_LOOK_AHEAD: u8 = 0x55;
    pub const DISABLE_WRITE_CACHE: u8 = 0x82;
    pub const ENABLE_READ_LOOK_AHEAD: u8 = 0xAA;
}

/// SMART subcommands, in the features field (7.48).
pub mod smart {
    pub const READ_DATA: u8 = 0xD0;
    pub const READ_THRESHOLDS: u8 = 0xD1;
    pub const AUTOSAVE: u8 = 0xD2;
    pub const OFFLINE_IMMEDIATE: u8 = 0xD4;
    pub const READ_LOG: u8 = 0xD5;
    pub const ENABLE: u8 = 0xD8;
    pub const DISABLE: u8 = 0xD9;
    pub const RETURN_STATUS: u8 = 0xDA;
    /// LBA 23:8 of every SMART command.
    pub const SIGNATURE: [u8; 2] = [0x4F, 0xC2];
    /// LBA 23:8 after RETURN STATUS where a threshold was exceeded.
    pub const SIGNATURE_EXCEEDED: [u8; 2] = [0xF4, 0x2C];
}

/// DATA SET MANAGEMENT (7.5): bit of the features field that trims. The data are blocks of 512
/// bytes with 64 ranges each: LBA in bits 47:0, sectors in 63:48; 0 sectors is no range.
pub mod trim {
    pub const FEATURE: u8 = 1 << 0;
    pub const RANGES_PER_BLOCK: usize = 64;

    /// One range as stored.
    pub const fn range(lba: u64, sectors: u16) -> u64 {
        (sectors as u64) << 48 | (lba & ((1 << 48) - 1))
    }
}

/// General purpose logs (9).
pub mod log {
    pub const DIRECTORY: u8 = 0x00;
    pub const SUMMARY_SMART_ERROR: u8 = 0x01;
    pub const SMART_SELF_TEST: u8 = 0x06;
    /// NCQ command error (9.13).
    pub const NCQ_ERROR: u8 = 0x10;
    /// IDENTIFY DEVICE data (9.11).
    pub const IDENTIFY: u8 = 0x30;

    /// Byte 0 of the NCQ error log: the error is of a command that was not queued.
    pub const NCQ_ERROR_NQ: u8 = 1 << 7;
    /// Byte 0 of the NCQ error log: the tag.
    pub const NCQ_ERROR_TAG: u8 = 0x1F;
    /// Bytes of the NCQ error log: status, error, LBA 23:0, device, LBA 47:24, count.
    pub const NCQ_ERROR_STATUS: usize = 2;
    pub const NCQ_ERROR_ERROR: usize = 3;
    pub const NCQ_ERROR_LBA_LOW: usize = 4;
    pub const NCQ_ERROR_DEVICE: usize = 7;
    pub const NCQ_ERROR_LBA_HIGH: usize = 8;
    pub const NCQ_ERROR_COUNT: usize = 12;
}

/// Words of the IDENTIFY (PACKET) DEVICE data (7.12.7, 7.13.6).
pub mod identify {
    pub const WORDS: usize = 256;
    pub const GENERAL: usize = 0;
    pub const SERIAL: usize = 10;
    pub const SERIAL_LEN: usize = 20;
    pub const FIRMWARE: usize = 23;
    pub const FIRMWARE_LEN: usize = 8;
    pub const MODEL: usize = 27;
    pub const MODEL_LEN: usize = 40;
    /// Sectors per DRQ block of READ/WRITE MULTIPLE at most, in bits 7:0.
    pub const MAX_MULTIPLE: usize = 47;
    pub const CAPABILITIES: usize = 49;
    pub const CAPABILITIES_2: usize = 50;
    /// Which of words 88 and 70:64 are valid.
    pub const VALIDITY: usize = 53;
    /// Current setting of SET MULTIPLE MODE; bit 8: valid.
    pub const CURRENT_MULTIPLE: usize = 59;
    /// 28-bit capacity in sectors, two words.
    pub const SECTORS_28: usize = 60;
    pub const MULTIWORD_DMA: usize = 63;
    pub const PIO_MODES: usize = 64;
    /// Minimal cycle times, words 65 to 68.
    pub const CYCLE_TIMES: usize = 65;
    /// Bit 14: reads of trimmed sectors are deterministic; bit 5: zeros.
    pub const ADDITIONAL: usize = 69;
    /// Queue depth minus one in bits 4:0.
    pub const QUEUE_DEPTH: usize = 75;
    pub const SATA_CAPABILITIES: usize = 76;
    pub const SATA_CAPABILITIES_2: usize = 77;
    pub const SATA_FEATURES: usize = 78;
    pub const SATA_ENABLED: usize = 79;
    pub const MAJOR_VERSION: usize = 80;
    pub const MINOR_VERSION: usize = 81;
    /// Command sets supported: words 82 to 84.
    pub const SUPPORTED: usize = 82;
    /// Command sets enabled: words 85 to 87.
    pub const ENABLED: usize = 85;
    pub const ULTRA_DMA: usize = 88;
    pub const HARDWARE_RESET: usize = 93;
    /// 48-bit capacity in sectors, four words.
    pub const SECTORS_48: usize = 100;
    /// Logical sectors per physical sector, exponent in bits 3:0.
    pub const SECTOR_SIZE: usize = 106;
    pub const WORLD_WIDE_NAME: usize = 108;
    /// Blocks of ranges one DATA SET MANAGEMENT takes at most.
    pub const MAX_TRIM_BLOCKS: usize = 105;
    /// Bit 0: DATA SET MANAGEMENT trims.
    pub const TRIM: usize = 169;
    /// 1: not rotating.
    pub const ROTATION: usize = 217;
    pub const TRANSPORT_MAJOR: usize = 222;
    pub const INTEGRITY: usize = 255;
    /// Low byte of [`INTEGRITY`]; the high byte makes all 512 bytes add up to 0.
    pub const INTEGRITY_SIGNATURE: u8 = 0xA5;

    /// SATA capabilities: native command queuing.
    pub const SATA_NCQ: u16 = 1 << 8;
    /// Word 83: 48-bit addresses.
    pub const LBA48: u16 = 1 << 10;
    /// Word 83 and 86: FLUSH CACHE, FLUSH CACHE EXT.
    pub const FLUSH: u16 = 1 << 12;
    pub const FLUSH_EXT: u16 = 1 << 13;
    /// Word 82 and 85: volatile write cache.
    pub const WRITE_CACHE: u16 = 1 << 5;
    /// Word 84 and 87: WRITE DMA FUA EXT.
    pub const FUA: u16 = 1 << 6;
}
