//! Whole traces at a hub.

use std::sync::Arc;

use xinim_devices::device::Origin;
use xinim_devices::trace::{EventKind, Hub, Interest, Tracer};
use xinim_machine::trace::{TraceFormat, TraceSpec};

use super::samples::all;
use crate::Trace;
use crate::convert::convert;

fn spec(dir: &tempfile::TempDir, name: &str, format: TraceFormat) -> TraceSpec {
    TraceSpec { format, ..TraceSpec::text(dir.path().join(name)) }
}

#[test]
fn several_at_once_each_with_its_format_and_filter() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Arc::new(Hub::new(None));
    let text = Trace::open(&spec(&dir, "t", TraceFormat::Text), &hub).unwrap();
    let filtered =
        TraceSpec { filter: Some("dma or exit".into()), ..spec(&dir, "f", TraceFormat::Text) };
    let filtered = Trace::open(&filtered, &hub).unwrap();
    let binary = Trace::open(&spec(&dir, "b", TraceFormat::Binary), &hub).unwrap();
    let perfetto = Trace::open(&spec(&dir, "p", TraceFormat::Perfetto), &hub).unwrap();
    let frames = Trace::open(&spec(&dir, "c", TraceFormat::Pcapng), &hub).unwrap();
    for event in all() {
        hub.send(&event);
    }
    assert_eq!(binary.status().events, all().len() as u64);
    for trace in [text, filtered, binary, perfetto, frames] {
        assert_eq!(trace.finish().unwrap(), None);
    }
    assert!(!hub.is_on());
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let text = String::from_utf8(read("t")).unwrap();
    assert!(text.contains("device_status=0xf") && !text.contains("exit"), "{text}");
    let filtered = String::from_utf8(read("f")).unwrap();
    assert_eq!(filtered.lines().count(), 3, "{filtered}");
    assert!(filtered.contains("exit mmio-read"), "{filtered}");
    assert!(read("p").len() > 1000);
    let frames = read("c");
    assert_eq!(frames[..4], [0x0A, 0x0D, 0x0D, 0x0A], "a pcapng section");
    assert!(frames.windows(7).any(|w| w == b"e1000.0"));

    // The binary one becomes any of the others.
    for (format, name) in [(TraceFormat::Perfetto, "p"), (TraceFormat::Pcapng, "c")] {
        let out = dir.path().join("out");
        let file = std::fs::File::create(&out).unwrap();
        convert(&*read("b"), file, format, None).unwrap();
        assert_eq!(std::fs::read(out).unwrap().len(), read(name).len(), "{name}");
    }
}

#[test]
fn traces_are_switched_while_the_machine_runs() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Arc::new(Hub::new(None));
    let tracer = Tracer::at(hub.clone()).named("dev");
    let off = TraceSpec { on: false, ..spec(&dir, "t", TraceFormat::Text) };
    let trace = Trace::open(&off, &hub).unwrap();
    let emit = |queue| tracer.emit(&Origin::host(0), || EventKind::QueueNotify { queue });
    emit(1);
    trace.switch(true);
    assert!(hub.wants(Interest::QUEUE) && !hub.wants(Interest::EXIT));
    emit(2);
    trace.switch(false);
    emit(3);
    trace.finish().unwrap();
    let text = std::fs::read_to_string(dir.path().join("t")).unwrap();
    assert_eq!(text, "0.000000000 host dev notify queue=2\n");
}

#[test]
fn errors_name_the_file() {
    let hub = Arc::new(Hub::new(None));
    let error = Trace::open(&TraceSpec::text("/nowhere/at/all"), &hub).err().unwrap();
    assert!(error.contains("/nowhere/at/all cannot be written"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let bad = TraceSpec { filter: Some("devise=x".into()), ..spec(&dir, "t", TraceFormat::Text) };
    let error = Trace::open(&bad, &hub).err().unwrap();
    assert!(error.contains("filter, character 1: there is no field"), "{error}");
}
