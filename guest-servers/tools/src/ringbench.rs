//! `ringbench [-s SECONDS] [-w] NAME [ROW...]`: requests to a block device straight through its
//! driver's ring, by the service `blkbench`. NAME is as in /dev, without the path.
//!
//! Rows are `seq_read_128k_d4`, `rand_write_4k_d32` and the like: pattern, operation, size, requests in
//! flight; without any, all rows of the performance document (with `-w` those that write too: only to
//! a disk that begins with the words XINIM BENCH SCRATCH). Machine readable: `row NAME` before each
//! measurement, `name value` lines behind it; `guest_ns` is the time in which the processor was not
//! idle, a request. Under QEMU's `-icount shift=0` that is instructions.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::interface::Name;
use xinim_abi::services::blkbench::blkbench;
use xinim_abi::services::block::op;
use xinim_os::{Os, STDOUT, SystemInfo, write_all};
use xinim_os_rt::Xinim;
use xinim_rt::ipc::Service;

const READ_ROWS: [&str; 8] = [
    "seq_read_4k_d1",
    "seq_read_4k_d32",
    "seq_read_64k_d4",
    "seq_read_128k_d8",
    "seq_read_1m_d4",
    "rand_read_4k_d1",
    "rand_read_4k_d32",
    "rand_read_4k_d128",
];
const WRITE_ROWS: [&str; 8] = [
    "seq_write_4k_d1",
    "seq_write_4k_d32",
    "seq_write_64k_d4",
    "seq_write_128k_d8",
    "seq_write_1m_d4",
    "rand_write_4k_d1",
    "rand_write_4k_d32",
    "rand_write_4k_d128",
];
const USAGE: &str = "usage: ringbench [-s SECONDS] [-w] NAME [ROW...]";

pub fn main(args: &[String]) -> i32 {
    match run(args) {
        Ok(()) => 0,
        Err(message) => {
            xinim_rt::eprintln!("ringbench: {message}");
            1
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let (mut seconds, mut writes, mut operands) = (1u64, false, Vec::new());
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-s" => {
                let value = rest.next().and_then(|value| value.parse().ok());
                seconds = value.filter(|value| (1..=60).contains(value)).ok_or(USAGE)?;
            }
            "-w" => writes = true,
            option if option.starts_with('-') => return Err(USAGE.into()),
            _ => operands.push(arg.as_str()),
        }
    }
    let Some((device, rows)) = operands.split_first() else { return Err(USAGE.into()) };
    let rows: Vec<&str> = match (rows.is_empty(), writes) {
        (false, _) => rows.to_vec(),
        (true, true) => READ_ROWS.into_iter().chain(WRITE_ROWS).collect(),
        (true, false) => READ_ROWS.to_vec(),
    };
    let name = device.strip_prefix("/dev/").unwrap_or(device);
    let name = Name::new(name).map_err(|error| format!("{device}: {error}"))?;
    let service = Service::new("blkbench");
    let opened = service.call(&blkbench::Open { device: name });
    let opened = opened.map_err(|error| format!("{device}: {error}"))?;
    say(format!("sectors {}\ndepth {}\n", opened.sectors, opened.depth));
    for row in rows {
        let request = parse(row, seconds * 1_000_000_000)
            .ok_or_else(|| format!("{row}: not a row such as rand_read_4k_d32"))?;
        say(format!("row {row}\n"));
        let before = system()?;
        let done = service.call(&request).map_err(|error| format!("{row}: {error}"))?;
        let after = system()?;
        let (requests, ns) = (done.requests.max(1), done.ns.max(1));
        let each = |before: u64, after: u64| after.saturating_sub(before) / requests;
        let cpus = u64::from(xinim_rt::kip::cpus());
        let busy = |info: &SystemInfo| (info.uptime_ns * cpus).saturating_sub(info.idle_ns);
        let per_second = u128::from(done.requests) * 1_000_000_000 / u128::from(ns);
        let switches = after.context_switches - before.context_switches;
        let calls = after.system_calls - before.system_calls;
        let mut text = String::new();
        for (name, value) in [
            ("requests", u128::from(done.requests)),
            ("per_second", per_second),
            ("bytes_per_second", per_second * u128::from(request.size)),
            ("guest_ns", each(busy(&before), busy(&after)).into()),
            ("wakes", done.wakes.into()),
            ("switches", switches.into()),
            ("calls", calls.into()),
        ] {
            text.push_str(&format!("{row}_{name} {value}\n"));
        }
        say(text);
    }
    say("row end\n".into());
    Ok(())
}

/// Writes at once: whoever measures from outside goes by when the lines come.
fn say(text: String) {
    let _ = write_all(&Xinim, STDOUT, text.as_bytes());
}

fn system() -> Result<SystemInfo, String> {
    Xinim.system_info().map_err(|error| format!("{error}"))
}

/// `rand_read_4k_d32`.
fn parse(row: &str, ns: u64) -> Option<blkbench::Run> {
    let mut parts = row.split('_');
    let (pattern, operation) = (parts.next()?, parts.next()?);
    let (size, depth) = (parts.next()?, parts.next()?);
    let random = match pattern {
        "seq" => false,
        "rand" => true,
        _ => return None,
    };
    let op = match operation {
        "read" => op::READ,
        "write" => op::WRITE,
        _ => return None,
    };
    let size = match (size.strip_suffix('k'), size.strip_suffix('m')) {
        (Some(kib), _) => kib.parse::<u32>().ok()?.checked_mul(1024)?,
        (_, Some(mib)) => mib.parse::<u32>().ok()?.checked_mul(1 << 20)?,
        _ => return None,
    };
    let depth = depth.strip_prefix('d')?.parse().ok()?;
    parts.next().is_none().then_some(blkbench::Run { op, random, size, depth, ns })
}
