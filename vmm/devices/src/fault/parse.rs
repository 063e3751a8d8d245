//! Rules as text.
//!
//! ```text
//! RULE = KEY=VALUE[,KEY=VALUE...]      device=virtio-blk.0,op=write,sector=100-200,nth=3,action=error
//! ```
//! `action` is the only key that must be there. What a rule is about (`on`) follows from its other
//! keys and from the device where it can. Every mistake is a sentence that says where in the rule
//! it is.

use super::rule::{Action, Direction, Kind, Operation, Protocol, Rule, Span};
use std::fmt::{Display, Formatter};
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

/// Longest rule that is read.
pub const RULE_MAX: usize = 1024;
/// Longest time in a rule.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// EIO.
const ERRNO: i32 = 5;

/// The grammar, for people.
pub const HELP: &str = "\
A fault rule is KEY=VALUE[,KEY=VALUE...]:
  device=NAME        virtio-blk.0, ahci.0, virtio-net.0, e1000.0, virtio-console.0, ..., or disk0,
                     net0 as `ctl info` has them; virtio-blk or virtio* for several [default: all]
  on=WHAT            request (of a disk), packet, register, dma, interrupt, doorbell or time
                     [default: what the other keys, else the device, are about]
  op=OPERATION       request: read, write, flush, discard, zeroes; register, dma: read, write
  sector=N[-M]       request: touches one of these sectors of 512 bytes
  length=N[-M]       request, packet, dma: so many bytes
  direction=in|out   packet: to the guest, from the guest
  protocol=NAME      packet: arp, ipv4, ipv6, icmp, tcp, udp
  port=N[-M]         packet: one of its two TCP or UDP ports
  register=NAME[:I]  register: by the name it has in a trace; I: of which port, queue or entry
  value=N[-M]        register: this is written
  address=N[-M]      dma: touches guest memory here
  queue=N[-M]        doorbell; vector=N[-M]  interrupt
When it happens (all of them together):
  nth=N              only at the Nth match; every=N  at each Nth (after the nth, with both)
  probability=P%     by chance, repeatable by seed=N [default: 0]
  after=TIME         not before this time of the machine; until=TIME  not later
  count=N            N times at most
What happens:
  action=error       the request, access or transfer fails (errno=N of a request [default: 5])
  action=delay       it takes time=TIME longer [default: 100ms]
  action=drop        it is lost: a request never completes, a packet, write or doorbell never arrives
  action=duplicate   it happens twice
  action=reorder     the next one overtakes it
  action=corrupt     one bit is wrong; of a disk write the second half is missing
  action=stick       from now on nothing moves, for time=TIME [default: until the device is reset]
  action=unplug      the device is pulled out
  action=link-down   the network cable is pulled out, for time=TIME [default: for good]
  action=irq-lost, irq-late (by time=TIME [default: 10ms]), irq-duplicate
Numbers may be hexadecimal (0x...). Times: 200us, 5ms, 2s, 1m. More in docs/faults.md.";

/// What is wrong with a rule, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The rule as written.
    pub rule: String,
    /// Bytes of it that are meant.
    pub at: Range<usize>,
    pub why: String,
}

impl Display for RuleError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let part = self.rule.get(self.at.clone()).unwrap_or("");
        if part.is_empty() {
            write!(f, "the fault rule `{}` {}", self.rule, self.why)
        } else {
            let column = self.rule.get(..self.at.start).map_or(0, |s| s.chars().count()) + 1;
            write!(f, "the fault rule `{}`: `{part}` at character {column} {}", self.rule, self.why)
        }
    }
}

impl std::error::Error for RuleError {}

type Wrong = (Range<usize>, String);

/// Keys in the order they were given, with where their values are.
#[derive(Default)]
struct Draft<'a> {
    seen: Vec<(&'a str, Range<usize>)>,
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse(text).map_err(|(at, why)| {
            let rule = if text.len() > RULE_MAX { "..." } else { text };
            RuleError { rule: rule.to_owned(), at, why }
        })
    }
}

const KEYS: [&str; 22] = [
    "device",
    "on",
    "op",
    "sector",
    "length",
    "direction",
    "protocol",
    "port",
    "register",
    "value",
    "address",
    "queue",
    "vector",
    "nth",
    "every",
    "probability",
    "seed",
    "after",
    "until",
    "count",
    "action",
    "time",
];

fn parse(text: &str) -> Result<Rule, Wrong> {
    if text.len() > RULE_MAX {
        return Err((0..0, format!("is longer than {RULE_MAX} bytes")));
    }
    let mut draft = Draft::default();
    let mut start = 0;
    for part in text.split(',') {
        let at = start..start + part.len();
        start = at.end + 1;
        let Some((key, value)) = part.split_once('=') else {
            return Err((at, "is no KEY=VALUE".into()));
        };
        let key_at = at.start..at.start + key.len();
        if !KEYS.contains(&key) && key != "errno" {
            return Err((
                key_at,
                format!("is no key of a fault rule; they are {}, errno", KEYS.join(", ")),
            ));
        }
        if draft.seen.iter().any(|(other, _)| *other == key) {
            return Err((key_at, "is there twice".into()));
        }
        if value.is_empty() {
            return Err((at, "has no value".into()));
        }
        draft.seen.push((key, key_at.end + 1..at.end));
    }
    draft.build(text)
}

impl<'a> Draft<'a> {
    fn at(&self, key: &str) -> Option<Range<usize>> {
        self.seen.iter().find(|(other, _)| *other == key).map(|(_, at)| at.clone())
    }

    fn get<T>(
        &self,
        text: &str,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Wrong> {
        let Some(at) = self.at(key) else { return Ok(None) };
        read(&text[at.clone()]).map(Some).map_err(|why| (at, why))
    }

    fn build(&self, text: &'a str) -> Result<Rule, Wrong> {
        let action = self.get(text, "action", action)?;
        let action = action
            .ok_or_else(|| (0..0, String::from("says no action=, so nothing would happen")))?;
        let device = self.get(text, "device", |name| Ok(name.to_owned()))?;
        let kind = match self.get(text, "on", kind)? {
            Some(kind) => kind,
            None => self.infer(text, action, device.as_deref())?,
        };
        let whole = self.at("action").unwrap_or(0..0);
        if !action.suits(kind) {
            let can: Vec<_> =
                Action::ALL.into_iter().filter(|a| a.suits(kind)).map(Action::name).collect();
            let why = format!("cannot happen to a {}; {} can", kind.name(), can.join(", "));
            return Err((whole, why));
        }
        self.check_keys(text, kind, action)?;
        let rule = Rule {
            device,
            kind,
            operation: self.get(text, "op", operation)?,
            sector: self.get(text, "sector", span)?,
            length: self.get(text, "length", span)?,
            direction: self.get(text, "direction", direction)?,
            protocol: self.get(text, "protocol", protocol)?,
            port: self.get(text, "port", span)?,
            register: self.get(text, "register", register)?,
            value: self.get(text, "value", span)?,
            address: self.get(text, "address", span)?,
            queue: self.get(text, "queue", span)?,
            vector: self.get(text, "vector", span)?,
            nth: self.get(text, "nth", positive)?,
            every: self.get(text, "every", positive)?,
            probability: self.get(text, "probability", probability)?,
            seed: self.get(text, "seed", number)?.unwrap_or(0),
            after: self.get(text, "after", time)?,
            until: self.get(text, "until", time)?,
            count: self.get(text, "count", positive)?,
            action,
            time: self.get(text, "time", time)?,
            errno: self.get(text, "errno", errno)?.unwrap_or(ERRNO),
        };
        if let (Some(Operation::Flush | Operation::Discard | Operation::Zeroes), true) =
            (rule.operation, kind != Kind::Request)
        {
            let at = self.at("op").unwrap_or(0..0);
            return Err((at, format!("is an operation of disks, this rule is on={}", kind.name())));
        }
        Ok(rule)
    }

    /// What a rule without `on` is about.
    fn infer(&self, text: &str, action: Action, device: Option<&str>) -> Result<Kind, Wrong> {
        let has = |key: &str| self.at(key).is_some();
        let disk_op =
            self.at("op").is_some_and(|at| matches!(&text[at], "flush" | "discard" | "zeroes"));
        Ok(if has("sector") || disk_op || has("errno") {
            Kind::Request
        } else if has("direction") || has("protocol") || has("port") {
            Kind::Packet
        } else if has("register") || has("value") {
            Kind::Register
        } else if has("address") {
            Kind::Dma
        } else if has("queue") {
            Kind::Doorbell
        } else if has("vector")
            || matches!(action, Action::IrqLost | Action::IrqLate | Action::IrqDuplicate)
        {
            Kind::Interrupt
        } else if matches!(action, Action::Unplug | Action::LinkDown)
            && !["op", "length", "nth", "every", "probability"].into_iter().any(has)
        {
            Kind::Time
        } else {
            let device = device.unwrap_or("");
            let begins = |stems: &[&str]| stems.iter().any(|stem| device.starts_with(stem));
            if begins(&["virtio-net", "e1000", "net"]) {
                Kind::Packet
            } else if has("op") || begins(&["virtio-blk", "ahci", "disk"]) {
                Kind::Request
            } else {
                return Err((
                    0..0,
                    "does not say what it is about; add on=request, packet, register, dma, \
                     interrupt or doorbell"
                        .into(),
                ));
            }
        })
    }

    /// Keys that say nothing about this kind of thing are mistakes.
    fn check_keys(&self, _text: &str, kind: Kind, action: Action) -> Result<(), Wrong> {
        use Kind::{Dma, Doorbell, Interrupt, Packet, Register, Request};
        for (key, at) in &self.seen {
            let of: &[Kind] = match *key {
                "op" => &[Request, Register, Dma],
                "sector" | "errno" => &[Request],
                "length" => &[Request, Packet, Dma],
                "direction" | "protocol" | "port" => &[Packet],
                "register" | "value" => &[Register],
                "address" => &[Dma],
                "queue" => &[Doorbell],
                "vector" => &[Interrupt],
                "nth" | "every" | "probability" | "seed" | "until" | "count"
                    if kind == Kind::Time =>
                {
                    &[Request]
                }
                _ => continue,
            };
            let key_at = at.start - 1 - key.len()..at.start - 1;
            if !of.contains(&kind) {
                return Err((key_at, format!("says nothing about a {}", kind.name())));
            }
        }
        let timed = matches!(
            action,
            Action::Delay
                | Action::Reorder
                | Action::Stick
                | Action::LinkDown
                | Action::IrqLate
                | Action::IrqDuplicate
        );
        let timed = timed || (action, kind) == (Action::Duplicate, Doorbell);
        if let (Some(at), false) = (self.at("time"), timed) {
            let key_at = at.start - "time=".len()..at.end;
            return Err((key_at, format!("does not go with action={}", action.name())));
        }
        if let (Some(at), true) = (self.at("errno"), action != Action::Error) {
            return Err((at.start - "errno=".len()..at.end, "needs action=error".into()));
        }
        Ok(())
    }
}

/// One of a few words.
fn word<T>(text: &str, what: &str, words: &[(&str, T)]) -> Result<T, String>
where
    T: Copy,
{
    let found = words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        format!("is no {what}; {} are", names.join(", "))
    })
}

fn action(text: &str) -> Result<Action, String> {
    let words = Action::ALL.map(|action| (action.name(), action));
    word(text, "action", &words)
}

fn kind(text: &str) -> Result<Kind, String> {
    word(text, "thing to have faults", &Kind::ALL.map(|kind| (kind.name(), kind)))
}

fn operation(text: &str) -> Result<Operation, String> {
    use Operation::{Discard, Flush, Read, Write, Zeroes};
    let words = [
        ("read", Read),
        ("write", Write),
        ("flush", Flush),
        ("discard", Discard),
        ("zeroes", Zeroes),
    ];
    word(text, "operation", &words)
}

fn direction(text: &str) -> Result<Direction, String> {
    word(text, "direction", &[("in", Direction::In), ("out", Direction::Out)])
}

fn protocol(text: &str) -> Result<Protocol, String> {
    use Protocol::{Arp, Icmp, Ipv4, Ipv6, Tcp, Udp};
    let words =
        [("arp", Arp), ("ipv4", Ipv4), ("ipv6", Ipv6), ("icmp", Icmp), ("tcp", Tcp), ("udp", Udp)];
    word(text, "protocol", &words)
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "is no number".into())
}

fn positive(text: &str) -> Result<u64, String> {
    match number(text)? {
        0 => Err("counts from 1".into()),
        number => Ok(number),
    }
}

fn errno(text: &str) -> Result<i32, String> {
    match number(text)? {
        number @ 1..=133 => Ok(number as i32),
        _ => Err("is no errno (1 to 133)".into()),
    }
}

fn span(text: &str) -> Result<Span, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let span = Span { first: number(first)?, last: number(last)? };
    if span.first > span.last { Err("ends before it begins".into()) } else { Ok(span) }
}

fn register(text: &str) -> Result<(String, Option<u16>), String> {
    let (name, index) = match text.split_once(':') {
        None => (text, None),
        Some((name, index)) => {
            let index =
                number(index).map_err(|_| String::from("has an index that is no number"))?;
            let index = u16::try_from(index).map_err(|_| String::from("has too large an index"))?;
            (name, Some(index))
        }
    };
    if !super::place::is_known(name) {
        return Err("is no register that any device has a name for (see a trace)".into());
    }
    Ok((name.to_owned(), index))
}

/// In millionths: `2%`, `0.5%`, `0.02`.
fn probability(text: &str) -> Result<u32, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 10_000.0),
        None => (text, 1_000_000.0),
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match number.parse::<f64>() {
        Ok(value) if plain && value * scale <= 1_000_000.0 => Ok((value * scale).round() as u32),
        _ => Err("is no probability; write 2% or 0.02".into()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let micros = match unit {
        "us" => 1,
        "ms" => 1000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        _ => return Err("is no time; write 200us, 5ms, 2s or 1m".into()),
    };
    let time = number.parse::<u64>().ok().and_then(|n| n.checked_mul(micros));
    match time.map(Duration::from_micros) {
        Some(time) if time <= TIME_MAX => Ok(time),
        _ => Err("is no time up to 24 hours".into()),
    }
}
