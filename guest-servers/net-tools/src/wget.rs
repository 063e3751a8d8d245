//! `wget`: a file over HTTP/1.1 (RFC 9112).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::services::vfs::open;
use xinim_rt::fs::File;
use xinim_rt::net::Socket;
use xinim_rt::time;

use crate::common;
use crate::http::{self, Body};

const USAGE: &str = "wget [-q] [-O FILE] http://HOST[:PORT]/PATH
-O - writes to standard output; -q says nothing but errors";
/// Redirections followed.
const REDIRECTS_MAX: u32 = 5;

pub fn main(words: &[&str]) -> i32 {
    let (mut quiet, mut output, mut url) = (false, None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-q" => quiet = true,
            "-O" => match words.next() {
                Some(file) => output = Some(*file),
                None => return common::usage(USAGE),
            },
            word if word.starts_with('-') || url.is_some() => return common::usage(USAGE),
            word => url = Some(word),
        }
    }
    let Some(url) = url else { return common::usage(USAGE) };
    match run(url, output, quiet) {
        Ok(()) => 0,
        Err(text) => {
            xinim_rt::eprintln!("wget: {text}");
            1
        }
    }
}

struct Url {
    host: String,
    port: u16,
    path: String,
}

fn parse(url: &str) -> Result<Url, String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    if rest.contains("://") {
        return Err(format!("{url}: only http:// is known"));
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, "/"),
    };
    // An IPv6 address stands in brackets (RFC 3986 3.2.2).
    let name_end = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[name_end..].rfind(':') {
        Some(at) => {
            let at = name_end + at;
            (&authority[..at], common::parse_port(&authority[at + 1..])?)
        }
        None => (authority, 80),
    };
    if host.is_empty() || url.bytes().any(|byte| byte <= b' ') {
        return Err(format!("{url}: not a URL"));
    }
    Ok(Url { host: host.to_string(), port, path: path.to_string() })
}

fn run(url: &str, output: Option<&str>, quiet: bool) -> Result<(), String> {
    let mut url = parse(url)?;
    for _ in 0..=REDIRECTS_MAX {
        let address = common::host(url.host.trim_matches(['[', ']']), 0, url.port)?;
        let family = if address.family == 6 { 10 } else { 2 };
        let say = |error| format!("{}: {error}", url.host);
        let socket = Socket::open(family, 1, 0).map_err(say)?;
        socket.connect(&address).map_err(say)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: xinim\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            url.path, url.host
        );
        socket.send_all(request.as_bytes()).map_err(say)?;
        let (head, rest) =
            http::read_head(&socket).map_err(|text| format!("{}: {text}", url.host))?;
        let mut words = head.first.split(' ');
        let status = words.nth(1).and_then(|word| word.parse::<u32>().ok());
        match status {
            Some(200) => return save(&url, &socket, &head, rest, output, quiet),
            Some(301 | 302 | 303 | 307 | 308) => {
                let to = head.get("location").ok_or("a redirection to nowhere")?;
                url = if to.starts_with('/') {
                    Url { path: to.to_string(), ..url }
                } else {
                    parse(to)?
                };
            }
            _ => return Err(format!("{}: {}", url.path, head.first)),
        }
    }
    Err("too many redirections".into())
}

fn save(
    url: &Url,
    socket: &Socket,
    head: &http::Head,
    rest: Vec<u8>,
    output: Option<&str>,
    quiet: bool,
) -> Result<(), String> {
    let name = url.path.rsplit('/').next().unwrap_or("");
    let name = name.split(['?', '#']).next().filter(|name| !name.is_empty());
    let target = output.unwrap_or(name.unwrap_or("index.html"));
    let say = |error| format!("{target}: {error}");
    let file = if target == "-" {
        File::from_fd(1)
    } else {
        File::open(target, open::WRITE | open::CREATE | open::TRUNCATE, 0o644).map_err(say)?
    };
    let started = time::now_ns();
    let mut body = Body::new(head, rest)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0u64;
    loop {
        let count =
            body.read(socket, &mut buffer).map_err(|text| format!("{}: {text}", url.host))?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).map_err(say)?;
        total += count as u64;
    }
    if target == "-" {
        file.into_fd();
    } else {
        file.close().map_err(say)?;
    }
    if !quiet {
        let ms = (time::now_ns() - started) / 1_000_000;
        xinim_rt::eprintln!("'{target}' saved: {total} bytes in {ms} ms");
    }
    Ok(())
}
