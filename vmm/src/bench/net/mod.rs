//! Network rows: the guest's own tools against this host's iperf3, a client of ours and the host's
//! kernel, the same guest on our engine and on QEMU with the same KVM and QEMU's own back ends, one after
//! the other; the ratio first, above 1 where ours is better.
//!
//! | row | `per_second` is | the other end |
//! |---|---|---|
//! | `tcp_send`, `tcp_receive` | bits of payload, as the guest sees the direction | iperf3 |
//! | `udp_send`, `udp_receive` | bits of payload that arrived; sent as fast as it goes, received of 500 Mbit/s | iperf3 |
//! | `small_send`, `small_receive` | packets of 64 bytes that arrived; received of 97,000 | iperf3 |
//! | `ping` | round trips, one after the other; with `p50_us` and `p99_us` | the gateway or the host |
//! | `requests` | pages of 1 KiB, four connections at a time, one for each page | a client here |
//!
//! Times are the guest's, put right by the host's clock: the guest sleeps for a second first. Processor
//! time is that of the VMM's process, from `/proc/PID/task`: its threads for virtual CPUs as
//! `guest_cpu_percent`, all others as `host_cpu_percent`, `cpu_ratio` both together for the same work
//! (below 1: ours takes less). Percent are of one CPU.

mod load;
mod row;
mod wire;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Bench;
use super::ring::{OURS, Runner, THEIRS};
use load::Iperf;
use row::Rows;
use wire::{Tap, Wire};

/// `model=` of `--net`.
const MODELS: [&str; 3] = ["e1000", "e1000e", "virtio"];
/// Round trips of the row `ping`.
const PINGS: u32 = 300;
/// What the host sends a second in the rows that receive datagrams, in bits: without a limit it would
/// measure how two engines throw away.
const OFFERED: &str = "500M";
const OFFERED_SMALL: &str = "50M";
/// Boot and everything that is not a row's time, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// All devices and back ends.
pub fn devices(bench: &Bench, seconds: u32) -> Value {
    let iperf = match Iperf::serve() {
        Ok(iperf) => iperf,
        Err(why) => return json!({ "error": why }),
    };
    let tap = Tap::make();
    let mut report = Map::new();
    for model in MODELS {
        let user = compared(bench, &Wire::User, model, &iperf, seconds);
        let tap = match &tap {
            Ok(tap) => compared(bench, &Wire::Tap(tap), model, &iperf, seconds),
            Err(why) => json!({ "error": why }),
        };
        report.insert(model.into(), json!({ "user": user, "tap": tap }));
    }
    Value::Object(report)
}

/// The rows of one device over one back end, on both.
fn compared(bench: &Bench, wire: &Wire, model: &str, iperf: &Iperf, seconds: u32) -> Value {
    let (mut measured, mut errors) = (Vec::new(), Vec::new());
    for runner in [OURS, THEIRS] {
        let mut rows = Map::new();
        if let Err(why) = run(bench, runner, wire, model, iperf, seconds, &mut rows) {
            errors.push(format!("{}: {why}", runner.name));
        }
        measured.push(rows);
    }
    let rows = row::NAMES.iter().map(|name| {
        let of = |side: usize| measured[side].get(*name).cloned().unwrap_or(Value::Null);
        (name.to_string(), row::compare(&of(0), &of(1)))
    });
    let mut report: Map<String, Value> = rows.collect();
    if !errors.is_empty() {
        report.insert("error".into(), errors.join("; ").into());
    }
    Value::Object(report)
}

/// One machine that makes all rows, of which `rows` gets those it came to. The error: what it said last.
fn run(
    bench: &Bench,
    runner: Runner,
    wire: &Wire,
    model: &str,
    iperf: &Iperf,
    seconds: u32,
    rows: &mut Map<String, Value>,
) -> Result<(), String> {
    let published = load::free_port().map_err(|e| format!("no port: {e}"))?;
    let limit = PATIENCE.as_secs() + u64::from(seconds) * row::NAMES.len() as u64;
    let mut command = bench.limited(runner.engine, &format!("{limit}s"));
    command.args(runner.options).stdin(Stdio::piped());
    if runner.name == THEIRS.name {
        command.arg("--qemu-own-net");
    }
    command.args(["--net", &wire.option(model, published)]);
    command.args(["--exec", &script(wire, iperf.port, seconds)]);
    let mut child = command.spawn().map_err(|e| format!("does not start: {e}"))?;
    *rows = follow(&mut child, wire.server(published), seconds);
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        let _ = errors.read_to_string(&mut said);
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{status}: {}", said.lines().next().unwrap_or("no message"))),
    }
}

/// What the guest does. A row begins with the line `row NAME`.
fn script(wire: &Wire, port: u16, seconds: u32) -> String {
    let host = wire.host();
    let iperf = format!("iperf3 -c {host} -p {port} -t {seconds} -J");
    // The server of the last row may not have come to its end. A row that fails five times is none.
    let measure = |how: &str| {
        format!(
            "i=0; until {iperf} {how} 2> /dev/null || [ $i -ge 5 ]; do i=$((i+1)); sleep 0.5; done\n"
        )
    };
    let mut script = wire.guest_setup().to_owned();
    script.push_str(&format!(
        "until ping -c 1 -W 1 {host} > /dev/null; do sleep 0.2; done
         mkdir /tmp/www; head -c 1024 /dev/zero > /tmp/www/page; httpd -p 80 /tmp/www &
         echo row clock; sleep 1\n"
    ));
    for (name, how) in [
        ("tcp_send", ""),
        ("tcp_receive", "-R"),
        ("udp_send", "-u -b 0"),
        ("udp_receive", &format!("-u -b {OFFERED} -R")),
        ("small_send", "-u -b 0 -l 64"),
        ("small_receive", &format!("-u -b {OFFERED_SMALL} -l 64 -R")),
    ] {
        script.push_str(&format!("echo row {name}\n{}", measure(how)));
    }
    // The client here says by the end of input that it has enough.
    script.push_str(&format!(
        "echo row ping; ping -f -c {PINGS} {host}
         echo row requests; cat > /dev/null
         echo row end"
    ));
    script
}

/// Reads the guest's lines as they come, and sends it requests when it is time.
fn follow(child: &mut Child, server: std::net::SocketAddr, seconds: u32) -> Map<String, Value> {
    let mut rows = Rows::new(child.id());
    let Some(output) = child.stdout.take() else { return Map::new() };
    let mut input = child.stdin.take();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let Some(name) = line.strip_prefix("row ") else {
            rows.line(&line);
            continue;
        };
        rows.begin(name);
        if name == "requests" {
            let answered = load::requests(server, Duration::from_secs(seconds.into()));
            rows.requests(answered);
            drop(input.take());
        }
    }
    rows.finish()
}
