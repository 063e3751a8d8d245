//! What lies in memory between a port and its HBA (AHCI 4.2): command list, received FISes, command
//! tables; and two buffers of the driver's own, for answers and for ranges to trim.
//!
//! The driver never waits for a register where memory tells as much: the HBA copies every FIS that
//! ends a command into the received area *before* it raises the interrupt, so a type byte that the
//! driver had cleared and finds set again says that it is time to read PxCI or PxSACT.

use xinim_abi::error::Result;
use xinim_abi::hw::ahci::{
    COMMAND_HEADER_SIZE, COMMAND_LIST_ALIGN, COMMAND_LIST_SIZE, CommandHeader, HeaderFlags, Prd,
    RECEIVED_FIS_ALIGN, RECEIVED_FIS_SIZE, received, table,
};
use xinim_abi::hw::sata::RegisterH2d;
use xinim_driver_kit::{Carver, Constraints, Dma, DmaBuffer, Segment, SharedMemory, Slice};

use crate::command::Command;

/// Entries of a command's PRDT: 284 KiB in scattered pages, starting anywhere.
pub const PRDS: usize = 72;
const TABLE_SIZE: usize = table::PRDT + PRDS * table::PRD_SIZE;
/// Bytes of each of the driver's own buffers.
pub const BLOCK: usize = 512;

const _: () = assert!(TABLE_SIZE.is_multiple_of(table::ALIGN));

/// Where FISes that end commands are put, and the type byte of each.
const ENDING: [usize; 3] = [received::PIO_SETUP, received::REGISTER, received::SET_DEVICE_BITS];

/// The memory of one port.
pub struct PortMemory<B> {
    list: Slice<B>,
    received: Slice<B>,
    tables: Slice<B>,
    answer: Slice<B>,
    ranges: Slice<B>,
}

/// Entries of a PRDT that `data` need.
pub fn entries(data: &[Segment]) -> usize {
    data.iter().map(|segment| segment.len.div_ceil(Prd::MAX) as usize).sum()
}

impl<B: DmaBuffer> PortMemory<B> {
    /// For `slots` command slots; below 4 GiB unless the HBA has 64-bit addresses (`wide`).
    pub fn new<D: Dma<Buffer = B>>(dma: &D, slots: usize, wide: bool) -> Result<Self> {
        let ring = if wide { Constraints::RING } else { Constraints::RING.below_4g() };
        let len = COMMAND_LIST_SIZE + RECEIVED_FIS_SIZE + slots * TABLE_SIZE + 2 * BLOCK;
        let mut carver = Carver::within(dma, len, ring)?;
        Ok(Self {
            list: carver.take(COMMAND_LIST_SIZE, COMMAND_LIST_ALIGN)?,
            received: carver.take(RECEIVED_FIS_SIZE, RECEIVED_FIS_ALIGN)?,
            tables: carver.take(slots * TABLE_SIZE, table::ALIGN)?,
            answer: carver.take(BLOCK, 2)?,
            ranges: carver.take(BLOCK, 2)?,
        })
    }

    /// PxCLB and PxFB.
    pub fn addresses(&self) -> (u64, u64) {
        (self.list.device_address(0).address, self.received.device_address(0).address)
    }

    /// Writes the table and the header of `slot`. The HBA may own no command in it.
    ///
    /// # Panics
    /// If `data` need more than [`PRDS`] entries.
    pub fn prepare(&self, slot: u8, command: &Command, data: &[Segment]) {
        let base = usize::from(slot) * TABLE_SIZE;
        self.tables.write_bytes(base, &[0; table::PRDT]);
        self.tables.write_value(base + table::CFIS, &command.frame);
        if let Some(packet) = &command.packet {
            self.tables.write_bytes(base + table::ACMD, packet);
        }
        let mut count = 0;
        for segment in data {
            for at in (0..segment.len).step_by(Prd::MAX as usize) {
                assert!(count < PRDS, "more entries than a table has");
                let len = (segment.len - at).min(Prd::MAX);
                let prd = Prd::new(segment.address + u64::from(at), len);
                self.tables.write_value(base + table::PRDT + count * table::PRD_SIZE, &prd);
                count += 1;
            }
        }
        let mut flags = HeaderFlags::empty();
        flags.set(HeaderFlags::WRITE, command.write);
        flags.set(HeaderFlags::ATAPI, command.packet.is_some());
        let table = self.tables.device_address(base).address;
        let header = CommandHeader {
            flags: flags.bits() | RegisterH2d::DWORDS,
            prdtl: count as u16,
            prdbc: 0,
            ctba: table as u32,
            ctbau: (table >> 32) as u32,
            reserved: [0; 4],
        };
        self.list.write_value(usize::from(slot) * COMMAND_HEADER_SIZE, &header);
    }

    /// Bytes the HBA says it moved for the command in `slot`; means nothing for queued ones.
    pub fn transferred(&self, slot: u8) -> u32 {
        self.list.load_u32(usize::from(slot) * COMMAND_HEADER_SIZE + 4)
    }

    /// Whether a FIS that may end a command came since [`clear_fis`](Self::clear_fis).
    pub fn fis_seen(&self) -> bool {
        ENDING.iter().any(|&at| self.received.load_u32(at) & 0xFF != 0)
    }

    /// To be called before the registers are read: what comes later is seen again.
    pub fn clear_fis(&self) {
        for at in ENDING {
            self.received.store_u32(at, 0);
        }
    }

    /// `len` bytes of the buffer for answers, for the device.
    pub fn answer_segment(&self, len: u32) -> Segment {
        Segment { address: self.answer.device_address(0).address, len }
    }

    /// What the device put there.
    pub fn answer(&self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        self.answer.read_bytes(0, &mut bytes);
        bytes
    }

    /// So that an answer that did not come is not the last one.
    pub fn clear_answer(&self) {
        self.answer.write_bytes(0, &[0; BLOCK]);
    }

    /// Puts ranges to trim there for the device.
    pub fn ranges_segment(&self, ranges: &[u8; BLOCK]) -> Segment {
        self.ranges.write_bytes(0, ranges);
        Segment { address: self.ranges.device_address(0).address, len: BLOCK as u32 }
    }
}
