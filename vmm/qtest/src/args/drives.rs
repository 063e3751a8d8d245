//! Images on the command line: `-drive`, `-blockdev`, and `blockdev-add` of the machine protocol.

use super::{Properties, flat, refuse};
use crate::Error;
use std::collections::BTreeMap;

/// A drive's host side, from `-drive` or `-blockdev`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriveArgs {
    pub id: String,
    /// `None`: a node over another one ([`DriveArgs::over`]), or an empty drive.
    pub path: Option<String>,
    /// `null-co`: blank, nothing is kept.
    pub blank: Option<u64>,
    /// Name of the node beneath.
    pub over: Option<String>,
    pub qcow2: bool,
    pub read_only: bool,
    /// Errors stop the machine until it is told to go on.
    pub stop_on_error: bool,
    /// blkdebug's rules, text of its configuration file.
    pub faults: Option<String>,
    /// Each read takes so long, nanoseconds.
    pub read_delay_ns: u64,
    /// Bytes written per second.
    pub write_limit: Option<u64>,
    /// `if=ide`: attached by itself.
    pub attach: bool,
}

/// `-drive if=none,id=drive0,file=[blkdebug:CONFIG:]PATH,format=raw,...`
pub(super) fn drive(value: &str) -> Result<DriveArgs, Error> {
    let drive = Properties::parse(value, false);
    let mut args = DriveArgs {
        id: drive.get("id").unwrap_or_default().to_owned(),
        read_only: drive.is_on("readonly") || drive.is_on("read-only"),
        stop_on_error: drive.get("werror") == Some("stop"),
        attach: drive.get("if") == Some("ide"),
        write_limit: number(&drive, "throttling.bps-write")?,
        ..DriveArgs::default()
    };
    match drive.get("format") {
        Some("qcow2") => args.qcow2 = true,
        None | Some("raw") => {}
        Some(other) => return refuse(format!("image format {other} is not supported")),
    }
    let Some(file) = drive.get("file") else { return Ok(args) };
    if let Some(size) = file.strip_prefix("null-co://") {
        let size = size.strip_prefix("size=").unwrap_or("");
        args.blank = Some(if size.is_empty() { NULL_SIZE } else { bytes(size)? });
        return Ok(args);
    }
    let path = match file.strip_prefix("blkdebug:") {
        None => file.strip_prefix("file:").unwrap_or(file),
        Some(rest) => {
            let Some((config, path)) = rest.split_once(':') else {
                return refuse(format!("-drive file={file}: blkdebug:CONFIG:PATH is expected"));
            };
            if !config.is_empty() {
                let failed = Error::host(format!("reading {config}"));
                args.faults = Some(std::fs::read_to_string(config).map_err(failed)?);
            }
            path
        }
    };
    args.path = Some(path.to_owned());
    Ok(args)
}

/// Size of QEMU's null-co node without a size.
const NULL_SIZE: u64 = 1 << 30;

fn number(drive: &Properties, key: &str) -> Result<Option<u64>, Error> {
    drive.get(key).map(bytes).transpose()
}

fn bytes(text: &str) -> Result<u64, Error> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return refuse(format!("{text}: the unit is unknown")),
    };
    let number = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
    number.map_or_else(|| refuse(format!("{text} is no number")), Ok)
}

/// `-blockdev`, as options or JSON.
pub(super) fn blockdev(value: &str) -> Result<DriveArgs, Error> {
    let values =
        if value.starts_with('{') { flat(value)? } else { Properties::parse(value, false).values };
    node(&values)
}

/// A node of the block layer: `file`, `raw` over a file, `blkdebug` over another node, `null-co`.
pub fn node(values: &BTreeMap<String, String>) -> Result<DriveArgs, Error> {
    let get = |key: &str| values.get(key).cloned();
    let mut args = DriveArgs {
        id: get("node-name").unwrap_or_default(),
        read_only: values.get("read-only").is_some_and(|value| value == "on"),
        ..DriveArgs::default()
    };
    match get("driver").as_deref() {
        Some("file") => args.path = get("filename"),
        Some(format @ ("raw" | "qcow2")) => {
            args.qcow2 = format == "qcow2";
            args.path = get("file.filename");
            args.over = get("file");
        }
        Some("blkdebug") => {
            args.over = get("image");
            if get("inject-error.0.iotype").as_deref() == Some("read") {
                args.read_delay_ns = bytes(&get("inject-error.0.delay-ns").unwrap_or_default())?;
            }
        }
        Some("null-co") => {
            args.blank = Some(get("size").as_deref().map_or(Ok(NULL_SIZE), bytes)?);
        }
        other => {
            return refuse(format!("block driver {} is not supported", other.unwrap_or("(none)")));
        }
    }
    if args.path.is_none() && args.over.is_none() && args.blank.is_none() {
        return refuse(format!("block node {} has no file", args.id));
    }
    Ok(args)
}
