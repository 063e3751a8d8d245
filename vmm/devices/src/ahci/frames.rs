//! Frames from the drive, posted to the port's received FIS area, with their effect on PxTFD and
//! PxIS (AHCI 5.4, 4.2.1).
//!
//! Nothing is posted while PxCMD.FRE is clear. An area that is no memory is a host bus fatal error.

use super::port::Port;
use crate::trace::EventKind;
use crate::virtio::Context;
use xinim_abi::hw::ahci::{self as hw, PortCmd, PortInterrupt, received};
use xinim_abi::hw::ata::Status;
use xinim_abi::hw::sata::{DmaSetup, PioSetup, RegisterD2h, SetDeviceBits, fis, flags};
use zerocopy::{Immutable, IntoBytes};

/// Status of a drive at rest.
pub const READY: u8 = Status::DRDY.union(Status::DSC).bits();

/// The drive's registers at the end of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    pub status: u8,
    pub error: u8,
    /// LBA registers, 47:0.
    pub lba: u64,
    pub device: u8,
    pub count: u16,
}

impl Ending {
    /// Done, nothing to say.
    pub const fn done() -> Self {
        Self { status: READY, error: 0, lba: 0, device: 0, count: 0 }
    }

    /// An error.
    pub const fn failed(error: u8) -> Self {
        Self { status: READY | Status::ERR.bits(), error, lba: 0, device: 0, count: 0 }
    }

    /// The announcement after a reset: error 1 is "no fault" (ACS-3 6.3.2).
    pub const fn announcement(signature: u32, status: u8) -> Self {
        let lba = (signature >> 8) as u64;
        Self { status, error: 1, lba, device: 0, count: (signature & 0xFF) as u16 }
    }

    /// As PxSIG takes it (3.3.9).
    pub const fn signature(&self) -> u32 {
        (self.lba as u32) << 8 | (self.count & 0xFF) as u32
    }

    pub const fn is_error(&self) -> bool {
        self.status & (Status::ERR.bits() | Status::DF.bits()) != 0
    }

    fn lba_bytes(&self) -> ([u8; 3], [u8; 3]) {
        let [a, b, c, d, e, f, _, _] = self.lba.to_le_bytes();
        ([a, b, c], [d, e, f])
    }
}

impl Port {
    pub(super) fn can_post(&self) -> bool {
        self.cmd.contains(PortCmd::FRE)
    }

    fn post(&mut self, at: usize, frame: &(impl IntoBytes + Immutable), context: &Context<'_>) {
        if !self.can_post() {
            return;
        }
        let bytes = frame.as_bytes();
        let (port, kind) = (self.number, bytes.first().copied().unwrap_or(0));
        context.tracer.emit(context.origin, || EventKind::Fis { port, kind });
        if context.dma.write(self.fb.saturating_add(at as u64), bytes).is_err() {
            self.fatal(PortInterrupt::HBFS);
        }
    }

    /// D2H register FIS: ends a command, or announces the drive.
    pub(super) fn post_register(
        &mut self,
        ending: &Ending,
        interrupt: bool,
        context: &Context<'_>,
    ) {
        let (lba_low, lba_high) = ending.lba_bytes();
        let frame = RegisterD2h {
            kind: fis::REGISTER_D2H,
            flags: if interrupt { flags::INTERRUPT } else { 0 },
            status: ending.status,
            error: ending.error,
            lba_low,
            device: ending.device,
            lba_high,
            count: ending.count.to_le_bytes(),
            ..RegisterD2h::default()
        };
        self.post(received::REGISTER, &frame, context);
        self.tfd = hw::tfd(ending.status, ending.error);
        if interrupt {
            self.is |= PortInterrupt::DHRS;
        }
        if ending.is_error() {
            self.fatal(PortInterrupt::TFES);
        }
    }

    /// PIO setup FIS for a block of `bytes` bytes.
    pub(super) fn post_pio_setup(
        &mut self,
        to_host: bool,
        interrupt: bool,
        bytes: u16,
        ending: &Ending,
        context: &Context<'_>,
    ) {
        let (lba_low, lba_high) = ending.lba_bytes();
        let direction = if to_host { flags::DIRECTION_TO_HOST } else { 0 };
        let frame = PioSetup {
            kind: fis::PIO_SETUP,
            flags: direction | if interrupt { flags::INTERRUPT } else { 0 },
            status: READY | Status::DRQ.bits(),
            error: 0,
            lba_low,
            device: ending.device,
            lba_high,
            count: ending.count.to_le_bytes(),
            ending_status: ending.status,
            transfer_count: bytes.to_le_bytes(),
            ..PioSetup::default()
        };
        self.post(received::PIO_SETUP, &frame, context);
        if interrupt {
            self.is |= PortInterrupt::PSS;
        }
    }

    /// DMA setup FIS: the drive begins the data transfer of a queued command.
    pub(super) fn post_dma_setup(
        &mut self,
        tag: u8,
        to_host: bool,
        bytes: u64,
        context: &Context<'_>,
    ) {
        let direction = if to_host { flags::DIRECTION_TO_HOST } else { flags::AUTO_ACTIVATE };
        let frame = DmaSetup {
            kind: fis::DMA_SETUP,
            flags: direction,
            buffer: [u32::from(tag), 0],
            transfer_count: bytes as u32,
            ..DmaSetup::default()
        };
        self.post(received::DMA_SETUP, &frame, context);
    }

    /// Set device bits FIS: queued commands in `active` have ended; with an error if `ending` is
    /// one. Of the status only the bits the frame carries change (3.3.8).
    pub(super) fn post_set_device_bits(
        &mut self,
        active: u32,
        ending: &Ending,
        context: &Context<'_>,
    ) {
        let mask = SetDeviceBits::STATUS_MASK;
        let frame = SetDeviceBits {
            kind: fis::SET_DEVICE_BITS,
            flags: flags::INTERRUPT,
            status: ending.status & mask,
            error: ending.error,
            active,
        };
        self.post(received::SET_DEVICE_BITS, &frame, context);
        let status = (self.tfd as u8 & !mask) | (ending.status & mask);
        self.tfd = hw::tfd(status, ending.error);
        self.sact &= !active;
        self.is |= PortInterrupt::SDBS;
        if ending.is_error() {
            self.fatal(PortInterrupt::TFES);
        }
    }
}
