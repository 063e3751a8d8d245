//! Standard output of commands that report: as text for people, as JSON for programs (`--json`).

use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::Error;

/// Prints a value as JSON, indented, with a newline.
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    // What we print has no maps with keys that are no texts.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    print(&format!("{text}\n"))
}

/// Prints text as it is.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    done(out.write_all(text.as_bytes()).and_then(|()| out.flush())).map(|_| ())
}

/// Prints one or the other.
pub fn either<V: Serialize>(
    as_json: bool,
    value: impl FnOnce() -> V,
    text: impl FnOnce() -> String,
) -> Result<(), Error> {
    if as_json { json(&value()) } else { print(&text()) }
}

/// Whether there is still a reader: one who has seen enough ends the output, without a complaint.
pub fn done(result: std::io::Result<()>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::file("write to", Path::new("standard output"), error)),
    }
}
