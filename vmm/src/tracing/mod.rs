//! `xinim-vmm trace show|stat|diff|convert`: what can be learned from a binary trace afterwards.
//!
//! What has been read before a file turns out to be damaged is shown; then a sentence says where,
//! and the status is 125.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};
use xinim_devices::device::Op;
use xinim_devices::trace::{Event, EventKind};
use xinim_trace::convert::{self, ConvertError};
use xinim_trace::diff::{Run, compare};
use xinim_trace::filter::{is_error, kind_name};
use xinim_trace::grants::Grants;
use xinim_trace::stat::Stat;
use xinim_trace::{Filter, Item, ReadError, Reader};

use crate::cli::{TraceCommand, TraceInput};
use crate::error::Error;
use crate::output;
use crate::trace_spec;

/// The two runs differ.
const DIFFERENT: u8 = 1;

pub fn run(command: &TraceCommand) -> Result<u8, Error> {
    match command {
        TraceCommand::Show { input, json } => show(input, *json),
        TraceCommand::Stat { input, json } => stat(input, *json),
        TraceCommand::Diff { a, b, filter, json } => diff((a, b), filter.as_deref(), *json),
        TraceCommand::Convert { input, output } => convert_file(input, output),
    }
}

fn filter(text: Option<&str>) -> Result<Option<Filter>, Error> {
    text.map(|text| text.parse().map_err(|error| Error::Usage(format!("{error}")))).transpose()
}

fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Usage(format!("trace {}: {error}", path.display()))
}

fn show(input: &TraceInput, as_json: bool) -> Result<u8, Error> {
    let filter = filter(input.filter.as_deref())?;
    let accepts = |event: &Event<'_>| {
        use xinim_devices::trace::Accept;
        filter.as_ref().is_none_or(|filter| filter.accepts(event))
    };
    let mut reader = Reader::open(&input.file).map_err(|error| failed(&input.file, error))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut whole, mut grants) = (false, Grants::default());
    let read = loop {
        let line = match reader.next_item() {
            Ok(Some(Item::Event(event))) => {
                let owner = grants.event(&event);
                match (accepts(&event), as_json) {
                    (false, _) => continue,
                    (true, true) => json_event(&event, owner).to_string(),
                    (true, false) => {
                        let owner = owner.map_or(String::new(), |owner| format!(" of=[{owner}]"));
                        format!("{event}{owner}")
                    }
                }
            }
            Ok(Some(Item::Lost(count))) if as_json => json!({ "lost": count }).to_string(),
            Ok(Some(Item::Lost(count))) => format!("-- {count} events lost"),
            Ok(Some(Item::End { .. })) => {
                whole = true;
                continue;
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        if !output::done(writeln!(out, "{line}"))? {
            return Ok(0);
        }
    };
    output::done(out.flush())?;
    read.map_err(|error| failed(&input.file, error))?;
    if !whole {
        eprintln!(
            "xinim-vmm: trace {}: its writer was killed; the last events may be missing",
            input.file.display()
        );
    }
    Ok(0)
}

/// For programs: what all events have, and the event in words.
fn json_event(event: &Event<'_>, owner: Option<String>) -> Value {
    let mut value = json!({
        "time_ns": event.origin.time_ns,
        "device": event.device,
        "kind": kind_name(&event.kind),
        "text": event.what(),
        "error": is_error(&event.kind),
    });
    if let Some(vcpu) = event.origin.vcpu {
        value["vcpu"] = vcpu.into();
        value["rip"] = event.origin.rip.into();
    }
    if let Some(owner) = owner {
        value["granted_to"] = owner.into();
    }
    if let Some(process) = event.origin.process {
        value["pid"] = process.pid.into();
        value["process"] = process.name().into();
    }
    match event.kind {
        EventKind::Fault { rule } => value["rule"] = rule.into(),
        EventKind::Violation { rule } => value["rule"] = rule.into(),
        _ => {}
    }
    if let EventKind::Access { address, size, op, value: read, old, decode, .. } = event.kind {
        let (direction, content) = match op {
            Op::Read => ("read", read),
            Op::Write(written) => ("write", written),
        };
        value["direction"] = direction.into();
        value["address"] = address.into();
        value["size"] = size.into();
        value["value"] = content.into();
        value["old"] = old.into();
        let write = direction == "write";
        let names = decode.map(|decode| {
            let touched = xinim_abi::hw::register::touched;
            let registers = touched(decode.table, decode.offset, size, write);
            registers.map(|register| register.name).collect::<Vec<_>>()
        });
        value["registers"] = names.unwrap_or_default().into();
    }
    value
}

fn stat(input: &TraceInput, as_json: bool) -> Result<u8, Error> {
    let filter = filter(input.filter.as_deref())?;
    let mut stat = Stat::default();
    // What is no trace has no sums.
    let mut reader = Reader::open(&input.file).map_err(|error| failed(&input.file, error))?;
    let read = convert::each(&mut reader, filter.as_ref(), |event| stat.event(event));
    if let Ok(lost) = &read {
        stat.lost(*lost);
    }
    output::either(as_json, || stat.json(), || stat.text())?;
    read.map_err(|error| failed(&input.file, error)).map(|_| 0)
}

fn read(
    path: &Path,
    filter: Option<&Filter>,
    take: impl FnMut(&Event<'_>),
) -> Result<u64, ReadError> {
    convert::each(&mut Reader::open(path)?, filter, take)
}

fn diff((a, b): (&Path, &Path), text: Option<&str>, as_json: bool) -> Result<u8, Error> {
    let filter = filter(text)?;
    let run = |path: &Path| {
        let mut run = Run::default();
        let lost = read(path, filter.as_ref(), |event| run.event(event));
        match lost.map_err(|error| failed(path, error))? {
            0 => {}
            lost => eprintln!("xinim-vmm: trace {}: {lost} events were lost", path.display()),
        }
        Ok::<_, Error>(run)
    };
    let found = compare(&run(a)?, &run(b)?);
    let value = || {
        let all: Vec<Value> = found.iter().map(|difference| difference.json()).collect();
        json!({ "differences": all })
    };
    let text = || match found.is_empty() {
        true => "no difference that matters\n".into(),
        false => found.iter().map(|d| d.text()).collect::<Vec<_>>().join("\n"),
    };
    output::either(as_json, value, text)?;
    Ok(if found.is_empty() { 0 } else { DIFFERENT })
}

fn convert_file(input: &TraceInput, output: &str) -> Result<u8, Error> {
    let filter = filter(input.filter.as_deref())?;
    let spec = trace_spec::output(output)
        .map_err(|why| Error::Usage(format!("output `{output}` {why}")))?;
    let same = spec.path.canonicalize().ok().zip(input.file.canonicalize().ok());
    if same.is_some_and(|(a, b)| a == b) {
        return Err(Error::Usage("a trace cannot be converted into itself".into()));
    }
    let source = File::open(&input.file).map_err(|e| Error::file("read", &input.file, e))?;
    // Only now: what is no trace shall not cost anybody a file.
    Reader::open(&input.file).map_err(|error| failed(&input.file, error))?;
    let target = File::create(&spec.path).map_err(|e| Error::file("write", &spec.path, e))?;
    match convert::convert(source, target, spec.format, filter.as_ref()) {
        Ok(()) => Ok(0),
        Err(ConvertError::Read(error)) => Err(failed(&input.file, error)),
        Err(error) => Err(failed(&spec.path, error)),
    }
}
