use xinim_abi::hw::virtio;
use xinim_devices::device::Op;
use xinim_devices::trace::{Event, EventKind};

use super::samples::{access, event, process};
use crate::diff::{Run, compare};

const STATUS: u32 = 0x14;
/// `queue_desc`
const DESC: u32 = 0x20;

fn run(events: &[Event<'_>]) -> Run {
    let mut run = Run::default();
    events.iter().for_each(|event| run.event(event));
    run
}

fn status(time: u64, value: u64) -> Event<'static> {
    access(time, virtio::COMMON, STATUS, Op::Write(value), 0)
}

fn poll(time: u64, value: u64) -> Event<'static> {
    access(time, virtio::COMMON, STATUS, Op::Read, value)
}

fn desc(time: u64, value: u64) -> Event<'static> {
    access(time, virtio::COMMON, DESC, Op::Write(value), 0)
}

#[test]
fn what_always_differs_is_no_difference() {
    let a = run(&[status(1, 0), poll(2, 0), status(3, 1), desc(4, 0x1000), desc(5, 0x2000)]);
    let mut other = desc(70, 0x9000);
    other.origin.process = Some(process(99, "virtio-blk"));
    other.origin.rip = 0x77;
    let b = run(&[
        status(10, 0),
        poll(20, 0),
        poll(25, 0),
        poll(26, 0),
        status(30, 1),
        event(31, "virtio-blk.0", EventKind::QueuePublish { queue: 0, index: 1, count: 1 }),
        other,
        desc(80, 0xA000),
    ]);
    assert!(compare(&a, &b).is_empty(), "{:?}", compare(&a, &b));
}

#[test]
fn the_first_difference_is_shown_with_what_surrounds_it() {
    let common = [status(1, 0), status(2, 1), status(3, 3)];
    let tail: Vec<_> = (4..12).map(|n| status(n, n)).collect();
    let a = run(&[&common[..], &tail].concat());
    let b = run(&[&common[..], &[status(100, 0x80)], &tail].concat());
    let found = compare(&a, &b);
    assert_eq!(found.len(), 1);
    let first = &found[0];
    assert_eq!((first.agreed, first.again), (3, Some((0, 1))));
    let text = first.text();
    assert!(text.contains("virtio-blk.0: 3 steps alike, then"), "{text}");
    assert!(text.contains("device_status=0x80 {FAILED}"), "{text}");
    assert!(text.contains("alike again after 0 steps of A and 1 of B"), "{text}");
}

#[test]
fn the_same_address_twice_is_not_two_addresses() {
    let a = run(&[desc(1, 0x1000), desc(2, 0x1000)]);
    let b = run(&[desc(1, 0x5000), desc(2, 0x6000)]);
    assert_eq!(compare(&a, &b)[0].agreed, 1);
}

#[test]
fn a_device_that_one_run_lacks_is_a_difference() {
    let a = run(&[status(1, 0)]);
    let found = compare(&a, &run(&[]));
    assert!(found[0].text().contains("nothing more"));
    assert!(compare(&Run::default(), &Run::default()).is_empty());
}
