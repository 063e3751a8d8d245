//! Rows as they come from the guest, and what becomes of them.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::super::memory;
use super::super::ring::{TICKS, stat_ticks};
use super::load::Answered;

/// All rows, as they are reported.
pub const NAMES: [&str; 8] = [
    "tcp_send",
    "tcp_receive",
    "udp_send",
    "udp_receive",
    "small_send",
    "small_receive",
    "ping",
    "requests",
];

/// Processor time of a VMM so far, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    /// Threads that run virtual CPUs.
    guest: u64,
    others: u64,
}

impl Ticks {
    fn of(pid: u32) -> Self {
        let mut ticks = Self::default();
        for pid in memory::family(pid) {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.into_iter().flatten().flatten() {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                let used = stat_ticks(&stat).unwrap_or(0);
                // `vcpu0` of ours, `CPU 0/KVM` of QEMU's.
                let is_cpu = stat.contains("(vcpu") || stat.contains("(CPU ");
                *if is_cpu { &mut ticks.guest } else { &mut ticks.others } += used;
            }
        }
        ticks
    }
}

/// Rows of one machine.
#[derive(Debug)]
pub struct Rows {
    pid: u32,
    done: Map<String, Value>,
    /// The row that is being made: name, beginning, processor time then.
    open: Option<(String, Instant, Ticks)>,
    /// The host's seconds in one of the guest's.
    clock: f64,
}

impl Rows {
    pub fn new(pid: u32) -> Self {
        Self { pid, done: Map::new(), open: None, clock: 1.0 }
    }

    /// A row begins, the one before ends.
    pub fn begin(&mut self, name: &str) {
        let (now, ticks) = (Instant::now(), Ticks::of(self.pid));
        if let Some((name, since, before)) = self.open.take() {
            let took = now.duration_since(since).as_secs_f64().max(1e-9);
            if name == "clock" {
                self.clock = took;
            } else if let Some(row) = self.done.get_mut(&name) {
                let seconds =
                    |after: u64, before: u64| after.saturating_sub(before) as f64 / TICKS as f64;
                let guest = seconds(ticks.guest, before.guest);
                let others = seconds(ticks.others, before.others);
                row["guest_cpu_percent"] = rounded(guest / took * 100.0);
                row["host_cpu_percent"] = rounded(others / took * 100.0);
                let work = row["work"].as_f64().unwrap_or(0.0).max(1.0);
                row["cpu_ns"] = rounded((guest + others) * 1e9 / work);
            }
        }
        self.open = Some((name.to_owned(), now, ticks));
    }

    /// A line of the row that is open.
    pub fn line(&mut self, line: &str) {
        let Some((name, ..)) = &self.open else { return };
        let figures = match name.as_str() {
            "ping" => return self.ping(line),
            name if name.starts_with("small") => throughput(line, true),
            _ => throughput(line, false),
        };
        if let Some((seconds, work)) = figures {
            // The sender's side of a test ends by the host's clock, the receiver's by the guest's.
            let clock = if name.ends_with("receive") { self.clock } else { 1.0 };
            let row = json!({ "per_second": rounded(work / seconds / clock), "work": work });
            self.done.insert(name.clone(), row);
        }
    }

    /// Lines of ping's summary.
    fn ping(&mut self, line: &str) {
        if let Some((sent, rest)) = line.split_once(" packets transmitted, ")
            && let (Ok(sent), Some(received)) =
                (sent.parse::<u64>(), number_before(rest, " received"))
            && let Some(ms) = rest.rsplit_once("time ").and_then(|(_, ms)| number_before(ms, " ms"))
        {
            let per_second = received * 1000.0 / ms.max(1.0) / self.clock;
            let row = json!({
                "per_second": rounded(per_second), "work": received, "lost": sent as f64 - received,
            });
            self.done.insert("ping".into(), row);
        } else if let Some(rest) = line.strip_prefix("round-trip p50/p99 = ")
            && let Some((p50, p99)) = rest.split_once('/')
            && let (Ok(p50), Some(p99)) = (p50.parse::<f64>(), number_before(p99, " ms"))
            && let Some(row) = self.done.get_mut("ping")
        {
            row["p50_us"] = rounded(p50 * 1000.0 * self.clock);
            row["p99_us"] = rounded(p99 * 1000.0 * self.clock);
        }
    }

    pub fn requests(&mut self, answered: Answered) {
        let seconds = answered.took.as_secs_f64().max(1e-9);
        let row = json!({
            "per_second": rounded(answered.pages as f64 / seconds), "work": answered.pages,
        });
        self.done.insert("requests".into(), row);
    }

    /// What was measured.
    pub fn finish(mut self) -> Map<String, Value> {
        for (_, row) in self.done.iter_mut() {
            if let Some(row) = row.as_object_mut() {
                row.remove("work");
            }
        }
        self.done
    }
}

/// Seconds and bits (or packets) that arrived, from what `iperf3 -J` prints.
fn throughput(line: &str, packets: bool) -> Option<(f64, f64)> {
    let report: Value = serde_json::from_str(line).ok()?;
    let received = &report["end"]["sum_received"];
    let number = |key: &str| received[key].as_f64();
    let arrived = match packets {
        true => number("packets")? - number("lost_packets")?,
        false => number("bytes")? * 8.0,
    };
    let seconds = number("seconds")?;
    (seconds > 0.0).then_some((seconds, arrived.max(0.0)))
}

fn number_before(text: &str, end: &str) -> Option<f64> {
    text.split_once(end)?.0.trim().parse().ok()
}

/// Two digits behind the point where they say something.
fn rounded(value: f64) -> Value {
    if value >= 100.0 {
        json!(value.round() as u64)
    } else {
        json!((value * 100.0).round() / 100.0)
    }
}

/// A row of both: how many times more we do, and what it takes.
pub fn compare(ours: &Value, theirs: &Value) -> Value {
    let ratio = |figure: &str| {
        let (ours, theirs) = (ours[figure].as_f64()?, theirs[figure].as_f64()?);
        (theirs > 0.0).then(|| rounded(ours / theirs))
    };
    json!({
        "ratio": ratio("per_second"),
        "cpu_ratio": ratio("cpu_ns"),
        "xinim": ours,
        "qemu": theirs,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_iperf3_counts() {
        let udp = r#"{"end":{"sum_sent":{"bytes":9},"sum_received":{"bytes":1000,"seconds":2.0,"packets":10,"lost_packets":4}}}"#;
        assert_eq!(throughput(udp, false), Some((2.0, 8000.0)));
        assert_eq!(throughput(udp, true), Some((2.0, 6.0)));
        assert_eq!(throughput("Connecting", false), None);
        assert_eq!(throughput("{}", false), None);
    }

    #[test]
    fn rows_of_a_machine() {
        let mut rows = Rows::new(std::process::id());
        rows.line("noise");
        rows.begin("ping");
        rows.clock = 2.0;
        rows.line("300 packets transmitted, 299 received, 0% packet loss, time 598 ms");
        rows.line("round-trip min/avg/max = 1.000/2.000/3.000 ms");
        rows.line("round-trip p50/p99 = 1.500/2.250 ms");
        rows.begin("requests");
        rows.requests(Answered { pages: 50, took: Duration::from_millis(500) });
        rows.begin("end");
        let done = rows.finish();
        assert_eq!(done["ping"]["per_second"], 250);
        assert_eq!(done["ping"]["lost"], 1.0);
        assert_eq!(
            (&done["ping"]["p50_us"], &done["ping"]["p99_us"]),
            (&json!(3000), &json!(4500))
        );
        assert_eq!(done["requests"]["per_second"], 100);
        assert!(done["ping"]["cpu_ns"].is_number() && done["ping"].get("work").is_none());
    }

    #[test]
    fn comparisons() {
        let side = |n: u64| json!({ "per_second": n, "cpu_ns": 10 });
        let row = compare(&side(300), &side(200));
        assert_eq!((&row["ratio"], &row["cpu_ratio"]), (&json!(1.5), &json!(1.0)));
        assert_eq!(compare(&side(300), &Value::Null)["ratio"], Value::Null);
    }

    #[test]
    fn threads_of_this_process_take_time() {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(60) {}
        assert!(Ticks::of(std::process::id()).others > 0);
    }
}
