//! From a binary trace to the other formats.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use xinim_devices::trace::{Accept, Event, TraceSink};
use xinim_machine::trace::TraceFormat;

use crate::filter::Filter;
use crate::order::Order;
use crate::pcapng::PcapTrace;
use crate::perfetto::Perfetto;
use crate::read::{Item, ReadError, Reader};
use crate::text::TextTrace;
use crate::write::BinaryTrace;

/// Why a conversion failed; what had been read before is in the output.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("the output cannot be written: {0}")]
    Write(io::Error),
}

/// Calls `take` with each event that passes; how many were lost.
pub fn each<R: Read>(
    reader: &mut Reader<R>,
    filter: Option<&Filter>,
    mut take: impl FnMut(&Event<'_>),
) -> Result<u64, ReadError> {
    let mut missing = 0;
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Event(event) => {
                if filter.is_none_or(|filter| filter.accepts(&event)) {
                    take(&event);
                }
            }
            Item::Lost(count) => missing += count,
            Item::End { .. } => {}
        }
    }
    Ok(missing)
}

/// As Perfetto's timeline; a damaged input ends it where the damage is.
pub fn perfetto(
    input: impl Read,
    output: impl Write,
    filter: Option<&Filter>,
) -> Result<(), ConvertError> {
    let mut reader = Reader::new(BufReader::new(input))?;
    let (mut order, mut timeline) = (Order::default(), Perfetto::new(output));
    let mut newest = 0;
    let read = loop {
        match reader.next_item() {
            Ok(Some(Item::Event(event))) => {
                newest = event.origin.time_ns.max(newest);
                if filter.is_none_or(|filter| filter.accepts(&event)) {
                    order.push(&event, |due| timeline.event(&due.event()));
                }
            }
            Ok(Some(Item::Lost(count))) => timeline.lost(newest, count),
            Ok(Some(Item::End { .. })) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    order.finish(|due| timeline.event(&due.event()));
    timeline.finish().map_err(ConvertError::Write)?;
    read.map_err(ConvertError::Read)
}

/// To any format.
pub fn convert(
    input: impl Read,
    output: impl Write + Send + 'static,
    format: TraceFormat,
    filter: Option<&Filter>,
) -> Result<(), ConvertError> {
    if format == TraceFormat::Perfetto {
        return perfetto(input, io::BufWriter::new(output), filter);
    }
    let mut reader = Reader::new(BufReader::new(input))?;
    match format {
        TraceFormat::Pcapng => {
            let start = reader.about()["started-ns"].as_u64().unwrap_or(0);
            let output = io::BufWriter::new(output);
            let sink = PcapTrace::new(output, Duration::from_nanos(start));
            let sink = sink.map_err(ConvertError::Write)?;
            let read = each(&mut reader, filter, |event| sink.event(event));
            sink.finish().map_err(ConvertError::Write)?;
            read?;
        }
        TraceFormat::Binary => {
            // Not through the bounded buffer: nothing may get lost here.
            let about = reader.about().clone();
            let sink = BinaryTrace::unbounded(output, &about).map_err(ConvertError::Write)?;
            let read = each(&mut reader, filter, |event| sink.event(event));
            if let Some(error) = sink.finish().error {
                return Err(ConvertError::Write(error));
            }
            read?;
        }
        TraceFormat::Text | TraceFormat::Perfetto => {
            let sink = Arc::new(TextTrace::new(output));
            let read = each(&mut reader, filter, |event| sink.event(event));
            sink.finish().map_err(ConvertError::Write)?;
            read?;
        }
    }
    Ok(())
}
