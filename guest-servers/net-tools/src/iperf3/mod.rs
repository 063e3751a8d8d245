//! `iperf3`: throughput, speaking iperf3's protocol, so that any iperf3 is the other end.
//!
//! ```text
//! client                          server
//!   TCP 5201, 37-byte cookie ->
//!                               <- PARAM_EXCHANGE     then u32 length and JSON from the client
//!                               <- CREATE_STREAMS     then one connection for each stream
//!                               <- TEST_START, TEST_RUNNING
//!   data, either way
//!   TEST_END ->
//!                               <- EXCHANGE_RESULTS   then JSON both ways
//!                               <- DISPLAY_RESULTS
//!   IPERF_DONE ->
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Value, json};
use xinim_abi::error::Error;
use xinim_rt::net::Socket;
use xinim_rt::println;

use crate::common;

mod client;
mod server;
mod streams;

const USAGE: &str = "iperf3 -s [-p PORT] [-1]
       iperf3 -c HOST [-p PORT] [-t SECONDS] [-n BYTES] [-P STREAMS] [-R] [-u [-b BITS/S]] [-l BYTES] [-J]";
pub const PORT: u16 = 5201;
pub const COOKIE_LEN: usize = 37;
/// Longest JSON taken from the peer.
const JSON_MAX: u32 = 64 * 1024;

pub mod state {
    pub const TEST_START: u8 = 1;
    pub const TEST_RUNNING: u8 = 2;
    pub const TEST_END: u8 = 4;
    pub const PARAM_EXCHANGE: u8 = 9;
    pub const CREATE_STREAMS: u8 = 10;
    pub const SERVER_TERMINATE: u8 = 11;
    pub const CLIENT_TERMINATE: u8 = 12;
    pub const EXCHANGE_RESULTS: u8 = 13;
    pub const DISPLAY_RESULTS: u8 = 14;
    pub const IPERF_DONE: u8 = 16;
    pub const ACCESS_DENIED: u8 = 0xFF;
    pub const SERVER_ERROR: u8 = 0xFE;
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Test {
    pub udp: bool,
    pub reverse: bool,
    pub seconds: u64,
    /// 0: by time.
    pub bytes: u64,
    pub streams: usize,
    pub block: usize,
    /// Bits per second for each stream; 0: as fast as it goes.
    pub rate: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    /// Nanoseconds.
    pub jitter: u64,
    pub elapsed: u64,
}

/// A number with an optional unit of 1000 (rates) or 1024 (sizes).
fn number(text: &str, unit: u64) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => unit,
        "m" | "M" => unit * unit,
        "g" | "G" => unit * unit * unit,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

struct Plan<'a> {
    server: bool,
    once: bool,
    host: Option<&'a str>,
    port: u16,
    json: bool,
    test: Test,
}

fn parse<'a>(words: &[&'a str]) -> Option<Plan<'a>> {
    let test =
        Test { udp: false, reverse: false, seconds: 10, bytes: 0, streams: 1, block: 0, rate: 0 };
    let mut plan = Plan { server: false, once: false, host: None, port: PORT, json: false, test };
    let mut rate = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-s" => plan.server = true,
            "-1" => plan.once = true,
            "-J" => plan.json = true,
            "-R" => plan.test.reverse = true,
            "-u" => plan.test.udp = true,
            "-4" => {}
            "-c" => plan.host = Some(words.next()?),
            "-p" => plan.port = common::parse_port(words.next()?).ok()?,
            "-t" => plan.test.seconds = words.next()?.parse().ok()?,
            "-n" => plan.test.bytes = number(words.next()?, 1024)?,
            "-P" => {
                plan.test.streams = words.next()?.parse().ok().filter(|n| (1..=64).contains(n))?
            }
            "-l" => plan.test.block = number(words.next()?, 1024)? as usize,
            "-b" => rate = Some(number(words.next()?, 1000)?),
            _ => return None,
        }
    }
    if plan.test.block == 0 {
        plan.test.block = if plan.test.udp { 1448 } else { 128 * 1024 };
    }
    plan.test.block = plan.test.block.clamp(16, if plan.test.udp { 65507 } else { 128 * 1024 });
    plan.test.rate = rate.unwrap_or(if plan.test.udp { 1_000_000 } else { 0 });
    (plan.server != plan.host.is_some()).then_some(plan)
}

pub fn main(words: &[&str]) -> i32 {
    let Some(plan) = parse(words) else { return common::usage(USAGE) };
    let result = match plan.host {
        Some(host) => client::run(host, plan.port, &plan.test, plan.json),
        None => server::run(plan.port, plan.once, plan.json),
    };
    match result {
        Ok(()) => 0,
        Err(text) => {
            xinim_rt::eprintln!("iperf3: error - {text}");
            1
        }
    }
}

fn text(error: Error) -> String {
    error.to_string()
}

fn send_json(control: &Socket, value: &Value) -> Result<(), String> {
    let body = value.to_string();
    let mut bytes = Vec::from((body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(body.as_bytes());
    control.send_all(&bytes).map_err(text)
}

fn receive_json(control: &Socket) -> Result<Value, String> {
    let mut len = [0; 4];
    control.receive_exact(&mut len).map_err(text)?;
    let len = u32::from_be_bytes(len);
    if len > JSON_MAX {
        return Err(format!("the peer sends {len} bytes of parameters"));
    }
    let mut body = vec![0; len as usize];
    control.receive_exact(&mut body).map_err(text)?;
    serde_json::from_slice(&body).map_err(|error| format!("bad parameters: {error}"))
}

fn send_state(control: &Socket, state: u8) -> Result<(), String> {
    control.send_all(&[state]).map_err(text)
}

fn receive_state(control: &Socket) -> Result<u8, String> {
    let mut state = [0];
    control.receive_exact(&mut state).map_err(text)?;
    Ok(state[0])
}

fn results(test: &Test, totals: &[Totals], sender: bool) -> Value {
    let streams: Vec<Value> = totals
        .iter()
        .enumerate()
        .map(|(at, totals)| {
            json!({
                // iperf3 numbers its streams 1, 3, 4, ...
                "id": if at == 0 { 1 } else { at + 2 },
                "bytes": totals.bytes,
                "retransmits": -1,
                "jitter": totals.jitter as f64 / 1e9,
                "errors": totals.errors,
                "omitted_errors": 0,
                "packets": totals.packets,
                "omitted_packets": 0,
                "start_time": 0,
                "end_time": totals.elapsed as f64 / 1e9,
            })
        })
        .collect();
    json!({
        "cpu_util_total": 0.0,
        "cpu_util_user": 0.0,
        "cpu_util_system": 0.0,
        "sender_has_retransmits": if sender && !test.udp { 0 } else { -1 },
        "streams": streams,
    })
}

fn sum(totals: &[Totals]) -> Totals {
    let mut all = Totals::default();
    for one in totals {
        all.bytes += one.bytes;
        all.packets += one.packets;
        all.errors += one.errors;
        all.jitter = all.jitter.max(one.jitter);
        all.elapsed = all.elapsed.max(one.elapsed);
    }
    all
}

/// What the peer counted.
fn peer_totals(value: &Value) -> Totals {
    let mut all = Totals::default();
    for stream in value["streams"].as_array().into_iter().flatten() {
        all.bytes += stream["bytes"].as_u64().unwrap_or(0);
        all.packets += stream["packets"].as_u64().unwrap_or(0);
        all.errors += stream["errors"].as_u64().unwrap_or(0);
        let ns = |key: &str| (stream[key].as_f64().unwrap_or(0.0) * 1e9) as u64;
        all.jitter = all.jitter.max(ns("jitter"));
        all.elapsed = all.elapsed.max(ns("end_time"));
    }
    all
}

fn bits_per_second(totals: &Totals) -> u64 {
    let bits = u128::from(totals.bytes) * 8 * 1_000_000_000;
    bits.checked_div(totals.elapsed.into()).unwrap_or(0) as u64
}

fn report(test: &Test, sent: &Totals, received: &Totals, as_json: bool) {
    if as_json {
        let part = |totals: &Totals| {
            json!({
                "seconds": totals.elapsed as f64 / 1e9,
                "bytes": totals.bytes,
                "bits_per_second": bits_per_second(totals),
                "packets": totals.packets,
                "lost_packets": totals.errors,
                "jitter_ms": totals.jitter as f64 / 1e6,
            })
        };
        println!(
            "{}",
            json!({ "end": { "sum_sent": part(sent), "sum_received": part(received) } })
        );
        return;
    }
    for (totals, name) in [(sent, "sender"), (received, "receiver")] {
        let rate = bits_per_second(totals);
        let seconds = totals.elapsed / 10_000_000;
        let mut line = format!(
            "[SUM] 0.00-{}.{:02} sec  {} KBytes  {}.{:02} Mbits/sec",
            seconds / 100,
            seconds % 100,
            totals.bytes / 1024,
            rate / 1_000_000,
            rate / 10_000 % 100
        );
        if test.udp {
            let jitter = totals.jitter / 1000;
            line.push_str(&format!(
                "  {}.{:03} ms  {}/{}",
                jitter / 1000,
                jitter % 1000,
                totals.errors,
                totals.packets
            ));
        }
        println!("{line}  {name}");
    }
}
