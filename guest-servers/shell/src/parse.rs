//! The parser: text to syntax tree, by recursive descent straight over the characters (a shell's
//! tokens depend on where they stand).
//!
//! Any input gives a tree or a [`SyntaxError`]; nesting deeper than [`DEPTH_MAX`] is an error, so
//! neither parser, executor nor the tree's destructor can overflow the stack. An
//! [`incomplete`](SyntaxError::incomplete) error means that more input may make it right: the
//! interactive shell asks for another line.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::ast::*;

mod compound;
mod redirect;
mod word;

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

/// Nested commands, substitutions and quotes.
pub const DEPTH_MAX: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Starting with 1.
    pub line: usize,
    pub message: String,
    /// The input ended too early.
    pub incomplete: bool,
}

impl core::fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "line {}: syntax error: {}", self.line, self.message)
    }
}

pub type Result<T> = core::result::Result<T, SyntaxError>;

/// The whole of `source`.
pub fn parse(source: &str) -> Result<List> {
    let mut parser = Parser::new(source);
    let list = parser.list(End::Input)?;
    match parser.peek() {
        None => Ok(list),
        Some(c) => Err(parser.unexpected(c)),
    }
}

/// The text of a here-document: expansions act, quotes do not. For prompts as well.
pub fn parse_here(source: &str) -> Result<Word> {
    Parser::new(source).here_text()
}

/// Where a list ends, besides the end of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Input,
    Parenthesis,
    /// One of these reserved words.
    Word(&'static [&'static str]),
    /// `;;` or `esac`.
    CaseArm,
}

const RESERVED: &[&str] = &[
    "!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then",
    "until", "while",
];

struct Parser<'s> {
    source: &'s str,
    at: usize,
    depth: usize,
    /// Behind the here-documents of the current line, which were read ahead.
    here_end: Option<usize>,
}

impl<'s> Parser<'s> {
    fn new(source: &'s str) -> Self {
        Self { source, at: 0, depth: 0, here_end: None }
    }

    // Characters.

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes `text` if it comes next.
    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    // Errors.

    fn error(&self, message: &str) -> SyntaxError {
        let line = 1 + self.source[..self.at].matches('\n').count();
        SyntaxError { line, message: message.to_string(), incomplete: false }
    }

    fn incomplete(&self, message: &str) -> SyntaxError {
        SyntaxError { incomplete: true, ..self.error(message) }
    }

    fn unexpected(&self, c: char) -> SyntaxError {
        if c == '\n' {
            return self.error("unexpected end of line");
        }
        let rest = self.rest();
        let operator = ["&&", "||", ";;", "<<", ">>"].iter().find(|op| rest.starts_with(**op));
        let token: String = match operator {
            Some(op) => (*op).to_string(),
            None if is_meta(c) => c.to_string(),
            None => rest.chars().take_while(|&c| !is_meta(c)).take(20).collect(),
        };
        self.error(&format!("unexpected `{token}`"))
    }

    fn unexpected_here(&self) -> SyntaxError {
        match self.peek() {
            Some(c) => self.unexpected(c),
            None => self.incomplete("unexpected end of input"),
        }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    // Blanks.

    /// Skips blanks, comments and escaped newlines within a line.
    fn skip_blanks(&mut self) {
        loop {
            if self.take(" ") || self.take("\t") || self.take("\r") || self.take("\\\n") {
                continue;
            }
            if self.peek() == Some('#') {
                let rest = self.rest();
                self.at += rest.find('\n').unwrap_or(rest.len());
            }
            return;
        }
    }

    /// Skips blanks and newlines, with the here-documents that follow a newline.
    fn skip_lines(&mut self) {
        loop {
            self.skip_blanks();
            if !self.take("\n") {
                return;
            }
            if let Some(end) = self.here_end.take() {
                self.at = self.at.max(end);
            }
        }
    }

    // Lists.

    /// A list up to `end`, which is left in place.
    fn list(&mut self, end: End) -> Result<List> {
        let mut items = List::new();
        loop {
            self.skip_lines();
            if self.at_end(end) {
                break;
            }
            let and_or = self.and_or()?;
            self.skip_blanks();
            let mut background = false;
            let mut separated = true;
            if self.rest().starts_with(";;") {
                separated = false;
            } else if self.rest().starts_with('&') && !self.rest().starts_with("&&") {
                self.at += 1;
                background = true;
            } else if !self.take(";") && self.peek() != Some('\n') {
                separated = false;
            }
            items.push(Item { and_or, background });
            if !separated {
                self.skip_blanks();
                break;
            }
        }
        Ok(items)
    }

    fn at_end(&self, end: End) -> bool {
        match self.peek() {
            None => true,
            Some(')') => end == End::Parenthesis || end == End::Input,
            Some(';') if self.rest().starts_with(";;") => true,
            _ => match end {
                End::Word(words) => self.reserved().is_some_and(|word| words.contains(&word)),
                End::CaseArm => self.reserved() == Some("esac"),
                End::Input | End::Parenthesis => false,
            },
        }
    }

    /// The reserved word that comes next, if one does.
    fn reserved(&self) -> Option<&'static str> {
        let rest = self.rest();
        let len = rest.find(|c| is_meta(c) || c == '\\').unwrap_or(rest.len());
        // An escaped newline right behind it, and then the end of the word.
        let mut behind = &rest[len..];
        while let Some(next) = behind.strip_prefix("\\\n") {
            behind = next;
        }
        if !behind.chars().next().is_none_or(is_meta) {
            return None;
        }
        RESERVED.iter().find(|word| **word == &rest[..len]).copied()
    }

    /// Takes the reserved word `word`, which must come next.
    fn expect(&mut self, word: &'static str) -> Result<()> {
        self.skip_lines();
        if self.reserved() == Some(word) {
            self.at += word.len();
            return Ok(());
        }
        match self.peek() {
            None => Err(self.incomplete(&format!("`{word}` expected"))),
            Some(c) => Err(self.unexpected(c)),
        }
    }

    fn and_or(&mut self) -> Result<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.skip_blanks();
            let connector = if self.take("&&") {
                Connector::And
            } else if self.take("||") {
                Connector::Or
            } else {
                return Ok(AndOr { first, rest });
            };
            self.skip_lines();
            rest.push((connector, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline> {
        let mut pipeline = Pipeline { negated: false, timed: false, commands: Vec::new() };
        loop {
            if self.reserved() == Some("!") {
                self.at += 1;
                pipeline.negated = !pipeline.negated;
            } else if self.next_word_is("time") && !pipeline.timed {
                self.at += 4;
                pipeline.timed = true;
            } else {
                break;
            }
            self.skip_blanks();
        }
        if pipeline.timed && matches!(self.peek(), None | Some('\n' | ';' | ')' | '&')) {
            return Ok(pipeline);
        }
        loop {
            pipeline.commands.push(self.nested(Self::command)?);
            self.skip_blanks();
            if self.rest().starts_with("||") || !self.take("|") {
                return Ok(pipeline);
            }
            self.skip_lines();
        }
    }

    fn next_word_is(&self, word: &str) -> bool {
        self.rest().strip_prefix(word).is_some_and(|rest| rest.chars().next().is_none_or(is_meta))
    }
}

/// Characters that end an unquoted word.
fn is_meta(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')')
}

/// Whether `name` can name a variable.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
