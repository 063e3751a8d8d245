//! What stands around a harness's devices: everything the machine has that listens.
//!
//! ```text
//!   harness --> Function --> Recorded --> device --> taps --> memory, disk, network
//!                  |             `----------------------'--> recording --> replayed: the same?
//!                  `-> hub -> strict checker --> reports in words
//!                          -> binary trace   --> read again: the same events? all formats made
//! ```
//! [`Stage::judge`] is the judgement on all of it; that of the devices is their harness's.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use xinim_abi::trace::kind;
use xinim_devices::backend::BlockBackend;
use xinim_devices::bus::lock;
use xinim_devices::device::{Access, Op, Origin, Outcome, Process};
use xinim_devices::irq::{NoIrq, NoMsi};
use xinim_devices::net::NetBackend;
use xinim_devices::pci::{ConfigSpace, PciDevice};
use xinim_devices::strict::{Checker, Report, Violation};
use xinim_devices::testing::{FlatMemory, MemoryDisk};
use xinim_devices::trace::{Event, EventKind, Guest, Hub, Space, TraceSink, Tracer};
use xinim_machine::trace::TraceFormat;
use xinim_record::taps::{TapDisk, TapDma, TapLine, TapMsi, TapNet};
use xinim_record::{Description, Kind, Recorded, Recorder, Tape, replay};
use xinim_trace::convert::{convert, each};
use xinim_trace::encode::{Encoder, header};
use xinim_trace::grants::Grants;
use xinim_trace::stat::Stat;
use xinim_trace::{Item, Reader};

use crate::MEMORY;

/// Where a function's BARs are taken to be, and how far apart.
const BARS: u64 = 0xC000_0000;
const BAR: u64 = 0x0100_0000;
/// Guest time between two accesses.
const STEP_NS: u64 = 10_000;
/// A report is for people.
const HISTORY_MAX: usize = 12;

/// See the module's head.
pub struct Stage {
    pub memory: Arc<FlatMemory>,
    pub tracer: Tracer,
    checker: Arc<Checker>,
    log: Arc<Log>,
    recorder: Arc<Recorder>,
    recording: Bytes,
    now: Arc<AtomicU64>,
}

/// Bytes that two have.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A binary trace in memory, and its events in words.
#[derive(Default)]
struct Log(Mutex<(Encoder, Vec<u8>, Vec<String>)>);

impl TraceSink for Log {
    fn event(&self, event: &Event<'_>) {
        let (encoder, bytes, lines) = &mut *lock(&self.0);
        encoder.event(event, bytes);
        let line = event.to_string();
        assert!(!line.contains(char::is_control), "a trace line was broken: {line:?}");
        lines.push(line);
    }
}

/// Reads reports as a person would.
struct Words;

impl Report for Words {
    fn violation(&self, violation: &Violation) {
        let line = violation.to_string();
        assert!(!line.contains(char::is_control), "a report was broken: {line:?}");
        assert!(violation.history.len() <= HISTORY_MAX, "{line}");
    }
}

impl Stage {
    pub fn new() -> std::io::Result<Self> {
        let memory = FlatMemory::new(0, MEMORY);
        let hub = Arc::new(Hub::default());
        let checker = Checker::listen(memory.clone(), Arc::new(Words), &hub);
        let log = Arc::new(Log::default());
        lock(&log.0).1 = header(&xinim_trace::sinks::about());
        hub.add(log.clone(), None, true);
        let recording = Bytes::default();
        Ok(Self {
            memory,
            tracer: Tracer::at(hub),
            checker,
            log,
            recorder: Recorder::to(recording.clone())?,
            recording,
            now: Arc::default(),
        })
    }

    /// The conversation of a device that begins now.
    pub fn tape(&self, name: &str, kind: Kind) -> Tape {
        let description = Description { name: name.to_owned(), kind, translated: false };
        Tape::record(self.recorder.clone(), self.recorder.device(&description))
    }

    pub fn dma(&self, tape: &Tape) -> Arc<TapDma> {
        Arc::new(TapDma { tape: tape.clone(), real: Some(self.memory.clone()) })
    }

    pub fn msi(&self, tape: &Tape) -> Arc<TapMsi> {
        Arc::new(TapMsi { tape: tape.clone(), real: Some(Arc::new(NoMsi)) })
    }

    pub fn line(&self, tape: &Tape) -> Arc<TapLine> {
        Arc::new(TapLine { tape: tape.clone(), real: Some(Arc::new(NoIrq)) })
    }

    pub fn disk(
        &self,
        tape: &Tape,
        unit: u16,
        disk: &Arc<Mutex<MemoryDisk>>,
    ) -> Box<dyn BlockBackend> {
        let (tape, dma) = (tape.clone(), Some(self.memory.clone() as _));
        Box::new(TapDisk { tape, unit, real: Some(Box::new(disk.clone())), dma })
    }

    pub fn net(&self, tape: &Tape, net: impl NetBackend + 'static) -> Box<dyn NetBackend> {
        Box::new(TapNet { tape: tape.clone(), real: Some(Box::new(net)) })
    }

    /// The device, made with what the others gave, in its place on the bus.
    pub fn function<D: PciDevice>(&self, device: D, tape: Tape) -> Function<D> {
        let device = Recorded::new(device, tape, self.memory.clone());
        Function { device, tracer: self.tracer.clone(), now: self.now.clone() }
    }

    /// The guest's kernel says that a function may reach memory, or may not any more; all that it said
    /// before has been heard.
    pub fn grant(&self, given: bool, function: u16, address: u64, pages: u64) {
        let kind = if given { kind::DMA_GRANT } else { kind::DMA_REVOKE };
        let guest = Guest { kind: kind.into(), name: function, a: address, b: pages << 32 | 7 };
        let origin = origin(&self.now);
        self.tracer.named("guest").emit(&origin, || EventKind::Guest(guest));
        self.checker.settle(origin.time_ns, false);
    }

    /// What has been recorded up to here.
    pub fn recording(&self) -> Vec<u8> {
        let _written_to_memory = self.recorder.finish();
        lock(&self.recording.0).clone()
    }

    /// What was seen is what was written, all readers can read it, and the devices do the same again.
    pub fn judge(&self) {
        self.checker.settle(u64::MAX, false);
        assert!(self.checker.counts().iter().all(|count| count.count > 0));
        let (_, bytes, lines) = std::mem::take(&mut *lock(&self.log.0));
        read_again(&bytes, &lines);
        for format in [TraceFormat::Text, TraceFormat::Perfetto, TraceFormat::Pcapng] {
            let converted = convert(&bytes[..], std::io::sink(), format, None);
            assert!(converted.is_ok(), "{converted:?}");
        }
        let (mut stat, mut grants) = (Stat::default(), Grants::default());
        let read = Reader::new(&bytes[..]).and_then(|mut reader| {
            each(&mut reader, None, |event| {
                stat.event(event);
                grants.event(event);
            })
        });
        assert!(read.is_ok() && stat.events == lines.len() as u64, "{read:?}");
        assert!(!stat.text().is_empty() && stat.json().is_object());
        match replay(&self.recording()[..], None) {
            Ok(outcomes) => {
                for outcome in outcomes {
                    assert_eq!(outcome.difference, None, "{} is not repeatable", outcome.device);
                }
            }
            Err(damage) => panic!("the recording cannot be read: {damage}"),
        }
    }
}

/// A trace says when it is read what it said when it was written.
fn read_again(bytes: &[u8], lines: &[String]) {
    let reader = Reader::new(bytes);
    assert!(reader.is_ok(), "{:?}", reader.err());
    let Ok(mut reader) = reader else { return };
    let mut expected = lines.iter();
    loop {
        match reader.next_item() {
            Ok(Some(Item::Event(event))) => {
                assert_eq!(Some(&event.to_string()), expected.next());
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => panic!("the trace cannot be read: {error}"),
        }
    }
    assert_eq!(expected.next(), None, "events are missing in the trace");
}

fn origin(now: &AtomicU64) -> Origin {
    let time_ns = now.fetch_add(STEP_NS, Ordering::Relaxed);
    let mut name = [0; 28];
    name[..7].copy_from_slice(b"hostile");
    let process = Some(Process { pid: 7, name });
    Origin { time_ns, vcpu: Some(0), rip: 0x40_0000 + time_ns / STEP_NS, process }
}

/// A device as the bus has it: its accesses are recorded and traced.
pub struct Function<D> {
    pub device: Recorded<D>,
    tracer: Tracer,
    now: Arc<AtomicU64>,
}

impl<D: PciDevice> Function<D> {
    /// With an origin, and no bits where the access has no bytes.
    fn stamped(&self, access: Access) -> Access {
        let op = match access.op {
            Op::Write(value) => Op::Write(value & xinim_devices::device::all_ones(access.size)),
            Op::Read => Op::Read,
        };
        Access { op, origin: origin(&self.now), ..access }
    }

    fn show(&self, space: Space, address: u64, access: &Access, outcome: &Outcome) {
        let old = outcome.old.filter(|_| access.is_write());
        self.tracer.access(self.device.name(), space, address, access, old, outcome);
    }
}

impl<D: PciDevice> PciDevice for Function<D> {
    fn name(&self) -> &str {
        self.device.name()
    }

    fn config(&self) -> &ConfigSpace {
        self.device.config()
    }

    fn config_access(&mut self, access: Access) -> Outcome {
        let access = self.stamped(access);
        let old = self.device.config().get(access.offset as usize, access.size);
        let outcome = self.device.config_access(access).over(old.into());
        self.show(Space::Config, 1 << 15 | access.offset, &access, &outcome);
        outcome
    }

    fn bar_access(&mut self, bar: u8, access: Access) -> Outcome {
        let access = self.stamped(access);
        let outcome = self.device.bar_access(bar, access);
        let address = BARS + u64::from(bar) * BAR + access.offset;
        self.show(Space::Mmio, address, &access, &outcome);
        outcome
    }

    fn reset(&mut self) {
        self.device.reset();
    }
}
