//! What is written is read again; what is damaged is a sentence.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};

use proptest::prelude::*;
use serde_json::json;
use xinim_devices::device::Origin;
use xinim_devices::trace::{Event, TraceSink};

use super::samples::{all, any_kind, event};
use crate::convert::each;
use crate::read::{Item, ReadError, Reader};
use crate::write::BinaryTrace;

/// A file in memory.
#[derive(Clone, Default)]
pub struct Shared(pub Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

pub fn written(events: &[Event<'_>]) -> Vec<u8> {
    let file = Shared::default();
    let trace = BinaryTrace::start(file.clone(), &json!({ "started-ns": 5 })).unwrap();
    events.iter().for_each(|event| trace.event(event));
    let result = trace.finish();
    assert_eq!((result.events, result.lost), (events.len() as u64, 0));
    file.bytes()
}

/// Lines of all events, with their data.
fn lines(bytes: &[u8]) -> Result<Vec<String>, ReadError> {
    let mut reader = Reader::new(bytes)?;
    let mut lines = Vec::new();
    each(&mut reader, None, |event| lines.push(format!("{event} {:?}", event.data)))?;
    Ok(lines)
}

#[test]
fn every_kind_comes_back() {
    let events = all();
    let expected: Vec<String> = events.iter().map(|e| format!("{e} {:?}", e.data)).collect();
    let bytes = written(&events);
    assert_eq!(lines(&bytes).unwrap(), expected);
    let mut reader = Reader::new(&*bytes).unwrap();
    assert_eq!(reader.about()["started-ns"], 5);
    let mut end = None;
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::End { events, lost } = item {
            end = Some((events, lost));
        }
    }
    assert_eq!(end, Some((events.len() as u64, 0)));
    assert!(bytes.len() < 6000, "{} bytes", bytes.len());
}

#[test]
fn every_cut_and_other_files_are_sentences() {
    let bytes = written(&all());
    let mut sentences = std::collections::BTreeSet::new();
    for end in 0..bytes.len() {
        // Between two records a file may end: its writer was killed.
        if let Err(error) = lines(&bytes[..end]) {
            sentences.insert(
                error.to_string().split(|c: char| c.is_ascii_digit()).next().unwrap().to_owned(),
            );
        }
    }
    assert!(
        sentences.iter().any(|s| s.contains("it ends in the middle of a record")),
        "{sentences:?}"
    );
    assert!(sentences.iter().any(|s| s.contains("no binary trace")), "{sentences:?}");
    let mut other = bytes.clone();
    other[8] = 9;
    assert!(lines(&other).unwrap_err().to_string().contains("version 9"));
}

/// Holds the writer up until it is let go.
struct Gate(Arc<(Mutex<bool>, Condvar)>, Shared);

impl Write for Gate {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
        self.1.write(data)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_file_loses_events_and_says_so() {
    let (gate, file) = (Arc::new((Mutex::new(false), Condvar::new())), Shared::default());
    let output = Gate(gate.clone(), file.clone());
    let trace = BinaryTrace::with_limit(output, &json!({}), 10_000).unwrap();
    let events = all();
    for _ in 0..2000 {
        trace.event(&events[0]);
    }
    let (seen, lost) = trace.counts();
    assert!(lost > 0 && seen + lost == 2000);
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let result = trace.finish();
    assert_eq!((result.events, result.lost), (seen, lost));
    let bytes = file.bytes();
    let mut reader = Reader::new(&*bytes).unwrap();
    let mut count = 0;
    assert_eq!(each(&mut reader, None, |_| count += 1).unwrap(), lost);
    assert_eq!(count, seen);
}

#[test]
fn a_failing_file_is_reported() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no space"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let trace = BinaryTrace::start(Full, &json!({})).unwrap();
    trace.event(&all()[0]);
    assert!(trace.finish().error.unwrap().to_string().contains("no space"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn anything_comes_back(kinds in prop::collection::vec((any_kind(), any::<u64>(), any::<u64>()), 0..40)) {
        let events: Vec<Event<'_>> = kinds
            .iter()
            .map(|(kind, time, rip)| Event {
                origin: Origin { time_ns: *time, vcpu: Some(3), rip: *rip, process: None },
                ..event(0, "e1000.0", *kind)
            })
            .collect();
        let expected: Vec<String> = events.iter().map(|e| format!("{e} {:?}", e.data)).collect();
        prop_assert_eq!(lines(&written(&events)).unwrap(), expected);
    }

    /// Bits turned in a good file: an answer, never a panic, never much memory.
    #[test]
    fn damage_is_survived(turns in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..12)) {
        let mut bytes = written(&all());
        for (index, bit) in turns {
            let at = index.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = lines(&bytes);
        let _ = crate::convert::perfetto(&*bytes, std::io::sink(), None);
        let mut stat = crate::stat::Stat::default();
        if let Ok(mut reader) = Reader::new(&*bytes) {
            let _ = each(&mut reader, None, |event| stat.event(event));
        }
        let _ = (stat.text(), stat.json());
    }

    #[test]
    fn noise_is_survived(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = written(&[]);
        bytes.extend(tail);
        let _ = lines(&bytes);
    }
}
