//! `tcpdump`: frames of an interface, as text or as a pcap file (`-w`).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_abi::services::socket::Address;
use xinim_abi::services::vfs::open;
use xinim_rt::fs::File;
use xinim_rt::net::{self, Socket, domain, kind, option, query};
use xinim_rt::{println, time};

use crate::common;

const USAGE: &str = "tcpdump [-i INTERFACE] [-c COUNT] [-t SECONDS] [-w FILE] [-e] [-x]
-t ends after SECONDS, -w writes a pcap file (- for standard output), -e shows Ethernet addresses,
-x the bytes";
/// In front of every frame: time, length, direction (see the network server's packet sockets).
const HEAD: usize = 16;
/// Of pcap with nanoseconds, link type Ethernet.
const MAGIC: u32 = 0xA1B2_3C4D;
const SNAP: u32 = 65535;

#[derive(Default)]
struct Plan<'a> {
    interface: Option<&'a str>,
    count: Option<u64>,
    seconds: Option<u64>,
    file: Option<&'a str>,
    ethernet: bool,
    bytes: bool,
}

fn parse<'a>(words: &[&'a str]) -> Option<Plan<'a>> {
    let mut plan = Plan::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-i" => plan.interface = Some(words.next()?),
            "-c" => plan.count = Some(words.next()?.parse().ok()?),
            "-t" => plan.seconds = Some(words.next()?.parse().ok()?),
            "-w" => plan.file = Some(words.next()?),
            "-e" => plan.ethernet = true,
            "-x" => plan.bytes = true,
            "-n" | "-l" | "-U" => {}
            _ => return None,
        }
    }
    Some(plan)
}

pub fn main(words: &[&str]) -> i32 {
    let Some(plan) = parse(words) else { return common::usage(USAGE) };
    match run(&plan) {
        Ok(()) => 0,
        Err(text) => {
            xinim_rt::eprintln!("tcpdump: {text}");
            1
        }
    }
}

fn run(plan: &Plan<'_>) -> Result<(), String> {
    let say = |error: Error| format!("{error}");
    let socket = Socket::open(domain::PACKET, kind::RAW, 0).map_err(|error| match error {
        Error::Perm => String::from("only root may capture frames"),
        other => say(other),
    })?;
    if let Some(name) = plan.interface {
        let links = net::ask_about(query::LINKS).map_err(say)?;
        let own = |line: &str| line.split('\t').next() == Some(name);
        let number =
            links.lines().position(own).ok_or_else(|| format!("{name}: no such interface"))?;
        let scope = (number as u32 + 1).to_be_bytes();
        socket.bind(&Address { scope, ..Address::default() }).map_err(say)?;
    }
    let file = match plan.file {
        Some("-") => Some(File::from_fd(1)),
        Some(name) => {
            let flags = open::WRITE | open::CREATE | open::TRUNCATE;
            Some(File::open(name, flags, 0o644).map_err(|error| format!("{name}: {error}"))?)
        }
        None => None,
    };
    if let Some(file) = &file {
        file.write_all(&pcap_header()).map_err(say)?;
    }
    let end = plan.seconds.map(|seconds| time::now_ns() + seconds * 1_000_000_000);
    let boot = time::wall_clock_ns().saturating_sub(time::now_ns());
    let mut buffer = vec![0; net::TRANSFER_MAX];
    let mut seen = 0;
    while plan.count.is_none_or(|count| seen < count) {
        if let Some(end) = end {
            let left = end.saturating_sub(time::now_ns());
            if left == 0 {
                break;
            }
            socket.set_option(option::RECEIVE_TIMEOUT, left).map_err(say)?;
        }
        let got = match socket.receive(&mut buffer, 0) {
            Ok(got) => got,
            Err(Error::Again) => break,
            Err(error) => return Err(say(error)),
        };
        let Some((head, frame)) = buffer[..got.count].split_at_checked(HEAD) else { continue };
        let mut at = [0; 8];
        at.copy_from_slice(&head[..8]);
        let at = boot + u64::from_le_bytes(at);
        seen += 1;
        match &file {
            Some(file) => file.write_all(&pcap_record(at, frame, got.full - HEAD)).map_err(say)?,
            None => show(plan, at, head[12] != 0, frame),
        }
    }
    match file {
        Some(file) if plan.file == Some("-") => drop(file.into_fd()),
        Some(file) => file.close().map_err(say)?,
        None => {}
    }
    xinim_rt::eprintln!("{seen} frames");
    Ok(())
}

fn pcap_header() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [MAGIC, 2 | 4 << 16, 0, 0, SNAP, 1] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn pcap_record(at: u64, frame: &[u8], full: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (seconds, ns) = (at / 1_000_000_000, at % 1_000_000_000);
    for word in [seconds as u32, ns as u32, frame.len() as u32, full as u32] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(frame);
    bytes
}

fn mac(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

fn show(plan: &Plan<'_>, at: u64, outgoing: bool, frame: &[u8]) {
    let day = at / 1_000_000_000 % 86400;
    let clock = format!(
        "{:02}:{:02}:{:02}.{:06}",
        day / 3600,
        day / 60 % 60,
        day % 60,
        at / 1000 % 1_000_000
    );
    let direction = if outgoing { ">" } else { "<" };
    let mut text = describe(frame).unwrap_or_else(|| format!("{} bytes, malformed", frame.len()));
    if plan.ethernet && frame.len() >= 14 {
        text = format!("{} > {}, {text}", mac(&frame[6..12]), mac(&frame[..6]));
    }
    println!("{clock} {direction} {text}");
    if plan.bytes {
        for (i, row) in frame.chunks(16).enumerate() {
            let words: Vec<String> = row
                .chunks(2)
                .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect())
                .collect();
            println!("\t0x{:04x}:  {}", i * 16, words.join(" "));
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn v4(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte}")).collect();
    parts.join(".")
}

fn v6(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    Some(format!("{}", core::net::Ipv6Addr::from(bytes)))
}

fn describe(frame: &[u8]) -> Option<String> {
    let ethernet = frame.len() >= 14;
    // The loopback's frames are IP packets.
    let (kind, packet) = match frame.first()? >> 4 {
        4 if !ethernet || word(frame, 2)? as usize == frame.len() => (0x0800, frame),
        6 if frame.len() >= 40 && usize::from(word(frame, 4)?) + 40 == frame.len() => {
            (0x86DD, frame)
        }
        _ => (word(frame, 12)?, frame.get(14..)?),
    };
    match kind {
        0x0806 => {
            let (sender, target) = (v4(packet.get(14..18)?), v4(packet.get(24..28)?));
            Some(match word(packet, 6)? {
                1 => format!("ARP, who has {target} tell {sender}"),
                2 => format!("ARP, {sender} is at {}", mac(packet.get(8..14)?)),
                other => format!("ARP, operation {other}"),
            })
        }
        0x0800 => {
            let head = usize::from(packet.first()? & 15) * 4;
            let total = usize::from(word(packet, 2)?).min(packet.len());
            let (source, destination) = (v4(packet.get(12..16)?), v4(packet.get(16..20)?));
            let protocol = *packet.get(9)?;
            if word(packet, 6)? & 0x1FFF != 0 {
                return Some(format!("IP {source} > {destination}: fragment, {total} bytes"));
            }
            transport("IP", &source, &destination, ".", protocol, packet.get(head..total)?)
        }
        0x86DD => {
            let (source, destination) = (v6(packet.get(8..24)?)?, v6(packet.get(24..40)?)?);
            transport("IP6", &source, &destination, ".", *packet.get(6)?, packet.get(40..)?)
        }
        other => Some(format!("type 0x{other:04x}, {} bytes", packet.len())),
    }
}

fn transport(
    ip: &str,
    source: &str,
    destination: &str,
    dot: &str,
    protocol: u8,
    data: &[u8],
) -> Option<String> {
    let ends = |data: &[u8]| {
        let (from, to) = (word(data, 0)?, word(data, 2)?);
        Some(format!("{ip} {source}{dot}{from} > {destination}{dot}{to}"))
    };
    Some(match protocol {
        6 => {
            let head = usize::from(*data.get(12)? >> 4) * 4;
            let bits = *data.get(13)?;
            let mut names = String::new();
            for (bit, name) in [(2, "S"), (1, "F"), (4, "R"), (8, "P"), (16, ".")] {
                if bits & bit != 0 {
                    names.push_str(name);
                }
            }
            let number = |at: usize| {
                let bytes = data.get(at..at + 4)?;
                Some(u32::from_be_bytes(bytes.try_into().ok()?))
            };
            let len = data.len().saturating_sub(head);
            let (sequence, ack, window) = (number(4)?, number(8)?, word(data, 14)?);
            let ends = ends(data)?;
            format!(
                "{ends}: Flags [{names}], seq {sequence}, ack {ack}, win {window}, length {len}"
            )
        }
        17 => format!("{}: UDP, length {}", ends(data)?, data.len().saturating_sub(8)),
        1 | 58 => {
            let name = match (protocol, *data.first()?) {
                (1, 8) | (58, 128) => "echo request",
                (1, 0) | (58, 129) => "echo reply",
                (1, 3) | (58, 1) => "unreachable",
                (58, 133) => "router solicitation",
                (58, 134) => "router advertisement",
                (58, 135) => "neighbour solicitation",
                (58, 136) => "neighbour advertisement",
                _ => "",
            };
            let family = if protocol == 1 { "ICMP" } else { "ICMP6" };
            let kind = data.first()?;
            format!(
                "{ip} {source} > {destination}: {family} {name} (type {kind}), length {}",
                data.len()
            )
        }
        other => format!("{ip} {source} > {destination}: protocol {other}, length {}", data.len()),
    })
}
