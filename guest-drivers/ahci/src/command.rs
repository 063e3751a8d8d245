//! Requests as commands: the frame, the packet and the kind of each (ACS-3 7, MMC 6).

use xinim_abi::hw::ata::{self, DEVICE_FUA, DEVICE_LBA, command, trim};
use xinim_abi::hw::atapi::{self, FEATURE_DMA, PACKET_SIZE};
use xinim_abi::hw::sata::RegisterH2d;
use xinim_block_service::{Operation, Request};

use crate::drive::{Drive, Mode};

/// Which commands may be at the drive at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Queued ones, together with their like; PxSACT says when they end.
    Queued,
    /// Others that the HBA sends one after the other; PxCI says when they end.
    Plain,
    /// Alone.
    Solo,
}

/// PACKET's DMADIR in the features: from device to host.
const FEATURE_TO_HOST: u8 = 1 << 2;

/// A command to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    pub frame: RegisterH2d,
    pub packet: Option<[u8; PACKET_SIZE]>,
    /// Data go to the drive.
    pub write: bool,
    pub class: Class,
}

impl Command {
    fn new(code: u8, class: Class) -> Self {
        Self { frame: RegisterH2d::command(code), packet: None, write: false, class }
    }
}

/// Reads or writes without data phase of its own.
fn addressed(mut command: Command, drive: &Drive, lba: u64, count: u32) -> Command {
    let frame = &mut command.frame;
    frame.device = DEVICE_LBA;
    if drive.lba48 {
        frame.set_lba48(lba);
        // 65536 is written 0.
        frame.count = (count as u16).to_le_bytes();
    } else {
        let [a, b, c, d, ..] = lba.to_le_bytes();
        frame.lba_low = [a, b, c];
        frame.device |= d & 0x0F;
        // 256 is written 0.
        frame.count = [count as u8, 0];
    }
    command
}

/// The command for a request that passed `Unit::check`, to be sent in slot `tag`. `None` where nothing
/// has to be sent: a flush of a drive that has no such command.
pub fn command(drive: &Drive, request: &Request, tag: u8) -> Option<Command> {
    let per_sector = u64::from(drive.sector_size) / 512;
    let lba = request.sector / per_sector;
    let count = request.bytes / drive.sector_size;
    let write = request.operation == Operation::Write;
    let fua = request.fua() && drive.fua;
    match request.operation {
        Operation::Flush if drive.flush_ext => {
            Some(Command::new(command::FLUSH_CACHE_EXT, Class::Solo))
        }
        Operation::Flush if drive.flush => Some(Command::new(command::FLUSH_CACHE, Class::Solo)),
        Operation::Flush => None,
        Operation::Discard => {
            let mut command = Command::new(command::DATA_SET_MANAGEMENT, Class::Solo);
            command.frame.features = trim::FEATURE;
            command.frame.device = DEVICE_LBA;
            command.frame.count = [1, 0];
            command.write = true;
            Some(command)
        }
        // No unit of ours offers it.
        Operation::WriteZeroes => None,
        Operation::Read | Operation::Write => Some(match drive.mode {
            Mode::Queued(_) => {
                let code =
                    if write { command::WRITE_FPDMA_QUEUED } else { command::READ_FPDMA_QUEUED };
                let mut command = Command::new(code, Class::Queued);
                let [low, high] = (count as u16).to_le_bytes();
                command.frame.set_lba48(lba);
                command.frame.device = DEVICE_LBA | if fua { DEVICE_FUA } else { 0 };
                (command.frame.features, command.frame.features_high) = (low, high);
                command.frame.count = [tag << 3, 0];
                command.write = write;
                command
            }
            Mode::Dma => {
                let code = match (drive.lba48, write, fua) {
                    (true, false, _) => command::READ_DMA_EXT,
                    (true, true, false) => command::WRITE_DMA_EXT,
                    (true, true, true) => command::WRITE_DMA_FUA_EXT,
                    (false, false, _) => command::READ_DMA,
                    (false, true, _) => command::WRITE_DMA,
                };
                let command = Command { write, ..Command::new(code, Class::Plain) };
                addressed(command, drive, lba, count)
            }
            Mode::Pio => {
                let code = match (drive.lba48, write) {
                    (true, false) => command::READ_SECTORS_EXT,
                    (true, true) => command::WRITE_SECTORS_EXT,
                    (false, false) => command::READ_SECTORS,
                    (false, true) => command::WRITE_SECTORS,
                };
                let command = Command { write, ..Command::new(code, Class::Solo) };
                addressed(command, drive, lba, count)
            }
            Mode::Packet => {
                let mut packet = [0; PACKET_SIZE];
                packet[0] = atapi::op::READ_10;
                packet[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
                packet[7..9].copy_from_slice(&(count as u16).to_be_bytes());
                self::packet(drive, packet)
            }
        }),
    }
}

/// A packet command whose answer comes by DMA.
fn packet(drive: &Drive, packet: [u8; PACKET_SIZE]) -> Command {
    let mut command = Command::new(command::PACKET, Class::Solo);
    command.frame.features = FEATURE_DMA | if drive.dmadir { FEATURE_TO_HOST } else { 0 };
    command.packet = Some(packet);
    command
}

/// READ CAPACITY; eight bytes.
pub fn read_capacity(drive: &Drive) -> Command {
    let mut bytes = [0; PACKET_SIZE];
    bytes[0] = atapi::op::READ_CAPACITY;
    packet(drive, bytes)
}

/// IDENTIFY (PACKET) DEVICE; 512 bytes.
pub fn identify(packet: bool) -> Command {
    let code = if packet { command::IDENTIFY_PACKET_DEVICE } else { command::IDENTIFY_DEVICE };
    Command::new(code, Class::Solo)
}

/// READ LOG EXT of the NCQ error log; 512 bytes. It also ends the drive's error state (ACS-3 4.15.3).
pub fn read_error_log() -> Command {
    let mut command = Command::new(command::READ_LOG_EXT, Class::Solo);
    command.frame.lba_low = [ata::log::NCQ_ERROR, 0, 0];
    command.frame.count = [1, 0];
    command
}

/// The block of ranges for a DISCARD.
pub fn trim_ranges(drive: &Drive, request: &Request) -> [u8; 512] {
    let mut lba = request.sector / (u64::from(drive.sector_size) / 512);
    let mut left = request.bytes / drive.sector_size;
    let mut block = [0; 512];
    for range in block.chunks_exact_mut(8) {
        let count = left.min(0xFFFF) as u16;
        range.copy_from_slice(&trim::range(lba, count).to_le_bytes());
        if count == 0 {
            range.fill(0);
        }
        lba += u64::from(count);
        left -= u32::from(count);
    }
    block
}

/// The tag that failed, from the NCQ error log; `None`: the log blames no queued command, or is not
/// whole (all bytes add up to 0).
pub fn failed_tag(log: &[u8; 512]) -> Option<u8> {
    let sum = log.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    let queued = log[0] & ata::log::NCQ_ERROR_NQ == 0;
    (queued && sum == 0).then_some(log[0] & ata::log::NCQ_ERROR_TAG)
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
