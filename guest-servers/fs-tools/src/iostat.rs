//! `iostat [INTERVAL [COUNT]]`: what block devices do, from /proc/diskstats.
//!
//! The first report is since the drivers' start, each further one of the interval before it. Columns:
//! requests and KiB a second of reading and writing, milliseconds a request, requests in flight on
//! the average, and the share of time in which any was.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_tools::{Context, Options, parse_seconds};

use crate::device::read_text;

const USAGE: &str = "iostat [INTERVAL [COUNT]]";
/// Columns of /proc/diskstats behind the name, as Linux documents them (admin-guide/iostats).
const COLUMNS: usize = 17;

type Sample = BTreeMap<String, [u64; COLUMNS]>;

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "", USAGE) {
        Ok(options) if options.operands.len() <= 2 => options,
        Ok(_) => return c.usage(format_args!("usage: {USAGE}")),
        Err(message) => return c.usage(message),
    };
    let interval = options.operands.first().map(|text| parse_seconds(text).filter(|&ns| ns > 0));
    let count = options.operands.get(1).map(|text| text.parse::<u64>().ok());
    let (interval, count) = match (interval, count) {
        (None, _) => (0, 1),
        (Some(Some(ns)), None) => (ns, u64::MAX),
        (Some(Some(ns)), Some(Some(count))) => (ns, count),
        _ => return c.usage(format_args!("bad number\nusage: {USAGE}")),
    };
    let (mut before, mut since) = (Sample::new(), 0);
    for report in 0..count {
        if report > 0 && c.os.sleep_ns(interval).is_err() {
            break;
        }
        let text = match read_text(c.os, "/proc/diskstats") {
            Ok(text) => text,
            Err(error) => {
                c.problem("/proc/diskstats", error);
                return 1;
            }
        };
        let now = c.os.now_ns();
        let sample = parse(&text);
        print(c, &before, &sample, now - since);
        (before, since) = (sample, now);
        // A terminal or pipe sees each report at its time.
        c.out.flush();
    }
    0
}

fn parse(text: &str) -> Sample {
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(2);
        let name = words.next()?.to_string();
        let values: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        Some((name, values.try_into().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn print(c: &mut Context<'_>, before: &Sample, now: &Sample, ns: u64) {
    let _ = writeln!(
        c.out,
        "{:<8} {:>9} {:>10} {:>8} {:>9} {:>10} {:>8} {:>6} {:>5}",
        "Device", "r/s", "rKiB/s", "r_ms", "w/s", "wKiB/s", "w_ms", "queue", "util%"
    );
    let ms = (ns / 1_000_000).max(1);
    for (name, values) in now {
        let old = before.get(name).copied().unwrap_or([0; COLUMNS]);
        // A driver that was started again counts anew.
        let since = |at: usize| values[at].checked_sub(old[at]).unwrap_or(values[at]);
        let rate = |count: u64| tenths(count * 10_000 / ms);
        let each = |time: u64, count: u64| tenths(time * 10 / count.max(1));
        let _ = writeln!(
            c.out,
            "{name:<8} {:>9} {:>10} {:>8} {:>9} {:>10} {:>8} {:>6} {:>5}",
            rate(since(0)),
            rate(since(2) / 2),
            each(since(3), since(0)),
            rate(since(4)),
            rate(since(6) / 2),
            each(since(7), since(4)),
            tenths(since(10) * 10 / ms),
            tenths((since(9) * 1000 / ms).min(1000)),
        );
    }
    let _ = writeln!(c.out);
}

fn tenths(number: u64) -> String {
    alloc::format!("{}.{}", number / 10, number % 10)
}
