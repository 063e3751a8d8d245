//! The SATA disk: commands (ACS-3) over a back end.
//!
//! IDENTIFY says exactly what is offered here. Data are stable after FLUSH CACHE, with FUA, or at
//! once while the write cache is off. A sector is a logical block of the back end.
//!
//! After an error with queued commands outstanding the disk refuses everything but reading log 10h
//! (which ends that state) and resets (ACS-3 4.15.6).

mod identify;
mod logs;
mod smart;

use super::engine::{Transfer, Work};
use super::frames::{Ending, READY};
use crate::backend::{BackendError, BlockBackend, BlockInfo, Operation};
pub(super) use identify::{DEFAULT_MODE, common, finish, takes_mode};
use logs::QueueError;
use smart::Smart;
use xinim_abi::hw::ahci::signature;
use xinim_abi::hw::ata::{self, Error, Status, command, set_features, trim};
use xinim_abi::hw::sata::RegisterH2d;

/// Sectors per DRQ block of READ MULTIPLE at most.
const MAX_MULTIPLE: u8 = 16;
/// Blocks of ranges one DATA SET MANAGEMENT takes at most.
const MAX_TRIM_BLOCKS: u16 = 8;

/// What the disk says it is; ASCII, cut to 20, 40 and 8 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtaConfig {
    pub serial: String,
    pub model: String,
    pub firmware: String,
}

impl AtaConfig {
    pub fn new(serial: &str) -> Self {
        Self {
            serial: serial.to_owned(),
            model: String::from("XINIM SATA disk"),
            firmware: String::from(env!("CARGO_PKG_VERSION")),
        }
    }
}

/// The disk.
pub struct AtaDisk {
    // Fixed configuration
    config: AtaConfig,
    /// 28-bit commands count in 16 bits, as on QEMU.
    wide_counts: bool,
    // Glue
    backend: Box<dyn BlockBackend>,
    // Volatile state
    write_cache: bool,
    look_ahead: bool,
    /// SET MULTIPLE MODE; 0: off.
    multiple: u8,
    /// SET FEATURES transfer mode.
    mode: u8,
    smart: Smart,
    queue_error: Option<QueueError>,
    pub(super) srst: bool,
}

/// A range of sectors a command names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    lba: u64,
    sectors: u64,
}

impl AtaDisk {
    pub fn new(backend: Box<dyn BlockBackend>, config: AtaConfig, wide_counts: bool) -> Self {
        let write_cache = backend.info().write_cache;
        Self {
            config,
            wide_counts,
            backend,
            write_cache,
            look_ahead: true,
            multiple: 0,
            mode: identify::DEFAULT_MODE,
            smart: Smart::default(),
            queue_error: None,
            srst: false,
        }
    }

    pub fn backend_mut(&mut self) -> &mut (dyn BlockBackend + 'static) {
        &mut *self.backend
    }

    pub fn into_backend(self) -> Box<dyn BlockBackend> {
        self.backend
    }

    /// Hard or software reset; how the disk announces itself. Settings survive a software reset.
    pub fn reset(&mut self, hard: bool) -> Ending {
        if hard {
            self.write_cache = self.backend.info().write_cache;
            self.look_ahead = true;
            self.multiple = 0;
            self.mode = identify::DEFAULT_MODE;
            self.srst = false;
        }
        self.queue_error = None;
        Ending::announcement(signature::ATA, READY)
    }

    fn info(&self) -> BlockInfo {
        self.backend.info()
    }

    fn sector(&self) -> u64 {
        u64::from(self.info().logical_block)
    }

    fn sectors(&self) -> u64 {
        self.info().length / self.sector()
    }

    /// Decodes a command in `slot`; `queue` says whether queued ones are outstanding.
    pub fn command(&mut self, fis: &RegisterH2d, slot: u8, queue: bool) -> Work {
        let queued =
            matches!(fis.command, command::READ_FPDMA_QUEUED | command::WRITE_FPDMA_QUEUED);
        let reads_log = matches!(fis.command, command::READ_LOG_EXT | command::READ_LOG_DMA_EXT)
            && fis.lba_low[0] == ata::log::NCQ_ERROR;
        if self.queue_error.is_some() && !reads_log {
            return refuse(Error::ABRT);
        }
        if queue && !queued {
            // Not to be mixed: the disk gives up what it has.
            self.queue_error = Some(QueueError::unqueued());
            return refuse(Error::ABRT);
        }
        self.decode(fis, slot).unwrap_or_else(|error| {
            let ending = Ending { lba: fis.lba48(), ..Ending::failed(error.bits()) };
            if queued {
                self.queue_error = Some(QueueError::new(slot, fis, &ending));
            }
            Work::Done(ending)
        })
    }

    fn decode(&mut self, fis: &RegisterH2d, slot: u8) -> Result<Work, Error> {
        use command::*;
        let sector = self.sector() as u32;
        Ok(match fis.command {
            IDENTIFY_DEVICE => self.give(self.identify(), Transfer::PioIn { block: 512 }),
            READ_DMA => self.medium(self.range28(fis)?, READ, Transfer::Dma)?,
            READ_DMA_EXT => self.medium(self.range48(fis)?, READ, Transfer::Dma)?,
            READ_SECTORS => {
                self.medium(self.range28(fis)?, READ, Transfer::PioIn { block: sector })?
            }
            READ_SECTORS_EXT => {
                self.medium(self.range48(fis)?, READ, Transfer::PioIn { block: sector })?
            }
            READ_MULTIPLE => {
                let block = self.multiple_block()?;
                self.medium(self.range28(fis)?, READ, Transfer::PioIn { block })?
            }
            READ_MULTIPLE_EXT => {
                let block = self.multiple_block()?;
                self.medium(self.range48(fis)?, READ, Transfer::PioIn { block })?
            }
            WRITE_DMA => self.medium(self.range28(fis)?, self.write(false), Transfer::Dma)?,
            WRITE_DMA_EXT => self.medium(self.range48(fis)?, self.write(false), Transfer::Dma)?,
            WRITE_DMA_FUA_EXT => {
                self.medium(self.range48(fis)?, self.write(true), Transfer::Dma)?
            }
            WRITE_SECTORS => {
                let transfer = Transfer::PioOut { block: sector };
                self.medium(self.range28(fis)?, self.write(false), transfer)?
            }
            WRITE_SECTORS_EXT => {
                let transfer = Transfer::PioOut { block: sector };
                self.medium(self.range48(fis)?, self.write(false), transfer)?
            }
            WRITE_MULTIPLE => {
                let transfer = Transfer::PioOut { block: self.multiple_block()? };
                self.medium(self.range28(fis)?, self.write(false), transfer)?
            }
            WRITE_MULTIPLE_EXT | WRITE_MULTIPLE_FUA_EXT => {
                let transfer = Transfer::PioOut { block: self.multiple_block()? };
                let fua = fis.command == WRITE_MULTIPLE_FUA_EXT;
                self.medium(self.range48(fis)?, self.write(fua), transfer)?
            }
            READ_FPDMA_QUEUED | WRITE_FPDMA_QUEUED => self.queued(fis, slot)?,
            READ_VERIFY => self.verify(self.range28(fis)?)?,
            READ_VERIFY_EXT => self.verify(self.range48(fis)?)?,
            FLUSH_CACHE | FLUSH_CACHE_EXT => Work::Flush,
            DATA_SET_MANAGEMENT => self.data_set_management(fis)?,
            READ_LOG_EXT => self.read_log(fis, Transfer::PioIn { block: 512 })?,
            READ_LOG_DMA_EXT => self.read_log(fis, Transfer::Dma)?,
            READ_NATIVE_MAX_ADDRESS => {
                let last = self.sectors().saturating_sub(1).min(ata::LBA28_END - 1);
                let device = ata::DEVICE_LBA | (last >> 24) as u8;
                Work::Done(Ending { lba: last & 0xFF_FFFF, device, ..Ending::done() })
            }
            READ_NATIVE_MAX_ADDRESS_EXT => Work::Done(Ending {
                lba: self.sectors().saturating_sub(1),
                device: ata::DEVICE_LBA,
                ..Ending::done()
            }),
            SMART => self.smart(fis)?,
            SET_FEATURES => self.set_features(fis)?,
            SET_MULTIPLE_MODE => self.set_multiple_mode(fis.count[0])?,
            EXECUTE_DEVICE_DIAGNOSTIC => Work::Done(Ending::announcement(signature::ATA, READY)),
            CHECK_POWER_MODE => {
                // Active, whatever the driver asked for.
                Work::Done(Ending { count: 0xFF, ..Ending::done() })
            }
            STANDBY_IMMEDIATE | IDLE_IMMEDIATE | STANDBY | IDLE | SLEEP => {
                Work::Done(Ending::done())
            }
            _ => return Err(Error::ABRT),
        })
    }

    fn give(&self, data: Vec<u8>, transfer: Transfer) -> Work {
        Work::Give { data, transfer, ending: Ending::done() }
    }

    /// Writes are stable when they end if asked for, or while the cache is off.
    fn write(&self, fua: bool) -> Operation {
        Operation::Write { fua: fua || !self.write_cache }
    }

    fn range28(&self, fis: &RegisterH2d) -> Result<Range, Error> {
        let count = if self.wide_counts { fis.count16() } else { u16::from(fis.count[0]) };
        let count = match count {
            0 => ata::MAX_SECTORS_28,
            count => u32::from(count),
        };
        self.checked(fis, fis.lba28(), count)
    }

    fn range48(&self, fis: &RegisterH2d) -> Result<Range, Error> {
        let count = match fis.count16() {
            0 => ata::MAX_SECTORS_48,
            count => u32::from(count),
        };
        self.checked(fis, fis.lba48(), count)
    }

    /// CHS addresses are no longer taken (ACS-3 4.1).
    fn checked(&self, fis: &RegisterH2d, lba: u64, sectors: u32) -> Result<Range, Error> {
        if fis.device & ata::DEVICE_LBA == 0 {
            return Err(Error::ABRT);
        }
        let range = Range { lba, sectors: u64::from(sectors) };
        let end = lba.checked_add(range.sectors).ok_or(Error::IDNF)?;
        if end > self.sectors() { Err(Error::IDNF | Error::ABRT) } else { Ok(range) }
    }

    fn medium(
        &self,
        range: Range,
        operation: Operation,
        transfer: Transfer,
    ) -> Result<Work, Error> {
        if operation != READ && self.info().read_only {
            return Err(Error::ABRT);
        }
        let sector = self.sector();
        let (offset, length) = (range.lba * sector, range.sectors * sector);
        Ok(Work::Medium { operation, offset, length, transfer })
    }

    /// READ and WRITE FPDMA QUEUED (ACS-3 7.23, 7.63): the count is in the features field, the tag
    /// in the count field; AHCI has the tag be the slot.
    fn queued(&mut self, fis: &RegisterH2d, slot: u8) -> Result<Work, Error> {
        if fis.count[0] >> 3 != slot {
            return Err(Error::ABRT);
        }
        let count = match fis.features16() {
            0 => ata::MAX_SECTORS_48,
            count => u32::from(count),
        };
        let range = self.checked(fis, fis.lba48(), count)?;
        let operation = match fis.command {
            command::READ_FPDMA_QUEUED => READ,
            _ => self.write(fis.device & ata::DEVICE_FUA != 0),
        };
        self.medium(range, operation, Transfer::Queued(slot))
    }

    fn verify(&self, _range: Range) -> Result<Work, Error> {
        Ok(Work::Done(Ending::done()))
    }

    fn multiple_block(&self) -> Result<u32, Error> {
        match self.multiple {
            0 => Err(Error::ABRT),
            count => Ok(u32::from(count) * self.sector() as u32),
        }
    }

    fn set_multiple_mode(&mut self, count: u8) -> Result<Work, Error> {
        if count > MAX_MULTIPLE || (count != 0 && !count.is_power_of_two()) {
            return Err(Error::ABRT);
        }
        self.multiple = count;
        Ok(Work::Done(Ending::done()))
    }

    fn data_set_management(&self, fis: &RegisterH2d) -> Result<Work, Error> {
        let blocks = fis.count16();
        let trims = fis.features16() == u16::from(trim::FEATURE);
        if !trims || !self.trims() || blocks == 0 || blocks > MAX_TRIM_BLOCKS {
            return Err(Error::ABRT);
        }
        if self.info().read_only {
            return Err(Error::ABRT);
        }
        Ok(Work::Take { length: u64::from(blocks) * 512, transfer: Transfer::Dma })
    }

    fn trims(&self) -> bool {
        let info = self.info();
        info.discard && !info.read_only
    }

    /// The data of DATA SET MANAGEMENT have come: what to discard, (offset, length) in bytes.
    pub fn taken(&mut self, fis: &RegisterH2d, data: &[u8]) -> Result<Vec<(u64, u64)>, Ending> {
        let sector = self.sector();
        let mut ranges = Vec::new();
        for entry in data.chunks_exact(8) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(entry);
            let entry = u64::from_le_bytes(bytes);
            let (lba, sectors) = (entry & ((1 << 48) - 1), entry >> 48);
            if sectors == 0 {
                continue;
            }
            if lba + sectors > self.sectors() {
                let error = Error::IDNF | Error::ABRT;
                return Err(Ending { lba: fis.lba48(), ..Ending::failed(error.bits()) });
            }
            ranges.push((lba * sector, sectors * sector));
        }
        Ok(ranges)
    }

    fn set_features(&mut self, fis: &RegisterH2d) -> Result<Work, Error> {
        match fis.features {
            set_features::TRANSFER_MODE => {
                if !identify::takes_mode(fis.count[0]) {
                    return Err(Error::ABRT);
                }
                self.mode = fis.count[0];
            }
            set_features::ENABLE_WRITE_CACHE if self.info().write_cache => {
                self.write_cache = true;
            }
            set_features::DISABLE_WRITE_CACHE => self.write_cache = false,
            set_features::ENABLE_READ_LOOK_AHEAD => self.look_ahead = true,
            set_features::DISABLE_READ_LOOK_AHEAD => self.look_ahead = false,
            _ => return Err(Error::ABRT),
        }
        Ok(Work::Done(Ending::done()))
    }

    /// The back end failed: what the driver is told, and for a queued command what the log keeps.
    /// A read is an uncorrectable error at its first sector; a write or flush is aborted with a
    /// device fault.
    pub fn failure(
        &mut self,
        fis: &RegisterH2d,
        operation: Operation,
        queued: Option<u8>,
        _error: BackendError,
    ) -> Ending {
        let lba = fis.lba48();
        let ending = match operation {
            Operation::Read => Ending { lba, ..Ending::failed(Error::UNC.bits()) },
            _ => {
                let failed = Ending::failed(Error::ABRT.bits());
                Ending { lba, status: failed.status | Status::DF.bits(), ..failed }
            }
        };
        if let Some(slot) = queued {
            self.queue_error = Some(QueueError::new(slot, fis, &ending));
        }
        ending
    }
}

const READ: Operation = Operation::Read;

fn refuse(error: Error) -> Work {
    Work::Done(Ending::failed(error.bits()))
}

/// Address and count of sectors that a command names, for the trace: 28-bit commands have a part of the
/// address in the device field, queued ones the count in the features field.
pub(super) fn place(fis: &RegisterH2d) -> (u64, u16) {
    use command::*;
    match fis.command {
        READ_FPDMA_QUEUED | WRITE_FPDMA_QUEUED => (fis.lba48(), fis.features16()),
        READ_DMA | READ_SECTORS | READ_MULTIPLE | READ_VERIFY | WRITE_DMA | WRITE_SECTORS
        | WRITE_MULTIPLE => (fis.lba28(), u16::from(fis.count[0])),
        _ => (fis.lba48(), fis.count16()),
    }
}
