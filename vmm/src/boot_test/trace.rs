//! Assertions on the trace of a run: what a driver must never do, checked over every event.
//!
//! | assertion | fails when |
//! |---|---|
//! | `DEVICE: no request over TIME` | a request (virtqueue chain, ATA command) took longer, or was never answered |
//! | `DEVICE: TAIL never passes HEAD` | more descriptors were given to an E1000's ring than were free: RDT and RDH, TDT and TDH |
//! | `DEVICE: REGISTER is never written` (`read`) | it was |
//! | `DEVICE: REGISTER is written at most N times` (`at least`, `read`) | the number is another |
//! | `DEVICE: no guest error` | the device refused an access: wrong size, no such register, ... |
//! | `DEVICE: at most N accesses` (`at least`) | the number of register accesses is another |
//! | `DEVICE: faults strike at most N times` (`at least`) | fault rules struck another number of times |
//! | `DEVICE: RULE is never broken` (`is broken at most N times`, `at least`) | the strict checker found it |
//! | `strict: clean` | the strict checker has anything to say (`--strict`) |
//!
//! DEVICE is a name as the trace has it (`virtio-blk.0`) or without its number: each of the kind.
//! It must occur in the trace: an assertion about a device that is not there fails.
//!
//! Reads the text trace: what an event looks like is `xinim_devices::trace`'s text form.

use std::collections::HashMap;
use std::io::BufRead;
use std::str::FromStr;
use std::time::Duration;

use xinim_devices::strict;

use super::rings::Rings;
use crate::spec::{ValueError, bad, number_and_unit};

/// Sentences per assertion; the rest are counted.
const REASONS_MAX: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assertion {
    StrictClean,
    Device { device: String, rule: Rule, text: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    NoRequestOver(Duration),
    NeverPasses {
        tail: String,
        head: String,
    },
    Register {
        name: String,
        write: bool,
        bound: Bound,
    },
    Accesses(Bound),
    NoGuestError,
    Faults(Bound),
    /// A rule of the strict checker.
    Broken {
        id: &'static str,
        bound: Bound,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    AtMost(u64),
    AtLeast(u64),
}

impl Bound {
    fn holds(self, count: u64) -> bool {
        match self {
            Bound::AtMost(most) => count <= most,
            Bound::AtLeast(least) => count >= least,
        }
    }
}

impl FromStr for Assertion {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some((device, rule)) = text.split_once(": ") else {
            return bad("must be DEVICE: ASSERTION, as in `virtio-blk: no request over 50 ms`");
        };
        let words: Vec<&str> = rule.split_whitespace().collect();
        if device == "strict" {
            return match words[..] {
                ["clean"] => Ok(Assertion::StrictClean),
                _ => bad("strict is to be `clean`"),
            };
        }
        let rule = match words[..] {
            ["no", "request", "over", ref time @ ..] => {
                Rule::NoRequestOver(parse_time(&time.concat())?)
            }
            [tail, "never", "passes", head] => {
                Rings::pair(tail, head)?;
                Rule::NeverPasses { tail: tail.into(), head: head.into() }
            }
            ["no", "guest", "error"] => Rule::NoGuestError,
            ["faults", "strike", "at", which, number, "times" | "time"] => {
                Rule::Faults(bound(which, number)?)
            }
            [id, "is", "never", "broken"] => {
                Rule::Broken { id: strict_rule(id)?, bound: Bound::AtMost(0) }
            }
            [id, "is", "broken", "at", which, number, "times" | "time"] => {
                Rule::Broken { id: strict_rule(id)?, bound: bound(which, number)? }
            }
            ["at", which, number, "accesses"] => Rule::Accesses(bound(which, number)?),
            [name, "is", "never", how] => {
                Rule::Register { name: name.into(), write: writes(how)?, bound: Bound::AtMost(0) }
            }
            [name, "is", how, "at", which, number, "times" | "time"] => Rule::Register {
                name: name.into(),
                write: writes(how)?,
                bound: bound(which, number)?,
            },
            _ => return bad("is none of the assertions in docs/boot-tests.md"),
        };
        Ok(Assertion::Device { device: device.into(), rule, text: text.into() })
    }
}

/// `50ms`, `200us`, `1s`.
fn parse_time(text: &str) -> Result<Duration, ValueError> {
    let (number, unit) = number_and_unit(text)?;
    Ok(match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return bad(format!("has the unknown unit `{unit}`; use us, ms or s")),
    })
}

fn strict_rule(id: &str) -> Result<&'static str, ValueError> {
    match strict::rule(id) {
        Some(rule) => Ok(rule.id),
        None => bad(format!("`{id}` is no rule of --strict; `xinim-vmm explain` lists them")),
    }
}

fn writes(word: &str) -> Result<bool, ValueError> {
    match word {
        "written" => Ok(true),
        "read" => Ok(false),
        _ => bad("a register is written or read"),
    }
}

fn bound(which: &str, number: &str) -> Result<Bound, ValueError> {
    let Ok(number) = number.parse() else { return bad(format!("`{number}` is no number")) };
    match which {
        "most" => Ok(Bound::AtMost(number)),
        "least" => Ok(Bound::AtLeast(number)),
        _ => bad("is `at most N` or `at least N`"),
    }
}

/// A line of the text trace, as far as the rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub nanos: u64,
    pub device: &'a str,
    /// What happened: `w4 mmio:0x... RDT=0x3`, `pop queue=0 ...`.
    pub what: &'a str,
}

impl<'a> Line<'a> {
    pub fn parse(line: &'a str) -> Option<Self> {
        let (time, rest) = line.split_once(' ')?;
        let (seconds, nanos) = time.split_once('.')?;
        let nanos =
            seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)? + nanos.parse::<u64>().ok()?;
        let (who, mut rest) = rest.split_once(' ')?;
        if who.starts_with("cpu")
            && let Some(after) = rest.strip_prefix("rip=")
        {
            rest = after.split_once(' ')?.1;
        }
        if let Some(after) = rest.strip_prefix('[') {
            rest = after.split_once("] ")?.1;
        }
        let (device, what) = rest.split_once(' ')?;
        Some(Self { nanos, device, what })
    }

    /// Direction and size of a register access, and what was decoded of it.
    pub fn access(&self) -> Option<(bool, &'a str)> {
        let (op, rest) = self.what.split_once(' ')?;
        let write = match op.as_bytes() {
            [b'r', b'1' | b'2' | b'4' | b'8'] => false,
            [b'w', b'1' | b'2' | b'4' | b'8'] => true,
            _ => return None,
        };
        let (_address, decoded) = rest.split_once(' ')?;
        Some((write, decoded))
    }

    /// Registers of an access with the values that passed: `RDT=0x3`; the index of several equal
    /// ones is left out.
    pub fn registers(&self) -> impl Iterator<Item = (&'a str, u64)> {
        let decoded = self.access().map_or("", |(_, decoded)| decoded);
        let mut in_fields = false;
        decoded.split(' ').filter_map(move |word| {
            let opens = word.starts_with('{');
            let skip = in_fields || opens;
            in_fields = (in_fields || opens) && !word.ends_with('}');
            let (name, value) = word.split_once('=').filter(|_| !skip)?;
            let name = name.split(['[', '+']).next()?;
            let value = u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()?;
            (!name.is_empty() && name != "was").then_some((name, value))
        })
    }

    /// `key=NUMBER` among the words of an event.
    pub fn number(&self, key: &str) -> Option<u64> {
        let words = self.what.split(' ');
        let mut values = words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        values.next()?.parse().ok()
    }

    fn is(&self, device: &str) -> bool {
        match self.device.strip_prefix(device) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('.').is_some_and(|n| n.parse::<u32>().is_ok()),
            None => false,
        }
    }
}

/// Why the trace does not fulfil the assertions.
pub fn judge(assertions: &[&Assertion], trace: impl BufRead) -> Result<Vec<String>, String> {
    let mut checks: Vec<Check<'_>> = assertions.iter().filter_map(|a| Check::new(a)).collect();
    for line in trace.split(b'\n') {
        let line = line.map_err(|error| format!("the trace cannot be read: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        let Some(line) = Line::parse(&line) else { continue };
        for check in checks.iter_mut().filter(|check| line.is(check.device)) {
            check.seen = true;
            check.line(&line);
        }
    }
    Ok(checks.into_iter().flat_map(Check::finish).collect())
}

/// An assertion being checked.
struct Check<'a> {
    device: &'a str,
    rule: &'a Rule,
    text: &'a str,
    seen: bool,
    count: u64,
    /// Requests under way, by device and what identifies them there.
    open: HashMap<(String, u64, u64), u64>,
    rings: HashMap<String, Rings>,
    last: u64,
    reasons: Vec<String>,
    more: usize,
}

impl<'a> Check<'a> {
    fn new(assertion: &'a Assertion) -> Option<Self> {
        let Assertion::Device { device, rule, text } = assertion else { return None };
        Some(Self {
            device,
            rule,
            text,
            seen: false,
            count: 0,
            open: HashMap::new(),
            rings: HashMap::new(),
            last: 0,
            reasons: Vec::new(),
            more: 0,
        })
    }

    fn fail(&mut self, nanos: u64, why: &str) {
        if self.reasons.len() < REASONS_MAX {
            let seconds = nanos as f64 / 1e9;
            self.reasons.push(format!("trace, `{}`: at {seconds:.6} s {why}", self.text));
        } else {
            self.more += 1;
        }
    }

    fn line(&mut self, line: &Line<'_>) {
        self.last = line.nanos;
        match self.rule {
            Rule::NoRequestOver(limit) => self.request(line, *limit),
            Rule::NeverPasses { tail, head } => {
                let rings = self.rings.entry(line.device.to_owned()).or_default();
                if let Some(why) = rings.line(line, tail, head) {
                    self.fail(line.nanos, &why);
                }
            }
            Rule::Register { name, write, .. } => {
                if line.access().is_some_and(|(written, _)| written == *write) {
                    let times = line.registers().filter(|(register, _)| register == name).count();
                    self.count += times as u64;
                }
            }
            Rule::Accesses(_) => self.count += u64::from(line.access().is_some()),
            Rule::Faults(_) => self.count += u64::from(line.what.starts_with("fault ")),
            Rule::Broken { id, .. } => {
                let broken = line.what.strip_prefix("violation ");
                let broken = broken.and_then(|words| words.split([' ', ':']).next());
                self.count += u64::from(broken == Some(*id));
            }
            Rule::NoGuestError => {
                if line.what.starts_with("fault ") || line.what.starts_with("violation ") {
                    return;
                }
                if let Some((_, error)) = line.what.rsplit_once(" !") {
                    let device = line.device;
                    self.fail(line.nanos, &format!("{device} refused an access: {error}"));
                }
            }
        }
    }

    fn request(&mut self, line: &Line<'_>, limit: Duration) {
        let (verb, keys) = match line.what.split(' ').next() {
            Some(verb @ ("pop" | "push")) => (verb, ["queue", "head"]),
            Some(verb @ ("command" | "end")) => (verb, ["port", "slot"]),
            _ => return,
        };
        let [Some(first), Some(second)] = keys.map(|key| line.number(key)) else { return };
        let key = (line.device.to_owned(), first, second);
        if matches!(verb, "pop" | "command") {
            self.count += 1;
            self.open.insert(key, line.nanos);
        } else if let Some(begun) = self.open.remove(&key) {
            let took = Duration::from_nanos(line.nanos.saturating_sub(begun));
            if took > limit {
                let what = format!("{} {first}, {} {second}", keys[0], keys[1]);
                self.fail(begun, &format!("a request ({what}) began that took {took:?}"));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.seen {
            return vec![format!("trace, `{}`: no device of that name did anything", self.text)];
        }
        match self.rule {
            Rule::NoRequestOver(limit) => {
                let limit = limit.as_nanos() as u64;
                let late = |begun: u64| self.last.saturating_sub(begun) > limit;
                let mut left: Vec<u64> =
                    self.open.values().copied().filter(|begun| late(*begun)).collect();
                left.sort_unstable();
                for begun in left {
                    self.fail(begun, "a request began that was never answered");
                }
                if self.count == 0 {
                    self.reasons.push(format!("trace, `{}`: there was no request", self.text));
                }
            }
            Rule::NeverPasses { tail, .. } if !self.rings.values().any(|r| r.used(tail)) => {
                self.reasons.push(format!("trace, `{}`: {tail} was not written", self.text));
            }
            Rule::Register { bound, .. }
            | Rule::Accesses(bound)
            | Rule::Faults(bound)
            | Rule::Broken { bound, .. }
                if !bound.holds(self.count) =>
            {
                self.reasons.push(format!("trace, `{}`: it was {} times", self.text, self.count));
            }
            _ => {}
        }
        if self.more > 0 {
            self.reasons.push(format!("trace, `{}`: and {} times more", self.text, self.more));
        }
        self.reasons
    }
}
