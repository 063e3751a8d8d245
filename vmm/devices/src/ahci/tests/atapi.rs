//! The CD-ROM drive.

use super::*;
use xinim_abi::hw::ahci::{received, signature};
use xinim_abi::hw::ata::identify;
use xinim_abi::hw::atapi::op;

fn rig() -> Rig {
    let mut rig = Rig::with(|_| (), Medium::CdRom);
    // 64 blocks of 2048 bytes, each filled with its number.
    let mut disk = lock(&rig.disk);
    disk.read_only = true;
    for (number, block) in disk.data.chunks_mut(2048).enumerate() {
        block.fill(number as u8);
    }
    drop(disk);
    rig.clear();
    rig
}

/// A packet by PIO in blocks of 2048, with `room` bytes at [`DATA`].
fn packet(cdb: &[u8], room: u32) -> Cmd {
    let mut cmd = Cmd::new(command::PACKET);
    cmd.packet[..cdb.len()].copy_from_slice(cdb);
    cmd.flags = HeaderFlags::ATAPI;
    cmd.fis.lba_low = [0, 0, 8];
    if room > 0 { cmd.region(DATA, room) } else { cmd }
}

fn read10(first: u32, count: u16) -> Cmd {
    let mut cdb = [op::READ_10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    cdb[2..6].copy_from_slice(&first.to_be_bytes());
    cdb[7..9].copy_from_slice(&count.to_be_bytes());
    packet(&cdb, u32::from(count) * 2048)
}

/// Sense key and code of a command that fails.
fn sense_of(rig: &mut Rig, cmd: &Cmd) -> (u8, u8) {
    let key = rig.refused(cmd) >> 4;
    assert_eq!(rig.ok(&packet(&[op::REQUEST_SENSE, 0, 0, 0, 18], 18)), 18);
    let sense = rig.data(18);
    assert_eq!((sense[0], sense[2]), (0x70, key));
    (key, sense[12])
}

const READY: [u8; 1] = [op::TEST_UNIT_READY];

#[test]
fn the_drive_announces_and_identifies_itself() {
    let mut rig = rig();
    assert_eq!(rig.px(hw::PX_SIG), signature::ATAPI);
    assert_eq!(rig.ok(&Cmd::new(command::IDENTIFY_PACKET_DEVICE).region(DATA, 512)), 512);
    let data = rig.data(512);
    assert_eq!(word(&data, identify::GENERAL), 0x85C0);
    assert_eq!(rig.refused(&Cmd::new(command::IDENTIFY_DEVICE).region(DATA, 512)), 4);
    assert_eq!(rig.frame(received::REGISTER + 5, 2), [0x14, 0xEB], "signature");
    let mut inquiry = packet(&[op::INQUIRY, 0, 0, 0, 36], 36);
    assert_eq!(rig.ok(&inquiry), 36);
    assert_eq!(rig.data(32)[..8], [5, 0x80, 5, 2, 31, 0, 0, 0]);
    assert_eq!(&rig.data(32)[8..22], b"XINIM   CD-ROM");
    inquiry.packet[1] = 1;
    inquiry.packet[2] = 0x80;
    assert_eq!(rig.ok(&inquiry), 6);
    assert_eq!(rig.data(6), [5, 0x80, 0, 2, b'S', b'1']);
    rig.done(&Cmd::new(command::DEVICE_RESET));
    assert_eq!(rig.px(hw::PX_TFD), 0x100);
}

impl Rig {
    /// As `ok`, for drives whose status is not checked (DRDY is clear after a reset).
    fn done(&mut self, cmd: &Cmd) {
        self.issue(0, cmd);
        assert_eq!(self.px(hw::PX_CI), 0);
    }
}

#[test]
fn blocks_are_read_by_pio_and_dma() {
    let mut rig = rig();
    for dma in [false, true] {
        let mut cmd = read10(5, 3);
        cmd.fis.features = u8::from(dma);
        rig.memory.write(DATA, &[0; 6144]).unwrap();
        rig.clear();
        assert_eq!(rig.ok(&cmd), 6144);
        let data = rig.data(6144);
        assert_eq!((data[0], data[2048], data[6143]), (5, 6, 7));
        let mut expected = PortInterrupt::DHRS | PortInterrupt::DPS;
        expected.set(PortInterrupt::PSS, !dma);
        assert_eq!(rig.is(), expected);
        let size = if dma { 12 } else { 2048u16 };
        assert_eq!(rig.frame(received::PIO_SETUP + 16, 2), size.to_le_bytes());
    }
    let mut cmd = packet(&[op::READ_12, 0, 0, 0, 0, 63, 0, 0, 0, 1], 2048);
    assert_eq!(rig.ok(&cmd), 2048);
    assert_eq!(rig.data(1), [63]);
    cmd.packet[9] = 2;
    assert_eq!(sense_of(&mut rig, &cmd), (5, 0x21), "beyond the end");
}

#[test]
fn raw_sectors_have_sync_and_header() {
    let mut rig = rig();
    let cdb = [op::READ_CD, 0, 0, 0, 0, 2, 0, 0, 3, 0xF8];
    let mut cmd = packet(&cdb, 3 * 2352);
    cmd.fis.lba_low = [0, 0x30, 9];
    assert_eq!(rig.ok(&cmd), 3 * 2352);
    let data = rig.data(3 * 2352);
    for (index, sector) in data.chunks(2352).enumerate() {
        assert_eq!(sector[..2], [0, 0xFF]);
        assert_eq!(sector[12..16], [0, 2, 2 + index as u8, 1]);
        assert_eq!(sector[16..2064], [2 + index as u8; 2048]);
    }
    cmd.packet[9] = 0x10;
    cmd.regions = vec![(DATA, 3 * 2048)];
    assert_eq!(rig.ok(&cmd), 3 * 2048);
    cmd.packet[9] = 0x78;
    assert_eq!(sense_of(&mut rig, &cmd), (5, 0x24));
}

#[test]
fn a_byte_count_of_zero_moves_nothing() {
    let mut rig = rig();
    let mut cmd = read10(0, 0);
    cmd.fis.lba_low = [0; 3];
    assert_eq!(rig.ok(&cmd), 0);
    let mut cmd = read10(0, 1);
    cmd.fis.lba_low = [0; 3];
    assert_eq!(rig.refused(&cmd), 4);
}

#[test]
fn size_and_contents_are_told() {
    let mut rig = rig();
    assert_eq!(rig.ok(&packet(&[op::READ_CAPACITY], 8)), 8);
    assert_eq!(rig.data(8), [0, 0, 0, 31, 0, 0, 8, 0].map(|b| if b == 31 { 63 } else { b }));
    let toc = |format: u8| packet(&[op::READ_TOC, 0, format, 0, 0, 0, 0, 0, 64], 64);
    assert_eq!(rig.ok(&toc(0)), 20);
    assert_eq!(rig.data(20)[..8], [0, 18, 1, 1, 0, 0x14, 1, 0]);
    assert_eq!(rig.data(20)[14..20], [0xAA, 0, 0, 0, 0, 64]);
    assert_eq!(rig.ok(&toc(1)), 12);
    assert_eq!(rig.ok(&toc(2)), 4 + 4 * 11);
    assert_eq!(sense_of(&mut rig, &toc(5)), (5, 0x24));
    assert_eq!(rig.ok(&packet(&[op::READ_DISC_INFORMATION, 0, 0, 0, 0, 0, 0, 0, 34], 34)), 34);
    assert_eq!(rig.ok(&packet(&[op::READ_TRACK_INFORMATION, 1, 0, 0, 0, 1, 0, 0, 36], 36)), 36);
}

#[test]
fn features_and_modes_are_told() {
    let mut rig = rig();
    let bytes = rig.ok(&packet(&[op::GET_CONFIGURATION, 0, 0, 0, 0, 0, 0, 0, 200], 200));
    let data = rig.data(bytes as usize);
    assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()) + 4, bytes);
    assert_eq!(data[6..8], [0, 8], "CD-ROM profile is current");
    let single = rig.ok(&packet(&[op::GET_CONFIGURATION, 2, 0, 3, 0, 0, 0, 0, 200], 200));
    assert_eq!((single, rig.data(16)[8..10].to_vec()), (16, vec![0, 3]));
    assert_eq!(rig.ok(&packet(&[op::MODE_SENSE_10, 0, 0x2A, 0, 0, 0, 0, 0, 200], 200)), 30);
    assert_eq!(rig.data(30)[..10], [0, 28, 0, 0, 0, 0, 0, 0, 0x2A, 20]);
    assert_eq!(rig.ok(&packet(&[op::MODE_SENSE_6, 0, 0x3F, 0, 100], 100)), 34);
    let unknown = packet(&[op::MODE_SENSE_6, 0, 0x1D, 0, 100], 100);
    assert_eq!(sense_of(&mut rig, &unknown), (5, 0x24));
    assert_eq!(rig.ok(&packet(&[op::MECHANISM_STATUS, 0, 0, 0, 0, 0, 0, 0, 0, 8], 8)), 8);
    assert_eq!(sense_of(&mut rig, &packet(&[0xFF], 0)), (5, 0x20));
}

#[test]
fn a_changed_disc_is_noticed_in_two_steps() {
    let mut rig = rig();
    rig.ok(&packet(&READY, 0));
    rig.hba.eject(0, false, &Origin::default()).unwrap();
    assert_eq!(sense_of(&mut rig, &packet(&READY, 0)), (2, 0x3A));
    assert_eq!(rig.hba.tray(0), Some(Tray { open: true, locked: false, disc: false }));
    let event = packet(&[op::GET_EVENT_STATUS, 1, 0, 0, 0x10, 0, 0, 0, 8], 8);
    rig.ok(&event);
    assert_eq!(rig.data(6), [0, 6, 4, 0x10, 3, 1], "removed, tray open");

    let disc = Arc::new(Mutex::new(MemoryDisk::new(4096)));
    rig.hba.insert(0, Box::new(disc.clone()), &Origin::default()).unwrap();
    let again = rig.hba.insert(0, Box::new(disc), &Origin::default());
    assert_eq!(again, Err(BayError::Occupied));
    assert_eq!(sense_of(&mut rig, &packet(&READY, 0)), (2, 0x3A));
    assert_eq!(sense_of(&mut rig, &read10(0, 1)), (6, 0x28));
    rig.ok(&read10(0, 1));
    rig.ok(&event);
    assert_eq!(rig.data(6), [0, 6, 4, 0x10, 2, 2], "new medium");
    rig.ok(&event);
    assert_eq!(rig.data(6)[4], 0, "told once");
}

#[test]
fn the_guest_opens_closes_and_locks_the_tray() {
    let mut rig = rig();
    let start_stop = |byte| packet(&[op::START_STOP_UNIT, 0, 0, 0, byte], 0);
    let lock_tray = |on| packet(&[op::PREVENT_ALLOW_MEDIUM_REMOVAL, 0, 0, 0, on], 0);
    rig.ok(&start_stop(2));
    assert_eq!(sense_of(&mut rig, &read10(0, 1)), (2, 0x3A));
    rig.ok(&start_stop(3));
    rig.ok(&read10(0, 1));
    rig.ok(&lock_tray(1));
    assert_eq!(sense_of(&mut rig, &start_stop(2)), (5, 0x53));
    assert_eq!(rig.hba.eject(0, false, &Origin::default()), Err(BayError::Locked));
    assert_eq!(rig.hba.tray(0), Some(Tray { open: false, locked: true, disc: true }));
    rig.hba.eject(0, true, &Origin::default()).unwrap();
    assert_eq!(Arc::strong_count(&rig.disk), 1);
}

#[test]
fn a_disc_pulled_out_while_it_is_read_ends_the_command() {
    let mut rig = rig();
    rig.hold(true);
    rig.issue(0, &read10(0, 1));
    rig.hba.eject(0, true, &Origin::default()).unwrap();
    assert_eq!(rig.px(hw::PX_TFD), 0x80);
    lock(&rig.disk).failing = true;
    rig.finish(0);
    assert_eq!(rig.px(hw::PX_TFD) & 0xF081, 0x2001, "not ready");
    assert_eq!(Arc::strong_count(&rig.disk), 1);
}

#[test]
fn disks_are_not_ejected() {
    let mut rig = Rig::new();
    assert_eq!(rig.hba.eject(0, true, &Origin::default()), Err(BayError::NotRemovable));
    assert_eq!(rig.hba.eject(1, true, &Origin::default()), Err(BayError::Vacant));
    assert_eq!(rig.hba.tray(0), None);
}

#[test]
fn read_errors_are_medium_errors() {
    let mut rig = rig();
    lock(&rig.disk).failing = true;
    assert_eq!(sense_of(&mut rig, &read10(1, 1)), (3, 0x11));
    rig.done(&Cmd::new(command::EXECUTE_DEVICE_DIAGNOSTIC));
}
