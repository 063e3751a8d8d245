//! Why a manifest is refused.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not TOML, an unknown key, or a value of the wrong type; `text` names the line.
    Syntax { label: String, text: String },
    /// A key's value is out of its range.
    Value { label: String, key: &'static str, text: String },
    /// `key` names a service or class that no manifest defines.
    Missing { label: String, key: &'static str, target: String },
    /// Two files with one label.
    Duplicate { label: String },
    /// The services need, want, call or spawn each other in a ring; the first is repeated last.
    Cycle { path: Vec<String> },
    /// More than [`SERVICES_MAX`](crate::SERVICES_MAX) manifests.
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Syntax { label, text } => write!(f, "{label}.toml: {text}"),
            Error::Value { label, key, text } => write!(f, "{label}.toml: {key}: {text}"),
            Error::Missing { label, key, target } => {
                write!(f, "{label}.toml: {key}: there is no service \"{target}\"")
            }
            Error::Duplicate { label } => write!(f, "{label}.toml: a second manifest \"{label}\""),
            Error::Cycle { path } => {
                write!(f, "services depend on each other: {}", path.join(" -> "))
            }
            Error::TooMany => write!(f, "more than {} services", crate::SERVICES_MAX),
        }
    }
}

impl core::error::Error for Error {}
