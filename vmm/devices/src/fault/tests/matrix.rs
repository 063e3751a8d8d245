//! Every action at every place it suits: that each pair has a test which triggers it and sees what does
//! not, and the pairs whose effect is the same wherever they strike.

use super::super::rule::{Action, Kind};
use super::*;
use crate::dma::Dma;
use crate::irq::{MsiMessage, MsiSink};
use crate::testing::{FlatMemory, MsiLog};

const DISK: &str = include_str!("disk.rs");
const NET: &str = include_str!("net.rs");
const FUNCTION: &str = include_str!("function.rs");
const DMA: &str = include_str!("dma.rs");
const IRQ: &str = include_str!("irq.rs");
const HERE: &str = include_str!("matrix.rs");

/// The test of a pair: its file and name.
fn test_of(action: Action, kind: Kind) -> Option<(&'static str, &'static str)> {
    use Action::*;
    Some(match (action, kind) {
        (Error, Kind::Request) => (DISK, "error"),
        (Delay, Kind::Request) => (DISK, "delay"),
        (Drop, Kind::Request) => (DISK, "drop_holds_a_completion_until_the_device_is_reset"),
        (Duplicate, Kind::Request) => {
            (DISK, "duplicate_carries_a_request_out_twice_and_completes_it_once")
        }
        (Reorder, Kind::Request) => {
            (DISK, "reorder_lets_the_next_overtake_and_does_not_wait_for_ever")
        }
        (Corrupt, Kind::Request) => (DISK, "corrupt_flips_one_bit_of_what_is_read"),
        (Stick, Kind::Request) => (DISK, "stick_stops_everything_until_its_time_is_over"),
        (Unplug, Kind::Request) => (DISK, "unplug_pulls_the_device_out_and_lets_the_request_pass"),
        (Delay, Kind::Packet) => (NET, "delay"),
        (Drop, Kind::Packet) => (NET, "drop_by_direction_protocol_and_port"),
        (Duplicate, Kind::Packet) => (NET, "duplicate"),
        (Reorder, Kind::Packet) => (NET, "reorder"),
        (Corrupt, Kind::Packet) => (NET, "corrupt_flips_one_bit"),
        (Stick, Kind::Packet) => (NET, "stick_holds_one_direction"),
        (LinkDown, Kind::Packet) => (NET, "link_down_pulls_the_cable_and_puts_it_back"),
        (LinkDown, Kind::Time) => (NET, "link_down_needs_no_event"),
        (Error, Kind::Register) => (FUNCTION, "error_reads_as_ones_and_loses_writes"),
        (Drop, Kind::Register) => (FUNCTION, "drop_loses_writes_of_a_value"),
        (Duplicate, Kind::Register) => (FUNCTION, "duplicate_does_it_twice"),
        (Corrupt, Kind::Register) => (FUNCTION, "corrupt_flips_one_bit"),
        (Stick, Kind::Register) => (FUNCTION, "stick_keeps_the_value_until_the_device_is_reset"),
        (Unplug, Kind::Register) => (FUNCTION, "unplug_leaves_nothing_behind"),
        (Unplug, Kind::Time) => (FUNCTION, "unplug_needs_no_event"),
        (Drop | Delay | Duplicate, Kind::Doorbell) => {
            (FUNCTION, "doorbells_are_lost_late_or_doubled")
        }
        (Error, Kind::Dma) => (DMA, "error"),
        (Drop, Kind::Dma) => (DMA, "drop"),
        (Corrupt, Kind::Dma) => (DMA, "corrupt"),
        (IrqLost, Kind::Interrupt) => (IRQ, "lost"),
        (IrqLate, Kind::Interrupt) => (IRQ, "late"),
        (IrqDuplicate, Kind::Interrupt) => (IRQ, "duplicate"),
        (Stick, Kind::Interrupt) => (IRQ, "stick"),
        (Stick, Kind::Doorbell) => (FUNCTION, "a_queue_that_sticks_hears_nothing"),
        (Unplug, Kind::Packet) => (NET, "unplug_by_a_packet"),
        (Unplug | LinkDown, Kind::Dma) => (HERE, "a_transfer_can_pull_out_what_it_likes"),
        (Unplug | LinkDown, Kind::Interrupt) => (HERE, "an_interrupt_can_pull_out_what_it_likes"),
        (Unplug | LinkDown, Kind::Doorbell) => (FUNCTION, "a_doorbell_can_pull_out_what_it_likes"),
        (LinkDown, Kind::Register) => (FUNCTION, "a_register_can_pull_the_cable_out"),
        (LinkDown, Kind::Request) => (DISK, "a_request_can_pull_a_cable_out"),
        _ => return None,
    })
}

#[test]
fn every_action_has_a_test_wherever_it_can_strike() {
    for action in Action::ALL {
        for kind in Kind::ALL {
            let test = test_of(action, kind);
            assert_eq!(test.is_some(), action.suits(kind), "{action:?} at {kind:?}");
            let Some((file, name)) = test else { continue };
            let is_there = file.contains(&format!("#[test]\nfn {name}() {{"));
            assert!(is_there, "{action:?} at {kind:?}: there is no test {name}");
        }
    }
}

/// Strikes at the second of what `pass` does, not at the first; what happened to the device then.
fn second(rule: &str, pass: impl Fn(&Rig)) -> Vec<String> {
    let rig = Rig::new(&["virtio-net.0", "net0"]);
    rig.add(&format!("{rule},nth=2"));
    pass(&rig);
    rig.pass(MS);
    assert_eq!((rig.target.take(), rig.hits(1)), (vec![], (1, 0)), "{rule}: the first passes");
    assert!(!rig.site.is_gone(), "{rule}");
    pass(&rig);
    rig.pass(MS);
    assert_eq!(rig.hits(1), (2, 1), "{rule}");
    let mut happened = rig.target.take();
    if rig.site.is_gone() {
        happened.push("unplugged".into());
    }
    happened
}

fn transfer(rig: &Rig) {
    let dma = FaultDma::new(FlatMemory::new(0, 64), rig.site.clone());
    // Whether it goes through is not what this is about.
    let _ = dma.read(0, &mut [0; 4]);
}

#[test]
fn a_transfer_can_pull_out_what_it_likes() {
    assert_eq!(second("on=dma,action=unplug", transfer), ["unplugged"]);
    assert_eq!(second("on=dma,action=link-down", transfer), ["link false"]);
}

#[test]
fn an_interrupt_can_pull_out_what_it_likes() {
    let raise = |rig: &Rig| {
        let msi = FaultMsi::new(MsiLog::new(), rig.site.clone());
        msi.signal(1, MsiMessage { address: 0xFEE0_0000, data: 1 });
    };
    assert_eq!(second("on=interrupt,action=unplug", raise), ["unplugged"]);
    assert_eq!(second("on=interrupt,action=link-down", raise), ["link false"]);
}
