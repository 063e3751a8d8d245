//! What is expected of bytes: all of them, parts, patterns.

use std::path::{Path, PathBuf};

use regex::bytes::Regex;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Of a text shown in a report at most.
const SHOWN: usize = 2000;

/// A text (exactly that) or a table of conditions, all of which must hold.
#[derive(Debug, Default)]
pub struct Expected {
    equals: Option<Vec<u8>>,
    equals_file: Option<PathBuf>,
    contains: Vec<String>,
    lacks: Vec<String>,
    matches: Vec<Regex>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Table {
    equals: Option<String>,
    equals_file: Option<PathBuf>,
    contains: Several,
    lacks: Several,
    matches: Several,
}

/// One text or a list of them.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Several {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl From<Several> for Vec<String> {
    fn from(several: Several) -> Self {
        match several {
            Several::None => Vec::new(),
            Several::One(text) => vec![text],
            Several::Many(texts) => texts,
        }
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => {
                return Ok(Self { equals: Some(text.into()), ..Self::default() });
            }
            toml::Value::Table(table) => table,
            _ => return Err(D::Error::custom("must be a text or a table of conditions")),
        };
        let table: Table = table.try_into().map_err(|error: toml::de::Error| {
            D::Error::custom(error.message().replace("unknown field", "unknown condition"))
        })?;
        let matches = Vec::from(table.matches);
        let matches = matches.iter().map(|pattern| pattern_of(pattern).map_err(D::Error::custom));
        Ok(Self {
            equals: table.equals.map(Into::into),
            equals_file: table.equals_file,
            contains: table.contains.into(),
            lacks: table.lacks.into(),
            matches: matches.collect::<Result<_, _>>()?,
        })
    }
}

/// A regular expression for streams: `^` and `$` match at lines.
pub fn pattern_of(text: &str) -> Result<Regex, String> {
    regex::bytes::RegexBuilder::new(text).multi_line(true).build().map_err(|error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("`{text}` is no regular expression: {last}")
    })
}

impl Expected {
    /// Reads the file to compare with.
    pub fn load(&mut self, directory: &Path) -> Result<(), String> {
        if let Some(path) = &self.equals_file {
            let path = directory.join(path);
            let bytes = std::fs::read(&path);
            let bytes =
                bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            self.equals = Some(bytes);
        }
        Ok(())
    }

    /// Why `bytes` are not what was expected of `what`; nothing if they are.
    pub fn judge(&self, what: &str, bytes: &[u8]) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(equals) = &self.equals
            && equals != bytes
        {
            reasons.push(format!("{what} differs: {}", difference(equals, bytes)));
        }
        let has = |text: &str| contains(bytes, text.as_bytes());
        for text in self.contains.iter().filter(|text| !has(text)) {
            reasons.push(format!("{what} does not contain {}", quoted(text.as_bytes())));
        }
        for text in self.lacks.iter().filter(|text| has(text)) {
            reasons.push(format!("{what} contains {}", quoted(text.as_bytes())));
        }
        for pattern in self.matches.iter().filter(|pattern| !pattern.is_match(bytes)) {
            reasons.push(format!("{what} does not match `{pattern}`"));
        }
        reasons
    }
}

pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    find(bytes, part).is_some()
}

/// Where `part` begins in `bytes`.
pub fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    bytes.windows(part.len()).position(|window| window == part)
}

/// The first line that differs, both ways.
fn difference(expected: &[u8], got: &[u8]) -> String {
    let lines = |bytes: &'_ [u8]| -> Vec<Vec<u8>> {
        bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let (expected, got) = (lines(expected), lines(got));
    let same = expected.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let line = |lines: &[Vec<u8>]| match lines.get(same) {
        Some(line) => quoted(line),
        None => "its end".into(),
    };
    format!("line {}: expected {}, got {}", same + 1, line(&expected), line(&got))
}

/// Bytes as a quoted text of bounded length.
pub fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]);
    let more = if bytes.len() > SHOWN { "..." } else { "" };
    format!("{text:?}{more}")
}
