//! General purpose logs (ACS-3 9): directory, NCQ command error, IDENTIFY DEVICE data.

use super::AtaDisk;
use crate::ahci::engine::{Transfer, Work};
use crate::ahci::frames::{Ending, READY};
use xinim_abi::hw::ata::{Error, SECTOR_SIZE, Status, log};
use xinim_abi::hw::sata::RegisterH2d;

/// Pages of the logs there are: (log, pages).
const LOGS: [(u8, u16); 3] = [(log::DIRECTORY, 1), (log::NCQ_ERROR, 1), (log::IDENTIFY, 2)];
/// Version of the directory (9.2).
const DIRECTORY_VERSION: u16 = 1;
/// Revision in page headers of the IDENTIFY log (9.11).
const IDENTIFY_REVISION: u16 = 1;

/// What log 10h tells about the last error with queued commands outstanding (9.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueError {
    /// Tag, or the bit that says the command was not queued.
    head: u8,
    status: u8,
    error: u8,
    lba: u64,
    device: u8,
    count: u16,
}

impl QueueError {
    pub fn new(tag: u8, fis: &RegisterH2d, ending: &Ending) -> Self {
        Self {
            head: tag & log::NCQ_ERROR_TAG,
            status: ending.status,
            error: ending.error,
            lba: ending.lba,
            device: fis.device,
            count: fis.count16(),
        }
    }

    /// A command that is not queued came in between.
    pub fn unqueued() -> Self {
        let status = READY | Status::ERR.bits();
        let head = log::NCQ_ERROR_NQ;
        Self { head, status, error: Error::ABRT.bits(), lba: 0, device: 0, count: 0 }
    }

    fn page(&self) -> Vec<u8> {
        let mut page = vec![0; SECTOR_SIZE];
        let lba = self.lba.to_le_bytes();
        page[0] = self.head;
        page[log::NCQ_ERROR_STATUS] = self.status;
        page[log::NCQ_ERROR_ERROR] = self.error;
        page[log::NCQ_ERROR_LBA_LOW..][..3].copy_from_slice(&lba[..3]);
        page[log::NCQ_ERROR_DEVICE] = self.device;
        page[log::NCQ_ERROR_LBA_HIGH..][..3].copy_from_slice(&lba[3..6]);
        page[log::NCQ_ERROR_COUNT..][..2].copy_from_slice(&self.count.to_le_bytes());
        with_checksum(page)
    }
}

/// Makes all bytes add up to 0.
pub(super) fn with_checksum(mut page: Vec<u8>) -> Vec<u8> {
    let sum = page.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(last) = page.last_mut() {
        *last = last.wrapping_sub(sum);
    }
    page
}

impl AtaDisk {
    /// READ LOG (DMA) EXT: log in LBA 7:0, first page in LBA 15:8 and 47:40, pages in count.
    pub(super) fn read_log(
        &mut self,
        fis: &RegisterH2d,
        transfer: Transfer,
    ) -> Result<Work, Error> {
        let (number, count) = (fis.lba_low[0], usize::from(fis.count16()));
        let first = usize::from(fis.lba_low[1]) | usize::from(fis.lba_high[1]) << 8;
        let pages = LOGS.iter().find(|(log, _)| *log == number).map_or(0, |(_, pages)| *pages);
        if count == 0 || first + count > usize::from(pages) {
            return Err(Error::ABRT);
        }
        let mut data = Vec::with_capacity(count * SECTOR_SIZE);
        for page in first..first + count {
            data.extend(match number {
                log::DIRECTORY => directory(),
                log::NCQ_ERROR => self.take_queue_error(),
                _ => self.identify_log(page),
            });
        }
        Ok(self.give(data, transfer))
    }

    /// Reading it is what takes the disk out of the error state.
    fn take_queue_error(&mut self) -> Vec<u8> {
        match self.queue_error.take() {
            Some(error) => error.page(),
            // No error: said by the bit that means "not queued".
            None => with_checksum({
                let mut page = vec![0; SECTOR_SIZE];
                page[0] = log::NCQ_ERROR_NQ;
                page
            }),
        }
    }

    /// Page 0 lists the pages, page 1 is a copy of IDENTIFY DEVICE.
    fn identify_log(&self, page: usize) -> Vec<u8> {
        if page == 1 {
            return self.identify();
        }
        let mut list = vec![0; SECTOR_SIZE];
        list[..2].copy_from_slice(&IDENTIFY_REVISION.to_le_bytes());
        list[8..11].copy_from_slice(&[2, 0, 1]);
        list
    }
}

fn directory() -> Vec<u8> {
    let mut page = vec![0; SECTOR_SIZE];
    page[..2].copy_from_slice(&DIRECTORY_VERSION.to_le_bytes());
    for (number, pages) in LOGS.iter().skip(1) {
        page[2 * usize::from(*number)..][..2].copy_from_slice(&pages.to_le_bytes());
    }
    page
}
