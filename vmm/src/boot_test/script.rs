//! The console script: waits for text on COM1 and types.
//!
//! ```toml
//! console = [{ expect = "# " }, { send = "echo hi\n" }, { expect-match = "^hi$", timeout = "10s" }]
//! ```
//!
//! What a step has matched is used up: the next one looks at what came after it. Without a
//! time-out of its own a step may take until the test's ends.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::expect::{find, pattern_of, quoted};
use crate::config::Text;
use crate::spec::Timeout;

/// Of the console, so much of the end is shown when a step fails.
const SHOWN: usize = 300;

#[derive(Debug)]
pub enum Step {
    Expect { what: Wanted, timeout: Option<Duration> },
    Send(String),
}

#[derive(Debug)]
pub enum Wanted {
    Text(String),
    Match(Regex),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    expect: Option<String>,
    expect_match: Option<String>,
    send: Option<String>,
    timeout: Option<Text<Timeout>>,
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let timeout = table.timeout.map(|timeout| timeout.0.0);
        let what = match (table.expect, table.expect_match, table.send) {
            (Some(text), None, None) => Wanted::Text(text),
            (None, Some(pattern), None) => {
                Wanted::Match(pattern_of(&pattern).map_err(D::Error::custom)?)
            }
            (None, None, Some(text)) if timeout.is_none() => return Ok(Step::Send(text)),
            (None, None, Some(_)) => return Err(D::Error::custom("send takes no time")),
            _ => return Err(D::Error::custom("a step has one of expect, expect-match and send")),
        };
        Ok(Step::Expect { what, timeout })
    }
}

impl Wanted {
    /// The end of the first occurrence in `bytes`.
    fn end_in(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Wanted::Text(text) => find(bytes, text.as_bytes()).map(|at| at + text.len()),
            Wanted::Match(pattern) => pattern.find(bytes).map(|found| found.end()),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Text(text) => write!(f, "{text:?}"),
            Wanted::Match(pattern) => write!(f, "`{pattern}`"),
        }
    }
}

/// What the console has said so far; grown by a reader, looked at by the script.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Heard {
    pub fn add(&self, bytes: &[u8]) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes.extend_from_slice(bytes);
        self.0.1.notify_all();
    }

    pub fn end(&self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.0.1.notify_all();
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    /// Waits for `wanted` after `from`; the position after it, or why it did not come.
    fn wait(&self, wanted: &Wanted, from: usize, timeout: Option<Duration>) -> Result<usize, Why> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(end) = wanted.end_in(&state.bytes[from..]) {
                return Ok(from + end);
            }
            if state.ended {
                return Err(Why::Ended);
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return Err(Why::TimedOut);
            }
            let waited = self.0.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

enum Why {
    Ended,
    TimedOut,
}

/// Plays the script; why it failed, if it did.
pub fn play(steps: &[Step], heard: &Heard, mut typed: impl Write) -> Result<(), String> {
    let mut position = 0;
    for (index, step) in steps.iter().enumerate() {
        let number = index + 1;
        match step {
            Step::Send(text) => typed
                .write_all(text.as_bytes())
                .and_then(|()| typed.flush())
                .map_err(|_| format!("console step {number}: the machine had ended"))?,
            Step::Expect { what, timeout } => {
                position = heard.wait(what, position, *timeout).map_err(|why| {
                    let why = match (why, timeout) {
                        (Why::TimedOut, Some(time)) => format!("within {time:?}"),
                        _ => "before the machine ended".into(),
                    };
                    let bytes = heard.bytes();
                    let rest = &bytes[position..];
                    let last = &rest[rest.len().saturating_sub(SHOWN)..];
                    format!(
                        "console step {number}: {what} did not come {why}; the last said: {}",
                        quoted(last)
                    )
                })?;
            }
        }
    }
    Ok(())
}
