//! Rules that hold for every device, and those of PCI.

use super::machine::{BLK, HBA, Machine, NIC, Seen};
use crate::device::Origin;
use crate::strict::Checker;
use crate::testing::{FlatMemory, TraceLog};
use crate::trace::{Event, EventKind, Guest, Hub, IommuRequest, Owner, TraceSink};
use std::sync::Arc;
use xinim_abi::hw::e1000::reg;
use xinim_abi::hw::pci::{self, Command, msix};
use xinim_abi::hw::virtio::common;
use xinim_abi::trace::kind;

#[test]
fn ordinary_accesses_are_clean() {
    let m = Machine::new();
    let (blk, nic, hba) = (m.bar(BLK, 0), m.bar(NIC, 0), m.bar(HBA, 5));
    m.read(blk + common::NUM_QUEUES as u64, 2);
    m.read(nic + u64::from(reg::STATUS), 4);
    m.read(hba, 4);
    m.enable(NIC);
    // Read, change, write back: bits that were there are no mistake.
    let control = m.read(nic + u64::from(reg::CTRL), 4);
    m.write(nic + u64::from(reg::CTRL), 4, control | 0x40);
    assert!(m.broken().is_empty());
    assert_eq!(m.checker.counts(), []);
    assert!(m.checker.accesses() >= 8);
}

#[test]
fn widths_and_alignment() {
    let m = Machine::new();
    m.read(m.bar(NIC, 0) + u64::from(reg::STATUS), 2);
    assert_eq!(m.broken(), ["access-size"]);
    m.read(m.bar(HBA, 5) + 1, 2);
    assert_eq!(m.broken(), ["access-alignment"]);
}

#[test]
fn nobody_there_and_no_register() {
    let m = Machine::new();
    m.read(0xFD00_0000, 4);
    assert_eq!(m.broken(), ["access-unclaimed"]);
    m.read(m.bar(NIC, 0) + 0x1_F000, 4);
    assert_eq!(m.broken(), ["register-none"]);
}

#[test]
fn directions_of_registers() {
    let m = Machine::new();
    let nic = m.bar(NIC, 0);
    m.write(nic + u64::from(reg::STATUS), 4, 1);
    assert_eq!(m.broken(), ["register-read-only"]);
    m.read(m.bar(BLK, 0) + 0x3000, 2);
    assert_eq!(m.broken(), ["register-write-only"]);
}

#[test]
fn reserved_bits_and_values() {
    let m = Machine::new();
    let nic = m.bar(NIC, 0);
    m.write(nic + u64::from(reg::RDTR), 4, 0x10_0000);
    assert_eq!(m.broken(), ["register-reserved"]);
    m.write(nic + u64::from(reg::RDTR), 4, 0x10);
    assert!(m.broken().is_empty());
    let blk = m.bar(BLK, 0);
    m.write(blk + common::CONFIG_MSIX_VECTOR as u64, 2, 77);
    assert_eq!(m.broken(), ["register-value"]);
    m.write(blk + common::QUEUE_RESET as u64, 2, 1);
    assert_eq!(m.broken(), ["register-state"]);
}

#[test]
fn reports_are_bounded_and_counted() {
    let m = Machine::new();
    for _ in 0..10 {
        m.read(0xFD00_0000, 4);
    }
    let seen = m.violations();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].count, 3);
    assert!(seen[2].history.len() >= 3 && seen[2].history.iter().all(|l| l.contains("0xfd000000")));
    let [count] = &m.checker.counts()[..] else { panic!("one rule") };
    assert_eq!((count.device.as_str(), count.rule, count.count), ("bus", "access-unclaimed", 10));
}

#[test]
fn hostile_numbers_of_devices_are_bounded() {
    let m = Machine::new();
    let checker: Arc<Checker> = m.checker.clone();
    for number in 0..1000 {
        let device = format!("device{number}");
        let kind = EventKind::Line { level: true };
        let origin = Origin::default();
        checker.event(&Event { origin, device: &device, kind, data: &[] });
    }
    assert!(m.broken().is_empty());
}

#[test]
fn memory_that_is_not_there() {
    let m = Machine::new();
    let mut ring = super::virtio::started(&m);
    ring.offer(&[(0x5000, 16, false), (0xF000_0000, 512, true), (0x6000, 1, true)]);
    m.poke(0x5000, &[0; 16]);
    m.write(m.bar(BLK, 0) + 0x3000, 2, 0);
    assert_eq!(m.broken(), ["dma-no-memory"]);
}

#[test]
fn bus_mastering_off() {
    let m = Machine::new();
    let mut ring = super::virtio::started(&m);
    super::virtio::offer_read(&m, &mut ring);
    m.write(m.config(BLK, pci::COMMAND), 2, u64::from(Command::MEMORY_SPACE.bits()));
    m.write(m.bar(BLK, 0) + 0x3000, 2, 0);
    assert_eq!(m.broken(), ["dma-bus-master"]);
}

#[test]
fn a_broken_device_is_left_alone() {
    let m = Machine::new();
    let ring = super::virtio::started(&m);
    ring.set_avail_index(1000);
    let bell = m.bar(BLK, 0) + 0x3000;
    m.write(bell, 2, 0);
    assert_eq!(m.broken(), ["virtio-avail-index"]);
    m.write(bell, 2, 0);
    assert_eq!(m.broken(), ["device-broken"]);
}

#[test]
fn bars_move_with_decoding_off() {
    let m = Machine::new();
    let at = m.config(NIC, pci::BAR0);
    let here = m.read(at, 4);
    m.write(m.config(NIC, pci::COMMAND), 2, 0);
    m.write(at, 4, 0xFFFF_FFFF);
    m.write(at, 4, here);
    assert!(m.broken().is_empty());
    m.write(m.config(NIC, pci::COMMAND), 2, u64::from(Command::MEMORY_SPACE.bits()));
    m.write(at, 4, here);
    assert!(m.broken().is_empty(), "the same value again");
    m.write(at, 4, 0xFFFF_FFFF);
    assert_eq!(m.broken(), ["pci-bar-live"]);
}

#[test]
fn vectors_change_while_masked() {
    let m = Machine::new();
    let table = m.bar(BLK, 2);
    let set = |at: u64, value| m.write(table + at, 4, value);
    m.enable(BLK);
    let capability = capability(&m, pci::CAP_MSIX);
    let control = m.config(BLK, capability + msix::MESSAGE_CONTROL);
    m.write(control, 2, u64::from(msix::CONTROL_ENABLE));
    for (at, value) in [(0, 0xFEE0_0000), (4, 0), (8, 33), (12, 0)] {
        set(at, value);
    }
    assert!(m.broken().is_empty());
    set(8, 33);
    assert!(m.broken().is_empty(), "the same value again");
    set(8, 34);
    assert_eq!(m.broken(), ["pci-msix-live"]);
    set(12, 1);
    set(8, 35);
    assert!(m.broken().is_empty());
}

/// Offset of a capability of the disk.
fn capability(m: &Machine, id: u8) -> usize {
    let mut at = m.read(m.config(BLK, pci::CAPABILITIES), 1) as usize;
    while m.read(m.config(BLK, at), 1) != u64::from(id) {
        at = m.read(m.config(BLK, at + 1), 1) as usize;
    }
    at
}

/// A transfer of the disk's, and grants of its function, as the guest's kernel tells of them.
fn tell(m: &Machine, time_ns: u64, kind: EventKind) {
    let origin = Origin { time_ns, ..Origin::default() };
    m.checker.event(&Event { origin, device: "virtio-blk.0", kind, data: &[] });
}

fn grant(kind: u8, address: u64, pages: u64) -> EventKind {
    let (kind, name) = (u16::from(kind), BLK.bits());
    EventKind::Guest(Guest { kind, name, a: address, b: 7 | pages << 32 })
}

fn moved(address: u64, length: u64) -> EventKind {
    EventKind::Dma { write: true, address, length, ok: true, owner: Owner::Unknown }
}

#[test]
fn transfers_stay_where_memory_was_granted() {
    const MS: u64 = 1_000_000;
    let m = Machine::new();
    m.read(m.config(BLK, 0), 4);
    // Nothing was granted yet: such a guest does not tell.
    tell(&m, 10 * MS, moved(0x1000, 512));
    m.checker.settle(50 * MS, false);
    assert!(m.broken().is_empty());
    // A transfer comes before the news of its grant; two grants together cover one.
    tell(&m, 101 * MS, moved(0x8800, 0x1000));
    tell(&m, 100 * MS, grant(kind::DMA_GRANT, 0x8000, 1));
    tell(&m, 100 * MS, grant(kind::DMA_GRANT, 0x9000, 1));
    tell(&m, 102 * MS, moved(0x8000, 0x2000));
    m.checker.settle(110 * MS, false);
    assert!(m.broken().is_empty());
    // Taken back before the news of the transfer's grant was judged.
    tell(&m, 120 * MS, grant(kind::DMA_GRANT, 0xA000, 1));
    tell(&m, 130 * MS, grant(kind::DMA_REVOKE, 0xA000, 1));
    tell(&m, 125 * MS, moved(0xA000, 64));
    m.checker.settle(140 * MS, false);
    assert!(m.broken().is_empty());
    // Outside; past the end; after it was taken back.
    for (time, address) in [(150, 0x20_0000), (160, 0x9FF0), (170, 0xA000)] {
        tell(&m, time * MS, moved(address, 32));
        m.checker.settle(time * MS, false);
        assert!(m.broken().is_empty(), "not before the grants of that time are known");
        m.checker.settle((time + 5) * MS, false);
        assert_eq!(m.broken(), ["dma-not-granted"], "{address:#x}");
    }
    // With news lost nobody is accused.
    tell(&m, 180 * MS, moved(0x20_0000, 32));
    m.checker.settle(200 * MS, true);
    assert!(m.broken().is_empty());
}

#[test]
fn what_an_iommu_refuses_is_said() {
    let m = Machine::new();
    let request =
        |status| EventKind::IommuRequest(IommuRequest { kind: 3, status, ..Default::default() });
    tell(&m, 1, request(0));
    assert!(m.broken().is_empty());
    tell(&m, 2, request(4));
    assert_eq!(m.broken(), ["iommu-request"]);
    let refused = EventKind::IommuFault {
        endpoint: BLK.bits(),
        address: 0x1000,
        write: true,
        attached: true,
    };
    tell(&m, 3, refused);
    assert_eq!(m.broken(), ["iommu-refused"]);
}

/// What is found is among the events of the device, each time, though it is reported a few times only.
#[test]
fn each_violation_is_an_event() {
    let (memory, hub) = (FlatMemory::new(0, 4096), Arc::new(Hub::default()));
    let checker = Checker::listen(memory, Arc::new(Seen::default()), &hub);
    let log = TraceLog::new();
    hub.add(log.clone(), None, true);
    let kind = EventKind::IommuRequest(IommuRequest { kind: 3, status: 4, ..Default::default() });
    for time_ns in 1..=5 {
        hub.send(&Event { origin: Origin::host(time_ns), device: "iommu.0", kind, data: &[] });
    }
    let lines = log.take();
    let found = lines.iter().filter(|line| line.contains(" violation iommu-request: ")).count();
    assert_eq!((found, lines.len()), (5, 10), "{lines:?}");
    assert_eq!(checker.counts()[0].count, 5);
}
