//! `httpd`: serves the files below a directory over HTTP/1.1, many connections at once.
//!
//! One process, no threads: every connection has a state, and `poll` says which can go on. Connections
//! are kept for further requests; a client that sends nothing for a while is let go.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{mode, open, poll};
use xinim_rt::fs::{self, File, PollFd};
use xinim_rt::net::{self, Socket, flags, option};
use xinim_rt::time;

use crate::common;

const USAGE: &str = "httpd [-p PORT] [-n REQUESTS] [DIRECTORY]
serves DIRECTORY (.) on PORT (80); ends after REQUESTS answers";
const CONNECTIONS_MAX: usize = 200;
const HEAD_MAX: usize = 8 * 1024;
const IDLE_NS: u64 = 30_000_000_000;
/// After the last answer, clients have so long to take theirs: the machine may end with this program.
const LINGER_NS: u64 = 5_000_000_000;
const PART: usize = 64 * 1024;

pub fn main(words: &[&str]) -> i32 {
    let (mut port, mut limit, mut root) = (80, u64::MAX, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-p" => match words.next().map(|text| common::parse_port(text)) {
                Some(Ok(number)) => port = number,
                _ => return common::usage(USAGE),
            },
            "-n" => match words.next().and_then(|text| text.parse().ok()) {
                Some(number) => limit = number,
                None => return common::usage(USAGE),
            },
            word if word.starts_with('-') || root.is_some() => return common::usage(USAGE),
            word => root = Some(word),
        }
    }
    match serve(port, limit, root.unwrap_or(".")) {
        Ok(()) => 0,
        Err(error) => {
            xinim_rt::eprintln!("httpd: port {port}: {error}");
            1
        }
    }
}

struct Connection {
    socket: Socket,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// What of the file is still to be read.
    file: Option<(File, u64)>,
    close: bool,
    active: u64,
}

enum State {
    Waiting,
    Answered,
    Over,
}

fn serve(port: u16, limit: u64, root: &str) -> Result<()> {
    let listener = Socket::tcp()?;
    listener.set_option(option::REUSE_ADDRESS, 1)?;
    listener.bind(&net::v4([0; 4], port))?;
    listener.listen(128)?;
    let mut connections: Vec<Connection> = Vec::new();
    let mut answered = 0;
    let mut end = None;
    loop {
        let now = time::now_ns();
        if answered >= limit {
            let end = *end.get_or_insert(now + LINGER_NS);
            if connections.is_empty() || now >= end {
                return Ok(());
            }
        }
        let full = end.is_some() || connections.len() >= CONNECTIONS_MAX;
        let mut fds =
            vec![PollFd { fd: listener.fd(), events: if full { 0 } else { poll::IN }, ready: 0 }];
        fds.extend(connections.iter().map(|connection| PollFd {
            fd: connection.socket.fd(),
            events: connection.wants(),
            ready: 0,
        }));
        fs::poll(&mut fds, Some(end.unwrap_or(now + IDLE_NS)))?;
        let now = time::now_ns();
        let mut kept = Vec::new();
        for (mut connection, fd) in connections.into_iter().zip(&fds[1..]) {
            if fd.ready == 0 {
                if now - connection.active < IDLE_NS {
                    kept.push(connection);
                }
                continue;
            }
            connection.active = now;
            loop {
                match connection.advance(root) {
                    State::Answered => answered += 1,
                    State::Waiting => {
                        kept.push(connection);
                        break;
                    }
                    State::Over => break,
                }
            }
        }
        connections = kept;
        if fds[0].ready & poll::IN != 0 {
            while let Ok((socket, _)) = listener.accept(flags::DONT_WAIT) {
                let (input, output, file) = (Vec::new(), Vec::new(), None);
                let active = time::now_ns();
                let new = Connection { socket, input, output, sent: 0, file, close: false, active };
                connections.push(new);
                if connections.len() >= CONNECTIONS_MAX {
                    break;
                }
            }
        }
    }
}

impl Connection {
    fn wants(&self) -> u16 {
        if self.sent < self.output.len() || self.file.is_some() { poll::OUT } else { poll::IN }
    }

    /// One step.
    fn advance(&mut self, root: &str) -> State {
        if self.sent < self.output.len() {
            return match self.socket.send(&self.output[self.sent..], flags::DONT_WAIT) {
                Ok(count) => {
                    self.sent += count;
                    self.after_sending()
                }
                Err(Error::Again) => State::Waiting,
                Err(_) => State::Over,
            };
        }
        if let Some((file, left)) = &mut self.file {
            self.output.resize((PART as u64).min(*left) as usize, 0);
            self.sent = 0;
            return match file.read(&mut self.output) {
                // It got shorter meanwhile: the client must not take it for whole.
                Ok(0) | Err(_) => State::Over,
                Ok(count) => {
                    self.output.truncate(count);
                    *left = left.saturating_sub(count as u64);
                    if *left == 0 {
                        self.file = None;
                    }
                    self.advance(root)
                }
            };
        }
        if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = self.input.drain(..end + 4).collect();
            self.answer(root, &String::from_utf8_lossy(&head));
            return self.advance(root);
        }
        if self.input.len() > HEAD_MAX {
            return State::Over;
        }
        let mut part = [0; 4096];
        match self.socket.receive(&mut part, flags::DONT_WAIT) {
            Ok(got) if got.count > 0 => {
                self.input.extend_from_slice(&part[..got.count]);
                self.advance(root)
            }
            Err(Error::Again) => State::Waiting,
            _ => State::Over,
        }
    }

    fn after_sending(&mut self) -> State {
        if self.sent < self.output.len() || self.file.is_some() {
            return State::Waiting;
        }
        self.output.clear();
        self.sent = 0;
        if self.close {
            let _ = self.socket.shutdown(1);
        }
        State::Answered
    }

    fn answer(&mut self, root: &str, head: &str) {
        let mut lines = head.split("\r\n");
        let words: Vec<&str> = lines.next().unwrap_or("").split(' ').collect();
        let field = |name: &str| {
            head.split("\r\n").skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
            })
        };
        let (method, path) = match words.as_slice() {
            [method, path, version] if version.starts_with("HTTP/1.") => (*method, *path),
            _ => return self.status(400, "Bad Request", true),
        };
        let old = words[2] == "HTTP/1.0";
        self.close = match field("connection").as_deref() {
            Some("close") => true,
            Some("keep-alive") => false,
            _ => old,
        };
        if method != "GET" && method != "HEAD" {
            return self.status(405, "Method Not Allowed", true);
        }
        let Some(path) = decode(path) else { return self.status(400, "Bad Request", true) };
        let file = match find(root, &path) {
            Ok(file) => file,
            Err(Error::NoEnt | Error::NotDir) => return self.status(404, "Not Found", true),
            Err(Error::Access | Error::Perm) => return self.status(403, "Forbidden", true),
            Err(_) => return self.status(500, "Internal Server Error", true),
        };
        match file {
            Found::File(file, len) => {
                self.head(200, "OK", len, "application/octet-stream");
                if method == "GET" && len > 0 {
                    self.file = Some((file, len));
                }
            }
            Found::Listing(text) => {
                self.head(200, "OK", text.len() as u64, "text/html; charset=utf-8");
                if method == "GET" {
                    self.output.extend_from_slice(text.as_bytes());
                }
            }
        }
    }

    fn head(&mut self, code: u32, text: &str, len: u64, kind: &str) {
        let connection = if self.close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {code} {text}\r\nContent-Length: {len}\r\nContent-Type: {kind}\r\nConnection: {connection}\r\n\r\n"
        );
        self.output = head.into_bytes();
        self.sent = 0;
    }

    fn status(&mut self, code: u32, text: &str, close: bool) {
        self.close |= close;
        let body = format!("{code} {text}\n");
        self.head(code, text, body.len() as u64, "text/plain");
        self.output.extend_from_slice(body.as_bytes());
    }
}

enum Found {
    File(File, u64),
    Listing(String),
}

/// The path of a request: percent-decoded, without its query, never above the root. `None`: bad.
fn decode(path: &str) -> Option<String> {
    let path = path.split(['?', '#']).next()?;
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let hex = [rest.next()?, rest.next()?];
            u8::from_str_radix(core::str::from_utf8(&hex).ok()?, 16).ok()?
        } else {
            byte
        };
        if byte == 0 {
            return None;
        }
        bytes.push(byte);
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn find(root: &str, path: &str) -> Result<Found> {
    let full = format!("{root}/{path}");
    let stat = fs::stat(&full)?;
    if stat.mode & mode::TYPE_MASK == mode::DIRECTORY {
        let index = format!("{full}/index.html");
        if let Ok(stat) = fs::stat(&index) {
            return Ok(Found::File(File::open(&index, open::READ, 0)?, stat.size));
        }
        return listing(&full, path).map(Found::Listing);
    }
    if stat.mode & mode::TYPE_MASK != mode::REGULAR {
        return Err(Error::Access);
    }
    Ok(Found::File(File::open(&full, open::READ, 0)?, stat.size))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn listing(full: &str, path: &str) -> Result<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(full)? {
        let directory = u32::from(entry.kind) == mode::DIRECTORY >> 12;
        names.push(if directory { format!("{}/", entry.name) } else { entry.name.to_string() });
    }
    names.sort();
    let title = escape(path);
    let mut text = format!("<!DOCTYPE html><title>/{title}</title><h1>/{title}</h1><ul>\n");
    for name in names {
        let name = escape(&name);
        let base = if path.is_empty() { String::new() } else { format!("/{}", escape(path)) };
        text.push_str(&format!("<li><a href=\"{base}/{name}\">{name}</a>\n"));
    }
    text.push_str("</ul>\n");
    Ok(text)
}
