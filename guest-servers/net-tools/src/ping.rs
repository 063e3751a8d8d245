//! `ping`: ICMP echo requests and their round-trip times.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_rt::net::{Socket, domain, kind, option};
use xinim_rt::{println, time};
use zerocopy::IntoBytes;

use crate::common;

const USAGE: &str = "ping [-c COUNT] [-i SECONDS] [-s BYTES] [-W SECONDS] [-f] [-4|-6] HOST";

/// Round trips kept for the quantiles.
const TIMES_MAX: usize = 100_000;
/// Requests whose answers are still waited for.
const OPEN_MAX: usize = 1024;

/// An echo request with `len` bytes behind its head: the time, then a pattern.
fn echo(kind: u8, sequence: u16, len: usize, now: u64) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0];
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend(now.to_le_bytes().into_iter().chain(8u8..=255).cycle().take(len));
    message
}

struct Plan {
    count: u64,
    interval: u64,
    len: usize,
    wait: u64,
    flood: bool,
    family: u32,
    host: String,
}

fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut ns = whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
    let mut unit = 100_000_000;
    for digit in fraction.bytes().take(9) {
        ns = ns.checked_add(u64::from(digit.checked_sub(b'0').filter(|d| *d < 10)?) * unit)?;
        unit /= 10;
    }
    Some(ns)
}

fn parse(words: &[&str]) -> Option<Plan> {
    let mut plan = Plan {
        count: u64::MAX,
        interval: 1_000_000_000,
        len: 56,
        wait: 5_000_000_000,
        flood: false,
        family: 0,
        host: String::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-c" => plan.count = words.next()?.parse().ok().filter(|count| *count > 0)?,
            "-i" => plan.interval = seconds(words.next()?)?,
            "-s" => plan.len = words.next()?.parse().ok().filter(|len| *len <= 65499)?,
            "-W" => plan.wait = seconds(words.next()?)?,
            "-f" => plan.flood = true,
            "-4" => plan.family = 4,
            "-6" => plan.family = 6,
            host if !host.starts_with('-') && plan.host.is_empty() => plan.host = host.into(),
            _ => return None,
        }
    }
    (!plan.host.is_empty()).then_some(plan)
}

pub fn main(words: &[&str]) -> i32 {
    let Some(plan) = parse(words) else { return common::usage(USAGE) };
    match run(&plan) {
        Ok(all) => i32::from(!all),
        Err(text) => {
            xinim_rt::eprintln!("ping: {text}");
            2
        }
    }
}

/// Whether any answer came.
fn run(plan: &Plan) -> Result<bool, String> {
    let target = common::host(&plan.host, plan.family, 0)?;
    let ipv6 = target.family == 6;
    let text = |error: Error| alloc::format!("{}: {error}", plan.host);
    let (family, protocol) = if ipv6 { (domain::INET6, 58) } else { (domain::INET, 1) };
    let (request, answer) = if ipv6 { (128, 129) } else { (8, 0) };
    let socket = Socket::open(family, kind::DATAGRAM, protocol).map_err(text)?;
    println!("PING {} ({}): {} data bytes", plan.host, common::ip_text(&target), plan.len);
    let (mut sent, mut received) = (0u64, 0u64);
    let (mut least, mut most, mut sum) = (u64::MAX, 0, 0u64);
    let mut times: Vec<u64> = Vec::new();
    let started = time::now_ns();
    let mut buffer = vec![0; plan.len + 64];
    // Requests without an answer: number and time. Late answers count as others do.
    let mut open: VecDeque<(u64, u64)> = VecDeque::new();
    while sent < plan.count {
        let sequence = sent as u16;
        let at = time::now_ns();
        let message = echo(request, sequence, plan.len, at);
        match socket.send_to(&message, target.as_bytes(), 0) {
            Ok(_) => sent += 1,
            Err(Error::Again) => {
                time::sleep_ms(1);
                continue;
            }
            Err(error) if sent == 0 => return Err(text(error)),
            Err(_) => sent += 1,
        }
        open.push_back((sent - 1, at));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        let last = sent == plan.count;
        let patience = if plan.flood || last { plan.wait } else { plan.interval };
        let deadline = at.saturating_add(patience);
        // In a flood the next goes out with the answer to this one.
        while !open.is_empty()
            && (last || !plan.flood || open.back().is_some_and(|o| o.0 + 1 == sent))
        {
            let now = time::now_ns();
            if now >= deadline {
                break;
            }
            socket.set_option(option::RECEIVE_TIMEOUT, deadline - now).map_err(text)?;
            let got = match socket.receive(&mut buffer, 0) {
                Ok(got) => got,
                Err(Error::Again) => break,
                Err(error) => return Err(text(error)),
            };
            let data = &buffer[..got.count];
            if data.len() < 8 || data[0] != answer {
                continue;
            }
            let number = u16::from_be_bytes([data[6], data[7]]);
            let Some(place) = open.iter().position(|(sent, _)| *sent as u16 == number) else {
                continue;
            };
            let Some((sequence, at)) = open.remove(place) else { continue };
            if data[8..] != echo(request, number, plan.len, at)[8..] {
                println!("wrong data from {}: seq={sequence}", common::ip_text(&target));
                continue;
            }
            let elapsed = time::now_ns() - at;
            received += 1;
            (least, most, sum) = (least.min(elapsed), most.max(elapsed), sum + elapsed);
            if times.len() < TIMES_MAX {
                times.push(elapsed);
            }
            if !plan.flood {
                let from = got.address().map_or_else(String::new, |from| common::ip_text(&from));
                println!(
                    "{} bytes from {from}: seq={sequence} time={}.{:03} ms",
                    got.full,
                    elapsed / 1_000_000,
                    elapsed / 1000 % 1000
                );
            }
        }
        if !plan.flood && !last {
            let next = at.saturating_add(plan.interval);
            time::sleep_ns(next.saturating_sub(time::now_ns()));
        }
    }
    let lost = (sent - received) * 100 / sent.max(1);
    let total = (time::now_ns() - started) / 1_000_000;
    println!("--- {} ping statistics ---", plan.host);
    println!(
        "{sent} packets transmitted, {received} received, {lost}% packet loss, time {total} ms"
    );
    if let Some(average) = sum.checked_div(received) {
        let ms = |ns: u64| alloc::format!("{}.{:03}", ns / 1_000_000, ns / 1000 % 1000);
        println!("round-trip min/avg/max = {}/{}/{} ms", ms(least), ms(average), ms(most));
        times.sort_unstable();
        let (middle, slow) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("round-trip p50/p99 = {}/{} ms", ms(middle), ms(slow));
    }
    Ok(received > 0)
}
