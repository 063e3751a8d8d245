//! What an event costs: `cargo bench -p xinim-trace`. With nobody listening, into a binary trace,
//! and as text. Prints nanoseconds per event; the figures are in docs/tracing.md.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use xinim_abi::hw::virtio;
use xinim_devices::device::{Decode, Op, Origin};
use xinim_devices::trace::{EventKind, Hub, Space, Tracer};
use xinim_trace::text::TextTrace;
use xinim_trace::write::BinaryTrace;

const EVENTS: u64 = 2_000_000;

fn run(tracer: &Tracer, events: u64) -> f64 {
    let start = Instant::now();
    for n in 0..events {
        let origin =
            Origin { time_ns: n * 1000, vcpu: Some(0), rip: 0x40_1000 + n % 64, process: None };
        let decode = Some(Decode { table: virtio::COMMON, offset: 0x14, index: None });
        tracer.emit(black_box(&origin), || EventKind::Access {
            space: Space::Mmio,
            address: 0xFE00_0014,
            size: 1,
            op: Op::Write(n & 0xF),
            value: 0,
            old: Some(0),
            decode,
            error: None,
        });
    }
    start.elapsed().as_nanos() as f64 / events as f64
}

fn main() {
    let hub = Arc::new(Hub::new(None));
    let tracer = Tracer::at(hub.clone()).named("virtio-blk.0");
    println!("nobody listens: {:.2} ns", run(&tracer, 50 * EVENTS));
    let binary = BinaryTrace::start(std::io::sink(), &serde_json::json!({})).expect("a thread");
    let tap = hub.add(binary.clone(), None, true);
    println!("binary: {:.0} ns", run(&tracer, EVENTS));
    let written = binary.finish();
    println!("  ({} events, {} lost)", written.events, written.lost);
    hub.switch(&tap, false);
    hub.add(Arc::new(TextTrace::new(std::io::sink())), None, true);
    println!("text: {:.0} ns", run(&tracer, EVENTS / 10));
}
