//! A hostile driver, and a host that plugs, ejects, fails and takes its time, around the AHCI model.

use std::sync::{Arc, Mutex};

use xinim_abi::hw::ahci::{self as hw, CommandHeader, Prd, table};
use xinim_abi::hw::ata::command;
use xinim_abi::hw::sata::RegisterH2d;
use xinim_devices::ahci::{Ahci, AhciConfig};
use xinim_devices::backend::{BlockBackend, Drive, DriveBays, Medium};
use xinim_devices::bus::lock;
use xinim_devices::device::{Access, Action, Origin};
use xinim_devices::dma::Dma;
use xinim_devices::pci::PciDevice;
use xinim_devices::testing::{FlatMemory, MemoryDisk};
use xinim_record::{AhciManner, Call, Kind, recorded};
use zerocopy::IntoBytes;

use crate::input::Input;
use crate::stage::{Function, Stage};
use crate::{DISK, STEPS};

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
    hba: Function<Ahci>,
    memory: Arc<FlatMemory>,
    /// The disk of port 0, the disc of port 1, the disk that comes and goes at port 2.
    disks: [Arc<Mutex<MemoryDisk>>; 3],
}

/// A controller with a disk and a CD-ROM drive, then what `data` says. Nothing beyond the end of a
/// disk is asked for, nothing read-only changes, and a reset ends when the host has no more
/// requests.
pub fn ahci(stage: &Stage, input: &mut Input<'_>) {
    let Some(mut harness) = Harness::new(stage, input) else { return };
    for port in 0..PORTS {
        harness.start(port);
    }
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        harness.step(input);
    }
    harness.judge();
}

impl Harness {
    fn new(stage: &Stage, input: &mut Input<'_>) -> Option<Self> {
        let flags = input.byte();
        let manner = AhciManner {
            staggered_spin_up: flags & 1 != 0,
            bios_owned: flags & 2 != 0,
            qemu_dialect: flags & 4 != 0,
        };
        let disk = |read_only| MemoryDisk {
            read_only,
            held: flags & 8 != 0,
            shuffle: (flags & 16 != 0).then_some(u64::from(flags)),
            ..MemoryDisk::new(DISK)
        };
        let disks = [disk(flags & 32 != 0), disk(true), disk(false)];
        let disks = disks.map(|disk| Arc::new(Mutex::new(disk)));
        let there = [(0, Medium::Disk), (1, Medium::CdRom)];
        let spec =
            |(unit, medium)| recorded::describe(unit, &drive(Box::new(disks[0].clone()), medium));
        let drives = there.map(spec).to_vec();
        let kind = Kind::Ahci { ports: PORTS as u8, drives, intx: true, manner };
        let tape = stage.tape("ahci.0", kind);
        let mut hba = Ahci::new(AhciConfig {
            ports: PORTS as u8,
            staggered_spin_up: manner.staggered_spin_up,
            bios_owned: manner.bios_owned,
            qemu_dialect: manner.qemu_dialect,
            intx: Some(stage.line(&tape)),
            tracer: stage.tracer.clone(),
            ..AhciConfig::new("ahci.0", stage.dma(&tape), stage.msi(&tape))
        })
        .ok()?;
        for (unit, medium) in there {
            let disk = stage.disk(&tape, unit, &disks[usize::from(unit)]);
            hba.install(unit, drive(disk, medium), None).ok()?;
        }
        let mut hba = stage.function(hba, tape);
        hba.config_access(Access::write(4, 2, 6));
        Some(Self { hba, memory: stage.memory.clone(), disks })
    }

    fn write(&mut self, offset: u64, size: u8, value: u64) {
        let mut action = self.hba.bar_access(5, Access::write(offset, size, value)).action;
        while let Some(Action::NotifyAgain { queue, .. }) = action {
            if !self.hba.device.notify_queue(queue, &Origin::default()) {
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
                let _occupied =
                    self.hba.device.attach(port, drive(Box::new(disk), medium), &Origin::default());
            }
            14 => {
                let _vacant = match input.byte() % 4 {
                    0 => self.hba.device.insert(port, Box::new(disk), &Origin::default()),
                    1 => self.hba.device.eject(port, true, &Origin::default()),
                    2 => {
                        let open = input.byte().is_multiple_of(2);
                        self.tray(port, open);
                        Ok(())
                    }
                    _ => self.hba.device.detach(port, &Origin::default()),
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

    fn tray(&mut self, unit: u16, open: bool) {
        let call = Call::Tray { unit, open };
        self.hba.device.run(call, |hba| hba.move_tray(unit, open).is_ok());
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
            while self.hba.device.ready(port, &Origin::default()) {}
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
            while self.hba.device.ready(port, &Origin::default()) {}
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

fn drive(disk: Box<dyn BlockBackend>, medium: Medium) -> Drive {
    Drive { backend: Some(disk), medium, serial: String::from("fuzz") }
}
