//! `fetchload HOST PORT PATH`: fetches a file over HTTP/1.1 again and again, with the result as a line each time,
//! for those who disturb the network meanwhile.
//!
//! ```text
//! fetch 12034 0 SUM     begun 12034 ms after boot; status 0; SHA-256 of the body
//! fetch 12101 connection reset
//! ```
//! It ends when nobody reads its lines any more.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::fmt::Write;

use sha2::{Digest, Sha256};
use xinim_rt::fs::File;
use xinim_rt::net::Socket;
use xinim_rt::time;

use crate::common;
use crate::http::{self, Body};

const USAGE: &str = "fetchload HOST PORT PATH";
/// Between two fetches, ns.
const PAUSE: u64 = 120_000_000;

pub fn main(words: &[&str]) -> i32 {
    let [host, port, path] = words else { return common::usage(USAGE) };
    let Ok(port) = common::parse_port(port) else { return common::usage(USAGE) };
    let out = File::from_fd(1);
    loop {
        let start = time::now_ns() / 1_000_000;
        let line = match fetch(host, port, path) {
            Ok(sum) => format!("fetch {start} 0 {sum}\n"),
            Err(text) => format!("fetch {start} {text}\n"),
        };
        if out.write_all(line.as_bytes()).is_err() {
            return 0;
        }
        time::sleep_ns(PAUSE);
    }
}

fn fetch(host: &str, port: u16, path: &str) -> Result<String, String> {
    let say = |error: xinim_abi::error::Error| error.to_string();
    let address = common::host(host, 0, port)?;
    let family = if address.family == 6 { 10 } else { 2 };
    let socket = Socket::open(family, 1, 0).map_err(say)?;
    socket.connect(&address).map_err(say)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.send_all(request.as_bytes()).map_err(say)?;
    let (head, early) = http::read_head(&socket)?;
    if head.first.split(' ').nth(1) != Some("200") {
        return Err(head.first);
    }
    let mut body = Body::new(&head, early)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match body.read(&socket, &mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
