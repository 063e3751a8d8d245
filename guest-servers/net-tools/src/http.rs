//! As much of HTTP/1.1 as a client and a small server share: heads and bodies.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xinim_rt::net::Socket;

/// Longest head.
const HEAD_MAX: usize = 32 * 1024;
/// Longest line that says a chunk's size.
const CHUNK_LINE_MAX: usize = 64;

/// The first line and the fields of a message.
pub struct Head {
    pub first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// A field by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

fn parse(text: &str) -> Result<Head, String> {
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or("").to_string();
    let mut fields = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("bad field '{line}'"))?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    Ok(Head { first, fields })
}

/// Reads up to the empty line; what came behind it is answered too.
pub fn read_head(socket: &Socket) -> Result<(Head, Vec<u8>), String> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 4096];
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            let text = String::from_utf8_lossy(&bytes[..at]).into_owned();
            return Ok((parse(&text)?, rest));
        }
        if bytes.len() > HEAD_MAX {
            return Err("the answer's head is too long".into());
        }
        let got = socket.receive(&mut part, 0).map_err(|error| error.to_string())?;
        if got.count == 0 {
            return Err("the connection ended before the answer".into());
        }
        bytes.extend_from_slice(&part[..got.count]);
    }
}

enum Rest {
    /// So many bytes.
    Known(u64),
    /// Chunks; bytes left of the present one.
    Chunks(u64),
    /// To the end of the connection.
    ToEnd,
    Done,
}

/// The body behind a head.
pub struct Body {
    rest: Rest,
    early: Vec<u8>,
    at: usize,
}

impl Body {
    pub fn new(head: &Head, early: Vec<u8>) -> Result<Self, String> {
        let chunked =
            head.get("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        let rest = if chunked {
            Rest::Chunks(0)
        } else {
            match head.get("content-length") {
                Some(text) => Rest::Known(text.parse().map_err(|_| "bad content length")?),
                None => Rest::ToEnd,
            }
        };
        Ok(Self { rest, early, at: 0 })
    }

    fn raw(&mut self, socket: &Socket, out: &mut [u8]) -> Result<usize, String> {
        if self.at < self.early.len() {
            let count = out.len().min(self.early.len() - self.at);
            out[..count].copy_from_slice(&self.early[self.at..self.at + count]);
            self.at += count;
            return Ok(count);
        }
        socket.receive(out, 0).map(|got| got.count).map_err(|error| error.to_string())
    }

    fn line(&mut self, socket: &Socket) -> Result<String, String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            if self.raw(socket, &mut byte)? == 0 || line.len() > CHUNK_LINE_MAX {
                return Err("bad chunk".into());
            }
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    /// 0 at its end; an error if the connection ends before.
    pub fn read(&mut self, socket: &Socket, out: &mut [u8]) -> Result<usize, String> {
        if let Rest::Chunks(0) = self.rest {
            let line = self.line(socket)?;
            let size = line.split(';').next().unwrap_or("").trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| "bad chunk")?;
            self.rest = if size == 0 { Rest::Done } else { Rest::Chunks(size) };
        }
        let limit = match self.rest {
            Rest::Known(0) | Rest::Done => return Ok(0),
            Rest::Known(left) | Rest::Chunks(left) => out.len().min(left.min(1 << 30) as usize),
            Rest::ToEnd => out.len(),
        };
        let count = self.raw(socket, &mut out[..limit])?;
        match &mut self.rest {
            Rest::Known(_) | Rest::Chunks(_) if count == 0 => {
                return Err("the connection ended too early".into());
            }
            Rest::Known(left) => *left -= count as u64,
            Rest::Chunks(left) => {
                *left -= count as u64;
                if *left == 0 && !self.line(socket)?.is_empty() {
                    return Err("bad chunk".into());
                }
            }
            Rest::ToEnd | Rest::Done => {}
        }
        Ok(count)
    }
}
