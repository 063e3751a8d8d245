//! What a trace adds up to: accesses and time by device, register and process; latencies by kind of
//! request; what each kind of exit cost.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use serde_json::{Value, json};
use xinim_abi::hw::ata;
use xinim_abi::hw::register::touched;
use xinim_abi::hw::virtio_blk::request;
use xinim_devices::device::Op;
use xinim_devices::trace::{Event, EventKind};

use crate::filter::{is_error, kind_name};

/// Distinct registers, processes and requests under way that are kept apart.
const DISTINCT_MAX: usize = 1 << 16;

/// Times, by powers of two with four steps between.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    pub count: u64,
    pub total: u64,
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; 256], count: 0, total: 0, max: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, nanos: u64) {
        self.buckets[Self::bucket(nanos)] += 1;
        self.count += 1;
        self.total = self.total.saturating_add(nanos);
        self.max = self.max.max(nanos);
    }

    fn bucket(nanos: u64) -> usize {
        let value = nanos.max(4);
        let log = value.ilog2();
        (log * 4) as usize + (value >> (log - 2) & 3) as usize
    }

    /// First value above the bucket.
    fn end(bucket: usize) -> u64 {
        let (log, step) = (bucket as u32 / 4, bucket as u64 % 4);
        if log < 2 {
            4
        } else {
            u64::try_from((u128::from(step) + 5) << (log - 2)).unwrap_or(u64::MAX)
        }
    }

    /// The time that `percent` of them stayed below, to a fifth.
    pub fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::end(bucket).min(self.max);
            }
        }
        self.max
    }

    pub fn mean(&self) -> u64 {
        self.total.checked_div(self.count).unwrap_or(0)
    }

    fn json(&self) -> Value {
        let buckets: Vec<Value> = self
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| json!({ "below_ns": Self::end(bucket), "count": count }))
            .collect();
        json!({
            "count": self.count, "total_ns": self.total, "mean_ns": self.mean(),
            "p50_ns": self.percentile(50), "p90_ns": self.percentile(90),
            "p99_ns": self.percentile(99), "max_ns": self.max, "histogram": buckets,
        })
    }
}

/// Accesses of something and the VMM's time for them.
#[derive(Clone, Debug, Default)]
pub struct Use {
    pub reads: u64,
    pub writes: u64,
    /// Of exits; accesses by other ways cost what their event says nowhere.
    pub nanos: u64,
}

/// A process: pid and name.
type Who = (u32, String);

/// The sums.
#[derive(Debug, Default)]
pub struct Stat {
    pub events: u64,
    pub lost: u64,
    pub errors: u64,
    first: Option<u64>,
    last: u64,
    kinds: BTreeMap<&'static str, u64>,
    devices: BTreeMap<String, Use>,
    registers: BTreeMap<(String, String), Use>,
    processes: BTreeMap<(u32, String), Use>,
    exits: BTreeMap<&'static str, Histogram>,
    requests: BTreeMap<(String, String), Histogram>,
    host: BTreeMap<(String, &'static str), Histogram>,
    moved: BTreeMap<String, (u64, u64)>,
    interrupts: BTreeMap<String, u64>,
    frames: BTreeMap<String, [u64; 4]>,
    /// By device and rule: of the fault rules, and of the strict checker.
    faults: BTreeMap<(String, u32), u64>,
    violations: BTreeMap<(String, &'static str), u64>,
    /// Under way: when popped, and what it is once that is known.
    popped: HashMap<(String, u16, u16), (u64, String)>,
    commands: HashMap<(String, u8, u8), (u64, String)>,
    submitted: HashMap<(String, u64, u64), (u64, &'static str)>,
    /// By vCPU: device, register and process of the last access.
    accessed: HashMap<u32, (String, String, Option<Who>)>,
}

fn request_name(kind: u32) -> String {
    match kind {
        request::IN => "read".into(),
        request::OUT => "write".into(),
        request::FLUSH => "flush".into(),
        request::GET_ID => "get-id".into(),
        request::DISCARD => "discard".into(),
        request::WRITE_ZEROES => "write-zeroes".into(),
        other => format!("type {other}"),
    }
}

fn bounded<K: Ord, V: Default>(map: &mut BTreeMap<K, V>, key: K) -> Option<&mut V> {
    let room = map.len() < DISTINCT_MAX || map.contains_key(&key);
    room.then(|| map.entry(key).or_default())
}

impl Stat {
    pub fn lost(&mut self, count: u64) {
        self.lost += count;
    }

    /// Takes an event, in the order of the file.
    pub fn event(&mut self, event: &Event<'_>) {
        let time = event.origin.time_ns;
        self.events += 1;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = self.last.max(time);
        *self.kinds.entry(kind_name(&event.kind)).or_default() += 1;
        self.errors += u64::from(is_error(&event.kind));
        let device = || event.device.to_owned();
        for map in [self.popped.len(), self.commands.len(), self.submitted.len()] {
            if map > DISTINCT_MAX {
                self.popped.clear();
                self.commands.clear();
                self.submitted.clear();
            }
        }
        match event.kind {
            EventKind::Access { .. } => self.access(event),
            EventKind::Exit { reason, nanos, .. } => {
                self.exits.entry(reason.name()).or_default().add(nanos);
                self.cost(event, nanos);
            }
            EventKind::QueuePop { queue, head, .. } => {
                let kind = format!("queue {queue}");
                self.popped.insert((device(), queue, head), (time, kind));
            }
            EventKind::BlockRequest { queue, head, kind, .. } => {
                if let Some(entry) = self.popped.get_mut(&(device(), queue, head)) {
                    entry.1 = request_name(kind);
                }
            }
            EventKind::QueuePush { queue, head, .. } => {
                if let Some((start, kind)) = self.popped.remove(&(device(), queue, head)) {
                    self.request(device(), kind, time, start);
                }
            }
            EventKind::AtaCommand { port, slot, command, .. } => {
                let name = ata::command::name(command)
                    .map_or_else(|| format!("command {command:#x}"), str::to_owned);
                self.commands.insert((device(), port, slot), (time, name));
            }
            EventKind::AtaEnd { port, slot, .. } => {
                if let Some((start, kind)) = self.commands.remove(&(device(), port, slot)) {
                    self.request(device(), kind, time, start);
                }
            }
            EventKind::HostIo { op, offset, length, done: false, .. } => {
                self.submitted.insert((device(), offset, length), (time, op.name()));
            }
            EventKind::HostIo { offset, length, .. } => {
                if let Some((start, name)) = self.submitted.remove(&(device(), offset, length))
                    && let Some(times) = bounded(&mut self.host, (device(), name))
                {
                    times.add(time.saturating_sub(start));
                }
            }
            EventKind::Dma { write, length, .. } => {
                if let Some(moved) = bounded(&mut self.moved, device()) {
                    let bytes = if write { &mut moved.1 } else { &mut moved.0 };
                    *bytes = bytes.saturating_add(length);
                }
            }
            EventKind::Msi { .. } | EventKind::Line { level: true } => {
                if let Some(count) = bounded(&mut self.interrupts, device()) {
                    *count += 1;
                }
            }
            EventKind::Frame { sent, length } => {
                if let Some(counts) = bounded(&mut self.frames, device()) {
                    let at = if sent { 0 } else { 2 };
                    counts[at] += 1;
                    counts[at + 1] += u64::from(length);
                }
            }
            EventKind::Fault { rule } => {
                if let Some(count) = bounded(&mut self.faults, (device(), rule)) {
                    *count += 1;
                }
            }
            EventKind::Violation { rule } => {
                if let Some(count) = bounded(&mut self.violations, (device(), rule)) {
                    *count += 1;
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, device: String, kind: String, time: u64, start: u64) {
        if let Some(times) = bounded(&mut self.requests, (device, kind)) {
            times.add(time.saturating_sub(start));
        }
    }

    fn access(&mut self, event: &Event<'_>) {
        let EventKind::Access { decode, size, op, .. } = event.kind else { return };
        let write = matches!(op, Op::Write(_));
        let register = decode
            .and_then(|d| touched(d.table, d.offset, size, write).next().map(|r| r.name))
            .unwrap_or("(no register)");
        let process = event.origin.process.map(|p| (p.pid, p.name().to_owned()));
        let (device, register) = (event.device.to_owned(), register.to_owned());
        let count = |used: Option<&mut Use>| {
            if let Some(used) = used {
                *(if write { &mut used.writes } else { &mut used.reads }) += 1;
            }
        };
        count(bounded(&mut self.devices, device.clone()));
        count(bounded(&mut self.registers, (device.clone(), register.clone())));
        if let Some(process) = process.clone() {
            count(bounded(&mut self.processes, process));
        }
        if let Some(vcpu) = event.origin.vcpu {
            self.accessed.insert(vcpu, (device, register, process));
        }
    }

    /// The exit that just ended is that of the vCPU's last access.
    fn cost(&mut self, event: &Event<'_>, nanos: u64) {
        let Some(vcpu) = event.origin.vcpu else { return };
        let Some((device, register, process)) = self.accessed.remove(&vcpu) else { return };
        let add = |used: Option<&mut Use>| {
            if let Some(used) = used {
                used.nanos = used.nanos.saturating_add(nanos);
            }
        };
        add(bounded(&mut self.devices, device.clone()));
        add(bounded(&mut self.registers, (device, register)));
        if let Some(process) = process {
            add(bounded(&mut self.processes, process));
        }
    }

    pub fn json(&self) -> Value {
        let used = |used: &Use| (used.reads, used.writes, used.nanos);
        let entry = |name: Value, u: &Use| {
            let (reads, writes, nanos) = used(u);
            json!({ "name": name, "reads": reads, "writes": writes, "exit_ns": nanos })
        };
        let named = |device: &str, kind: &str, times: &Histogram| {
            let mut value = times.json();
            value["device"] = device.into();
            value["kind"] = kind.into();
            value
        };
        json!({
            "events": self.events, "lost": self.lost, "errors": self.errors,
            "span_ns": self.last - self.first.unwrap_or(self.last),
            "kinds": self.kinds,
            "devices": self.devices.iter().map(|(n, u)| entry(json!(n), u)).collect::<Vec<_>>(),
            "registers": self.registers.iter().map(|((device, register), u)| {
                let mut value = entry(json!(register), u);
                value["device"] = json!(device);
                value
            }).collect::<Vec<_>>(),
            "processes": self.processes.iter().map(|((pid, name), u)| {
                let mut value = entry(json!(name), u);
                value["pid"] = json!(pid);
                value
            }).collect::<Vec<_>>(),
            "exits": self.exits.iter().map(|(reason, times)| {
                let mut value = times.json();
                value["reason"] = json!(reason);
                value
            }).collect::<Vec<_>>(),
            "requests": self.requests.iter().map(|((d, k), t)| named(d, k, t)).collect::<Vec<_>>(),
            "host": self.host.iter().map(|((d, k), t)| named(d, k, t)).collect::<Vec<_>>(),
            "dma": self.moved.iter().map(|(device, (read, written))| {
                json!({ "device": device, "read_bytes": read, "written_bytes": written })
            }).collect::<Vec<_>>(),
            "interrupts": self.interrupts,
            "faults": self.faults.iter().map(|((device, rule), count)| {
                json!({ "device": device, "rule": rule, "count": count })
            }).collect::<Vec<_>>(),
            "violations": self.violations.iter().map(|((device, rule), count)| {
                json!({ "device": device, "rule": rule, "count": count })
            }).collect::<Vec<_>>(),
            "frames": self.frames.iter().map(|(device, [sent, sent_bytes, got, got_bytes])| {
                json!({ "device": device, "sent": sent, "sent_bytes": sent_bytes,
                        "received": got, "received_bytes": got_bytes })
            }).collect::<Vec<_>>(),
        })
    }

    /// For people; a table each.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let span = self.last - self.first.unwrap_or(self.last);
        writeln!(
            out,
            "{} events in {}, {} lost, {} errors",
            self.events,
            time(span),
            self.lost,
            self.errors
        )?;
        let kinds: Vec<_> =
            self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(out, "  {}", kinds.join(", "))?;
        let head = |out: &mut String, name: &str| {
            writeln!(
                out,
                "\n{name:<44} {:>9} {:>9} {:>11} {:>9}",
                "reads", "writes", "exit time", "each"
            )
        };
        let line = |out: &mut String, name: &str, used: &Use| {
            let each = used.nanos.checked_div(used.reads + used.writes).unwrap_or(0);
            writeln!(
                out,
                "  {name:<42} {:>9} {:>9} {:>11} {:>9}",
                used.reads,
                used.writes,
                time(used.nanos),
                time(each)
            )
        };
        head(out, "accesses by device")?;
        self.devices.iter().try_for_each(|(name, used)| line(out, name, used))?;
        head(out, "by register")?;
        let mut registers: Vec<_> = self.registers.iter().collect();
        registers.sort_by_key(|(_, used)| std::cmp::Reverse(used.reads + used.writes));
        for ((device, register), used) in registers {
            line(out, &format!("{device} {register}"), used)?;
        }
        head(out, "by process")?;
        for ((pid, name), used) in &self.processes {
            line(out, &format!("{pid} {name}"), used)?;
        }
        histograms(out, "what exits cost", self.exits.iter().map(|(n, t)| ((*n).to_owned(), t)))?;
        let requests = self.requests.iter().map(|((d, k), t)| (format!("{d} {k}"), t));
        histograms(out, "latency of requests", requests)?;
        let host = self.host.iter().map(|((d, k), t)| (format!("{d} {k}"), t));
        histograms(out, "of which the host's", host)?;
        if !self.moved.is_empty() {
            writeln!(out, "\nDMA{:<41} {:>14} {:>14}", "", "bytes read", "written")?;
        }
        for (device, (read, written)) in &self.moved {
            writeln!(out, "  {device:<42} {read:>14} {written:>14}")?;
        }
        for (device, count) in &self.interrupts {
            writeln!(out, "  {device:<42} {count:>9} interrupts")?;
        }
        for (device, [sent, sent_bytes, got, got_bytes]) in &self.frames {
            writeln!(
                out,
                "  {device:<42} {sent} frames sent ({sent_bytes} bytes), {got} received ({got_bytes})"
            )?;
        }
        for ((device, rule), count) in &self.faults {
            writeln!(out, "  {device:<42} {count:>9} times fault rule {rule}")?;
        }
        for ((device, rule), count) in &self.violations {
            writeln!(out, "  {device:<42} {count:>9} times broken: {rule}")?;
        }
        Ok(())
    }
}

fn histograms<'a>(
    out: &mut String,
    title: &str,
    rows: impl Iterator<Item = (String, &'a Histogram)>,
) -> std::fmt::Result {
    let mut begun = false;
    for (name, times) in rows {
        if !std::mem::replace(&mut begun, true) {
            writeln!(
                out,
                "\n{title:<44} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "count", "mean", "p50", "p90", "p99", "max"
            )?;
        }
        writeln!(
            out,
            "  {name:<42} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            times.count,
            time(times.mean()),
            time(times.percentile(50)),
            time(times.percentile(90)),
            time(times.percentile(99)),
            time(times.max)
        )?;
    }
    Ok(())
}

/// With the unit that fits.
pub fn time(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.1} s", nanos as f64 / 1e9),
    }
}
