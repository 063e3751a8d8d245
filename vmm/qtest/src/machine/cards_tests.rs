use super::*;
use crate::args::Setup;
use xinim_abi::hw::e1000::{Status, reg};
use xinim_devices::bus::Space;

fn machine(own: &str) -> Machine {
    let text = format!("-qtest unix:none -M pc -m 1M {own}");
    let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
    Machine::new(&Setup::parse(&args).expect("arguments")).expect("a machine")
}

/// Reads a register of the card in slot 4 through a BAR at 0xE0000000.
fn register(machine: &mut Machine, offset: u32) -> u32 {
    let config = 0x8000_2000;
    for (at, value) in [(0x10, 0xE000_0000), (4, 7)] {
        machine.write(Space::Pio, 0xCF8, 4, config | at);
        machine.write(Space::Pio, 0xCFC, 4, value);
    }
    machine.read(Space::Mmio, 0xE000_0000 + u64::from(offset), 4) as u32
}

#[test]
fn links_are_up_from_the_start_and_after_a_reset() {
    for model in ["e1000", "e1000-82540em", "e1000-82545em", "e1000e"] {
        let mut machine = machine(&format!("-device {model},addr=04.0"));
        for _ in 0..2 {
            // SLU comes with the driver; the PHY has long been ready.
            machine.reset();
            let ctrl = register(&mut machine, reg::CTRL);
            machine.write(Space::Mmio, 0xE000_0000, 4, u64::from(ctrl | 1 << 6));
            let status = register(&mut machine, reg::STATUS);
            assert_ne!(status & Status::LU.bits(), 0, "{model}");
        }
    }
}

#[test]
fn functions_go_when_the_guest_ejects_them() {
    let mut machine = machine("-device virtio-net-pci,addr=06,id=net1");
    assert!(machine.remove_device("other").is_err());
    machine.write(Space::Pio, 0xAE08, 4, 1 << 6);
    assert!(machine.ejected().is_empty(), "nobody has asked for it");
    assert!(!machine.remove_device("net1").expect("it is there"));
    assert!(machine.ejected().is_empty());
    machine.write(Space::Pio, 0xAE08, 4, 1 << 6);
    assert_eq!(machine.ejected(), ["net1"]);
    assert!(machine.cards.is_empty());
    machine.write(Space::Pio, 0xCF8, 4, 0x8000_3000);
    assert_eq!(machine.read(Space::Pio, 0xCFC, 4), 0xFFFF_FFFF);
}

#[test]
fn announcements_slow_down_and_end() {
    let timing = Timing { initial: 20, max: 100, rounds: 300, step: 10 };
    let pauses: Vec<u128> = (1..12).map(|done| timing.pause(done).as_millis()).collect();
    assert_eq!(pauses, [20, 30, 40, 50, 60, 70, 80, 90, 100, 100, 100]);
    let mut machine = machine("-netdev hubport,hubid=0,id=h -device virtio-net-pci,netdev=h");
    machine.announce("a", timing);
    assert!(machine.next_announcement().is_some());
    machine.announce("a", Timing { rounds: 0, ..timing });
    assert!(machine.next_announcement().is_none());
    machine.announce("a", Timing { rounds: 1, ..timing });
    assert!(machine.next_announcement().is_none(), "the one round is done");
    assert_eq!(rarp(MAC).len(), MIN_FRAME);
}

#[test]
fn what_is_not_there_is_said() {
    for (own, why) in [
        ("-device virtio-net-pci,netdev=x", "no netdev x"),
        ("-device e1000,mac=1:2", "1:2 is no address"),
        ("-device virtio-rng-pci", "virtio-rng-pci is not supported"),
        ("-device virtconsole,bus=v.0", "no such bus"),
        ("-netdev socket,fd=99999,id=h", "descriptor 99999"),
    ] {
        let text = format!("-qtest unix:none -M pc -m 1M {own}");
        let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let error = Setup::parse(&args).and_then(|setup| Machine::new(&setup).map(drop));
        let error = error.expect_err(own).to_string();
        assert!(error.contains(why), "{own}: {error}");
    }
}
