//! SMART (ACS-3 7.48): on or off, status, attributes, thresholds, empty logs.
//!
//! There is nothing to wear out: the status is always good, and the attributes say so. Self-tests
//! end at once without error.

use super::AtaDisk;
use super::logs::with_checksum;
use crate::ahci::engine::{Transfer, Work};
use crate::ahci::frames::Ending;
use xinim_abi::hw::ata::{Error, SECTOR_SIZE, log, smart};
use xinim_abi::hw::sata::RegisterH2d;

/// Attributes: (id, flags, threshold). Values are 100 of 100, raw values 0.
const ATTRIBUTES: [(u8, u16, u8); 4] = [
    // Reallocated sectors, power-on hours, power cycles, pending sectors.
    (5, 0x0033, 36),
    (9, 0x0032, 0),
    (12, 0x0032, 0),
    (197, 0x0012, 0),
];
const REVISION: u16 = 0x0010;
const ENTRY: usize = 12;
/// Offsets in the data that READ DATA returns: off-line status, capability.
const OFFLINE_STATUS: usize = 362;
const OFFLINE_CAPABILITY: usize = 367;
const SMART_CAPABILITY: usize = 368;
const ERROR_LOG_CAPABILITY: usize = 370;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Smart {
    enabled: bool,
    tested: bool,
}

impl Default for Smart {
    fn default() -> Self {
        Self { enabled: true, tested: false }
    }
}

impl Smart {
    pub fn enabled(&self) -> bool {
        self.enabled
    }
}

impl AtaDisk {
    pub(super) fn smart(&mut self, fis: &RegisterH2d) -> Result<Work, Error> {
        if fis.lba_low[1..] != smart::SIGNATURE {
            return Err(Error::ABRT);
        }
        if !self.smart.enabled && fis.features != smart::ENABLE {
            return Err(Error::ABRT);
        }
        let block = Transfer::PioIn { block: SECTOR_SIZE as u32 };
        match fis.features {
            smart::ENABLE => self.smart.enabled = true,
            smart::DISABLE => self.smart.enabled = false,
            smart::AUTOSAVE => {}
            smart::OFFLINE_IMMEDIATE => self.smart.tested = true,
            smart::RETURN_STATUS => {
                let [middle, high] = smart::SIGNATURE;
                let lba = u64::from(middle) << 8 | u64::from(high) << 16;
                return Ok(Work::Done(Ending { lba, ..Ending::done() }));
            }
            smart::READ_DATA => return Ok(self.give(self.smart_data(), block)),
            smart::READ_THRESHOLDS => return Ok(self.give(thresholds(), block)),
            smart::READ_LOG => {
                let page = match fis.lba_low[0] {
                    log::SUMMARY_SMART_ERROR | log::SMART_SELF_TEST => empty_log(),
                    log::DIRECTORY => directory(),
                    _ => return Err(Error::ABRT),
                };
                if fis.count[0] != 1 {
                    return Err(Error::ABRT);
                }
                return Ok(self.give(page, block));
            }
            _ => return Err(Error::ABRT),
        }
        Ok(Work::Done(Ending::done()))
    }

    fn smart_data(&self) -> Vec<u8> {
        let mut page = vec![0; SECTOR_SIZE];
        page[..2].copy_from_slice(&REVISION.to_le_bytes());
        for (place, (id, flags, _)) in page[2..].chunks_exact_mut(ENTRY).zip(ATTRIBUTES) {
            place[0] = id;
            place[1..3].copy_from_slice(&flags.to_le_bytes());
            place[3] = 100;
            place[4] = 100;
        }
        // Off-line collection completed, if one was asked for.
        page[OFFLINE_STATUS] = if self.smart.tested { 0x02 } else { 0 };
        // Immediate off-line and self-tests.
        page[OFFLINE_CAPABILITY] = 0x11;
        page[SMART_CAPABILITY] = 0x03;
        page[ERROR_LOG_CAPABILITY] = 0x01;
        with_checksum(page)
    }
}

fn thresholds() -> Vec<u8> {
    let mut page = vec![0; SECTOR_SIZE];
    page[..2].copy_from_slice(&REVISION.to_le_bytes());
    for (place, (id, _, threshold)) in page[2..].chunks_exact_mut(ENTRY).zip(ATTRIBUTES) {
        place[0] = id;
        place[1] = threshold;
    }
    with_checksum(page)
}

/// A log of version 1 with nothing in it.
fn empty_log() -> Vec<u8> {
    let mut page = vec![0; SECTOR_SIZE];
    page[0] = 1;
    with_checksum(page)
}

fn directory() -> Vec<u8> {
    let mut page = vec![0; SECTOR_SIZE];
    page[..2].copy_from_slice(&1u16.to_le_bytes());
    for number in [log::SUMMARY_SMART_ERROR, log::SMART_SELF_TEST] {
        page[2 * usize::from(number)] = 1;
    }
    page
}
