//! `filter=EXPR`: which events a trace takes.
//!
//! ```text
//! expression   a or b    a and b    not a    (a)        also || && !
//! comparison   FIELD = GLOB   FIELD != GLOB             text: * any run, ? any character
//!              FIELD = N  != N  < N  <= N  > N  >= N    number: 12, 0x1f, 4k, 3ms, 1.5s
//! short        KIND                                     the same as kind=KIND
//! ```
//! | field | of which events | |
//! |---|---|---|
//! | `device` | all | `virtio-blk.0`, `e1000.*`, `bus`, `cpu`, `guest` |
//! | `kind` | all | a kind or a group of kinds, see [`names`] |
//! | `direction` | accesses, DMA, frames | `read`, `write` (from the driver's side; frames: `write` is sent) |
//! | `register` | accesses | any register touched; case does not matter |
//! | `process`, `pid` | those of a vCPU or the guest | name, number |
//! | `rule` | faults, violations | number of the fault rule, id of the strict checker's |
//! | `vcpu` | those of a vCPU | |
//! | `time` | all | since the machine's start; seconds, or with ns, us, ms, s |
//! | `queue`, `head`, `port`, `slot`, `vector`, `lba`, `length`, `address`, `value`, `cost` | where there is one | |
//! | `error` | all | `yes`, `no`: the driver's mistakes and failed requests |
//!
//! An event without the field fails every comparison but `!=`. Text in quotes may hold anything.
//! Depth and length of an expression are bounded.

mod eval;
mod parse;

use xinim_devices::trace::{Accept, Event, Interest};

pub use eval::{FIELDS, is_error, kind_name, names};
pub use parse::FilterError;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Node);

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(Self)
    }
}

impl Filter {
    /// Groups of events that it can accept any of.
    pub fn interest(&self) -> Interest {
        let interest = self.0.interest();
        match interest.intersects(Interest::ACCESS | Interest::QUEUE) {
            true => interest | Interest::ATTRIBUTED,
            false => interest - Interest::ATTRIBUTED,
        }
    }
}

impl Accept for Filter {
    fn accepts(&self, event: &Event<'_>) -> bool {
        self.0.accepts(event)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Or(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Text {
        field: eval::Text,
        equal: bool,
        glob: Glob,
    },
    Number {
        field: eval::Number,
        compare: Compare,
        value: u64,
    },
    /// Kinds as a mask.
    Kind {
        equal: bool,
        glob: Glob,
    },
    Error(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// A pattern with `*` and `?`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Vec<char>);

impl Glob {
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_lowercase().chars().collect())
    }

    /// Linear in text and pattern but for the run of the last `*`.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        let (mut t, mut p, mut star) = (0, 0, None);
        while t < text.len() {
            match self.0.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == '?' || c == text[t] => (t, p) = (t + 1, p + 1),
                _ => match star {
                    Some((at, from)) => {
                        (p, t) = (at + 1, from + 1);
                        star = Some((at, t));
                    }
                    None => return false,
                },
            }
        }
        self.0[p..].iter().all(|&c| c == '*')
    }
}

#[cfg(test)]
mod tests;
