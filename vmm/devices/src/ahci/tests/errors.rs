//! What goes wrong, and what the driver sees of it.

use super::*;
use xinim_abi::hw::ahci::PortError;

#[test]
fn host_errors_are_errors_of_the_drive() {
    for (code, tfd) in [
        (command::READ_DMA, 0x4051),
        (command::READ_SECTORS_EXT, 0x4051),
        (command::WRITE_DMA_EXT, 0x0471),
        (command::FLUSH_CACHE, 0x0471),
    ] {
        let mut rig = Rig::new();
        lock(&rig.disk).failing = true;
        let mut cmd = Cmd::at(code, 7, 1);
        if code == command::FLUSH_CACHE {
            cmd.regions.clear();
        }
        rig.clear();
        rig.issue(0, &cmd);
        assert_eq!((rig.px(hw::PX_TFD), rig.px(hw::PX_CI)), (tfd, 1), "{code:#x}");
        assert_eq!(rig.is(), PortInterrupt::TFES | PortInterrupt::DHRS, "{code:#x}");
        assert_eq!((rig.moved(0), rig.px(hw::PX_SERR)), (0, 0));
        // Nothing more is issued until the port was restarted.
        lock(&rig.disk).failing = false;
        rig.issue(1, &Cmd::at(command::READ_DMA, 0, 1));
        assert_eq!(rig.px(hw::PX_CI), 3);
        rig.restart();
        rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    }
}

#[test]
fn addresses_beyond_the_end_and_chs_are_refused() {
    let mut rig = Rig::new();
    assert_eq!(rig.refused(&Cmd::at(command::READ_DMA, SECTORS as u64, 1)), 0x14);
    assert_eq!(rig.refused(&Cmd::at(command::WRITE_SECTORS, SECTORS as u64 - 1, 2)), 0x14);
    assert_eq!(rig.refused(&Cmd::at(command::READ_DMA_EXT, (1 << 48) - 1, 2)), 0x14);
    let mut chs = Cmd::at(command::READ_DMA, 0, 1);
    chs.fis.device = 0;
    assert_eq!(rig.refused(&chs), 4);
    assert_eq!(rig.refused(&Cmd::at(command::READ_MULTIPLE, 0, 1)), 4, "not set up");
    assert_eq!(lock(&rig.disk).violations, 0);
}

#[test]
fn structures_outside_memory_are_fatal() {
    let mut rig = Rig::new();
    rig.set_px(hw::PX_CLBU, 1);
    rig.set_px(hw::PX_CI, 1);
    assert!(rig.is().contains(PortInterrupt::HBFS), "command list");

    let mut rig = Rig::new();
    rig.prepare(0, &Cmd::at(command::READ_DMA, 0, 1));
    rig.memory.write(CLB + 12, &1u32.to_le_bytes()).unwrap();
    rig.set_px(hw::PX_CI, 1);
    assert!(rig.is().contains(PortInterrupt::HBFS), "command table");

    let mut rig = Rig::new();
    rig.set_px(hw::PX_FBU, 1);
    rig.issue(0, &Cmd::at(command::READ_DMA, 0, 1));
    assert!(rig.is().contains(PortInterrupt::HBFS), "received frames");
}

#[test]
fn data_outside_memory_is_a_host_bus_error() {
    for code in [command::READ_DMA, command::WRITE_DMA, command::IDENTIFY_DEVICE] {
        let mut rig = Rig::new();
        let mut cmd = Cmd::at(code, 0, 1);
        cmd.regions = vec![(MEMORY as u64 - 256, 512)];
        rig.issue(0, &cmd);
        assert!(rig.is().contains(PortInterrupt::HBDS), "{code:#x}");
        assert_eq!(rig.px(hw::PX_CI), 1);
        assert!(lock(&rig.disk).log.is_empty());
        rig.restart();
        rig.set_px(hw::PX_CMD, 0x10);
        rig.set_px(hw::PX_SCTL, 1);
        rig.set_px(hw::PX_SCTL, 0);
        rig.restart();
        rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    }
}

#[test]
fn too_little_room_for_a_read_is_an_overflow() {
    let mut rig = Rig::new();
    let mut cmd = Cmd::at(command::READ_DMA, 7, 4);
    cmd.regions = vec![(DATA, 1024 + 100)];
    rig.memory.write(DATA, &[0xEE; 2048]).unwrap();
    rig.issue(0, &cmd);
    assert!(rig.is().contains(PortInterrupt::OFS | PortInterrupt::DHRS));
    assert_eq!((rig.px(hw::PX_CI), rig.moved(0)), (0, 1024));
    let mut expected = vec![7; 512];
    expected.extend([8; 512]);
    expected.extend([0xEE; 100]);
    assert_eq!(rig.data(1124), expected);
}

#[test]
fn too_little_data_for_a_write_is_an_interface_error() {
    let mut rig = Rig::new();
    let mut cmd = Cmd::at(command::WRITE_DMA, 7, 4);
    cmd.regions = vec![(DATA, 512)];
    rig.issue(0, &cmd);
    assert!(rig.is().contains(PortInterrupt::IFS | PortInterrupt::OFS));
    assert_eq!(rig.px(hw::PX_SERR), PortError::PROTOCOL.bits());
    assert!(lock(&rig.disk).log.is_empty(), "nothing was written");
}

#[test]
fn a_frame_that_is_none_is_an_interface_error() {
    let mut rig = Rig::new();
    let mut cmd = Cmd::at(command::READ_DMA, 0, 1);
    cmd.fis.kind = 0x46;
    rig.issue(0, &cmd);
    assert!(rig.is().contains(PortInterrupt::IFS));
    assert_eq!(rig.px(hw::PX_SERR), PortError::PROTOCOL.bits());
    rig.restart();
    rig.prepare(0, &Cmd::at(command::READ_DMA, 0, 1));
    rig.memory.write(CLB, &[1, 0]).unwrap();
    rig.set_px(hw::PX_CI, 1);
    assert!(rig.is().contains(PortInterrupt::IFS), "one dword is no command");
}

#[test]
fn commands_wait_while_too_much_memory_is_in_flight() {
    let mut rig = Rig::new();
    rig.hold(true);
    // A long table in a small memory: 16384 regions of two bytes each.
    let entries = 16_384u16;
    let table_at = 0x8_0000u64;
    for index in 0..u64::from(entries) {
        let prd = Prd::new(0x6_0000 + 4 * (index % 1024), 2);
        rig.memory.write(table_at + 0x80 + 16 * index, prd.as_bytes()).unwrap();
    }
    for slot in 0..8u8 {
        let mut cmd = Cmd::queued(command::READ_FPDMA_QUEUED, slot, 0, 64);
        cmd.regions.clear();
        rig.prepare(slot, &cmd);
        rig.memory.write(table_at, cmd.fis.as_bytes()).unwrap();
        let header = CommandHeader {
            flags: 5,
            prdtl: entries,
            ctba: table_at as u32,
            ..CommandHeader::default()
        };
        // One table for all: each is issued before the next is prepared.
        rig.memory.write(CLB + 32 * u64::from(slot), header.as_bytes()).unwrap();
        rig.set_px(hw::PX_SACT, 1 << slot);
        rig.set_px(hw::PX_CI, 1 << slot);
    }
    assert_eq!(lock(&rig.disk).pending.len(), 4, "four times 16384 pieces");
    assert_eq!(rig.px(hw::PX_CI), 0xF0);
    rig.finish(0);
    assert_eq!(lock(&rig.disk).pending.len(), 3, "the tag of the next is not its slot's");
}
