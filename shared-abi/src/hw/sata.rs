//! Frame information structures (FIS) of Serial ATA, as AHCI puts them into memory.
//!
//! Sections are those of the *Serial ATA* specification, revision 3.2. A FIS is a whole number of
//! dwords, little-endian; its first byte is the type.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First byte of a FIS (10.5).
pub mod fis {
    /// Register, host to device.
    pub const REGISTER_H2D: u8 = 0x27;
    /// Register, device to host.
    pub const REGISTER_D2H: u8 = 0x34;
    pub const DMA_ACTIVATE: u8 = 0x39;
    pub const DMA_SETUP: u8 = 0x41;
    pub const DATA: u8 = 0x46;
    pub const BIST: u8 = 0x58;
    pub const PIO_SETUP: u8 = 0x5F;
    pub const SET_DEVICE_BITS: u8 = 0xA1;
}

/// Bits of a FIS' second byte.
pub mod flags {
    /// Register H2D: the command register was written (else the control register).
    pub const COMMAND: u8 = 1 << 7;
    /// Data goes from device to host.
    pub const DIRECTION_TO_HOST: u8 = 1 << 5;
    /// The device asks for an interrupt.
    pub const INTERRUPT: u8 = 1 << 6;
    /// DMA setup: the transfer starts without DMA activate.
    pub const AUTO_ACTIVATE: u8 = 1 << 7;
    /// Port multiplier port.
    pub const PMP_MASK: u8 = 0x0F;
}

/// Register FIS, host to device (10.5.5): a command, or the device control register.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RegisterH2d {
    pub kind: u8,
    pub flags: u8,
    pub command: u8,
    /// Features 7:0.
    pub features: u8,
    /// LBA 23:0.
    pub lba_low: [u8; 3],
    pub device: u8,
    /// LBA 47:24.
    pub lba_high: [u8; 3],
    /// Features 15:8.
    pub features_high: u8,
    pub count: [u8; 2],
    /// Isochronous command completion.
    pub icc: u8,
    pub control: u8,
    pub auxiliary: [u8; 4],
}

const _: () = assert!(size_of::<RegisterH2d>() == 20);

impl RegisterH2d {
    /// Dwords, for a command header's CFL.
    pub const DWORDS: u16 = 5;

    /// A command without operands.
    pub const fn command(command: u8) -> Self {
        Self {
            kind: fis::REGISTER_H2D,
            flags: flags::COMMAND,
            command,
            features: 0,
            lba_low: [0; 3],
            device: 0,
            lba_high: [0; 3],
            features_high: 0,
            count: [0; 2],
            icc: 0,
            control: 0,
            auxiliary: [0; 4],
        }
    }

    /// LBA 47:0 as the 48-bit commands have it.
    pub const fn lba48(&self) -> u64 {
        let [a, b, c] = self.lba_low;
        let [d, e, f] = self.lba_high;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    pub const fn set_lba48(&mut self, lba: u64) {
        let [a, b, c, d, e, f, _, _] = lba.to_le_bytes();
        self.lba_low = [a, b, c];
        self.lba_high = [d, e, f];
    }

    /// LBA 27:0 as the 28-bit commands have it: its top four bits are in `device`.
    pub const fn lba28(&self) -> u64 {
        let [a, b, c] = self.lba_low;
        u32::from_le_bytes([a, b, c, self.device & 0x0F]) as u64
    }

    /// Count 15:0.
    pub const fn count16(&self) -> u16 {
        u16::from_le_bytes(self.count)
    }

    /// Features 15:0; the sector count of a queued command.
    pub const fn features16(&self) -> u16 {
        u16::from_le_bytes([self.features, self.features_high])
    }
}

/// Register FIS, device to host (10.5.6).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RegisterD2h {
    pub kind: u8,
    pub flags: u8,
    pub status: u8,
    pub error: u8,
    pub lba_low: [u8; 3],
    pub device: u8,
    pub lba_high: [u8; 3],
    pub reserved0: u8,
    pub count: [u8; 2],
    pub reserved1: [u8; 2],
    pub reserved2: [u8; 4],
}

const _: () = assert!(size_of::<RegisterD2h>() == 20);

/// PIO setup FIS, device to host (10.5.11).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PioSetup {
    pub kind: u8,
    pub flags: u8,
    pub status: u8,
    pub error: u8,
    pub lba_low: [u8; 3],
    pub device: u8,
    pub lba_high: [u8; 3],
    pub reserved0: u8,
    pub count: [u8; 2],
    pub reserved1: u8,
    /// Status after the data.
    pub ending_status: u8,
    /// Bytes in this block, even.
    pub transfer_count: [u8; 2],
    pub reserved2: [u8; 2],
}

const _: () = assert!(size_of::<PioSetup>() == 20);

/// DMA setup FIS (10.5.9); with native queuing the buffer identifier is the tag.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DmaSetup {
    pub kind: u8,
    pub flags: u8,
    pub reserved0: [u8; 2],
    pub buffer: [u32; 2],
    pub reserved1: u32,
    pub offset: u32,
    pub transfer_count: u32,
    pub reserved2: u32,
}

const _: () = assert!(size_of::<DmaSetup>() == 28);

/// Set device bits FIS (10.5.7): ends queued commands.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SetDeviceBits {
    pub kind: u8,
    pub flags: u8,
    /// Status without BSY and DRQ.
    pub status: u8,
    pub error: u8,
    /// SActive: a bit per command that ended.
    pub active: u32,
}

const _: () = assert!(size_of::<SetDeviceBits>() == 8);

impl SetDeviceBits {
    /// Status bits that the FIS carries; the others of PxTFD stay.
    pub const STATUS_MASK: u8 = 0x77;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_spread_over_the_frame() {
        let mut command = RegisterH2d::command(0x25);
        command.set_lba48(0x0605_0403_0201);
        assert_eq!(&command.as_bytes()[4..11], [1, 2, 3, 0, 4, 5, 6]);
        assert_eq!(command.lba48(), 0x0605_0403_0201);
        command.device = 0xEA;
        assert_eq!(command.lba28(), 0x0A03_0201);
    }
}
