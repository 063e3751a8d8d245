//! Packet commands (SPC-3, MMC-6).
//!
//! | what | commands |
//! |---|---|
//! | state | TEST UNIT READY, REQUEST SENSE, GET EVENT STATUS NOTIFICATION, MECHANISM STATUS |
//! | identity | INQUIRY, GET CONFIGURATION, MODE SENSE (6), (10) |
//! | medium | READ CAPACITY, READ TOC, READ DISC and TRACK INFORMATION |
//! | data | READ (10), (12), READ CD (2048 bytes or the raw 2352), SEEK |
//! | tray | START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL |
//!
//! Anything else is INVALID COMMAND OPERATION CODE.

use super::answers;
use super::{CdRom, Sense, transfer};
use crate::ahci::engine::{Transfer, Work};
use crate::ahci::frames::Ending;
use crate::backend::Operation;
use xinim_abi::hw::ata::Error;
use xinim_abi::hw::atapi::{BLOCK_SIZE, PACKET_SIZE, asc, op, reason, sense};
use xinim_abi::hw::sata::RegisterH2d;

/// Blocks of one READ at most: 64 MiB.
const MAX_BLOCKS: u32 = 32 << 10;
/// Blocks of one raw READ CD at most.
const MAX_RAW_BLOCKS: u32 = 1024;
/// READ CD: which parts of a sector (byte 9): user data alone, or all of a 2352-byte sector.
const PARTS_DATA: u8 = 0x10;
const PARTS_RAW: u8 = 0xF8;
const PARTS_MASK: u8 = 0xF8;
/// START STOP UNIT: bits of byte 4.
const START: u8 = 1 << 0;
const LOAD_EJECT: u8 = 1 << 1;

fn be16(cdb: &[u8; PACKET_SIZE], at: usize) -> u16 {
    u16::from_be_bytes([cdb[at], cdb[at + 1]])
}

fn be32(cdb: &[u8; PACKET_SIZE], at: usize) -> u32 {
    u32::from(be16(cdb, at)) << 16 | u32::from(be16(cdb, at + 2))
}

/// The end of a packet command without error.
fn good() -> Ending {
    Ending { count: u16::from(reason::COMMAND | reason::TO_HOST), ..Ending::done() }
}

impl CdRom {
    pub(super) fn packet(&mut self, fis: &RegisterH2d, cdb: &[u8; PACKET_SIZE]) -> Work {
        let transfer = transfer(fis);
        self.carry_out(cdb, transfer).unwrap_or_else(Work::Done)
    }

    fn carry_out(&mut self, cdb: &[u8; PACKET_SIZE], transfer: Transfer) -> Result<Work, Ending> {
        if cdb[0] != op::REQUEST_SENSE {
            self.sense = Sense::NONE;
        }
        match cdb[0] {
            op::TEST_UNIT_READY => {
                self.check_ready()?;
                Ok(Work::Done(good()))
            }
            op::REQUEST_SENSE => {
                let data = answers::sense(std::mem::replace(&mut self.sense, Sense::NONE));
                self.give(data, usize::from(cdb[4]), transfer)
            }
            op::INQUIRY => self.inquiry(cdb, transfer),
            op::MODE_SENSE_6 => {
                let data = self.mode_pages(cdb, 4)?;
                self.give(data, usize::from(cdb[4]), transfer)
            }
            op::MODE_SENSE_10 => {
                let data = self.mode_pages(cdb, 8)?;
                self.give(data, usize::from(be16(cdb, 7)), transfer)
            }
            op::GET_CONFIGURATION => {
                let data =
                    answers::configuration(cdb[1] & 3, be16(cdb, 2), self.blocks().is_some());
                self.give(data, usize::from(be16(cdb, 7)), transfer)
            }
            op::GET_EVENT_STATUS => self.event_status(cdb, transfer),
            op::MECHANISM_STATUS => {
                let data = answers::mechanism(self.open);
                self.give(data, usize::from(be16(cdb, 8)), transfer)
            }
            op::START_STOP_UNIT => self.start_stop(cdb[4]),
            op::PREVENT_ALLOW_MEDIUM_REMOVAL => {
                self.locked = cdb[4] & 1 != 0;
                Ok(Work::Done(good()))
            }
            op::SET_SPEED => Ok(Work::Done(good())),
            _ => self.medium_command(cdb, transfer),
        }
    }

    /// Commands that need a disc.
    fn medium_command(
        &mut self,
        cdb: &[u8; PACKET_SIZE],
        transfer: Transfer,
    ) -> Result<Work, Ending> {
        match cdb[0] {
            op::READ_10 => self.read(be32(cdb, 2), u32::from(be16(cdb, 7)), transfer),
            op::READ_12 => self.read(be32(cdb, 2), be32(cdb, 6), transfer),
            op::READ_CD => self.read_cd(cdb, transfer),
            op::SEEK_10 => {
                let blocks = self.check_ready()?;
                if be32(cdb, 2) >= blocks {
                    return Err(self.fail(sense::ILLEGAL_REQUEST, asc::LBA_OUT_OF_RANGE));
                }
                Ok(Work::Done(good()))
            }
            op::READ_CAPACITY => {
                let blocks = self.check_ready()?;
                let data = answers::capacity(blocks);
                self.give(data, usize::MAX, transfer)
            }
            op::READ_TOC => {
                let blocks = self.check_ready()?;
                // The format is in byte 2; older drivers have it in the top of byte 9.
                let format = if cdb[2] & 0xF != 0 { cdb[2] & 0xF } else { cdb[9] >> 6 };
                match answers::toc(blocks, format, cdb[1] & 2 != 0, cdb[6]) {
                    Some(data) => self.give(data, usize::from(be16(cdb, 7)), transfer),
                    None => Err(self.fail(sense::ILLEGAL_REQUEST, asc::INVALID_FIELD)),
                }
            }
            op::READ_DISC_INFORMATION => {
                self.check_ready()?;
                self.give(answers::disc_information(), usize::from(be16(cdb, 7)), transfer)
            }
            op::READ_TRACK_INFORMATION => {
                let blocks = self.check_ready()?;
                let data = answers::track_information(blocks);
                self.give(data, usize::from(be16(cdb, 7)), transfer)
            }
            _ => Err(self.fail(sense::ILLEGAL_REQUEST, asc::INVALID_OPERATION)),
        }
    }

    /// Data of the drive's own, cut to what the driver allows.
    fn give(
        &mut self,
        mut data: Vec<u8>,
        allowed: usize,
        transfer: Transfer,
    ) -> Result<Work, Ending> {
        data.truncate(allowed);
        if data.is_empty() {
            return Ok(Work::Done(good()));
        }
        self.check_byte_count(transfer)?;
        Ok(Work::Give { data, transfer, ending: good() })
    }

    /// With PIO and data to come the driver must allow some in a block.
    fn check_byte_count(&mut self, transfer: Transfer) -> Result<(), Ending> {
        if transfer == (Transfer::PioIn { block: 0 }) {
            let refused = Ending::failed(Error::ABRT.bits());
            return Err(Ending { count: good().count, ..refused });
        }
        Ok(())
    }

    fn check_range(&mut self, first: u32, count: u32) -> Result<(), Ending> {
        let blocks = self.check_ready()?;
        match first.checked_add(count) {
            Some(end) if end <= blocks => Ok(()),
            _ => Err(self.fail(sense::ILLEGAL_REQUEST, asc::LBA_OUT_OF_RANGE)),
        }
    }

    fn read(&mut self, first: u32, count: u32, transfer: Transfer) -> Result<Work, Ending> {
        self.check_range(first, count)?;
        if count == 0 {
            return Ok(Work::Done(good()));
        }
        if count > MAX_BLOCKS {
            return Err(self.fail(sense::ILLEGAL_REQUEST, asc::INVALID_FIELD));
        }
        self.check_byte_count(transfer)?;
        Ok(Work::Medium {
            operation: Operation::Read,
            offset: u64::from(first) * BLOCK_SIZE as u64,
            length: u64::from(count) * BLOCK_SIZE as u64,
            transfer,
        })
    }

    fn read_cd(&mut self, cdb: &[u8; PACKET_SIZE], transfer: Transfer) -> Result<Work, Ending> {
        let first = be32(cdb, 2);
        let count = u32::from(cdb[6]) << 16 | u32::from(be16(cdb, 7));
        self.check_range(first, count)?;
        if count == 0 {
            return Ok(Work::Done(good()));
        }
        match cdb[9] & PARTS_MASK {
            0 => Ok(Work::Done(good())),
            PARTS_DATA => self.read(first, count, transfer),
            PARTS_RAW if count <= MAX_RAW_BLOCKS => {
                self.check_byte_count(transfer)?;
                Ok(Work::Raw { first, blocks: count, transfer })
            }
            _ => Err(self.fail(sense::ILLEGAL_REQUEST, asc::INVALID_FIELD)),
        }
    }

    fn inquiry(&mut self, cdb: &[u8; PACKET_SIZE], transfer: Transfer) -> Result<Work, Ending> {
        let allowed = usize::from(be16(cdb, 3));
        if cdb[1] & 1 == 0 {
            if cdb[2] != 0 {
                return Err(self.fail(sense::ILLEGAL_REQUEST, asc::INVALID_FIELD));
            }
            let data = answers::inquiry(&self.config.model, &self.config.firmware);
            return self.give(data, allowed, transfer);
        }
        match answers::vital_page(cdb[2], &self.config.serial) {
            Some(data) => self.give(data, allowed, transfer),
            None => Err(self.fail(sense::ILLEGAL_REQUEST, asc::INVALID_FIELD)),
        }
    }

    fn mode_pages(&mut self, cdb: &[u8; PACKET_SIZE], header: usize) -> Result<Vec<u8>, Ending> {
        let (control, page) = (cdb[2] >> 6, cdb[2] & 0x3F);
        if control == 3 {
            return Err(self.fail(sense::ILLEGAL_REQUEST, asc::SAVING_NOT_SUPPORTED));
        }
        // Nothing can be changed.
        let changeable = control == 1;
        match answers::mode_pages(page, changeable, self.locked, header) {
            Some(data) => Ok(data),
            None => Err(self.fail(sense::ILLEGAL_REQUEST, asc::INVALID_FIELD)),
        }
    }

    fn event_status(
        &mut self,
        cdb: &[u8; PACKET_SIZE],
        transfer: Transfer,
    ) -> Result<Work, Ending> {
        // Polled only, and media events only (MMC-6 6.5).
        if cdb[1] & 1 == 0 {
            return Err(self.fail(sense::ILLEGAL_REQUEST, asc::INVALID_FIELD));
        }
        let event = std::mem::replace(&mut self.event, answers::EVENT_NONE);
        let data = answers::event(cdb[4], event, self.open, self.disc.is_some());
        self.give(data, usize::from(be16(cdb, 7)), transfer)
    }

    fn start_stop(&mut self, byte: u8) -> Result<Work, Ending> {
        if byte & LOAD_EJECT != 0 {
            let eject = byte & START == 0;
            if eject && self.locked && !self.open {
                let key =
                    if self.disc.is_some() { sense::ILLEGAL_REQUEST } else { sense::NOT_READY };
                return Err(self.fail(key, asc::REMOVAL_PREVENTED));
            }
            self.move_tray(eject);
        }
        Ok(Work::Done(good()))
    }
}
