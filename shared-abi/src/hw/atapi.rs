//! ATAPI CD-ROMs: packet commands, sense data.
//!
//! Sections are those of *SCSI Primary Commands 3* (SPC) and *MultiMedia Commands 6* (MMC).
//! Numbers in packets and answers are big-endian.

/// Bytes of a packet.
pub const PACKET_SIZE: usize = 12;
/// Bytes of a block on a data CD.
pub const BLOCK_SIZE: usize = 2048;
/// Count field of the D2H FIS that ends a packet command: command or data, and direction.
pub mod reason {
    pub const COMMAND: u8 = 1 << 0;
    pub const TO_HOST: u8 = 1 << 1;
}
/// Features field of PACKET: data go by DMA; and from device to host.
pub const FEATURE_DMA: u8 = 1 << 0;

/// Operation codes.
pub mod op {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SENSE_6: u8 = 0x1A;
    pub const START_STOP_UNIT: u8 = 0x1B;
    pub const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1E;
    pub const READ_CAPACITY: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const SEEK_10: u8 = 0x2B;
    pub const READ_SUBCHANNEL: u8 = 0x42;
    pub const READ_TOC: u8 = 0x43;
    pub const GET_CONFIGURATION: u8 = 0x46;
    pub const GET_EVENT_STATUS: u8 = 0x4A;
    pub const READ_DISC_INFORMATION: u8 = 0x51;
    pub const READ_TRACK_INFORMATION: u8 = 0x52;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const MODE_SENSE_10: u8 = 0x5A;
    pub const READ_12: u8 = 0xA8;
    pub const READ_DVD_STRUCTURE: u8 = 0xAD;
    pub const SET_SPEED: u8 = 0xBB;
    pub const MECHANISM_STATUS: u8 = 0xBD;
    pub const READ_CD: u8 = 0xBE;
}

/// Sense keys (SPC 4.5.6).
pub mod sense {
    pub const NO_SENSE: u8 = 0x0;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const ABORTED_COMMAND: u8 = 0xB;
    /// Bytes of fixed-format sense data.
    pub const SIZE: usize = 18;
    /// First byte: current error, fixed format.
    pub const CURRENT_FIXED: u8 = 0x70;
}

/// Additional sense codes and qualifiers (SPC annex D).
pub mod asc {
    pub const NONE: [u8; 2] = [0x00, 0x00];
    pub const UNRECOVERED_READ_ERROR: [u8; 2] = [0x11, 0x00];
    pub const INVALID_OPERATION: [u8; 2] = [0x20, 0x00];
    pub const LBA_OUT_OF_RANGE: [u8; 2] = [0x21, 0x00];
    pub const INVALID_FIELD: [u8; 2] = [0x24, 0x00];
    pub const MEDIUM_CHANGED: [u8; 2] = [0x28, 0x00];
    pub const POWER_ON_OR_RESET: [u8; 2] = [0x29, 0x00];
    pub const SAVING_NOT_SUPPORTED: [u8; 2] = [0x39, 0x00];
    pub const MEDIUM_NOT_PRESENT: [u8; 2] = [0x3A, 0x00];
    pub const NO_MEDIUM_TRAY_OPEN: [u8; 2] = [0x3A, 0x02];
    pub const REMOVAL_PREVENTED: [u8; 2] = [0x53, 0x02];
    pub const ILLEGAL_MODE_FOR_TRACK: [u8; 2] = [0x64, 0x00];
}
