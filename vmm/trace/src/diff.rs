//! Two runs side by side: the first difference that matters, device by device.
//!
//! What a driver did to a device and what it got is compared in order, for each device by itself:
//! two devices are not in step anyway. Left out or made equal is what differs between any two runs:
//! time, instruction pointers, process numbers, how often a register was polled in a row, and
//! addresses of memory (an address is told by the order in which it first appeared), and what the
//! clock said. Steps that only say how a device worked in batches (publish, suppress) do not count.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use xinim_abi::hw::register::touched;
use xinim_devices::device::Op;
use xinim_devices::trace::{Event, EventKind, Space};

/// Steps kept for each device.
const STEPS_MAX: usize = 1 << 20;
/// Steps shown around a difference, and looked ahead for where both agree again.
const CONTEXT: usize = 3;
const AHEAD: usize = 64;
/// So many equal steps in a row are agreement.
const AGREEMENT: usize = 4;

/// One step of a device's life.
#[derive(Clone, Debug)]
struct Step {
    /// What is compared.
    key: String,
    /// For people.
    line: String,
    time: u64,
}

/// One run.
#[derive(Debug, Default)]
pub struct Run {
    devices: BTreeMap<String, Vec<Step>>,
    /// Of each device, in the order in which they appeared.
    addresses: HashMap<String, HashMap<u64, usize>>,
}

/// Registers that hold addresses of the driver's memory, by parts of their names.
fn holds_address(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = [
        "queue_desc",
        "queue_driver",
        "queue_device",
        "clb",
        "clbu",
        "fb",
        "fbu",
        "rdbal",
        "rdbah",
        "tdbal",
        "tdbah",
        "trace_page",
        "message_address",
        "message_data",
        "bar",
    ];
    parts.iter().any(|part| name.contains(part))
}

impl Run {
    /// Takes the next event.
    pub fn event(&mut self, event: &Event<'_>) {
        let Some(key) = self.key(event) else { return };
        // What the driver does and when the device is done are not in step either.
        let answers = matches!(
            event.kind,
            EventKind::AtaEnd { .. } | EventKind::BlockRequest { .. } | EventKind::Frame { .. }
        );
        let device = format!("{}{}", event.device, if answers { " (answers)" } else { "" });
        let steps = self.devices.entry(device).or_default();
        let line = event.to_string();
        let time = event.origin.time_ns;
        // Polling: the same again tells nothing.
        if steps.last().is_some_and(|last| last.key == key) && key.starts_with("r ") {
            return;
        }
        if steps.len() < STEPS_MAX {
            steps.push(Step { key, line, time });
        }
    }

    fn address(&mut self, device: &str, address: u64) -> String {
        let known = self.addresses.entry(device.to_owned()).or_default();
        let next = known.len();
        format!("@{}", *known.entry(address).or_insert(next))
    }

    fn key(&mut self, event: &Event<'_>) -> Option<String> {
        Some(match event.kind {
            EventKind::Access { space, address, size, op, value, decode, error, .. } => {
                let write = matches!(op, Op::Write(_));
                let value = if let Op::Write(value) = op { value } else { value };
                let names: Vec<&str> = match decode {
                    Some(d) => touched(d.table, d.offset, size, write).map(|r| r.name).collect(),
                    None => Vec::new(),
                };
                let place = match (names.is_empty(), space) {
                    (false, _) => names.join("+"),
                    (true, Space::Config) => format!("config+{:#x}", address & 0xFFF),
                    (true, _) => format!("{address:#x}"),
                };
                let index =
                    decode.and_then(|d| d.index).map_or(String::new(), |i| format!("[{i}]"));
                let clock = event.device == "rtc" && !write;
                let value = if clock {
                    "time".into()
                } else if names.iter().any(|name| holds_address(name)) && value != 0 {
                    self.address(event.device, value)
                } else {
                    format!("{value:#x}")
                };
                let letter = if write { 'w' } else { 'r' };
                let error = error.map_or(String::new(), |error| format!(" {error:?}"));
                format!("{letter} {place}{index} {size} {value}{error}")
            }
            EventKind::QueueNotify { queue } => format!("notify {queue}"),
            EventKind::QueueBroken { queue, error } => format!("broken {queue} {error:?}"),
            EventKind::AtaCommand { port, slot: _, command, lba, count } => {
                format!("command {port} {command:#x} {lba} {count}")
            }
            EventKind::AtaEnd { port, status, error, .. } => {
                format!("end {port} {status:#x} {error:#x}")
            }
            EventKind::BlockRequest { kind, sector, length, status, .. } => {
                format!("request {kind} {sector} {length} {status}")
            }
            EventKind::Frame { sent: true, length } => format!("frame sent {length}"),
            _ => return None,
        })
    }
}

/// Where two runs part.
#[derive(Clone, Debug)]
pub struct Difference {
    pub device: String,
    /// Steps that both took before it.
    pub agreed: usize,
    pub time_a: Option<u64>,
    pub time_b: Option<u64>,
    /// The last steps of both.
    pub before: Vec<String>,
    /// What each did then.
    pub a: Vec<String>,
    pub b: Vec<String>,
    /// Steps of A and B until they agree again, if they do soon.
    pub again: Option<(usize, usize)>,
}

/// The first difference of each device, earliest first.
pub fn compare(a: &Run, b: &Run) -> Vec<Difference> {
    let none = Vec::new();
    let mut devices: Vec<&String> = a.devices.keys().chain(b.devices.keys()).collect();
    devices.sort();
    devices.dedup();
    let mut found: Vec<Difference> = devices
        .into_iter()
        .filter_map(|device| {
            let steps = |run: &'_ Run| run.devices.get(device).cloned();
            let (a, b) = (steps(a).unwrap_or(none.clone()), steps(b).unwrap_or(none.clone()));
            difference(device, &a, &b)
        })
        .collect();
    let time = |d: &Difference| d.time_a.into_iter().chain(d.time_b).min();
    found.sort_by_key(time);
    found
}

fn difference(device: &str, a: &[Step], b: &[Step]) -> Option<Difference> {
    let agreed = a.iter().zip(b).take_while(|(a, b)| a.key == b.key).count();
    let (rest_a, rest_b) = (&a[agreed..], &b[agreed..]);
    if rest_a.is_empty() && rest_b.is_empty() {
        return None;
    }
    let lines = |steps: &[Step], n: usize| steps.iter().take(n).map(|s| s.line.clone()).collect();
    let again = resume(rest_a, rest_b);
    let (shown_a, shown_b) = again.unwrap_or((CONTEXT, CONTEXT));
    Some(Difference {
        device: device.to_owned(),
        agreed,
        time_a: rest_a.first().map(|step| step.time),
        time_b: rest_b.first().map(|step| step.time),
        before: lines(&a[agreed.saturating_sub(CONTEXT)..agreed], CONTEXT),
        a: lines(rest_a, shown_a.clamp(1, 8)),
        b: lines(rest_b, shown_b.clamp(1, 8)),
        again,
    })
}

/// The fewest steps to leave out on both sides until a few in a row are equal.
fn resume(a: &[Step], b: &[Step]) -> Option<(usize, usize)> {
    for sum in 1..2 * AHEAD {
        for skip_a in sum.saturating_sub(AHEAD)..=sum.min(AHEAD) {
            let skip_b = sum - skip_a;
            let (Some(x), Some(y)) = (a.get(skip_a..), b.get(skip_b..)) else { continue };
            let wanted = AGREEMENT.min(x.len()).min(y.len());
            if wanted > 0 && x.iter().zip(y).take(wanted).all(|(x, y)| x.key == y.key) {
                return Some((skip_a, skip_b));
            }
        }
    }
    None
}

impl Difference {
    pub fn json(&self) -> Value {
        json!({
            "device": self.device, "agreed": self.agreed, "before": self.before,
            "a": self.a, "b": self.b, "time_a_ns": self.time_a, "time_b_ns": self.time_b,
            "agree_again": self.again.map(|(a, b)| json!({ "skip_a": a, "skip_b": b })),
        })
    }

    pub fn text(&self) -> String {
        let mut text = format!("{}: {} steps alike, then\n", self.device, self.agreed);
        for (mark, lines) in [("  ", &self.before), ("A ", &self.a), ("B ", &self.b)] {
            for line in lines {
                text += &format!("  {mark} {line}\n");
            }
            if lines.is_empty() && mark != "  " {
                text += &format!("  {mark} nothing more\n");
            }
        }
        if let Some((a, b)) = self.again {
            text += &format!("  alike again after {a} steps of A and {b} of B\n");
        }
        text
    }
}
