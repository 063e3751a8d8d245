//! Native command queuing.

use super::*;
use crate::backend::Operation;
use xinim_abi::hw::ahci::received;
use xinim_abi::hw::ata::log;

fn read(tag: u8, lba: u64) -> Cmd {
    let mut cmd = Cmd::queued(command::READ_FPDMA_QUEUED, tag, lba, 1);
    cmd.regions = vec![(DATA + 512 * u64::from(tag), 512)];
    cmd
}

#[test]
fn thirty_two_reads_end_in_any_order() {
    let mut rig = Rig::new();
    rig.hold(true);
    for tag in 0..32 {
        rig.issue(tag, &read(tag, 100 + u64::from(tag)));
    }
    assert_eq!((rig.px(hw::PX_CI), rig.px(hw::PX_SACT)), (0, u32::MAX), "all accepted");
    assert_eq!(rig.px(hw::PX_TFD), READY_D2H, "not busy");
    assert_eq!(rig.is() & PortInterrupt::DHRS, PortInterrupt::empty());
    assert_eq!(lock(&rig.disk).pending.len(), 32);
    // 17 and 31 first (31 has moved up by one place).
    rig.finish(17);
    assert_eq!(rig.px(hw::PX_SACT), !(1 << 17));
    assert_eq!(rig.frame(received::SET_DEVICE_BITS, 8), [0xA1, 0x40, 0x50, 0, 0, 0, 2, 0]);
    assert!(rig.is().contains(PortInterrupt::SDBS));
    rig.finish(30);
    assert_eq!(rig.px(hw::PX_SACT), !(1 << 17 | 1 << 31));
    for _ in 0..30 {
        rig.finish(0);
    }
    assert_eq!(rig.px(hw::PX_SACT), 0);
    for tag in 0..32 {
        assert_eq!(rig.memory.dump(DATA + 512 * tag, 512), vec![100 + tag as u8; 512]);
    }
}

#[test]
fn completions_that_come_together_are_one_frame() {
    let mut rig = Rig::new();
    rig.hold(true);
    for tag in 0..4 {
        rig.issue(tag, &read(tag, u64::from(tag)));
    }
    let memory = rig.memory.clone();
    for _ in 0..3 {
        lock(&rig.disk).finish(0, &*memory);
    }
    rig.hba.ready(0, &Origin::default());
    assert_eq!(rig.px(hw::PX_SACT), 8);
    assert_eq!(rig.frame(received::SET_DEVICE_BITS, 8)[4], 7);
}

#[test]
fn a_write_with_fua_is_stable() {
    let mut rig = Rig::new();
    let mut cmd = Cmd::queued(command::WRITE_FPDMA_QUEUED, 0, 7, 1);
    rig.issue(0, &cmd);
    cmd.fis.device |= 0x80;
    rig.issue(0, &cmd);
    assert_eq!(rig.px(hw::PX_SACT), 0);
    let disk = lock(&rig.disk);
    let kinds: Vec<_> = disk.log.iter().map(|entry| entry.0).collect();
    assert_eq!(kinds, [Operation::Write { fua: false }, Operation::Write { fua: true }]);
}

#[test]
fn an_error_stops_the_queue_and_is_logged() {
    let mut rig = Rig::new();
    rig.hold(true);
    for tag in 0..3 {
        rig.issue(tag, &read(tag, 20 + u64::from(tag)));
    }
    lock(&rig.disk).failing = true;
    rig.finish(1);
    assert_eq!(rig.px(hw::PX_TFD), 0x4051, "error, uncorrectable");
    assert_eq!(rig.px(hw::PX_SACT), 7, "nobody can tell which have ended");
    assert!(rig.is().contains(PortInterrupt::TFES | PortInterrupt::SDBS));
    lock(&rig.disk).failing = false;
    rig.finish(0);
    rig.finish(0);
    assert_eq!(rig.px(hw::PX_SACT), 7, "aborted");
    rig.hold(false);
    rig.restart();
    assert_eq!(rig.px(hw::PX_SACT), 0);

    // Refused until the log is read.
    assert_eq!(rig.refused(&Cmd::at(command::READ_DMA, 0, 1)), 4);
    let mut log = Cmd::new(command::READ_LOG_EXT).region(DATA, 512).count(1);
    log.fis.lba_low[0] = log::NCQ_ERROR;
    rig.ok(&log);
    let page = rig.data(512);
    assert_eq!((page[0], page[2], page[3], page[4]), (1, 0x51, 0x40, 21));
    assert_eq!(page.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    rig.ok(&log);
    assert_eq!(rig.data(1), [0x80], "no error any more");
}

#[test]
fn a_range_beyond_the_end_is_refused_with_its_tag() {
    let mut rig = Rig::new();
    rig.issue(5, &read(5, SECTORS as u64));
    assert_eq!(rig.px(hw::PX_TFD) & 0xFF01, 0x1401);
    assert!(rig.is().contains(PortInterrupt::TFES));
    rig.restart();
    let mut log = Cmd::new(command::READ_LOG_DMA_EXT).region(DATA, 512).count(1);
    log.fis.lba_low[0] = log::NCQ_ERROR;
    rig.ok(&log);
    assert_eq!(rig.data(1), [5]);
}

#[test]
fn the_tag_must_be_the_slot() {
    let mut rig = Rig::new();
    rig.issue(2, &read(3, 0));
    assert_eq!(rig.px(hw::PX_TFD) & 0xFF01, 0x0401);
}

#[test]
fn other_commands_do_not_mix_with_queued_ones() {
    let mut rig = Rig::new();
    rig.hold(true);
    rig.issue(0, &read(0, 1));
    rig.issue(1, &Cmd::at(command::READ_DMA_EXT, 0, 1));
    assert_eq!(rig.px(hw::PX_TFD) & 0x81, 1);
    assert_eq!((rig.px(hw::PX_SACT), rig.px(hw::PX_CI)), (1, 2));
    rig.finish(0);
    rig.hold(false);
    rig.restart();
    let mut log = Cmd::new(command::READ_LOG_EXT).region(DATA, 512).count(1);
    log.fis.lba_low[0] = log::NCQ_ERROR;
    rig.ok(&log);
    assert_eq!(rig.data(1), [0x80], "not a queued one");
}

#[test]
fn comreset_in_the_middle_leaves_nothing_behind() {
    let mut rig = Rig::new();
    rig.hold(true);
    for tag in 0..8 {
        rig.issue(tag, &read(tag, 1));
    }
    rig.set_px(hw::PX_CMD, PortCmd::FRE.bits());
    rig.set_px(hw::PX_SCTL, 1);
    rig.set_px(hw::PX_SCTL, 0);
    assert_eq!(rig.px(hw::PX_TFD), 0x80, "busy while the host has the memory");
    for _ in 0..8 {
        rig.finish(0);
    }
    assert_eq!((rig.px(hw::PX_TFD), rig.px(hw::PX_SACT)), (0x150, 0));
    assert!(!rig.is().contains(PortInterrupt::SDBS));
    rig.hold(false);
    rig.restart();
    rig.issue(3, &read(3, 50));
    assert_eq!((rig.px(hw::PX_SACT), rig.memory.dump(DATA + 3 * 512, 1)), (0, vec![50]));
}

#[test]
fn the_trace_has_the_place_where_each_kind_of_command_names_it() {
    use crate::ahci::ata::place;
    let queued = Cmd::queued(command::READ_FPDMA_QUEUED, 5, 1 << 40, 300).fis;
    assert_eq!(place(&queued), (1 << 40, 300));
    let mut short = queued;
    (short.command, short.lba_low, short.device, short.count) =
        (command::READ_DMA, [1, 2, 3], 0x4A, [8, 0]);
    assert_eq!(place(&short), (0x0A03_0201, 8));
    let mut long = queued;
    (long.command, long.count) = (command::WRITE_DMA_EXT, 700u16.to_le_bytes());
    assert_eq!(place(&long), (1 << 40, 700));
}
