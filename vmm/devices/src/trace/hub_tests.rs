use super::*;
use crate::device::Origin;
use crate::testing::TraceLog;
use crate::trace::{EventKind, Tracer};
use std::sync::atomic::AtomicUsize;

struct Queue(u16);

impl Accept for Queue {
    fn accepts(&self, event: &Event<'_>) -> bool {
        matches!(event.kind, EventKind::QueueNotify { queue } if queue == self.0)
    }
}

/// Wants nothing but interrupts.
#[derive(Default)]
struct Interrupts(AtomicUsize);

impl TraceSink for Interrupts {
    fn event(&self, _event: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn interest(&self) -> Interest {
        Interest::IRQ
    }
}

fn notify(tracer: &Tracer, queue: u16) {
    tracer.emit(&Origin::host(0), || EventKind::QueueNotify { queue });
}

#[test]
fn each_sink_has_its_filter_and_its_switch() {
    let hub = Arc::new(Hub::new(None));
    let tracer = Tracer::at(hub.clone()).named("dev");
    let mut built = 0;
    tracer.emit(&Origin::host(0), || {
        built += 1;
        EventKind::Line { level: true }
    });
    assert_eq!(built, 0, "nobody listens: not even built");

    let (all, one) = (TraceLog::new(), TraceLog::new());
    let first = hub.add(all.clone(), None, true);
    hub.add(one.clone(), Some(Arc::new(Queue(1))), true);
    notify(&tracer, 0);
    notify(&tracer, 1);
    assert_eq!(all.take().len(), 2);
    assert_eq!(one.take(), ["0.000000000 host dev notify queue=1"]);

    hub.switch(&first, false);
    notify(&tracer, 1);
    assert_eq!((all.take().len(), one.take().len()), (0, 1));
    hub.switch(&first, true);
    notify(&tracer, 0);
    assert_eq!((all.take().len(), one.take().len()), (1, 0));
}

#[test]
fn interest_is_the_sum_of_what_is_on_and_watched() {
    let hub = Arc::new(Hub::new(None));
    let tracer = Tracer::at(hub.clone());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    hub.watch(move |interest| log.lock().unwrap().push(interest));
    let counter = Arc::new(Interrupts::default());
    let tap = hub.add(counter.clone(), None, false);
    assert!(!hub.is_on() && !tracer.is_on());
    hub.switch(&tap, true);
    assert!(hub.wants(Interest::IRQ) && !hub.wants(Interest::ACCESS));
    notify(&tracer, 0);
    tracer.emit(&Origin::host(0), || EventKind::Line { level: true });
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    hub.switch(&tap, false);
    let none = Interest::empty();
    assert_eq!(*seen.lock().unwrap(), [none, none, Interest::IRQ, none]);
}

#[test]
fn events_carry_the_hubs_time() {
    let clock = crate::testing::ManualClock::new(std::time::Duration::ZERO);
    let hub = Arc::new(Hub::new(Some(clock.clone())));
    let log = TraceLog::new();
    hub.add(log.clone(), None, true);
    clock.advance(std::time::Duration::from_millis(5));
    notify(&Tracer::at(hub), 3);
    assert_eq!(log.take(), ["0.005000000 host bus notify queue=3"]);
}
