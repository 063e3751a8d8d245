//! Drives that come and go.

use super::*;
use crate::backend::BayError;
use xinim_abi::hw::ahci::{PortError, link};

#[test]
fn a_drive_that_is_attached_announces_itself() {
    let mut rig = Rig::cold(|_| (), None);
    rig.start(0);
    for _ in 0..5 {
        assert_eq!(rig.px(hw::PX_SSTS), 0);
    }
    let new = drive(&rig.disk, Medium::Disk);
    rig.hba.attach(0, new, &Origin::default()).unwrap();
    assert_eq!(link::det(rig.px(hw::PX_SSTS)), link::DET_READY);
    assert!(rig.is().contains(PortInterrupt::PCS | PortInterrupt::PRCS));
    assert_eq!(rig.reg(hw::IS), 1);
    assert_eq!((rig.px(hw::PX_SIG), rig.frame(0x40, 1)), (0x101, vec![0x34]));
    rig.clear();
    rig.restart();
    rig.ok(&Cmd::at(command::READ_DMA, 2, 1));
    let twice = drive(&rig.disk, Medium::Disk);
    assert_eq!(rig.hba.attach(0, twice, &Origin::default()), Err(BayError::Occupied));
    let nowhere = drive(&rig.disk, Medium::Disk);
    assert_eq!(rig.hba.attach(6, nowhere, &Origin::default()), Err(BayError::NoUnit));
}

#[test]
fn a_drive_torn_out_takes_its_commands_along() {
    let mut rig = Rig::new();
    rig.hold(true);
    for tag in 0..4 {
        rig.issue(tag, &Cmd::queued(command::READ_FPDMA_QUEUED, tag, 1, 1));
    }
    rig.hba.detach(0, &Origin::default()).unwrap();
    assert_eq!((rig.px(hw::PX_SSTS), rig.px(hw::PX_TFD), rig.px(hw::PX_SACT)), (0, 0x7F, 15));
    assert_eq!(rig.is(), PortInterrupt::PRCS);
    assert_eq!(rig.hba.detach(0, &Origin::default()), Err(BayError::Vacant));
    // The port stops once the host has let go of the memory.
    rig.set_px(hw::PX_CMD, PortCmd::FRE.bits());
    assert_eq!((rig.px(hw::PX_CMD) & 0x8000, rig.px(hw::PX_SACT)), (0x8000, 0));
    for _ in 0..4 {
        rig.finish(0);
    }
    assert_eq!(rig.px(hw::PX_CMD) & 0x8000, 0);
    assert_eq!(Arc::strong_count(&rig.disk), 1, "the back end is dropped");
}

#[test]
fn another_drive_needs_a_port_that_was_restarted() {
    let mut rig = Rig::new();
    rig.hold(true);
    rig.issue(0, &Cmd::at(command::WRITE_DMA, 1, 1));
    rig.hba.detach(0, &Origin::default()).unwrap();
    let other = Arc::new(Mutex::new(MemoryDisk::new(SECTORS * 512)));
    rig.hba.attach(0, drive(&other, Medium::Disk), &Origin::default()).unwrap();
    assert_eq!(rig.px(hw::PX_TFD), 0x80, "busy until the old one is done");
    rig.finish(0);
    assert_eq!(rig.px(hw::PX_TFD), 0x150);
    assert_eq!(rig.px(hw::PX_CI), 1);
    assert!(lock(&other).log.is_empty(), "the command was not for this drive");
    rig.restart();
    rig.ok(&Cmd::at(command::WRITE_DMA, 1, 1));
    assert_eq!(lock(&other).log.len(), 1);
}

#[test]
fn plugging_a_hundred_times_under_load_loses_nothing() {
    let mut rig = Rig::new();
    let stays = Arc::new(Mutex::new(MemoryDisk::new(SECTORS * 512)));
    rig.hba.attach(1, drive(&stays, Medium::Disk), &Origin::default()).unwrap();
    rig.hold(true);
    for round in 0..100u64 {
        for tag in 0..8 {
            rig.issue(tag, &Cmd::queued(command::WRITE_FPDMA_QUEUED, tag, round, 1));
        }
        rig.hba.detach(0, &Origin::default()).unwrap();
        while !lock(&rig.disk).pending.is_empty() {
            rig.finish(round as usize % 3);
        }
        rig.set_px(hw::PX_CMD, PortCmd::FRE.bits());
        assert_eq!(rig.px(hw::PX_CMD) & 0x8000, 0, "round {round}");
        let again = drive(&rig.disk, Medium::Disk);
        rig.hba.attach(0, again, &Origin::default()).unwrap();
        rig.restart();
    }
    rig.hold(false);
    rig.ok(&Cmd::at(command::READ_DMA, 200, 1));
    assert_eq!(rig.data(512), vec![200; 512]);
    assert_eq!(lock(&rig.disk).violations + lock(&stays).violations, 0);
    assert_eq!(rig.reg(0x180 + hw::PX_SSTS), 0x133, "the neighbour is untouched");
}

#[test]
fn torn_out_drives_whose_host_hangs_are_bounded() {
    let mut rig = Rig::new();
    let mut result = Ok(());
    for _ in 0..20 {
        let disk = MemoryDisk { held: true, ..MemoryDisk::new(SECTORS * 512) };
        let disk = Arc::new(Mutex::new(disk));
        rig.hba.detach(0, &Origin::default()).unwrap();
        result = rig.hba.attach(0, drive(&disk, Medium::Disk), &Origin::default());
        if result.is_err() {
            break;
        }
        // A drive in the way: what hangs is submitted behind the controller's back.
        let request = crate::backend::Request::flush(1);
        rig.hba.backend_mut(0).unwrap().submit(request, &*rig.memory.clone());
    }
    assert_eq!(result, Err(BayError::Occupied));
}

#[test]
fn losing_the_link_is_no_error_of_the_drive() {
    let mut rig = Rig::new();
    rig.hba.detach(0, &Origin::default()).unwrap();
    assert_eq!(PortError::from_bits_retain(rig.px(hw::PX_SERR)), PortError::DIAG_N);
    assert_eq!(rig.reg(hw::IS), 1);
}
