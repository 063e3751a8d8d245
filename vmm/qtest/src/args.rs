//! QEMU's command line, as far as its device tests use it.
//!
//! | option | meaning here |
//! |---|---|
//! | `-qtest unix:PATH` | where the test listens |
//! | `-chardev socket,path=PATH,id=ID`, `-mon chardev=ID,mode=control` | the QMP socket |
//! | `-machine`, `-M` `q35`, `pc`, `none` | with or without the AHCI controller at 00:1f.2 |
//! | `-m SIZE` | memory in MiB, or with a unit |
//! | `-drive`, `-blockdev` | images, see [`DriveArgs`] |
//! | `-netdev socket,fd=N,id=ID`, `-netdev hubport,...` | a network on a socket that is inherited, or none |
//! | `-device TYPE,...` | see [`crate::machine`] |
//! | `-global TYPE.PROPERTY=VALUE` | a property of all devices of a type |
//!
//! `-accel`, `-display`, `-audio`, `-qtest-log` and a few more change nothing and are skipped.
//! Migration (`-incoming`) is refused, as is anything unknown.

mod drives;

use crate::Error;
use std::collections::BTreeMap;

pub use drives::{DriveArgs, node};

/// Options with one value that make no difference.
const IGNORED: &[&str] =
    &["-accel", "-display", "-audio", "-qtest-log", "-cpu", "-smp", "-vga", "-name", "-trace"];
/// Options without a value that make no difference.
const IGNORED_FLAGS: &[&str] =
    &["-nodefaults", "-nographic", "-no-user-config", "-S", "-no-shutdown"];
/// Memory of a machine that asks for none, as QEMU's.
const DEFAULT_MEMORY: u64 = 128 << 20;
/// Memory at most: it is real, and below the configuration window.
const MAX_MEMORY: u64 = 2 << 30;

/// `key=value` pairs with the first word; a word without `=` is `on`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub head: String,
    pub values: BTreeMap<String, String>,
}

impl Properties {
    /// Commas separate, two are one.
    fn parse(text: &str, has_head: bool) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ',' && chars.peek() == Some(&',') {
                chars.next();
                word.push(',');
            } else if c == ',' {
                words.push(std::mem::take(&mut word));
            } else {
                word.push(c);
            }
        }
        words.push(word);
        let mut properties = Self::default();
        for (index, word) in words.into_iter().enumerate() {
            match word.split_once('=') {
                None if index == 0 && has_head => properties.head = word,
                None => drop(properties.values.insert(word, String::from("on"))),
                Some((key, value)) => drop(properties.values.insert(key.into(), value.into())),
            }
        }
        properties
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    pub fn is_on(&self, key: &str) -> bool {
        matches!(self.get(key), Some("on" | "yes" | "true"))
    }
}

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// With an AHCI controller.
    Q35,
    Pc,
    /// Nothing at all; for tests that only ask what there could be.
    None,
}

/// A network's host side, from `-netdev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetArgs {
    pub id: String,
    /// A stream socket that was open when the program started; `None`: a cable to nowhere.
    pub fd: Option<i32>,
}

/// Everything a machine is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    pub qtest: String,
    pub monitors: Vec<String>,
    pub board: Board,
    pub memory: u64,
    pub drives: Vec<DriveArgs>,
    pub nets: Vec<NetArgs>,
    /// In the order given, `-global`s applied.
    pub devices: Vec<Properties>,
    pub globals: Vec<(String, String, String)>,
}

fn refuse<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Arguments(text.into()))
}

impl Setup {
    /// Parses the arguments after the program's name.
    pub fn parse(args: &[String]) -> Result<Self, Error> {
        let mut setup = Self {
            qtest: String::new(),
            monitors: Vec::new(),
            board: Board::Pc,
            memory: DEFAULT_MEMORY,
            drives: Vec::new(),
            nets: Vec::new(),
            devices: Vec::new(),
            globals: Vec::new(),
        };
        let mut sockets = BTreeMap::new();
        let mut monitors = Vec::new();
        let mut args = args.iter();
        while let Some(option) = args.next() {
            // QEMU takes both dashes.
            let option = match option.strip_prefix("--") {
                Some(rest) => format!("-{rest}"),
                None => option.clone(),
            };
            if IGNORED_FLAGS.contains(&option.as_str()) {
                continue;
            }
            let Some(value) = args.next() else {
                return refuse(format!("option {option} is unknown, or needs a value"));
            };
            match option.as_str() {
                "-qtest" => setup.qtest = socket_path(value)?,
                "-chardev" => {
                    let chardev = Properties::parse(value, true);
                    let path = chardev.get("path").unwrap_or_default().to_owned();
                    if chardev.head != "socket" || path.is_empty() {
                        return refuse(format!("-chardev {value}: only socket,path=... is there"));
                    }
                    sockets.insert(chardev.get("id").unwrap_or_default().to_owned(), path);
                }
                "-mon" => {
                    let monitor = Properties::parse(value, false);
                    monitors.push(monitor.get("chardev").unwrap_or_default().to_owned());
                }
                "-machine" | "-M" => setup.machine(value)?,
                "-m" => setup.memory = memory(value)?,
                "-drive" => setup.drives.push(drives::drive(value)?),
                "-blockdev" => setup.drives.push(drives::blockdev(value)?),
                "-netdev" => setup.nets.push(netdev(value)?),
                "-device" => setup.devices.push(device(value)?),
                "-global" => setup.global(value)?,
                "-incoming" => return refuse("migration is not supported"),
                known if IGNORED.contains(&known) => {}
                _ => return refuse(format!("option {option} is not supported")),
            }
        }
        for id in monitors {
            match sockets.get(&id) {
                Some(path) => setup.monitors.push(path.clone()),
                None => return refuse(format!("-mon chardev={id}: there is no such chardev")),
            }
        }
        if setup.qtest.is_empty() {
            return refuse("-qtest unix:PATH is missing");
        }
        setup.apply_globals();
        Ok(setup)
    }

    fn machine(&mut self, value: &str) -> Result<(), Error> {
        let machine = Properties::parse(value, true);
        let name = machine.get("type").unwrap_or(&machine.head);
        if name.is_empty() {
            return Ok(());
        }
        self.board = match name {
            "none" => Board::None,
            _ if name == "q35" || name.starts_with("pc-q35") => Board::Q35,
            _ if name == "pc" || name.starts_with("pc-i440fx") => Board::Pc,
            _ => return refuse(format!("machine {name} is not supported (q35, pc, none)")),
        };
        Ok(())
    }

    fn global(&mut self, value: &str) -> Result<(), Error> {
        let parts = value.split_once('=').and_then(|(name, value)| {
            let (kind, property) = name.split_once('.')?;
            Some((kind.to_owned(), property.to_owned(), value.to_owned()))
        });
        match parts {
            Some(parts) => {
                self.globals.push(parts);
                Ok(())
            }
            None => refuse(format!("-global {value}: TYPE.PROPERTY=VALUE is expected")),
        }
    }

    fn apply_globals(&mut self) {
        for device in &mut self.devices {
            for (kind, property, value) in &self.globals {
                if *kind == device.head {
                    device.values.entry(property.clone()).or_insert_with(|| value.clone());
                }
            }
        }
    }
}

fn socket_path(value: &str) -> Result<String, Error> {
    match value.strip_prefix("unix:") {
        Some(path) => Ok(Properties::parse(path, true).head),
        None => refuse(format!("-qtest {value}: only unix:PATH is there")),
    }
}

fn memory(value: &str) -> Result<u64, Error> {
    let size = Properties::parse(value, true);
    let text = size.get("size").unwrap_or(&size.head);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "M" | "m" => 1 << 20,
        "K" | "k" => 1 << 10,
        "G" | "g" => 1 << 30,
        _ => return refuse(format!("-m {value}: the unit is unknown")),
    };
    match digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit)) {
        Some(bytes) if (1 << 20..=MAX_MEMORY).contains(&bytes) => Ok(bytes),
        _ => refuse(format!("-m {value}: between 1 MiB and 2 GiB are possible")),
    }
}

fn netdev(value: &str) -> Result<NetArgs, Error> {
    let net = Properties::parse(value, true);
    let id = net.get("id").unwrap_or_default().to_owned();
    match (net.head.as_str(), net.get("fd").map(str::parse)) {
        ("socket", Some(Ok(fd))) => Ok(NetArgs { id, fd: Some(fd) }),
        ("hubport", None) => Ok(NetArgs { id, fd: None }),
        _ => refuse(format!("-netdev {value}: only socket,fd=N and hubport are there")),
    }
}

fn device(value: &str) -> Result<Properties, Error> {
    if !value.starts_with('{') {
        return Ok(Properties::parse(value, true));
    }
    let mut values = flat(value)?;
    let head = values.remove("driver").unwrap_or_default();
    Ok(Properties { head, values })
}

/// A JSON object as `key=value` pairs, nested keys joined by dots.
pub fn flatten(value: &serde_json::Value) -> BTreeMap<String, String> {
    fn walk(prefix: &str, value: &serde_json::Value, out: &mut BTreeMap<String, String>) {
        use serde_json::Value;
        let join = |key: &str| match prefix {
            "" => key.to_owned(),
            _ => format!("{prefix}.{key}"),
        };
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| walk(&join(key), value, out)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, v)| walk(&join(&i.to_string()), v, out));
            }
            Value::String(text) => drop(out.insert(prefix.to_owned(), text.clone())),
            Value::Bool(true) => drop(out.insert(prefix.to_owned(), String::from("on"))),
            Value::Bool(false) => drop(out.insert(prefix.to_owned(), String::from("off"))),
            Value::Number(number) => drop(out.insert(prefix.to_owned(), number.to_string())),
            Value::Null => {}
        }
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    out
}

fn flat(text: &str) -> Result<BTreeMap<String, String>, Error> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(flatten(&value)),
        Err(error) => refuse(format!("{text}: {error}")),
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
