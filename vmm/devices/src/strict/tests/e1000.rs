//! Rules of the gigabit controllers.

use super::machine::{Machine, NIC};
use crate::net::Frame;
use xinim_abi::hw::e1000::descriptor::{RxDesc, TxDesc, tx_command};
use xinim_abi::hw::e1000::{Cause, Ctrl, Model, Rctl, Tctl, eerd, mdic, reg};
use zerocopy::IntoBytes;

const RX: u64 = 0x1_0000;
const TX: u64 = 0x2_0000;
const BUFFERS: u64 = 0x4_0000;
const PACKET: u64 = 0x8_0000;
const ENTRIES: u64 = 16;

fn get(m: &Machine, offset: u32) -> u64 {
    m.read(m.bar(NIC, 0) + u64::from(offset), 4)
}

fn set(m: &Machine, offset: u32, value: u64) {
    m.write(m.bar(NIC, 0) + u64::from(offset), 4, value);
}

fn reset(m: &Machine) {
    m.enable(NIC);
    let control = get(m, reg::CTRL);
    set(m, reg::CTRL, control | u64::from(Ctrl::RST.bits()));
    while get(m, reg::CTRL) & u64::from(Ctrl::RST.bits()) != 0 {}
    let control = get(m, reg::CTRL);
    set(m, reg::CTRL, control | u64::from(Ctrl::SLU.bits()));
    m.wait();
    get(m, reg::STATUS);
    assert_ne!(get(m, reg::STATUS) & 2, 0, "the link is up");
}

fn rings(m: &Machine) {
    for (first, base) in [(reg::RDBAL, RX), (reg::TDBAL, TX)] {
        set(m, first, base);
        set(m, first + 4, 0);
        set(m, first + 8, ENTRIES * 16);
        set(m, first + 16, 0);
        set(m, first + 24, 0);
    }
    for index in 0..ENTRIES {
        let desc = RxDesc { address: BUFFERS + index * 0x1000, ..RxDesc::default() };
        m.poke(RX + index * 16, desc.as_bytes());
    }
}

fn on(m: &Machine) {
    set(m, reg::RCTL, u64::from((Rctl::EN | Rctl::BAM | Rctl::UPE).bits()));
    set(m, reg::TCTL, u64::from((Tctl::EN | Tctl::PSP).bits()));
}

/// A driver that does everything right.
fn started(m: &Machine) {
    reset(m);
    rings(m);
    on(m);
    set(m, reg::RDT, ENTRIES - 1);
    set(m, reg::IMS, u64::from((Cause::RXT0 | Cause::TXDW).bits()));
    assert!(m.broken().is_empty());
}

fn packet(m: &Machine, index: u64) {
    let command = tx_command::EOP | tx_command::RS | tx_command::IFCS | 60;
    let desc = TxDesc { address: PACKET, command, ..TxDesc::default() };
    m.poke(TX + index * 16, desc.as_bytes());
}

#[test]
fn a_good_driver_is_clean() {
    for model in Model::ALL {
        let m = Machine::with(model);
        started(&m);
        for index in 0..3 * ENTRIES {
            packet(&m, index % ENTRIES);
            set(&m, reg::TDT, (index + 1) % ENTRIES);
        }
        for index in 0..3 * ENTRIES {
            m.net.feed(Frame::plain(vec![0xFF; 60]));
            get(&m, reg::ICR);
            let entry = index % ENTRIES;
            let desc = RxDesc { address: BUFFERS + entry * 0x1000, ..RxDesc::default() };
            m.poke(RX + entry * 16, desc.as_bytes());
            set(&m, reg::RDT, entry);
        }
        assert_eq!(m.broken(), [""; 0], "{model:?}");
        // A successor begins anew.
        started(&m);
    }
}

#[test]
fn resets_take_their_time() {
    let m = Machine::new();
    reset(&m);
    let bar = m.bar(NIC, 0);
    let control = u64::from(Ctrl::RST.bits());
    m.write(bar + u64::from(reg::CTRL), 4, control);
    // Accesses of this machine are 10 us apart: this one follows at once.
    m.now.set(m.now.get() - 9_900);
    m.read(bar + u64::from(reg::STATUS), 4);
    assert_eq!(m.broken(), ["e1000-reset-pause"]);
}

#[test]
fn rings_have_possible_shapes() {
    let m = Machine::new();
    reset(&m);
    set(&m, reg::TDBAL, TX + 8);
    assert_eq!(m.broken(), ["e1000-ring-alignment"]);
    set(&m, reg::RDLEN, 100);
    assert_eq!(m.broken(), ["e1000-ring-length"]);
}

#[test]
fn units_start_with_their_rings_and_keep_them() {
    let m = Machine::new();
    reset(&m);
    on(&m);
    assert_eq!(m.broken(), ["e1000-no-ring"]);
    let m = Machine::new();
    started(&m);
    set(&m, reg::RDBAL, RX + 0x1000);
    assert_eq!(m.broken(), ["e1000-ring-live"]);
}

#[test]
fn tails_stay_in_the_ring_and_behind_the_head() {
    let m = Machine::new();
    started(&m);
    set(&m, reg::TDT, ENTRIES);
    assert_eq!(m.broken(), ["e1000-tail-beyond"]);
    set(&m, reg::RDT, 3);
    assert_eq!(m.broken(), ["e1000-tail-passes-head"]);
}

#[test]
fn what_the_device_owns_stays() {
    let m = Machine::new();
    started(&m);
    let desc = RxDesc { address: PACKET, ..RxDesc::default() };
    m.poke(RX, desc.as_bytes());
    m.net.feed(Frame::plain(vec![0xFF; 60]));
    set(&m, reg::RDTR, 0);
    assert_eq!(m.broken(), ["e1000-descriptor-changed"]);
}

#[test]
fn one_operation_at_a_time() {
    let m = Machine::new();
    reset(&m);
    let read = u64::from(mdic::READ | mdic::PHY_ADDRESS << mdic::PHY_SHIFT);
    set(&m, reg::MDIC, read);
    get(&m, reg::MDIC);
    set(&m, reg::MDIC, read);
    assert!(m.broken().is_empty());
    set(&m, reg::MDIC, read);
    assert_eq!(m.broken(), ["e1000-operation-busy"]);
    set(&m, reg::EERD, u64::from(eerd::START));
    get(&m, reg::EERD);
    set(&m, reg::EERD, u64::from(eerd::START));
    assert!(m.broken().is_empty());
    set(&m, reg::EERD, u64::from(eerd::START));
    assert_eq!(m.broken(), ["e1000-operation-busy"]);
}

#[test]
fn causes_are_looked_at_before_interrupts_open_again() {
    for look in [true, false] {
        let m = Machine::new();
        started(&m);
        msi_on(&m);
        packet(&m, 0);
        set(&m, reg::TDT, 1);
        // Another cause is opened while the interrupt is on its way: no mistake.
        set(&m, reg::IMC, u64::from(Cause::TXDW.bits()));
        set(&m, reg::IMS, u64::from(Cause::TXDW.bits()));
        assert!(m.broken().is_empty());
        set(&m, reg::IMC, 0xFFFF_FFFF);
        if look {
            get(&m, reg::ICR);
        }
        set(&m, reg::IMS, u64::from(Cause::TXDW.bits()));
        let expected: &[&str] = if look { &[] } else { &["e1000-interrupt-unread"] };
        assert_eq!(m.broken(), expected);
    }
}

/// One message, to nobody in particular.
fn msi_on(m: &Machine) {
    let at = 0xF0;
    m.write(m.config(NIC, at + 4), 4, 0xFEE0_0000);
    m.write(m.config(NIC, at + 12), 2, 33);
    m.write(m.config(NIC, at + 2), 2, 1);
}
