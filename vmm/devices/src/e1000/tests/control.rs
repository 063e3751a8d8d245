//! Reset, EEPROM, PHY, link, interrupts, statistics, power.

use super::*;
use xinim_abi::hw::e1000::{CtrlExt, Status, eecd, eerd, mdic, nvm, phy};

fn eeprom(rig: &mut Rig, model: Model, address: u32) -> u16 {
    let (shift, done) = if model.is_82574() {
        (eerd::ADDRESS_SHIFT_82574, eerd::DONE_82574)
    } else {
        (eerd::ADDRESS_SHIFT_8254X, eerd::DONE_8254X)
    };
    rig.write(reg::EERD, eerd::START | address << shift);
    let value = rig.read(reg::EERD);
    assert_ne!(value & done, 0);
    (value >> eerd::DATA_SHIFT) as u16
}

fn phy_read(rig: &mut Rig, number: u32) -> u16 {
    rig.write(reg::MDIC, mdic::READ | 1 << mdic::PHY_SHIFT | number << mdic::REGISTER_SHIFT);
    let value = rig.read(reg::MDIC);
    assert_eq!(value & (mdic::READY | mdic::ERROR), mdic::READY);
    value as u16
}

fn phy_write(rig: &mut Rig, number: u32, value: u16) {
    let place = 1 << mdic::PHY_SHIFT | number << mdic::REGISTER_SHIFT;
    rig.write(reg::MDIC, mdic::WRITE | place | u32::from(value));
}

fn link_up(rig: &mut Rig) -> bool {
    rig.read(reg::STATUS) & Status::LU.bits() != 0
}

#[test]
fn the_eeprom_has_the_address_and_a_right_checksum_in_every_model() {
    for model in Model::ALL {
        let mut rig = Rig::cold(model, NetPipe::new());
        let words: Vec<u16> = (0..64).map(|i| eeprom(&mut rig, model, i)).collect();
        assert!(nvm::is_valid(words.as_slice().try_into().unwrap()));
        let mac: Vec<u8> = words[..3].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(mac, MAC);
        assert_eq!(eeprom(&mut rig, model, 64), 0xFFFF, "beyond the end");
        // Loaded into the first receive address at power-on.
        assert_eq!(rig.read(reg::RAL).to_le_bytes(), MAC[..4]);
        assert_eq!(rig.read(reg::RAH), 0x8000_5634);
    }
}

#[test]
fn the_eeprom_can_be_read_and_written_bit_by_bit() {
    let mut rig = Rig::cold(Model::I82545em, NetPipe::new());
    rig.write(reg::EECD, eecd::REQ);
    assert_ne!(rig.read(reg::EECD) & eecd::GNT, 0);
    fn shift(rig: &mut Rig, bits: u32, count: u32) -> u32 {
        let base = eecd::REQ | eecd::CS;
        let mut out = 0;
        for bit in (0..count).rev() {
            let data = if bits >> bit & 1 != 0 { eecd::DI } else { 0 };
            rig.write(reg::EECD, base | data);
            rig.write(reg::EECD, base | data | eecd::SK);
            let level = rig.read(reg::EECD) & eecd::DO != 0;
            out = out << 1 | u32::from(level);
        }
        rig.write(reg::EECD, base);
        out
    }
    fn command(rig: &mut Rig, bits: u32, count: u32) {
        rig.write(reg::EECD, eecd::REQ);
        rig.write(reg::EECD, eecd::REQ | eecd::CS);
        shift(rig, bits, count);
    }
    fn word(rig: &mut Rig, address: u32) -> u32 {
        command(rig, 0b110 << 6 | address, 9);
        shift(rig, 0, 16)
    }
    assert_eq!(word(&mut rig, 0), 0x5452);
    // Locked: nothing changes.
    command(&mut rig, (0b101 << 6 | 0x20) << 16 | 0xBEEF, 25);
    assert_eq!(word(&mut rig, 0x20), 0xFFFF);
    command(&mut rig, 0b100_110000, 9);
    command(&mut rig, (0b101 << 6 | 0x20) << 16 | 0xBEEF, 25);
    assert_eq!(word(&mut rig, 0x20), 0xBEEF);
    assert_eq!(eeprom(&mut rig, Model::I82545em, 0x20), 0xBEEF);
}

#[test]
fn the_link_comes_after_negotiation_and_only_if_the_driver_wants_it() {
    for model in Model::ALL {
        let mut rig = Rig::cold(model, NetPipe::new());
        rig.pass(AUTONEG_TIME);
        assert!(!link_up(&mut rig), "SLU is not set");
        rig.write(reg::IMS, Cause::LSC.bits());
        rig.write(reg::CTRL, Ctrl::SLU.bits());
        assert!(link_up(&mut rig));
        assert!(rig.line.level());
        assert_ne!(rig.read(reg::ICR) & Cause::LSC.bits(), 0);
        assert!(!rig.line.level(), "reading ICR takes the interrupt back");
        let id =
            u32::from(phy_read(&mut rig, phy::ID1)) << 16 | u32::from(phy_read(&mut rig, phy::ID2));
        assert_eq!(id, if model.is_82574() { 0x0141_0CB1 } else { 0x0141_0C20 });
    }
}

#[test]
fn the_cable_can_be_pulled_and_the_loss_is_latched() {
    let mut rig = Rig::new(Model::I82540em);
    assert_ne!(phy_read(&mut rig, phy::STATUS) & phy::status::AUTONEG_DONE, 0);
    assert_ne!(phy_read(&mut rig, phy::STATUS) & phy::status::LINK, 0);
    rig.card.set_link(false, &Origin::default());
    assert!(rig.line.level() && !link_up(&mut rig));
    assert_eq!(rig.read(reg::ICR) & Cause::LSC.bits(), Cause::LSC.bits());
    rig.card.set_link(true, &Origin::default());
    assert!(!link_up(&mut rig), "negotiating");
    rig.pass(AUTONEG_TIME);
    assert!(link_up(&mut rig));
    assert_eq!(rig.read(reg::ICR) & Cause::LSC.bits(), Cause::LSC.bits());
    assert_eq!(phy_read(&mut rig, phy::STATUS) & phy::status::LINK, 0, "it was down");
    assert_ne!(phy_read(&mut rig, phy::STATUS) & phy::status::LINK, 0);
}

#[test]
fn negotiation_finds_what_the_driver_offers() {
    let mut rig = Rig::new(Model::I82540em);
    phy_write(&mut rig, phy::GIGABIT_CONTROL, 0);
    phy_write(&mut rig, phy::ADVERTISE, 0x0081);
    phy_write(&mut rig, phy::CONTROL, 0x1300);
    assert!(!link_up(&mut rig));
    rig.pass(AUTONEG_TIME);
    let status = Status::from_bits_retain(rig.read(reg::STATUS));
    assert!(status.contains(Status::LU | Status::SPEED_100));
    assert!(!status.intersects(Status::FD | Status::SPEED_1000));
    phy_write(&mut rig, phy::CONTROL, phy::control::POWER_DOWN);
    assert!(!link_up(&mut rig));
    // An address nobody has.
    rig.write(reg::MDIC, mdic::READ | 7 << mdic::PHY_SHIFT);
    assert_ne!(rig.read(reg::MDIC) & mdic::ERROR, 0);
}

#[test]
fn the_packet_buffer_is_as_large_as_the_models() {
    for (model, kib) in [(Model::I82540em, 64), (Model::I82545em, 64), (Model::I82574l, 40)] {
        let parts = Rig::cold(model, NetPipe::new()).read(reg::PBA);
        assert_eq!((parts & 0xFFFF) + (parts >> 16), kib, "{model:?}");
    }
}

#[test]
fn reset_in_any_state_gives_the_state_of_a_reset() {
    for model in Model::ALL {
        let mut rig = Rig::new(model);
        let mut fresh = Rig::cold(model, NetPipe::new());
        rig.send(&frame(OTHER, 100), tx_command::RS);
        rig.feed(&frame(MAC, 100));
        rig.net.limit(Some(0));
        rig.send(&frame(OTHER, 100), tx_command::RS);
        rig.write(reg::PBA, 0x20);
        rig.write(reg::CTRL, Ctrl::RST.bits());
        assert!(!rig.line.level());
        assert_eq!(
            rig.read(reg::PBA) & 0xFFFF,
            0x20,
            "the packet buffer's size takes effect with it"
        );
        for offset in (0..BAR_SIZE as u32).step_by(4) {
            let same = |rig: &mut Rig| {
                rig.card.bar_access(REGISTER_BAR, Access::read(offset.into(), 4)).value
            };
            if ![reg::PBA, reg::STATUS, reg::MDIC].contains(&offset) {
                assert_eq!(same(&mut rig), same(&mut fresh), "{model:?} {offset:#x}");
            }
        }
        rig.net.limit(None);
        rig.start();
        rig.net.take();
        rig.send(&frame(OTHER, 100), 0);
        assert_eq!(rig.sent().len(), 1, "{model:?} works after the reset");
    }
}

#[test]
fn interrupts_are_throttled_and_none_is_lost() {
    let mut rig = Rig::new(Model::I82540em);
    // 1000 units of 256 ns.
    rig.write(reg::ITR, 1000);
    rig.feed(&frame(MAC, 100));
    assert_eq!(rig.line.rises(), 2, "link, then the first packet at once");
    rig.read(reg::ICR);
    rig.feed(&frame(MAC, 100));
    assert!(!rig.line.level(), "too early");
    rig.pass(Duration::from_nanos(255_000));
    assert!(!rig.line.level());
    rig.pass(Duration::from_nanos(1_000));
    assert!(rig.line.level());
}

#[test]
fn a_line_follows_the_mask() {
    let mut rig = Rig::new(Model::I82545em);
    rig.write(reg::ICS, Cause::RXT0.bits());
    assert!(rig.line.level());
    rig.write(reg::IMC, Cause::RXT0.bits());
    assert!(!rig.line.level());
    assert_eq!(rig.read(reg::IMS) & Cause::RXT0.bits(), 0);
    rig.write(reg::IMS, Cause::RXT0.bits());
    assert!(rig.line.level(), "still pending");
    rig.write(reg::ICR, Cause::RXT0.bits());
    assert!(!rig.line.level(), "written one, cleared");
}

#[test]
fn messages_are_sent_for_new_causes_only() {
    let mut rig = Rig::new(Model::I82540em);
    rig.read(reg::ICR);
    let at = capability(&mut rig, hw::CAP_MSI);
    for (offset, size, value) in [(4, 4, 0xFEE0_0000), (12, 2, 0x41), (2, 2, 1)] {
        rig.card.config_access(Access::write((at + offset) as u64, size, value));
    }
    rig.write(reg::ICS, Cause::RXT0.bits());
    rig.write(reg::ICS, Cause::RXT0.bits());
    let messages = rig.msi.take();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].1.address, messages[0].1.data), (0xFEE0_0000, 0x41));
    assert!(!rig.line.level(), "MSI instead of the line");
    rig.read(reg::ICR);
    rig.write(reg::ICS, Cause::RXT0.bits());
    assert_eq!(rig.msi.take().len(), 1);
}

fn capability(rig: &mut Rig, id: u8) -> usize {
    let config = rig.card.config();
    let mut at = config.get(hw::CAPABILITIES, 1) as usize;
    while config.get(at, 1) as u8 != id {
        at = config.get(at + 1, 1) as usize;
        assert_ne!(at, 0, "no capability {id:#x}");
    }
    at
}

/// Vector n sends n.
fn msix_on(rig: &mut Rig) {
    for vector in 0..5u64 {
        for (at, value) in [(0, 0xFEE0_0000u64), (8, vector), (12, 0)] {
            rig.card.bar_access(MSIX_BAR, Access::write(vector * 16 + at, 4, value));
        }
    }
    let at = capability(rig, hw::CAP_MSIX) + hw::msix::MESSAGE_CONTROL;
    rig.card.config_access(Access::write(at as u64, 2, hw::msix::CONTROL_ENABLE.into()));
}

#[test]
fn msix_vectors_clear_their_causes_as_eiac_says() {
    let mut rig = Rig::new(Model::I82574l);
    rig.read(reg::ICR);
    msix_on(&mut rig);
    // Receive 0 on vector 0, transmit 0 on 2, others on 4.
    rig.write(reg::IVAR, 0x000C_0A08);
    rig.write(reg::EIAC, (Cause::RXQ0 | Cause::TXQ0).bits());
    rig.feed(&frame(MAC, 100));
    rig.send(&frame(OTHER, 100), tx_command::RS);
    rig.card.set_link(false, &Origin::default());
    let vectors: Vec<u16> = rig.msi.take().into_iter().map(|m| m.0).collect();
    assert_eq!(vectors, [0, 2, 4]);
    let left = Cause::from_bits_retain(rig.read(reg::ICR));
    assert!(!left.intersects(Cause::RXQ0 | Cause::TXQ0) && left.contains(Cause::OTHER));
    rig.card.set_link(true, &Origin::default());
    rig.pass(AUTONEG_TIME);
    rig.feed(&frame(MAC, 100));
    let vectors: Vec<u16> = rig.msi.take().into_iter().map(|m| m.0).collect();
    assert!(!vectors.contains(&0), "the cause has closed itself, too: {vectors:?}");
    rig.write(reg::IMS, Cause::RXQ0.bits());
    let vectors: Vec<u16> = rig.msi.take().into_iter().map(|m| m.0).collect();
    assert_eq!(vectors, [0], "what waited comes when it is opened again");
}

/// As Linux has it: every cause in IAM, and each vector's handler unmasks its own.
#[test]
fn a_vector_masks_its_own_cause_only() {
    let mut rig = Rig::new(Model::I82574l);
    rig.read(reg::ICR);
    msix_on(&mut rig);
    rig.write(reg::IVAR, 0x800A_0908);
    rig.write(reg::CTRL_EXT, (CtrlExt::EIAME | CtrlExt::IAME | CtrlExt::PBA_SUPPORT).bits());
    rig.write(reg::IAM, u32::MAX);
    rig.write(reg::EIAC, (Cause::RXQ0 | Cause::TXQ0 | Cause::OTHER).bits());
    rig.write(reg::IMS, (Cause::RXQ0 | Cause::TXQ0 | Cause::OTHER | Cause::LSC).bits());
    let vectors = |rig: &Rig| -> Vec<u16> { rig.msi.take().into_iter().map(|m| m.0).collect() };
    vectors(&rig);
    rig.feed(&frame(MAC, 100));
    rig.feed(&frame(MAC, 100));
    assert_eq!(vectors(&rig), [0], "the second finds it masked");
    rig.send(&frame(OTHER, 100), tx_command::RS);
    assert_eq!(vectors(&rig), [1]);
    rig.write(reg::IMS, Cause::RXQ0.bits());
    assert_eq!(vectors(&rig), [0], "what waited comes on unmasking");
}

#[test]
fn the_82574_clears_icr_only_when_the_interrupt_was_its_own() {
    let mut rig = Rig::new(Model::I82574l);
    rig.write(reg::IMC, u32::MAX);
    rig.read(reg::ICR);
    rig.write(reg::IMS, Cause::LSC.bits());
    rig.write(reg::ICS, Cause::RXT0.bits());
    assert_eq!(rig.read(reg::ICR), Cause::RXT0.bits());
    assert_eq!(rig.read(reg::ICR), Cause::RXT0.bits(), "masked: not asserted, not cleared");
    rig.write(reg::IMS, Cause::RXT0.bits());
    assert_eq!(rig.read(reg::ICR), (Cause::RXT0 | Cause::ASSERTED).bits());
    assert_eq!(rig.read(reg::ICR), 0);
}

#[test]
fn statistics_are_cleared_by_reading_and_do_not_wrap() {
    let mut rig = Rig::new(Model::I82540em);
    rig.feed(&frame(MAC, 100));
    rig.feed(&frame([0xFF; 6], 60));
    rig.send(&frame(OTHER, 1000), 0);
    for (counter, value) in [
        (reg::TPR, 2),
        (reg::GPRC, 2),
        (reg::BPRC, 1),
        (reg::PRC64, 1),
        (reg::PRC127, 1),
        (reg::GORCL, 168),
        (reg::TPT, 1),
        (reg::PTC1023, 1),
        (reg::GOTCL, 1004),
    ] {
        assert_eq!(rig.read(counter), value, "{counter:#x}");
    }
    assert_eq!((rig.read(reg::GORCH), rig.read(reg::GORCL)), (0, 0), "the high half clears both");
    assert_eq!(rig.read(reg::GPRC), 0);
    rig.card.regs[reg::GPRC] = u32::MAX;
    rig.feed(&frame(MAC, 100));
    assert_eq!(rig.read(reg::GPRC), u32::MAX);
}

#[test]
fn wrong_accesses_are_reported_and_change_nothing() {
    let mut rig = Rig::new(Model::I82540em);
    let error = |rig: &mut Rig, access| rig.card.bar_access(REGISTER_BAR, access).error;
    assert_eq!(error(&mut rig, Access::read(0x1_F000, 4)), Some(GuestError::NoRegister));
    assert_eq!(error(&mut rig, Access::read(reg::IVAR.into(), 4)), Some(GuestError::NoRegister));
    assert_eq!(
        error(&mut rig, Access::write(reg::STATUS.into(), 4, 0)),
        Some(GuestError::ReadOnly)
    );
    assert_eq!(error(&mut rig, Access::write(reg::CTRL.into(), 1, 0)), Some(GuestError::BadSize));
    let both = rig.card.bar_access(REGISTER_BAR, Access::read(reg::RAL.into(), 8)).value;
    assert_eq!(both.to_le_bytes()[..6], MAC);
}

#[test]
fn a_sleeping_card_remembers_what_woke_it() {
    use xinim_abi::hw::e1000::wake;
    let mut rig = Rig::new(Model::I82545em);
    rig.write(reg::WUFC, wake::MAG);
    rig.write(reg::WUC, wake::PME_EN);
    let pm = capability(&mut rig, hw::CAP_POWER_MANAGEMENT) + 4;
    rig.card.config_access(Access::write(pm as u64, 2, 3));
    rig.feed(&frame(MAC, 200));
    assert_eq!(rig.read(reg::WUS), 0, "no magic packet");
    let mut magic = frame([0xFF; 6], 14);
    magic.extend([0xFF; 6]);
    magic.extend(MAC.repeat(16));
    rig.feed(&magic);
    assert_eq!(rig.read(reg::WUS), wake::MAG);
    assert_ne!(rig.read(reg::WUC) & wake::PME_STATUS, 0);
    assert_ne!(rig.card.config().get(pm, 2) & 0x8000, 0);
    assert!(rig.received().is_none(), "no DMA in D3");
    rig.card.config_access(Access::write(pm as u64, 2, 0x8000));
    assert_eq!(rig.read(reg::WUS), wake::MAG, "kept over the way back");
    assert_eq!(rig.read(reg::WUC) & wake::PME_STATUS, 0);
    rig.start();
    rig.feed(&frame(MAC, 200));
    assert!(rig.received().is_some());
}

/// Software has to set CTRL.SLU on the real parts; QEMU's, and so its tests, do without.
#[test]
fn the_link_needs_slu_except_in_qemus_dialect() {
    for dialect in [false, true] {
        let mut rig = Rig::new(Model::I82574l);
        if dialect {
            rig.card.qemu_dialect = true;
        }
        rig.write(reg::CTRL, Ctrl::RST.bits() | Ctrl::SLU.bits());
        let up = rig.read(reg::STATUS) & Status::LU.bits() != 0;
        assert_eq!(up, dialect);
    }
}
