//! Registers, reset, link, interrupts, hand-off.

use super::*;
use crate::testing::IrqLog;
use xinim_abi::hw::ahci::{Bohc, PortError, link, signature};

#[test]
fn registers_obey_their_tables() {
    let mut rig = Rig::cold(|setup| setup.ports = 32, None);
    for (base, table) in [(0, hw::HBA), (0x100, hw::PORT), (0x100 + 31 * 0x80, hw::PORT)] {
        for register in table {
            let at = base + register.offset as usize;
            // These say what the controller has.
            let own = match register.name {
                "CAP" | "PI" | "CAP2" => continue,
                "PxCMD" => (PortCmd::HPCP | PortCmd::POD | PortCmd::SUD).bits(),
                _ => 0,
            };
            assert_eq!(rig.reg(at), register.reset as u32 | own, "{}", register.name);
        }
    }
    for register in hw::PORT {
        let at = 0x180 + register.offset as usize;
        match register.name {
            // Taken only while started; bits with an effect.
            "PxSACT" | "PxCI" | "PxCMD" | "PxSCTL" => continue,
            _ => {}
        }
        let before = rig.reg(at);
        rig.set(at, u32::MAX);
        let expected = register.written(u64::from(before), 0xFFFF_FFFF) as u32;
        assert_eq!(rig.reg(at), expected, "{}", register.name);
    }
}

#[test]
fn what_is_reserved_reads_as_zero() {
    let mut rig = Rig::cold(|_| (), None);
    for at in (0x2C..0x100).chain(0x148..0x180).chain(0x400..0x1000).step_by(4) {
        assert_eq!(rig.reg(at), 0, "{at:#x}");
    }
    let outcome = rig.set(0x2C, 1);
    assert_eq!(outcome.error, Some(GuestError::NoRegister));
    assert_eq!(rig.set(hw::CAP, 0).error, Some(GuestError::ReadOnly));
}

#[test]
fn the_capabilities_are_those_offered() {
    let mut rig = Rig::cold(|_| (), None);
    let bits = rig.reg(hw::CAP);
    let cap = Cap::from_bits_retain(bits);
    assert_eq!((hw::cap::ports(bits), hw::cap::slots(bits), hw::cap::speed(bits)), (6, 32, 3));
    assert!(cap.contains(Cap::SAM | Cap::SNCQ | Cap::S64A | Cap::SCLO));
    assert!(!cap.intersects(Cap::SPM | Cap::FBSS | Cap::CCCS | Cap::EMS | Cap::SSS | Cap::SSNTF));
    assert_eq!((rig.reg(hw::PI), rig.reg(hw::VS)), (0x3F, 0x0001_0301));
    let config = rig.hba.config();
    assert_eq!((config.get(0, 4), config.get(8, 4)), (0x2922_8086, 0x0106_0102));
    assert_eq!((config.get(0x34, 1), config.get(0x80, 1), config.get(0x3D, 1)), (0x80, 5, 1));
}

#[test]
fn narrow_and_wide_accesses_reach_their_part() {
    let mut rig = Rig::cold(|_| (), None);
    let hba = &mut rig.hba;
    access(hba, 0x100, 8, Op::Write(0x1234_5678_9ABC_DEFF));
    assert_eq!(access(hba, 0x100, 8, Op::Read).value, 0x1234_5678_9ABC_DC00);
    access(hba, 0x101, 1, Op::Write(0x44));
    assert_eq!(access(hba, 0x100, 4, Op::Read).value, 0x9ABC_4400);
    assert_eq!(access(hba, 0x102, 2, Op::Read).value, 0x9ABC);
    assert_eq!(access(hba, 0x102, 4, Op::Read).error, Some(GuestError::Unaligned));
}

#[test]
fn a_link_comes_up_as_time_passes_or_when_frames_can_be_received() {
    for receive in [false, true] {
        let mut rig = Rig::cold(|_| (), Some(Medium::Disk));
        assert_eq!((rig.px(hw::PX_SSTS), rig.px(hw::PX_TFD)), (0, 0x7F));
        assert_eq!((rig.px(hw::PX_SERR), rig.px(hw::PX_IS)), (0, 0));
        if receive {
            rig.set_px(hw::PX_FB, FB as u32);
            rig.set_px(hw::PX_CMD, PortCmd::FRE.bits());
            assert_eq!(rig.frame(0x40, 20)[..4], [0x34, 0, 0x50, 1]);
        } else {
            rig.px(hw::PX_SSTS);
        }
        assert_eq!((rig.px(hw::PX_SSTS), rig.px(hw::PX_TFD)), (0x133, 0x150));
        assert_eq!(rig.px(hw::PX_SIG), signature::ATA);
        let serr = PortError::from_bits_retain(rig.px(hw::PX_SERR));
        assert_eq!(serr, PortError::DIAG_X | PortError::DIAG_N);
        assert_eq!(rig.is(), PortInterrupt::PCS | PortInterrupt::PRCS);
        rig.set_px(hw::PX_SERR, u32::MAX);
        assert_eq!(rig.is(), PortInterrupt::empty());
    }
}

#[test]
fn a_driver_that_waits_for_an_interrupt_gets_one() {
    let mut rig = Rig::cold(|_| (), Some(Medium::Disk));
    msi_on(&mut rig);
    rig.set_px(hw::PX_IE, u32::MAX);
    rig.set(hw::GHC, 0x8000_0002);
    assert_eq!((rig.msi.take().len(), rig.reg(hw::IS)), (1, 1));
    assert_eq!(rig.px(hw::PX_SSTS), 0x133);
}

#[test]
fn an_empty_port_stays_empty() {
    let mut rig = Rig::with(|_| (), Medium::Disk);
    for _ in 0..10 {
        assert_eq!((rig.reg(0x180 + hw::PX_SSTS), rig.reg(0x180 + hw::PX_TFD)), (0, 0x7F));
    }
    assert_eq!(rig.reg(0x180 + hw::PX_SIG), signature::NONE);
}

#[test]
fn staggered_links_wait_for_spin_up() {
    let mut rig = Rig::cold(|setup| setup.staggered_spin_up = true, Some(Medium::Disk));
    assert_ne!(rig.reg(hw::CAP) & Cap::SSS.bits(), 0);
    for _ in 0..5 {
        assert_eq!(rig.px(hw::PX_SSTS), 0);
    }
    assert_eq!(rig.px(hw::PX_CMD) & PortCmd::SUD.bits(), 0);
    rig.set_px(hw::PX_CMD, PortCmd::SUD.bits());
    assert_eq!(link::det(rig.px(hw::PX_SSTS)), link::DET_READY);
    rig.start(0);
    rig.ok(&Cmd::at(command::READ_DMA, 3, 1));
    rig.set(hw::GHC, 1);
    assert_eq!(rig.px(hw::PX_CMD) & PortCmd::SUD.bits(), 0, "a reset spins down");
}

#[test]
fn comreset_brings_the_signature_back() {
    let mut rig = Rig::new();
    rig.set_px(hw::PX_CMD, PortCmd::FRE.bits());
    rig.set_px(hw::PX_SCTL, link::CONTROL_RESET);
    assert_eq!((rig.px(hw::PX_SSTS), rig.px(hw::PX_TFD), rig.px(hw::PX_SIG)), (0, 0x7F, !0));
    rig.set_px(hw::PX_SCTL, 2 << 4);
    assert_eq!((rig.px(hw::PX_SSTS), rig.px(hw::PX_TFD)), (0x123, 0x150), "speed limited");
    assert!(rig.is().contains(PortInterrupt::PCS | PortInterrupt::PRCS));
    rig.set_px(hw::PX_SCTL, link::CONTROL_OFFLINE);
    assert_eq!(rig.px(hw::PX_SSTS), link::DET_OFFLINE);
    rig.set_px(hw::PX_SCTL, 0);
    assert_eq!(rig.px(hw::PX_SSTS), 0x133);
    rig.restart();
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
}

#[test]
fn hba_reset_keeps_the_base_addresses_only() {
    let mut rig = Rig::new();
    rig.set(hw::GHC, 0x8000_0001);
    assert_eq!(rig.reg(hw::GHC), 0x8000_0000);
    assert_eq!((rig.px(hw::PX_CLB), rig.px(hw::PX_FB)), (CLB as u32, FB as u32));
    assert_eq!((rig.px(hw::PX_IE), rig.px(hw::PX_TFD), rig.px(hw::PX_SERR)), (0, 0x7F, 0));
    assert_eq!(rig.px(hw::PX_CMD) & 0x11, 0);
    rig.start(0);
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
}

#[test]
fn a_reset_waits_for_the_back_end() {
    let mut rig = Rig::new();
    rig.hold(true);
    rig.issue(0, &Cmd::at(command::READ_DMA, 5, 1));
    rig.set(hw::GHC, 0x8000_0001);
    assert_eq!(rig.reg(hw::GHC), 0x8000_0001, "the disk may still write to memory");
    rig.set_px(hw::PX_CMD, PortCmd::FRE.bits());
    assert_eq!(rig.px(hw::PX_TFD), 0x80, "busy");
    rig.finish(0);
    assert_eq!(rig.reg(hw::GHC), 0x8000_0000);
    assert_eq!(rig.px(hw::PX_TFD), 0x150);
    assert_eq!(rig.is() & PortInterrupt::DHRS, PortInterrupt::empty(), "nobody hears of it");
}

#[test]
fn a_stopped_port_runs_until_the_back_end_is_done() {
    let mut rig = Rig::new();
    rig.hold(true);
    rig.issue(4, &Cmd::at(command::READ_DMA, 5, 1));
    assert_eq!(rig.px(hw::PX_CMD) >> 8 & 0x1F, 4, "current slot");
    rig.set_px(hw::PX_CMD, PortCmd::FRE.bits());
    assert_eq!((rig.px(hw::PX_CI), rig.px(hw::PX_CMD) & 0x8001), (0, 0x8000));
    rig.finish(0);
    assert_eq!(rig.px(hw::PX_CMD) & 0x8001, 0);
    rig.hold(false);
    rig.set_px(hw::PX_CMD, PortCmd::FRE.bits() | PortCmd::CLO.bits());
    assert_eq!(rig.px(hw::PX_TFD) & 0x88, 0, "CLO");
    rig.restart();
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
}

#[test]
fn ci_and_sact_need_a_started_port() {
    let mut rig = Rig::cold(|_| (), Some(Medium::Disk));
    for register in [hw::PX_CI, hw::PX_SACT] {
        assert_eq!(rig.set_px(register, 1).error, Some(GuestError::BadState));
        assert_eq!(rig.px(register), 0);
    }
}

#[test]
fn software_reset_announces_the_drive() {
    let mut rig = Rig::new();
    let mut cmd = Cmd::new(0);
    cmd.fis.flags = 0;
    cmd.fis.control = 4;
    cmd.flags = HeaderFlags::RESET | HeaderFlags::CLEAR_BUSY;
    rig.issue(0, &cmd);
    assert_eq!((rig.px(hw::PX_CI), rig.px(hw::PX_TFD) & 0x80), (0, 0));
    cmd.fis.control = 0;
    cmd.flags = HeaderFlags::empty();
    rig.issue(1, &cmd);
    assert_eq!((rig.px(hw::PX_CI), rig.px(hw::PX_TFD), rig.px(hw::PX_SIG)), (0, 0x150, 0x101));
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
}

#[test]
fn the_bios_lets_go_when_asked() {
    let mut rig = Rig::cold(|setup| setup.bios_owned = true, None);
    assert_eq!(rig.reg(hw::BOHC), Bohc::BOS.bits());
    rig.set(hw::BOHC, (Bohc::BOS | Bohc::OOS).bits());
    let busy = Bohc::BOS | Bohc::OOS | Bohc::OOC | Bohc::BB;
    let mut looks = 0;
    while rig.reg(hw::BOHC) == busy.bits() {
        looks += 1;
    }
    assert_eq!(looks, 3);
    assert_eq!(rig.reg(hw::BOHC), (Bohc::OOS | Bohc::OOC).bits());
    rig.set(hw::BOHC, (Bohc::OOS | Bohc::OOC).bits());
    assert_eq!(rig.reg(hw::BOHC), Bohc::OOS.bits());
}

fn msi_on(rig: &mut Rig) {
    for (at, size, value) in [(0x84, 4, 0xFEE0_0000), (0x8C, 2, 0x55), (0x82, 2, 1)] {
        rig.hba.config_access(Access::write(at, size, value));
    }
    rig.msi.take();
}

#[test]
fn one_message_per_pending_port() {
    let mut rig = Rig::new();
    msi_on(&mut rig);
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    assert_eq!(rig.msi.take().len(), 1);
    assert_eq!(rig.reg(hw::IS), 1);
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    assert_eq!(rig.msi.take().len(), 0, "the port's bit is still set");
    // Clearing IS first, while the port still wants: the bit comes back, with a message.
    rig.set(hw::IS, 1);
    assert_eq!((rig.reg(hw::IS), rig.msi.take().len()), (1, 1));
    rig.set_px(hw::PX_IS, u32::MAX);
    rig.set(hw::IS, 1);
    assert_eq!((rig.reg(hw::IS), rig.msi.take().len()), (0, 0));
}

#[test]
fn masks_hold_interrupts_back() {
    let mut rig = Rig::new();
    msi_on(&mut rig);
    rig.set_px(hw::PX_IE, PortInterrupt::TFES.bits());
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    assert_eq!((rig.reg(hw::IS), rig.msi.take().len()), (0, 0));
    rig.set_px(hw::PX_IE, PortInterrupt::DHRS.bits());
    assert_eq!((rig.reg(hw::IS), rig.msi.take().len()), (1, 1), "pending, now unmasked");
    rig.set(hw::GHC, 0x8000_0000);
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    assert_eq!(rig.msi.take().len(), 0);
    rig.set(hw::GHC, 0x8000_0002);
    assert_eq!(rig.msi.take().len(), 1);
}

#[test]
fn the_pin_follows_is() {
    let line = IrqLog::new();
    let wire = line.clone();
    let mut rig = Rig::with(|setup| setup.intx = Some(wire), Medium::Disk);
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    assert!(line.level());
    assert_ne!(rig.hba.config().get(0x06, 2) & 8, 0);
    rig.set_px(hw::PX_IS, u32::MAX);
    assert!(line.level(), "IS is sticky");
    rig.set(hw::IS, 1);
    assert!(!line.level());
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    rig.hba.config_access(Access::write(0x04, 2, 0x406));
    assert!(!line.level(), "INTx disabled");
}

#[test]
fn without_bus_mastering_commands_wait() {
    let mut rig = Rig::new();
    rig.hba.config_access(Access::write(0x04, 2, 2));
    rig.prepare(0, &Cmd::at(command::READ_DMA, 9, 1));
    assert_eq!(rig.set_px(hw::PX_CI, 1).error, Some(GuestError::BusMasterOff));
    assert_eq!(rig.px(hw::PX_CI), 1);
    rig.hba.config_access(Access::write(0x04, 2, 6));
    assert_eq!((rig.px(hw::PX_CI), rig.data(512)), (0, vec![9; 512]));
}

#[test]
fn power_on_again_forgets_everything() {
    let mut rig = Rig::new();
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
    rig.hba.reset();
    assert_eq!((rig.reg(hw::IS), rig.reg(hw::GHC)), (0, 0x8000_0000));
    assert_eq!((rig.px(hw::PX_CLB), rig.px(hw::PX_IE)), (0, 0));
    rig.hba.config_access(Access::write(0x04, 2, 6));
    rig.start(0);
    rig.ok(&Cmd::at(command::READ_DMA, 0, 1));
}
