//! Enough of QMP (QEMU Machine Protocol: JSON objects, one a line) to learn how a machine ended
//! and to ask for its registers.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A line of QMP is at most some hundred KiB (a register dump); more is not QEMU.
const LINE_MAX: usize = 4 << 20;

/// What came from the monitor.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// An event: its name and data.
    Event(String, Value),
    /// QEMU has closed the monitor, or speaks nonsense: it is ending.
    Closed,
    /// Nothing within the time given.
    Nothing,
}

#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    received: Vec<u8>,
    events: VecDeque<(String, Value)>,
    closed: bool,
}

impl Qmp {
    /// Greets QEMU; events flow from then on. Nothing is waited for.
    pub fn new(mut stream: UnixStream) -> std::io::Result<Self> {
        writeln!(stream, "{}", json!({ "execute": "qmp_capabilities" }))?;
        Ok(Self { stream, received: Vec::new(), events: VecDeque::new(), closed: false })
    }

    /// The descriptor to poll for events.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The next event, waiting at most `patience` (zero: only what is here).
    pub fn event(&mut self, patience: Duration) -> Message {
        let deadline = Instant::now() + patience;
        loop {
            if let Some((name, data)) = self.events.pop_front() {
                return Message::Event(name, data);
            }
            match self.message(deadline) {
                Some(Ok(message)) => self.keep_event(message),
                Some(Err(())) => return Message::Closed,
                None => return Message::Nothing,
            }
        }
    }

    /// Runs a command and returns its result, or `None` if QEMU refuses or takes longer than
    /// `patience`.
    pub fn execute(&mut self, name: &str, arguments: Value, patience: Duration) -> Option<Value> {
        let deadline = Instant::now() + patience;
        let request = json!({ "execute": name, "arguments": arguments, "id": name });
        writeln!(self.stream, "{request}").ok()?;
        loop {
            let mut message = self.message(deadline)?.ok()?;
            if message["id"] == name {
                return message.get_mut("return").map(Value::take);
            }
            self.keep_event(message);
        }
    }

    /// The same; what QEMU says when it refuses is the error.
    pub fn request(
        &mut self,
        name: &str,
        arguments: Value,
        patience: Duration,
    ) -> Result<Value, String> {
        let deadline = Instant::now() + patience;
        let request = json!({ "execute": name, "arguments": arguments, "id": name });
        writeln!(self.stream, "{request}").map_err(|_| "QEMU is ending")?;
        loop {
            let message = self.message(deadline).ok_or("QEMU does not answer")?;
            let mut message = message.map_err(|()| "QEMU is ending")?;
            if message["id"] == name {
                return match message["error"]["desc"].as_str() {
                    Some(why) => Err(why.to_owned()),
                    None => Ok(message["return"].take()),
                };
            }
            // Events are another monitor's business.
        }
    }

    /// Runs a command of the human monitor and returns the text it prints.
    pub fn human(&mut self, command: &str, patience: Duration) -> Option<String> {
        let arguments = json!({ "command-line": command });
        let text = self.execute("human-monitor-command", arguments, patience)?;
        Some(text.as_str()?.replace("\r\n", "\n"))
    }

    /// Ends QEMU in good order.
    pub fn quit(&mut self) {
        // If it does not listen any more it is ending already.
        let _ = writeln!(self.stream, "{}", json!({ "execute": "quit" }));
    }

    fn keep_event(&mut self, mut message: Value) {
        if let Some(name) = message["event"].as_str().map(str::to_owned) {
            self.events.push_back((name, message["data"].take()));
        }
    }

    /// The next message, whatever it is; `None` when the deadline passes first.
    fn message(&mut self, deadline: Instant) -> Option<Result<Value, ()>> {
        loop {
            if let Some(end) = self.received.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(serde_json::from_slice(&line).map_err(|_| ()));
            }
            if self.closed || self.received.len() > LINE_MAX {
                return Some(Err(()));
            }
            // Zero would mean no time-out at all.
            let left = deadline.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(Duration::from_micros(1)))).ok()?;
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk) {
                Ok(length @ 1..) => self.received.extend_from_slice(&chunk[..length]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => self.closed = true,
            }
        }
    }
}

#[cfg(test)]
#[path = "qmp_tests.rs"]
mod tests;
