//! What `--trace` takes: `FILE[,format=FORMAT][,off][,filter=EXPR]`. A comma in FILE is written twice; the
//! filter goes last and may hold anything.

use std::str::FromStr;

use xinim_machine::trace::{TraceFormat, TraceSpec};
use xinim_trace::Filter;

use crate::disk_spec::split_commas;
use crate::spec::{ValueError, bad};

/// Traces of one machine: more are hardly meant.
pub const TRACES_MAX: usize = 16;
const FILTER: &str = ",filter=";

/// One trace; see the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOption(pub TraceSpec);

impl FromStr for TraceOption {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (head, filter) = match text.find(FILTER) {
            Some(at) => (&text[..at], Some(&text[at + FILTER.len()..])),
            None => (text, None),
        };
        let mut parts = split_commas(head).into_iter();
        let mut spec = TraceSpec::text(parts.next().unwrap_or_default());
        if spec.path.as_os_str().is_empty() {
            return bad("names no file");
        }
        for part in parts {
            match part.split_once('=') {
                Some(("format", name)) => spec.format = format(name)?,
                None if part == "off" => spec.on = false,
                _ => {
                    return bad(format!(
                        "has the unknown option `{part}`; there are format=, off and, last, \
                         filter=; a comma in FILE is written twice"
                    ));
                }
            }
        }
        if let Some(filter) = filter {
            let parsed = filter.parse::<Filter>();
            parsed.map_err(|error| ValueError::new(format!("has no good filter: {error}")))?;
            spec.filter = Some(filter.to_owned());
        }
        Ok(Self(spec))
    }
}

fn format(name: &str) -> Result<TraceFormat, ValueError> {
    match TraceFormat::from_name(name) {
        Some(format) => Ok(format),
        None => bad(format!(
            "has the unknown format `{name}`; there are text, bin, perfetto and pcapng"
        )),
    }
}

/// `OUT[,format=FORMAT]` of `trace convert`: the format is that of the name's end otherwise.
pub fn output(text: &str) -> Result<TraceSpec, ValueError> {
    let TraceOption(mut spec) = text.parse()?;
    if spec.filter.is_some() || !spec.on {
        return bad("takes a format only; the filter is an option of its own");
    }
    if !text.contains(",format=") {
        let name = spec.path.to_string_lossy().into_owned();
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        spec.format = if ends(&[".txt", ".text"]) {
            TraceFormat::Text
        } else if ends(&[".bin"]) {
            TraceFormat::Binary
        } else if ends(&[".perfetto", ".perfetto-trace", ".pftrace"]) {
            TraceFormat::Perfetto
        } else if ends(&[".pcapng", ".pcap"]) {
            TraceFormat::Pcapng
        } else {
            return bad("does not say a format; add ,format=text, bin, perfetto or pcapng");
        };
    }
    Ok(spec)
}

#[cfg(test)]
#[path = "trace_spec_tests.rs"]
mod tests;
