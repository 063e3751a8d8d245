//! From text to expression, by recursive descent.

use super::eval::{FIELDS, names, number_field, text_field};
use super::{Compare, Glob, Node};

/// Nested parentheses and `not`s at most: the parser and the evaluation recurse.
const DEPTH_MAX: usize = 64;
/// Comparisons at most, and bytes of the text.
const TERMS_MAX: usize = 256;
const LENGTH_MAX: usize = 16 << 10;

/// Where and why an expression is none. The position counts characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, character {position}: {why}")]
pub struct FilterError {
    pub position: usize,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Compare(Compare),
    Word(String),
    Quoted(String),
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
    terms: usize,
}

pub fn parse(text: &str) -> Result<Node, FilterError> {
    if text.len() > LENGTH_MAX {
        return error(1, "the expression is longer than 16 KiB");
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, end: text.chars().count() + 1, terms: 0 };
    if parser.tokens.is_empty() {
        return error(1, "there is no expression");
    }
    let node = parser.or(0)?;
    match parser.peek() {
        None => Ok(node),
        Some(Token::Close) => error(parser.position(), "this `)` closes nothing"),
        Some(_) => error(parser.position(), "`and` or `or` is missing before this"),
    }
}

fn error<T>(position: usize, why: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError { position, why: why.into() })
}

/// What a word consists of.
fn in_word(c: char) -> bool {
    !c.is_whitespace() && !"()=!<>&|\"'".contains(c)
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let (position, c, next) = (i + 1, chars[i], chars.get(i + 1).copied());
        i += 1;
        let token = match (c, next) {
            (c, _) if c.is_whitespace() => continue,
            ('(', _) => Token::Open,
            (')', _) => Token::Close,
            ('&', Some('&')) | ('|', Some('|')) | ('!' | '<' | '>' | '=', Some('=')) => {
                i += 1;
                match c {
                    '&' => Token::And,
                    '|' => Token::Or,
                    '!' => Token::Compare(Compare::Unequal),
                    '<' => Token::Compare(Compare::LessEqual),
                    '>' => Token::Compare(Compare::GreaterEqual),
                    _ => Token::Compare(Compare::Equal),
                }
            }
            ('!', _) => Token::Not,
            ('=', _) => Token::Compare(Compare::Equal),
            ('<', _) => Token::Compare(Compare::Less),
            ('>', _) => Token::Compare(Compare::Greater),
            ('"' | '\'', _) => {
                let length = chars[i..].iter().position(|&other| other == c);
                let Some(length) = length else { return error(position, "this quote has no end") };
                let quoted = chars[i..i + length].iter().collect();
                i += length + 1;
                Token::Quoted(quoted)
            }
            (c, _) if in_word(c) => {
                while i < chars.len() && in_word(chars[i]) {
                    i += 1;
                }
                let word: String = chars[position - 1..i].iter().collect();
                match word.to_ascii_lowercase().as_str() {
                    "and" => Token::And,
                    "or" => Token::Or,
                    "not" => Token::Not,
                    _ => Token::Word(word),
                }
            }
            _ => {
                return error(
                    position,
                    format!("`{c}` means nothing here; did you mean `{c}{c}`?"),
                );
            }
        };
        tokens.push((position, token));
    }
    Ok(tokens)
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(position, _)| *position)
    }

    fn take(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut node = self.and(depth)?;
        while self.take(&Token::Or) {
            node = Node::Or(Box::new(node), Box::new(self.and(depth)?));
        }
        Ok(node)
    }

    fn and(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut node = self.not(depth)?;
        while self.take(&Token::And) {
            node = Node::And(Box::new(node), Box::new(self.not(depth)?));
        }
        Ok(node)
    }

    fn not(&mut self, depth: usize) -> Result<Node, FilterError> {
        if depth > DEPTH_MAX {
            return error(self.position(), "this is nested too deeply");
        }
        if self.take(&Token::Not) {
            return Ok(Node::Not(Box::new(self.not(depth + 1)?)));
        }
        let opened = self.position();
        if self.take(&Token::Open) {
            let node = self.or(depth + 1)?;
            if !self.take(&Token::Close) {
                return error(opened, "this `(` is not closed");
            }
            return Ok(node);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Node, FilterError> {
        let position = self.position();
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return error(position, "there are more than 256 comparisons");
        }
        let word = match self.peek() {
            Some(Token::Word(word)) => word.clone(),
            Some(_) => return error(position, "a field or a kind of event is expected here"),
            None => return error(position, "the expression ends where more is expected"),
        };
        self.at += 1;
        let name = word.to_ascii_lowercase();
        let Some(&Token::Compare(compare)) = self.peek() else {
            return short(position, &word);
        };
        let at = self.position();
        self.at += 1;
        let value_at = self.position();
        let (value, quoted) = match self.peek() {
            Some(Token::Word(value)) => (value.clone(), false),
            Some(Token::Quoted(value)) => (value.clone(), true),
            _ => return error(value_at, format!("a value for `{name}` is expected here")),
        };
        self.at += 1;
        if let Some(field) = number_field(&name) {
            let time = matches!(name.as_str(), "time" | "cost");
            return match number(&value, name == "time").filter(|_| !quoted) {
                Some(value) => Ok(Node::Number { field, compare, value }),
                None if time => error(
                    value_at,
                    format!("`{value}` is no time; write 2s, 1.5s, 20ms, 7us or 90ns"),
                ),
                None => error(value_at, format!("`{value}` is no number; `{name}` is one")),
            };
        }
        let equal = match compare {
            Compare::Equal => true,
            Compare::Unequal => false,
            _ => return error(at, format!("`{name}` can only be compared with = and !=")),
        };
        let glob = Glob::new(&value);
        match name.as_str() {
            "kind" => {
                if !names().any(|known| glob.matches(known)) {
                    return error(value_at, no_kind(&value));
                }
                Ok(Node::Kind { equal, glob })
            }
            "error" => match value.to_ascii_lowercase().as_str() {
                "yes" | "true" | "1" => Ok(Node::Error(equal)),
                "no" | "false" | "0" => Ok(Node::Error(!equal)),
                _ => error(value_at, "`error` is yes or no"),
            },
            "direction" | "dir" if !["read", "write"].iter().any(|d| glob.matches(d)) => {
                error(value_at, format!("`{value}` is no direction; they are read and write"))
            }
            _ => match text_field(&name) {
                Some(field) => Ok(Node::Text { field, equal, glob }),
                None => {
                    error(position, format!("there is no field `{word}`; the fields are {FIELDS}"))
                }
            },
        }
    }
}

/// A kind alone.
fn short(position: usize, word: &str) -> Result<Node, FilterError> {
    let glob = Glob::new(word);
    if names().any(|known| glob.matches(known)) {
        return Ok(Node::Kind { equal: true, glob });
    }
    let name = word.to_ascii_lowercase();
    if name == "error" {
        return Ok(Node::Error(true));
    }
    if text_field(&name).is_some() || number_field(&name).is_some() || name == "kind" {
        return error(position, format!("`{word}` is a field: a comparison must follow it"));
    }
    error(position, no_kind(word))
}

fn no_kind(word: &str) -> String {
    format!(
        "there is no kind of event `{word}`; there are {}",
        names().collect::<Vec<_>>().join(", ")
    )
}

/// Decimal or hexadecimal with an optional unit: k, M, G (1024), ns, us, ms, s. A time without unit
/// is in seconds.
fn number(text: &str, time: bool) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(&hex.replace('_', ""), 16).ok();
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_');
    let (digits, unit) = text.split_at(split.unwrap_or(text.len()));
    let factor: u64 = match unit {
        "" if time => 1_000_000_000,
        "" | "ns" => 1,
        "us" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "k" | "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    let digits = digits.replace('_', "");
    let (whole, part) = digits.split_once('.').unwrap_or((&digits, ""));
    if part.contains('.') || part.len() > 9 || (!part.is_empty() && factor == 1) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let mut value = whole.checked_mul(factor)?;
    if !part.is_empty() {
        let scale = 10u128.pow(part.len() as u32);
        let part: u64 = part.parse().ok()?;
        value = value.checked_add((u128::from(part) * u128::from(factor) / scale) as u64)?;
    }
    Some(value)
}
