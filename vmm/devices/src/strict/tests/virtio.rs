//! Rules of virtio: the status protocol, the common configuration, virtqueues.

use super::machine::{BLK, Machine};
use crate::testing::driver::Ring;
use xinim_abi::hw::virtio::{Desc, Status, common, feature};
use xinim_abi::hw::virtio_blk::{self, request};
use zerocopy::IntoBytes;

const RING: u64 = 0x1_0000;
const HEADER: u64 = 0x2000;
const DATA: u64 = 0x3000;
const STATUS: u64 = 0x4000;
const ENTRIES: u16 = 16;
const GOOD: u64 = feature::VERSION_1;

fn get(m: &Machine, register: usize, size: u8) -> u64 {
    m.read(m.bar(BLK, 0) + register as u64, size)
}

fn set(m: &Machine, register: usize, size: u8, value: u64) {
    m.write(m.bar(BLK, 0) + register as u64, size, value);
}

fn status(m: &Machine, status: Status) {
    set(m, common::DEVICE_STATUS, 1, u64::from(status.bits()));
}

fn get_status(m: &Machine) -> u64 {
    get(m, common::DEVICE_STATUS, 1)
}

/// Bus mastering, reset, ACKNOWLEDGE, DRIVER.
fn begun(m: &Machine) {
    m.enable(BLK);
    status(m, Status::empty());
    assert_eq!(get_status(m), 0);
    status(m, Status::ACKNOWLEDGE);
    status(m, Status::ACKNOWLEDGE | Status::DRIVER);
}

fn read_offer(m: &Machine) {
    for half in 0..2 {
        set(m, common::DEVICE_FEATURE_SELECT, 4, half);
        get(m, common::DEVICE_FEATURE, 4);
    }
}

fn accept(m: &Machine, features: u64) {
    for (half, value) in [(0, features & 0xFFFF_FFFF), (1, features >> 32)] {
        set(m, common::DRIVER_FEATURE_SELECT, 4, half);
        set(m, common::DRIVER_FEATURE, 4, value);
    }
}

fn features_ok(m: &Machine) {
    status(m, Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK);
}

fn negotiated(m: &Machine, features: u64) {
    begun(m);
    read_offer(m);
    accept(m, features);
    features_ok(m);
    assert_ne!(get_status(m) & u64::from(Status::FEATURES_OK.bits()), 0);
}

fn queue(m: &Machine, ring: &Ring) {
    set(m, common::QUEUE_SELECT, 2, 0);
    get(m, common::QUEUE_SIZE, 2);
    set(m, common::QUEUE_SIZE, 2, u64::from(ring.size));
    addresses(m, ring.desc, ring.avail, ring.used);
    set(m, common::QUEUE_ENABLE, 2, 1);
}

fn addresses(m: &Machine, desc: u64, avail: u64, used: u64) {
    let places =
        [(common::QUEUE_DESC, desc), (common::QUEUE_DRIVER, avail), (common::QUEUE_DEVICE, used)];
    for (register, address) in places {
        set(m, register, 4, address & 0xFFFF_FFFF);
        set(m, register + 4, 4, address >> 32);
    }
}

fn driver_ok(m: &Machine) {
    status(m, Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK | Status::DRIVER_OK);
}

fn started_with(m: &Machine, features: u64) -> Ring {
    negotiated(m, features);
    let ring = Ring::new(&m.memory, RING, ENTRIES);
    queue(m, &ring);
    driver_ok(m);
    ring
}

/// A driver that does everything right.
pub fn started(m: &Machine) -> Ring {
    let ring = started_with(m, GOOD);
    assert!(m.broken().is_empty());
    ring
}

fn offer(m: &Machine, ring: &mut Ring, kind: u32) -> u16 {
    let header = virtio_blk::RequestHeader { kind, ..Default::default() };
    m.poke(HEADER, header.as_bytes());
    match kind {
        request::FLUSH => ring.offer(&[(HEADER, 16, false), (STATUS, 1, true)]),
        _ => ring.offer(&[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]),
    }
}

pub fn offer_read(m: &Machine, ring: &mut Ring) -> u16 {
    offer(m, ring, request::IN)
}

fn ring_bell(m: &Machine) {
    m.write(m.bar(BLK, 0) + 0x3000, 2, 0);
}

#[test]
fn a_good_driver_is_clean() {
    let m = Machine::new();
    let mut ring = started_with(&m, GOOD | feature::INDIRECT_DESC | virtio_blk::feature::FLUSH);
    for _ in 0..100 {
        offer_read(&m, &mut ring);
        ring_bell(&m);
        assert_eq!(ring.completions().len(), 1);
    }
    offer(&m, &mut ring, request::FLUSH);
    ring_bell(&m);
    // And its successor, whatever was in flight.
    m.disk.lock().unwrap().held = true;
    offer_read(&m, &mut ring);
    ring_bell(&m);
    m.disk.lock().unwrap().held = false;
    m.disk.lock().unwrap().pending.clear();
    started(&m);
}

#[test]
fn resets_are_awaited() {
    let m = Machine::new();
    m.enable(BLK);
    status(&m, Status::empty());
    status(&m, Status::ACKNOWLEDGE);
    assert_eq!(m.broken(), ["virtio-reset-unawaited"]);
}

#[test]
fn status_bits_come_in_order_and_stay() {
    let m = Machine::new();
    m.enable(BLK);
    status(&m, Status::empty());
    get_status(&m);
    status(&m, Status::DRIVER);
    assert_eq!(m.broken(), ["virtio-status-order"]);
    begun(&m);
    assert!(m.broken().is_empty());
    status(&m, Status::DRIVER);
    assert_eq!(m.broken(), ["virtio-status-cleared"]);
}

#[test]
fn features_are_negotiated() {
    let m = Machine::new();
    begun(&m);
    accept(&m, GOOD);
    assert_eq!(m.broken(), ["virtio-feature-unoffered"], "the offer was not read");
    let m = Machine::new();
    begun(&m);
    read_offer(&m);
    accept(&m, GOOD | 1 << 27);
    assert_eq!(m.broken(), ["virtio-feature-unoffered"]);
    let m = Machine::new();
    begun(&m);
    read_offer(&m);
    accept(&m, 0);
    features_ok(&m);
    assert_eq!(m.broken(), ["virtio-version-1"]);
    let m = Machine::new();
    negotiated(&m, GOOD);
    accept(&m, GOOD);
    assert_eq!(m.broken(), ["virtio-features-late"]);
    let m = Machine::new();
    begun(&m);
    read_offer(&m);
    accept(&m, GOOD);
    features_ok(&m);
    driver_ok(&m);
    assert_eq!(m.broken(), ["virtio-features-unconfirmed"]);
}

#[test]
fn features_that_are_used() {
    let m = Machine::new();
    let mut ring = started(&m);
    offer(&m, &mut ring, request::FLUSH);
    ring_bell(&m);
    assert_eq!(m.broken(), ["virtio-feature-unused"]);
    let m = Machine::new();
    let mut ring = started(&m);
    let indirect = Desc { addr: 0x8000, len: 32, flags: 4, next: 0 };
    ring.set_desc(ring.desc, 0, indirect);
    ring.offer_head(0);
    ring_bell(&m);
    assert_eq!(m.broken(), ["virtio-feature-unused"]);
}

#[test]
fn queues_have_possible_shapes() {
    let m = Machine::new();
    negotiated(&m, GOOD);
    get(&m, common::QUEUE_SIZE, 2);
    set(&m, common::QUEUE_SIZE, 2, 12);
    assert_eq!(m.broken(), ["virtio-queue-size"]);
    set(&m, common::QUEUE_SIZE, 2, 32);
    assert_eq!(m.broken(), ["virtio-queue-size"]);
    let ring = Ring::new(&m.memory, RING, ENTRIES);
    addresses(&m, ring.desc + 8, ring.avail, ring.used);
    set(&m, common::QUEUE_ENABLE, 2, 1);
    assert_eq!(m.broken(), ["virtio-queue-alignment"]);
}

#[test]
fn queues_are_set_up_at_the_right_time() {
    let m = Machine::new();
    begun(&m);
    queue(&m, &Ring::new(&m.memory, RING, ENTRIES));
    assert_eq!(m.broken(), ["virtio-queue-early"]);
    let m = Machine::new();
    started(&m);
    set(&m, common::QUEUE_DESC, 4, 0x9000);
    assert_eq!(m.broken(), ["virtio-queue-live"]);
}

#[test]
fn vectors_are_read_back() {
    for read_back in [true, false] {
        let m = Machine::new();
        negotiated(&m, GOOD);
        queue(&m, &Ring::new(&m.memory, RING, ENTRIES));
        set(&m, common::QUEUE_MSIX_VECTOR, 2, 1);
        if read_back {
            assert_eq!(get(&m, common::QUEUE_MSIX_VECTOR, 2), 1);
        }
        driver_ok(&m);
        let expected: &[&str] = if read_back { &[] } else { &["virtio-vector-unchecked"] };
        assert_eq!(m.broken(), expected);
    }
}

#[test]
fn doorbells_have_a_queue_and_a_time() {
    let m = Machine::new();
    negotiated(&m, GOOD);
    queue(&m, &Ring::new(&m.memory, RING, ENTRIES));
    ring_bell(&m);
    assert_eq!(m.broken(), ["virtio-doorbell-early"]);
    driver_ok(&m);
    m.write(m.bar(BLK, 0) + 0x3000 + 4 * 50, 2, 50);
    assert_eq!(m.broken(), ["virtio-doorbell-queue"]);
}

#[test]
fn chains_make_sense() {
    let m = Machine::new();
    let ring = started(&m);
    ring.set_avail_index(100);
    ring_bell(&m);
    assert_eq!(m.broken(), ["virtio-avail-index"]);
    let m = Machine::new();
    let mut ring = started(&m);
    ring.set_desc(ring.desc, 0, Desc { addr: DATA, len: 16, flags: 1, next: 0 });
    ring.offer_head(0);
    ring_bell(&m);
    assert_eq!(m.broken(), ["virtio-chain"]);
    let m = Machine::new();
    let mut ring = started(&m);
    ring.offer(&[(HEADER, 4, false)]);
    ring_bell(&m);
    assert_eq!(m.broken(), ["virtio-request"]);
}

#[test]
fn what_the_device_owns_stays() {
    let m = Machine::new();
    let mut ring = started(&m);
    m.disk.lock().unwrap().held = true;
    let head = offer_read(&m, &mut ring);
    ring_bell(&m);
    ring.set_desc(ring.desc, head, Desc { addr: DATA, len: 99, flags: 0, next: 0 });
    assert!(m.disk.lock().unwrap().finish(0, &*m.memory));
    offer_read(&m, &mut ring);
    ring_bell(&m);
    assert_eq!(m.broken(), ["virtio-descriptor-changed"]);
    let m = Machine::new();
    let mut ring = started(&m);
    m.disk.lock().unwrap().held = true;
    let head = offer_read(&m, &mut ring);
    ring.offer_head(head);
    ring_bell(&m);
    assert_eq!(m.broken(), ["virtio-head-reused"]);
}
