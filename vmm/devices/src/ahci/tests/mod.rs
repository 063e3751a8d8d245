//! The controller under a small driver of the test's own.

mod atapi;
mod commands;
mod errors;
mod hba;
mod hot_plug;
mod queued;

use super::*;
use crate::backend::Medium;
use crate::bus::lock;
use crate::device::{Access, Op};
use crate::irq::NoIrq;
use crate::testing::{FlatMemory, MemoryDisk, MsiLog};
use std::sync::Mutex;
use xinim_abi::hw::ahci::{CommandHeader, HeaderFlags, PortCmd, PortInterrupt, Prd, table};
use xinim_abi::hw::ata::command;
use xinim_abi::hw::sata::RegisterH2d;
use zerocopy::IntoBytes;

pub const MEMORY: usize = 1 << 20;
pub const CLB: u64 = 0x1000;
pub const FB: u64 = 0x2000;
const TABLES: u64 = 0x4000;
/// Room for a command table with 120 regions.
const TABLE_SIZE: u64 = 0x800;
/// Where tests put their data.
pub const DATA: u64 = 0x4_0000;
pub const SECTORS: usize = 256;
pub const READY_D2H: u32 = 0x50;

pub struct Rig {
    pub hba: Ahci,
    pub memory: Arc<FlatMemory>,
    pub msi: Arc<MsiLog>,
    pub disk: Arc<Mutex<MemoryDisk>>,
}

/// A command for [`Rig::issue`].
#[derive(Clone)]
pub struct Cmd {
    pub fis: RegisterH2d,
    pub regions: Vec<(u64, u32)>,
    pub flags: HeaderFlags,
    pub packet: [u8; 12],
}

impl Cmd {
    pub fn new(code: u8) -> Self {
        let mut fis = RegisterH2d::command(code);
        fis.device = 0x40;
        Self { fis, regions: Vec::new(), flags: HeaderFlags::empty(), packet: [0; 12] }
    }

    /// A 28- or 48-bit command over `count` sectors at `lba`, data at [`DATA`].
    pub fn at(code: u8, lba: u64, count: u16) -> Self {
        let mut cmd = Self::new(code).region(DATA, u32::from(count) * 512);
        cmd.fis.set_lba48(lba);
        cmd.fis.count = count.to_le_bytes();
        cmd
    }

    /// READ or WRITE FPDMA QUEUED with this tag.
    pub fn queued(code: u8, tag: u8, lba: u64, count: u16) -> Self {
        let mut cmd = Self::at(code, lba, count);
        [cmd.fis.features, cmd.fis.features_high] = count.to_le_bytes();
        cmd.fis.count = [tag << 3, 0];
        cmd
    }

    pub fn region(mut self, address: u64, bytes: u32) -> Self {
        self.regions.push((address, bytes));
        self
    }

    pub fn features(mut self, features: u8) -> Self {
        self.fis.features = features;
        self
    }

    pub fn count(mut self, count: u16) -> Self {
        self.fis.count = count.to_le_bytes();
        self
    }
}

impl Rig {
    /// A started port 0 with a disk of [`SECTORS`] sectors, each filled with its number.
    pub fn new() -> Self {
        Self::with(|_| (), Medium::Disk)
    }

    pub fn with(change: impl FnOnce(&mut AhciConfig), medium: Medium) -> Self {
        let mut rig = Self::cold(change, Some(medium));
        rig.start(0);
        rig
    }

    /// As after power-on.
    pub fn cold(change: impl FnOnce(&mut AhciConfig), medium: Option<Medium>) -> Self {
        let memory = FlatMemory::new(0, MEMORY);
        let msi = MsiLog::new();
        let mut setup = AhciConfig::new("ahci", memory.clone(), msi.clone());
        setup.intx = Some(Arc::new(NoIrq));
        change(&mut setup);
        let mut hba = Ahci::new(setup).unwrap();
        let mut data = MemoryDisk::new(SECTORS * 512);
        for (number, sector) in data.data.chunks_mut(512).enumerate() {
            sector.fill(number as u8);
        }
        let disk = Arc::new(Mutex::new(data));
        if let Some(medium) = medium {
            hba.install(0, drive(&disk, medium), None).unwrap();
        }
        hba.config_access(Access::write(0x04, 2, 6));
        Self { hba, memory, msi, disk }
    }

    pub fn reg(&mut self, offset: usize) -> u32 {
        self.hba.bar_access(5, Access::read(offset as u64, 4)).value as u32
    }

    pub fn set(&mut self, offset: usize, value: u32) -> Outcome {
        self.hba.bar_access(5, Access::write(offset as u64, 4, u64::from(value)))
    }

    pub fn px(&mut self, register: usize) -> u32 {
        self.reg(0x100 + register)
    }

    pub fn set_px(&mut self, register: usize, value: u32) -> Outcome {
        let mut outcome = self.set(0x100 + register, value);
        while let Some(Action::NotifyAgain { queue, .. }) = outcome.action {
            if !self.hba.notify_queue(queue, &Origin::default()) {
                outcome.action = None;
            }
        }
        outcome
    }

    pub fn is(&mut self) -> PortInterrupt {
        PortInterrupt::from_bits_retain(self.px(hw::PX_IS))
    }

    pub fn clear(&mut self) {
        self.set_px(hw::PX_SERR, u32::MAX);
        self.set_px(hw::PX_IS, u32::MAX);
        self.set(hw::IS, u32::MAX);
    }

    /// Memory areas, FIS reception, command list; everything cleared and unmasked.
    pub fn start(&mut self, _port: usize) {
        self.set_px(hw::PX_CLB, CLB as u32);
        self.set_px(hw::PX_FB, FB as u32);
        self.set_px(hw::PX_CMD, (PortCmd::FRE | PortCmd::SUD).bits());
        self.clear();
        self.set_px(hw::PX_IE, u32::MAX);
        self.set(hw::GHC, 0x8000_0002);
        self.set_px(hw::PX_CMD, (PortCmd::ST | PortCmd::FRE | PortCmd::SUD).bits());
    }

    pub fn restart(&mut self) {
        self.set_px(hw::PX_CMD, (PortCmd::FRE | PortCmd::SUD).bits());
        self.clear();
        self.set_px(hw::PX_CMD, (PortCmd::ST | PortCmd::FRE | PortCmd::SUD).bits());
    }

    /// Writes header and table of a slot.
    pub fn prepare(&mut self, slot: u8, cmd: &Cmd) {
        let at = TABLES + TABLE_SIZE * u64::from(slot);
        self.memory.write(at, cmd.fis.as_bytes()).unwrap();
        self.memory.write(at + table::ACMD as u64, &cmd.packet).unwrap();
        for (index, (address, bytes)) in cmd.regions.iter().enumerate() {
            let mut prd = Prd::new(*address, *bytes);
            prd.dbc |= Prd::INTERRUPT;
            let place = at + table::PRDT as u64 + 16 * index as u64;
            self.memory.write(place, prd.as_bytes()).unwrap();
        }
        let header = CommandHeader {
            flags: RegisterH2d::DWORDS | cmd.flags.bits(),
            prdtl: cmd.regions.len() as u16,
            ctba: at as u32,
            ..CommandHeader::default()
        };
        self.memory.write(CLB + 32 * u64::from(slot), header.as_bytes()).unwrap();
    }

    pub fn issue(&mut self, slot: u8, cmd: &Cmd) {
        self.prepare(slot, cmd);
        if matches!(cmd.fis.command, command::READ_FPDMA_QUEUED | command::WRITE_FPDMA_QUEUED) {
            self.set_px(hw::PX_SACT, 1 << slot);
        }
        self.set_px(hw::PX_CI, 1 << slot);
    }

    /// Issues in slot 0 and expects success; bytes the header says were moved.
    pub fn ok(&mut self, cmd: &Cmd) -> u32 {
        self.issue(0, cmd);
        let (ci, tfd) = (self.px(hw::PX_CI), self.px(hw::PX_TFD));
        assert_eq!((ci, tfd), (0, READY_D2H), "command {:#x}", cmd.fis.command);
        self.moved(0)
    }

    /// Issues in slot 0 and expects the device to refuse with this error register; restarts.
    pub fn refused(&mut self, cmd: &Cmd) -> u8 {
        self.issue(0, cmd);
        let tfd = self.px(hw::PX_TFD);
        assert_eq!(tfd & 0x81, 1, "command {:#x} was not refused", cmd.fis.command);
        assert_eq!(self.px(hw::PX_CI), 1, "a failed command keeps its slot");
        assert!(self.is().contains(PortInterrupt::TFES));
        self.restart();
        (tfd >> 8) as u8
    }

    pub fn moved(&mut self, slot: u8) -> u32 {
        let bytes = self.memory.dump(CLB + 32 * u64::from(slot) + 4, 4);
        u32::from_le_bytes(bytes.try_into().unwrap())
    }

    pub fn data(&self, bytes: usize) -> Vec<u8> {
        self.memory.dump(DATA, bytes)
    }

    pub fn frame(&self, at: usize, bytes: usize) -> Vec<u8> {
        self.memory.dump(FB + at as u64, bytes)
    }

    /// Carries out the `index`th waiting request and tells the controller.
    pub fn finish(&mut self, index: usize) {
        let memory = self.memory.clone();
        assert!(lock(&self.disk).finish(index, &*memory), "nothing waits");
        self.hba.ready(0, &Origin::default());
    }

    pub fn hold(&mut self, held: bool) {
        lock(&self.disk).held = held;
    }
}

pub fn drive(disk: &Arc<Mutex<MemoryDisk>>, medium: Medium) -> Drive {
    Drive { backend: Some(Box::new(disk.clone())), medium, serial: String::from("S1") }
}

/// A word of IDENTIFY data.
pub fn word(data: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([data[2 * index], data[2 * index + 1]])
}

/// Reads of every width for the tests of registers.
pub fn access(hba: &mut Ahci, offset: u64, size: u8, op: Op) -> Outcome {
    hba.bar_access(5, Access { op, ..Access::read(offset, size) })
}
