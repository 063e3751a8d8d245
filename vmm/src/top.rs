//! `xinim-vmm top`: a running machine at a glance. Asks the control socket for its sums now and then
//! and shows the differences.
//!
//! Counting begins with the first question and ends ten seconds after the last (the KVM engine
//! only). On a terminal `q` leaves.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::TopArgs;
use crate::ctl::client::exchange;
use crate::ctl::protocol::Request;
use crate::error::Error;
use crate::output;
use crate::terminal::RawMode;

/// Alternate screen on and off, home, clear to the end.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const ROWS: usize = 24;

pub fn run(args: &TopArgs) -> Result<u8, Error> {
    if !(0.05..=3600.0).contains(&args.interval) {
        return Err(Error::Usage("--interval is 0.05 to 3600 seconds".into()));
    }
    let interval = Duration::from_secs_f64(args.interval);
    let mut before = ask(args)?;
    if args.once {
        sleep(interval);
        let rates = rates(&before, &ask(args)?);
        output::either(args.json, || &rates, || text(&rates))?;
        return Ok(0);
    }
    let terminal = std::io::stdout().is_terminal();
    let raw = terminal.then(RawMode::enter).flatten();
    if terminal {
        output::print(ENTER)?;
    }
    let ended = loop {
        if wait(interval, raw.is_some()) {
            break Ok(0);
        }
        let now = match ask(args) {
            Ok(now) => now,
            // The machine has ended.
            Err(_) => break Ok(0),
        };
        let shown = text(&rates(&before, &now));
        before = now;
        let screen = match terminal {
            true => {
                let lines: Vec<&str> = shown.lines().take(rows()).collect();
                let end = format!("{CLEAR_LINE}\r\n");
                format!("{HOME}{}{end}{CLEAR_BELOW}", lines.join(&end))
            }
            false => shown,
        };
        if let Err(error) = output::print(&screen) {
            break Err(error);
        }
    };
    if terminal {
        output::print(LEAVE)?;
    }
    drop(raw);
    ended
}

fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    size.map_or(ROWS, |size| usize::from(size.ws_row.max(4))).saturating_sub(1)
}

/// Whether a key said to leave meanwhile.
fn wait(time: Duration, keys: bool) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    if !keys {
        sleep(time);
        return false;
    }
    let stdin = rustix::stdio::stdin();
    let limit = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    if matches!(poll(&mut fds, Some(&limit)), Ok(count) if count > 0) {
        let mut key = [0];
        let got = rustix::io::read(stdin, &mut key).unwrap_or(0);
        // q, Ctrl-C, Ctrl-D or the end of the input.
        return got == 0 || matches!(key[0], b'q' | b'Q' | 3 | 4);
    }
    false
}

fn ask(args: &TopArgs) -> Result<Value, Error> {
    let answer = exchange(&args.socket, &Request::Stats {})?;
    match answer["ok"] == true {
        true => Ok(answer),
        false => Err(Error::Usage(answer["error"].as_str().unwrap_or("it failed").to_owned())),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The entry of `list` with the same `key`.
fn same<'a>(entries: &'a Value, entry: &Value, key: &str) -> &'a Value {
    list(entries).iter().find(|other| other[key] == entry[key]).unwrap_or(&Value::Null)
}

/// What changed from one answer to the next, a second.
pub fn rates(before: &Value, now: &Value) -> Value {
    let span = now["time_ns"]
        .as_u64()
        .unwrap_or(0)
        .saturating_sub(before["time_ns"].as_u64().unwrap_or(0));
    let seconds = (span as f64 / 1e9).max(1e-9);
    let delta = |now: &Value, before: &Value, key: &str| {
        let now = now[key].as_u64().unwrap_or(0);
        now.saturating_sub(before[key].as_u64().unwrap_or(0))
    };
    let rate = |now: &Value, before: &Value, key: &str| {
        (delta(now, before, key) as f64 / seconds * 10.0).round() / 10.0
    };
    let each = |now: &Value, before: &Value, time: &str, count: &str| {
        delta(now, before, time).checked_div(delta(now, before, count)).unwrap_or(0)
    };
    let devices: Vec<Value> = list(&now["devices"])
        .iter()
        .map(|device| {
            let old = same(&before["devices"], device, "name");
            let queues: Vec<Value> = list(&device["queues"])
                .iter()
                .map(|queue| {
                    let old = same(&old["queues"], queue, "name");
                    let under_way = queue["begun"]
                        .as_u64()
                        .unwrap_or(0)
                        .saturating_sub(queue["done"].as_u64().unwrap_or(0));
                    json!({
                        "name": queue["name"],
                        "notified_per_s": rate(queue, old, "notified"),
                        "done_per_s": rate(queue, old, "done"),
                        "latency_ns": each(queue, old, "time_ns", "done"),
                        "under_way": under_way,
                    })
                })
                .collect();
            let mut value = json!({ "name": device["name"], "queues": queues });
            for key in [
                "reads",
                "writes",
                "interrupts",
                "dma_read",
                "dma_written",
                "frames_sent",
                "frames_received",
                "errors",
            ] {
                value[format!("{key}_per_s")] = rate(device, old, key).into();
            }
            value
        })
        .collect();
    let exits: Vec<Value> = list(&now["exits"])
        .iter()
        .map(|exit| {
            let old = same(&before["exits"], exit, "reason");
            json!({
                "reason": exit["reason"],
                "per_s": rate(exit, old, "count"),
                "cost_ns": each(exit, old, "time_ns", "count"),
            })
        })
        .collect();
    let cpus: Vec<Value> = list(&now["cpus"])
        .iter()
        .map(|cpu| {
            let old = same(&before["cpus"], cpu, "cpu");
            let percent = |key: &str| {
                let part = delta(cpu, old, key) as f64 / span.max(1) as f64;
                (part * 1000.0).round() / 10.0
            };
            json!({
                "cpu": cpu["cpu"],
                "busy_percent": percent("ran_ns"),
                "exit_percent": percent("exit_ns"),
                "exits_per_s": rate(cpu, old, "exits"),
                "switches_per_s": rate(cpu, old, "switches"),
                "process": cpu["process"],
            })
        })
        .collect();
    let mut processes: Vec<Value> = list(&now["processes"])
        .iter()
        .map(|process| {
            let old = same(&before["processes"], process, "pid");
            let ran = delta(process, old, "ran_ns") as f64 / span.max(1) as f64;
            json!({
                "pid": process["pid"],
                "name": process["name"],
                "cpu_percent": (ran * 1000.0).round() / 10.0,
                "switches_per_s": rate(process, old, "switches"),
            })
        })
        .collect();
    processes.sort_by(|a, b| {
        let busy = |value: &Value| value["cpu_percent"].as_f64().unwrap_or(0.0);
        busy(b).total_cmp(&busy(a))
    });
    json!({
        "time_ns": now["time_ns"], "span_ns": span, "devices": devices, "exits": exits,
        "cpus": cpus, "processes": processes, "services": now["services"],
    })
}

/// For people.
pub fn text(rates: &Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(&mut out, rates);
    out
}

fn write_text(out: &mut String, rates: &Value) -> std::fmt::Result {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let name = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let time = |value: &Value| xinim_trace::stat::time(value.as_u64().unwrap_or(0));
    writeln!(
        out,
        "up {:.1} s, rates over {}",
        number(&rates["time_ns"]) / 1e9,
        time(&rates["span_ns"])
    )?;
    writeln!(
        out,
        "{:<22} {:>8} {:>8} {:>7} {:>10} {:>10} {:>8} {:>8}",
        "DEVICE", "reads/s", "writes/s", "irqs/s", "in B/s", "out B/s", "tx/s", "rx/s"
    )?;
    for device in list(&rates["devices"]) {
        let rate = |key: &str| number(&device[format!("{key}_per_s")]);
        writeln!(
            out,
            "{:<22} {:>8.0} {:>8.0} {:>7.0} {:>10.0} {:>10.0} {:>8.0} {:>8.0}",
            name(&device["name"]),
            rate("reads"),
            rate("writes"),
            rate("interrupts"),
            rate("dma_written"),
            rate("dma_read"),
            rate("frames_sent"),
            rate("frames_received")
        )?;
        for queue in list(&device["queues"]) {
            writeln!(
                out,
                "  {:<20} {:>8.0} done/s {:>8.0} doorbells/s {:>10} each, {} under way",
                name(&queue["name"]),
                number(&queue["done_per_s"]),
                number(&queue["notified_per_s"]),
                time(&queue["latency_ns"]),
                queue["under_way"]
            )?;
        }
    }
    let exits: Vec<String> = list(&rates["exits"])
        .iter()
        .map(|exit| {
            format!(
                "{} {:.0}/s at {}",
                name(&exit["reason"]),
                number(&exit["per_s"]),
                time(&exit["cost_ns"])
            )
        })
        .collect();
    writeln!(out, "EXITS {}", exits.join(", "))?;
    writeln!(
        out,
        "{:<6} {:>6} {:>8} {:>10} {:>10}  runs",
        "VCPU", "busy%", "in VMM%", "exits/s", "switches/s"
    )?;
    for cpu in list(&rates["cpus"]) {
        writeln!(
            out,
            "{:<6} {:>6.1} {:>8.1} {:>10.0} {:>10.0}  {}",
            cpu["cpu"].to_string(),
            number(&cpu["busy_percent"]),
            number(&cpu["exit_percent"]),
            number(&cpu["exits_per_s"]),
            number(&cpu["switches_per_s"]),
            cpu["process"].as_str().filter(|name| !name.is_empty()).unwrap_or("-")
        )?;
    }
    writeln!(out, "{:<6} {:<26} {:>6} {:>10}", "PID", "PROCESS", "CPU%", "switches/s")?;
    for process in list(&rates["processes"]) {
        writeln!(
            out,
            "{:<6} {:<26} {:>6.1} {:>10.0}",
            process["pid"].to_string(),
            name(&process["name"]),
            number(&process["cpu_percent"]),
            number(&process["switches_per_s"])
        )?;
    }
    let services: Vec<String> = list(&rates["services"])
        .iter()
        .map(|service| format!("{} {}", name(&service["name"]), name(&service["state"])))
        .collect();
    if !services.is_empty() {
        writeln!(out, "SERVICES {}", services.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "top_tests.rs"]
mod tests;
