//! The traces of a running machine: files opened, sinks at the hub, the switch, the end.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use xinim_devices::trace::{Accept, Hub, Interest, Tap, TraceSink};
use xinim_machine::trace::{TraceFormat, TraceSpec, TraceStatus};

use crate::code::KINDS;
use crate::convert::perfetto;
use crate::filter::Filter;
use crate::pcapng::PcapTrace;
use crate::text::TextTrace;
use crate::write::BinaryTrace;

/// One trace at a hub.
pub struct Trace {
    spec: TraceSpec,
    hub: Arc<Hub>,
    tap: Arc<Tap>,
    output: Output,
}

enum Output {
    Text(Arc<TextTrace>),
    Binary(Arc<BinaryTrace>),
    /// Perfetto's file is made at the end, from a binary trace without a name.
    Perfetto {
        binary: Arc<BinaryTrace>,
        kept: File,
        file: File,
    },
    Pcapng(Arc<PcapTrace>),
}

/// A sink that wants less than it could take.
struct Wanting(Arc<dyn TraceSink>, Interest);

impl TraceSink for Wanting {
    fn event(&self, event: &xinim_devices::trace::Event<'_>) {
        self.0.event(event);
    }

    fn interest(&self) -> Interest {
        self.1
    }
}

/// What a trace without a filter shows. As text: what drivers do; VM exits and the guest's own
/// events, which are many times more, when a filter asks for them.
fn unfiltered(format: TraceFormat) -> Interest {
    match format {
        TraceFormat::Text => Interest::all() - Interest::EXIT - Interest::GUEST,
        _ => Interest::all(),
    }
}

/// What the header of a binary trace says.
pub fn about() -> serde_json::Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "program": "xinim-vmm",
        "version": env!("CARGO_PKG_VERSION"),
        "started-ns": now.as_nanos() as u64,
        "kinds": KINDS,
    })
}

impl Trace {
    /// Makes the file and connects the sink. Errors are sentences.
    pub fn open(spec: &TraceSpec, hub: &Arc<Hub>) -> Result<Self, String> {
        let name = spec.path.display();
        let failed =
            |error: std::io::Error| format!("trace file {name} cannot be written: {error}");
        let filter = spec.filter.as_ref().map(|text| text.parse::<Filter>()).transpose();
        let filter = filter.map_err(|error| format!("trace {name}: {error}"))?;
        let file = File::create(&spec.path).map_err(failed)?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (output, sink): (Output, Arc<dyn TraceSink>) = match spec.format {
            TraceFormat::Text => {
                let text = Arc::new(TextTrace::new(file));
                (Output::Text(text.clone()), text)
            }
            TraceFormat::Binary => {
                let binary = BinaryTrace::start(file, &about()).map_err(failed)?;
                (Output::Binary(binary.clone()), binary)
            }
            TraceFormat::Perfetto => {
                let kept = tempfile::tempfile().map_err(failed)?;
                let writer = kept.try_clone().map_err(failed)?;
                let binary = BinaryTrace::start(writer, &about()).map_err(failed)?;
                (Output::Perfetto { binary: binary.clone(), kept, file }, binary)
            }
            TraceFormat::Pcapng => {
                let frames = PcapTrace::new(BufWriter::new(file), start).map_err(failed)?;
                let frames = Arc::new(frames);
                (Output::Pcapng(frames.clone()), frames)
            }
        };
        let wanted = filter.as_ref().map_or(unfiltered(spec.format), Filter::interest);
        let sink = Arc::new(Wanting(sink.clone(), wanted & sink.interest()));
        let filter = filter.map(|filter| Arc::new(filter) as Arc<dyn Accept>);
        let tap = hub.add(sink, filter, spec.on);
        Ok(Self { spec: spec.clone(), hub: hub.clone(), tap, output })
    }

    pub fn switch(&self, on: bool) {
        self.hub.switch(&self.tap, on);
    }

    pub fn status(&self) -> TraceStatus {
        let (events, lost) = match &self.output {
            Output::Text(text) => (text.events(), 0),
            Output::Binary(binary) | Output::Perfetto { binary, .. } => binary.counts(),
            Output::Pcapng(frames) => (frames.events(), 0),
        };
        TraceStatus { spec: self.spec.clone(), on: self.tap.is_on(), events, lost }
    }

    /// Disconnects the sink and completes the file; a sentence about what went wrong, or was lost.
    pub fn finish(mut self) -> Result<Option<String>, String> {
        self.switch(false);
        let name = self.spec.path.display().to_string();
        let failed =
            |error: std::io::Error| format!("trace file {name} cannot be written: {error}");
        let written = match &mut self.output {
            Output::Text(text) => return text.finish().map(|()| None).map_err(failed),
            Output::Pcapng(frames) => return frames.finish().map(|()| None).map_err(failed),
            Output::Binary(binary) => binary.finish(),
            Output::Perfetto { binary, kept, file } => {
                let written = binary.finish();
                kept.seek(SeekFrom::Start(0)).map_err(failed)?;
                perfetto(&mut *kept, BufWriter::new(&*file), None)
                    .map_err(|error| format!("trace file {name}: {error}"))?;
                written
            }
        };
        if let Some(error) = written.error {
            return Err(failed(error));
        }
        Ok((written.lost > 0).then(|| {
            format!(
                "trace {name}: {} of {} events were lost, the file was too slow",
                written.lost,
                written.events + written.lost
            )
        }))
    }
}
