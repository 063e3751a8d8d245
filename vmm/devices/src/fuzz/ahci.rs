//! A hostile driver, and a host that plugs, ejects, fails and takes its time, around the AHCI model.

use super::{DISK, Input, MEMORY, STEPS};
use crate::ahci::{Ahci, AhciConfig};
use crate::backend::{Drive, DriveBays, Medium};
use crate::bus::lock;
use crate::device::{Access, Action, Origin};
use crate::dma::Dma;
use crate::irq::{NoIrq, NoMsi};
use crate::pci::PciDevice;
use crate::testing::{FlatMemory, MemoryDisk};
use std::sync::{Arc, Mutex};
use xinim_abi::hw::ahci::{self as hw, CommandHeader, Prd, table};
use xinim_abi::hw::ata::command;
use xinim_abi::hw::sata::RegisterH2d;
use zerocopy::IntoBytes;

/// Base addresses the harness's own set-up uses.
const CLB: u64 = 0x400;
const FB: u64 = 0x800;
const TABLES: u64 = 0x1000;
const TABLE_SIZE: u64 = 0x200;
const PORTS: u16 = 3;

/// Commands worth trying more often than others.
const COMMANDS: [u8; 20] = [
    command::READ_FPDMA_QUEUED,
    command::WRITE_FPDMA_QUEUED,
    command::READ_DMA,
    command::WRITE_DMA_EXT,
    command::READ_SECTORS_EXT,
    command::WRITE_SECTORS,
    command::READ_MULTIPLE,
    command::WRITE_MULTIPLE_EXT,
    command::SET_MULTIPLE_MODE,
    command::IDENTIFY_DEVICE,
    command::IDENTIFY_PACKET_DEVICE,
    command::PACKET,
    command::PACKET,
    command::PACKET,
    command::DATA_SET_MANAGEMENT,
    command::READ_LOG_EXT,
    command::SMART,
    command::SET_FEATURES,
    command::FLUSH_CACHE_EXT,
    command::DEVICE_RESET,
];

/// First bytes of packets worth trying.
const PACKETS: [u8; 12] = [0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x43, 0x46, 0xA8, 0xBE];

struct Harness {
    hba: Ahci,
    memory: Arc<FlatMemory>,
    /// The disk of port 0, the disc of port 1, the disk that comes and goes at port 2.
    disks: [Arc<Mutex<MemoryDisk>>; 3],
}

/// A controller with a disk and a CD-ROM drive, then what `data` says. Nothing beyond the end of a
/// disk is asked for, nothing read-only changes, and a reset ends when the host has no more
/// requests.
pub fn ahci(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut harness) = Harness::new(&mut input) else { return };
    for port in 0..PORTS {
        harness.start(port);
    }
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        harness.step(&mut input);
    }
    harness.judge();
}

impl Harness {
    fn new(input: &mut Input<'_>) -> Option<Self> {
        let memory = FlatMemory::new(0, MEMORY);
        let mut setup = AhciConfig::new("ahci", memory.clone(), Arc::new(NoMsi));
        setup.ports = PORTS as u8;
        setup.intx = Some(Arc::new(NoIrq));
        let flags = input.byte();
        setup.staggered_spin_up = flags & 1 != 0;
        setup.bios_owned = flags & 2 != 0;
        setup.qemu_dialect = flags & 4 != 0;
        let disk = |read_only| MemoryDisk {
            read_only,
            held: flags & 8 != 0,
            shuffle: (flags & 16 != 0).then_some(u64::from(flags)),
            ..MemoryDisk::new(DISK)
        };
        let disks = [disk(flags & 32 != 0), disk(true), disk(false)];
        let disks = disks.map(|disk| Arc::new(Mutex::new(disk)));
        let mut hba = Ahci::new(setup).ok()?;
        for (unit, medium) in [(0, Medium::Disk), (1, Medium::CdRom)] {
            hba.install(unit, drive(&disks[usize::from(unit)], medium), None).ok()?;
        }
        hba.config_access(Access::write(4, 2, 6));
        Some(Self { hba, memory, disks })
    }

    fn write(&mut self, offset: u64, size: u8, value: u64) {
        let mut action = self.hba.bar_access(5, Access::write(offset, size, value)).action;
        while let Some(Action::NotifyAgain { queue, .. }) = action {
            if !self.hba.notify_queue(queue, &Origin::default()) {
                action = None;
            }
        }
    }

    fn set(&mut self, port: u16, register: usize, value: u32) {
        let at = hw::PORT_BASE + usize::from(port) * hw::PORT_SIZE + register;
        self.write(at as u64, 4, u64::from(value));
    }

    fn start(&mut self, port: u16) {
        self.set(port, hw::PX_CLB, CLB as u32);
        self.set(port, hw::PX_FB, FB as u32);
        self.set(port, hw::PX_CMD, 0x12);
        self.set(port, hw::PX_SERR, u32::MAX);
        self.set(port, hw::PX_IE, u32::MAX);
        self.set(port, hw::PX_CMD, 0x13);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let port = u16::from(input.byte()) % PORTS;
        let disk = self.disks[usize::from(port)].clone();
        match input.byte() % 16 {
            0..=5 => self.command(port, input),
            6 => {
                let (offset, size) = (u64::from(input.u16()) % 0x300, 1 << (input.byte() % 4));
                let value = input.u64();
                if offset.is_multiple_of(u64::from(size)) {
                    self.write(offset, size, value);
                }
            }
            7 => {
                let offset = (u64::from(input.u16()) % 0x300) & !3;
                self.hba.bar_access(5, Access::read(offset, 4));
            }
            8 => self.start(port),
            9 => {
                let _outside = self.memory.write(input.address(), &input.u64().to_le_bytes());
            }
            10 => {
                self.finish(usize::from(port), usize::from(input.byte()));
            }
            11 => lock(&disk).failing = input.byte().is_multiple_of(4),
            12 => lock(&disk).held = input.byte().is_multiple_of(2),
            13 => {
                let medium = if port == 1 { Medium::CdRom } else { Medium::Disk };
                let _occupied = self.hba.attach(port, drive(&disk, medium), &Origin::default());
            }
            14 => {
                let _vacant = match input.byte() % 4 {
                    0 => self.hba.insert(port, Box::new(disk), &Origin::default()),
                    1 => self.hba.eject(port, true, &Origin::default()),
                    2 => self.hba.move_tray(port, input.byte().is_multiple_of(2)),
                    _ => self.hba.detach(port, &Origin::default()),
                };
            }
            _ => {
                let (offset, value) = (u64::from(input.byte()) & !3, input.u64());
                self.hba.config_access(Access::write(offset, 4, value & 0xFFFF_FFFF));
                // Usually it stays able to work.
                if !input.byte().is_multiple_of(8) {
                    self.hba.config_access(Access::write(4, 2, 6));
                }
            }
        }
    }

    /// A command that is mostly well formed.
    fn command(&mut self, port: u16, input: &mut Input<'_>) {
        let slot = input.byte() % 32;
        let code = match input.byte() {
            any if any >= 240 => input.byte(),
            known => COMMANDS[usize::from(known) % COMMANDS.len()],
        };
        let at = TABLES + TABLE_SIZE * u64::from(slot);
        let mut fis = RegisterH2d::command(code);
        fis.device = 0x40;
        fis.set_lba48(u64::from(input.byte()));
        let count = input.byte() % 16;
        fis.count = [count, 0];
        if matches!(code, command::READ_FPDMA_QUEUED | command::WRITE_FPDMA_QUEUED) {
            fis.features = count;
            fis.count[0] = slot << 3;
            self.set(port, hw::PX_SACT, 1 << slot);
        } else {
            fis.features = input.byte();
        }
        let mut packet = [0; 12];
        packet[0] = PACKETS[usize::from(input.byte()) % PACKETS.len()];
        for byte in &mut packet[1..] {
            *byte = input.byte() % 8;
        }
        let regions = input.byte() % 8;
        for index in 0..u64::from(regions) {
            let prd = Prd { dbc: input.length() | 1, ..Prd::new(input.address(), 2) };
            let _inside = self.memory.write(at + 0x80 + 16 * index, prd.as_bytes());
        }
        let odd = input.byte();
        if odd == 0 {
            fis.flags = 0;
            fis.control = input.byte();
        }
        let header = CommandHeader {
            flags: if odd == 1 { input.u16() } else { 5 },
            prdtl: if odd == 2 { input.u16() } else { u16::from(regions) },
            ctba: at as u32,
            ..CommandHeader::default()
        };
        let _inside = self.memory.write(at, fis.as_bytes());
        let _inside = self.memory.write(at + table::ACMD as u64, &packet);
        let _inside = self.memory.write(CLB + 32 * u64::from(slot), header.as_bytes());
        self.set(port, hw::PX_CI, 1 << slot);
    }

    fn finish(&mut self, disk: usize, index: usize) -> bool {
        let memory = self.memory.clone();
        let any = lock(&self.disks[disk]).finish(index, &*memory);
        for port in 0..PORTS {
            while self.hba.ready(port, &Origin::default()) {}
        }
        any
    }

    fn judge(&mut self) {
        self.hba.config_access(Access::write(4, 2, 6));
        self.write(hw::GHC as u64, 4, 1);
        for disk in 0..self.disks.len() {
            while self.finish(disk, 0) {}
        }
        for port in 0..PORTS {
            while self.hba.ready(port, &Origin::default()) {}
        }
        let control = self.hba.bar_access(5, Access::read(hw::GHC as u64, 4)).value;
        assert_eq!(control & 1, 0, "a reset never ends");
        for disk in &self.disks {
            let disk = lock(disk);
            assert_eq!(disk.violations, 0, "a request beyond the end reached the disk");
            let blank = disk.data.iter().all(|&byte| byte == 0);
            assert!(blank || !disk.read_only, "a read-only disk was written");
        }
    }
}

fn drive(disk: &Arc<Mutex<MemoryDisk>>, medium: Medium) -> Drive {
    Drive { backend: Some(Box::new(disk.clone())), medium, serial: String::from("fuzz") }
}
