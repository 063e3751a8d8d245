//! What several tools need: addresses as text, tables, sentences for errors.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_abi::services::socket::Address;
use xinim_rt::net;

/// Status of wrong usage.
pub const USAGE: i32 = 2;

pub fn usage(text: &str) -> i32 {
    xinim_rt::eprintln!("usage: {text}");
    USAGE
}

/// The address of a host's name, with `port`; a sentence otherwise.
pub fn host(name: &str, family: u32, port: u16) -> Result<Address, String> {
    match net::resolve(name, family) {
        Ok(found) => match found.first() {
            Some(address) => Ok(net::with_port(*address, port)),
            None => Err(format!("{name}: no address")),
        },
        Err(Error::NoEnt) => Err(format!("{name}: unknown host")),
        Err(Error::NetUnreach) => Err(format!("{name}: no name server is known")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

pub fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text}: not a port number")),
    }
}

/// An address without its port.
pub fn ip_text(address: &Address) -> String {
    match net::ipv4(address) {
        Some([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
        None => core::net::Ipv6Addr::from(address.ip).to_string(),
    }
}

/// Columns side by side, separated by two spaces.
pub fn table(title: &str, text: &str) {
    let rows: Vec<Vec<&str>> = core::iter::once(title)
        .chain(text.lines())
        .map(|line| line.split('\t').collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if at + 1 < row.len() {
                let pad = widths[at] + 2 - cell.chars().count();
                line.extend(core::iter::repeat_n(' ', pad));
            }
        }
        xinim_rt::println!("{line}");
    }
}
