//! The ATAPI CD-ROM drive: ATA side, tray and medium. Packet commands are in `packet.rs`.
//!
//! ```text
//!   closed, disc <--- load / eject ---> open, disc --- removed by the host ---> open, empty
//!        ^                                  ^                                       |
//!        +--- load ---- (insert) -----------+------------- inserted by the host ----+
//! ```
//! A drive that finds another disc than before says "not present" once, then "medium may have
//! changed" once (both by sense data), then works. A disc is a back end of whole 2048-byte blocks;
//! it is never written.

mod answers;
mod packet;

use super::ata::AtaConfig;
use super::engine::{Transfer, Work};
use super::frames::{Ending, READY};
use crate::backend::{BayError, BlockBackend};
use xinim_abi::hw::ahci::signature;
use xinim_abi::hw::ata::{Error, Status, command, identify as word, set_features};
use xinim_abi::hw::atapi::{self, BLOCK_SIZE, PACKET_SIZE, asc, reason, sense};
use xinim_abi::hw::sata::RegisterH2d;

pub use answers::raw_frame;

/// Bytes one PIO block has at most: the byte count register is 16 bits wide, and even.
const MAX_PIO_BLOCK: u16 = 0xFFFE;

/// What can be seen of a drive from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tray {
    pub open: bool,
    /// The guest forbids ejecting.
    pub locked: bool,
    /// There is a disc, on the tray or in the drive.
    pub disc: bool,
}

/// Sense data kept until the next command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sense {
    key: u8,
    code: [u8; 2],
}

impl Sense {
    const NONE: Self = Self { key: sense::NO_SENSE, code: asc::NONE };
}

/// How far the driver knows of a new disc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Known,
    /// It has yet to hear that the old one is gone.
    Gone,
    /// It has yet to hear that there is another.
    New,
}

/// The drive.
pub struct CdRom {
    // Fixed configuration
    config: AtaConfig,
    // Glue
    disc: Option<Box<dyn BlockBackend>>,
    // Volatile state
    open: bool,
    locked: bool,
    change: Change,
    sense: Sense,
    mode: u8,
    /// A media event for GET EVENT STATUS NOTIFICATION.
    event: u8,
    pub(super) srst: bool,
}

impl CdRom {
    pub fn new(disc: Option<Box<dyn BlockBackend>>, config: AtaConfig) -> Self {
        Self {
            config,
            disc,
            open: false,
            locked: false,
            change: Change::Known,
            sense: Sense::NONE,
            mode: super::ata::DEFAULT_MODE,
            event: answers::EVENT_NONE,
            srst: false,
        }
    }

    pub fn backend_mut(&mut self) -> Option<&mut (dyn BlockBackend + 'static)> {
        self.disc.as_deref_mut()
    }

    pub fn into_backend(self) -> Option<Box<dyn BlockBackend>> {
        self.disc
    }

    pub fn tray(&self) -> Tray {
        Tray { open: self.open, locked: self.locked, disc: self.disc.is_some() }
    }

    /// Hard or software reset; how the drive announces itself: DRDY stays clear until a packet
    /// command (ATA8-ACS 9.12).
    pub fn reset(&mut self) -> Ending {
        self.locked = false;
        self.sense = Sense::NONE;
        self.srst = false;
        Ending::announcement(signature::ATAPI, 0)
    }

    /// The host puts a disc in and closes the tray.
    pub fn insert(&mut self, disc: Box<dyn BlockBackend>) -> Result<(), BayError> {
        if self.disc.is_some() {
            return Err(BayError::Occupied);
        }
        self.disc = Some(disc);
        self.open = false;
        self.change = Change::Gone;
        self.event = answers::EVENT_NEW_MEDIUM;
        Ok(())
    }

    /// The host opens or closes the tray, the disc staying where it is.
    pub fn move_tray(&mut self, open: bool) {
        if open {
            self.event = answers::EVENT_REMOVED;
        } else if self.open && self.disc.is_some() {
            self.event = answers::EVENT_NEW_MEDIUM;
        }
        self.open = open;
    }

    /// The host takes the disc out; it gets it back. The tray is open then.
    pub fn eject(&mut self, force: bool) -> Result<Option<Box<dyn BlockBackend>>, BayError> {
        if self.locked && !self.open && !force {
            return Err(BayError::Locked);
        }
        self.locked = false;
        self.open = true;
        self.event = answers::EVENT_REMOVED;
        Ok(self.disc.take())
    }

    /// Whole blocks on the disc, if the drive can read it.
    fn blocks(&self) -> Option<u32> {
        let disc = self.disc.as_ref().filter(|_| !self.open)?;
        Some(u32::try_from(disc.info().length / BLOCK_SIZE as u64).unwrap_or(u32::MAX))
    }

    pub fn command(&mut self, fis: &RegisterH2d, cdb: &[u8; PACKET_SIZE]) -> Work {
        match fis.command {
            command::PACKET => self.packet(fis, cdb),
            command::IDENTIFY_PACKET_DEVICE => {
                let transfer = Transfer::PioIn { block: 512 };
                Work::Give { data: self.identify(), transfer, ending: Ending::done() }
            }
            command::IDENTIFY_DEVICE => {
                // Refused, with the signature in the registers, so that drivers can tell.
                let seen = Ending::announcement(signature::ATAPI, READY | Status::ERR.bits());
                Work::Done(Ending { error: Error::ABRT.bits(), ..seen })
            }
            command::DEVICE_RESET => Work::Done(self.reset()),
            command::EXECUTE_DEVICE_DIAGNOSTIC => {
                Work::Done(Ending::announcement(signature::ATAPI, 0))
            }
            command::SET_FEATURES if fis.features == set_features::TRANSFER_MODE => {
                if !super::ata::takes_mode(fis.count[0]) {
                    return Work::Done(Ending::failed(Error::ABRT.bits()));
                }
                self.mode = fis.count[0];
                Work::Done(Ending::done())
            }
            command::FLUSH_CACHE
            | command::STANDBY_IMMEDIATE
            | command::IDLE_IMMEDIATE
            | command::STANDBY
            | command::IDLE
            | command::SLEEP => Work::Done(Ending::done()),
            command::CHECK_POWER_MODE => Work::Done(Ending { count: 0xFF, ..Ending::done() }),
            _ => Work::Done(Ending::failed(Error::ABRT.bits())),
        }
    }

    /// IDENTIFY PACKET DEVICE (ACS-3 7.13.6).
    fn identify(&self) -> Vec<u8> {
        let mut words = [0; word::WORDS];
        let config = &self.config;
        let (serial, firmware) = (&config.serial, &config.firmware);
        super::ata::common(&mut words, serial, firmware, &config.model, self.mode);
        // ATAPI, CD-ROM, removable, DRQ within 50 us, 12-byte packets.
        words[word::GENERAL] = 0x85C0;
        // DMA, LBA, IORDY.
        words[word::CAPABILITIES] = 0x0F00;
        words[word::CAPABILITIES_2] = 0x4000;
        // Packet commands, power management, NOP is not; DEVICE RESET; flushes.
        words[word::SUPPORTED] = 1 << 3 | 1 << 4 | 1 << 9;
        words[word::SUPPORTED + 1] = 0x4000 | word::FLUSH;
        words[word::SUPPORTED + 2] = 0x4000;
        words[word::ENABLED] = words[word::SUPPORTED];
        words[word::ENABLED + 1] = word::FLUSH;
        words[word::ENABLED + 2] = 0x4000;
        super::ata::finish(words)
    }

    /// The back end failed to read.
    pub fn failure(&mut self) -> Ending {
        match self.disc {
            Some(_) => self.fail(sense::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR),
            None => self.fail(sense::NOT_READY, asc::MEDIUM_NOT_PRESENT),
        }
    }

    fn fail(&mut self, key: u8, code: [u8; 2]) -> Ending {
        self.sense = Sense { key, code };
        let count = u16::from(reason::COMMAND | reason::TO_HOST);
        Ending { count, ..Ending::failed(key << 4) }
    }

    /// Why the drive is not ready, once for each step of a change.
    fn check_ready(&mut self) -> Result<u32, Ending> {
        let Some(blocks) = self.blocks() else {
            let code = if self.open { asc::NO_MEDIUM_TRAY_OPEN } else { asc::MEDIUM_NOT_PRESENT };
            return Err(self.fail(sense::NOT_READY, code));
        };
        match self.change {
            Change::Known => Ok(blocks),
            Change::Gone => {
                self.change = Change::New;
                Err(self.fail(sense::NOT_READY, asc::MEDIUM_NOT_PRESENT))
            }
            Change::New => {
                self.change = Change::Known;
                Err(self.fail(sense::UNIT_ATTENTION, asc::MEDIUM_CHANGED))
            }
        }
    }
}

/// How a packet command's data travel, by the features and byte count registers.
fn transfer(fis: &RegisterH2d) -> Transfer {
    if fis.features & atapi::FEATURE_DMA != 0 {
        return Transfer::Dma;
    }
    let limit = u16::from_le_bytes([fis.lba_low[1], fis.lba_low[2]]);
    Transfer::PioIn { block: u32::from(limit.min(MAX_PIO_BLOCK) & !1) }
}
