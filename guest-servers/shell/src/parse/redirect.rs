//! Redirections and here-documents.

use alloc::string::String;

use super::{Parser, Result};
use crate::ast::*;

impl Parser<'_> {
    /// A redirection with its descriptor number, if one comes next.
    pub(super) fn redirect(&mut self) -> Result<Option<Redirect>> {
        let rest = self.rest();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let operator = &rest[digits..];
        if !operator.starts_with(['<', '>']) {
            return Ok(None);
        }
        let number: Option<u32> = match &rest[..digits] {
            "" => None,
            text => Some(text.parse().map_err(|_| self.error("bad descriptor number"))?),
        };
        self.at += digits;
        const OPERATORS: [&str; 11] =
            ["<<<|", "<<<", "<<-", "<<", "<&", "<>", ">>", ">&", ">|", "<", ">"];
        let operator = OPERATORS.into_iter().find(|op| operator.starts_with(op)).unwrap_or("<");
        self.at += operator.len();
        self.skip_blanks();
        let default = u32::from(operator.starts_with('>'));
        let fd = number.unwrap_or(default);
        if operator == "<<" || operator == "<<-" {
            let text = self.here_document(operator == "<<-")?;
            return Ok(Some(Redirect { fd, target: Target::Here(text) }));
        }
        let Some(mut word) = self.word()? else { return Err(self.unexpected_here()) };
        let target = match operator {
            "<" => Target::Read(word),
            "<>" => Target::ReadWrite(word),
            ">>" => Target::Append(word),
            "<&" | ">&" => Target::Duplicate(word),
            // Between shells: a here-document's text as it is (see `unparse`).
            "<<<|" if word == [Part::Quoted(String::new())] => Target::Here(Word::new()),
            "<<<|" => Target::Here(word),
            "<<<" => {
                push_quoted(&mut word, "\n");
                Target::Here(word)
            }
            _ => Target::Write(word),
        };
        Ok(Some(Redirect { fd, target }))
    }

    /// After `<<`: takes the delimiter, and reads the text behind the line's end ahead.
    fn here_document(&mut self, strip_tabs: bool) -> Result<Word> {
        let start = self.at;
        let Some(word) = self.word()? else { return Err(self.unexpected_here()) };
        let expand = !self.source[start..self.at].contains(['\'', '"', '\\']);
        let mut delimiter = String::new();
        for part in &word {
            match part {
                Part::Literal(text) | Part::Quoted(text) => delimiter.push_str(text),
                Part::Tilde => delimiter.push('~'),
                _ => return Err(self.error("a here-document's delimiter is plain text")),
            }
        }
        let mut at = self.here_end.unwrap_or_else(|| self.line_end());
        let mut text = String::new();
        loop {
            let rest = &self.source[at..];
            if rest.is_empty() {
                return Err(self.incomplete("here-document without its end"));
            }
            let len = rest.find('\n').map_or(rest.len(), |at| at + 1);
            at += len;
            let mut line = &rest[..len];
            if strip_tabs {
                line = line.trim_start_matches('\t');
            }
            // A line that goes on from the one before is no delimiter.
            let joined = expand && text.strip_suffix('\n').is_some_and(ends_escaped);
            if !joined && line.strip_suffix('\n').unwrap_or(line) == delimiter {
                break;
            }
            text.push_str(line);
        }
        self.here_end = Some(at);
        if expand {
            let mut parser = Parser { depth: self.depth, ..Parser::new(&text) };
            return parser.nested(|parser| parser.here_text());
        }
        let mut word = Word::new();
        if !text.is_empty() {
            push_quoted(&mut word, &text);
        }
        Ok(word)
    }

    /// Position behind the newline that ends the current line, quotes considered.
    fn line_end(&self) -> usize {
        let mut escaped = false;
        let mut quote = None;
        for (at, c) in self.rest().char_indices() {
            match (quote, c) {
                _ if escaped => escaped = false,
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => escaped = true,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '\n') => return self.at + at + 1,
                (None, _) => {}
            }
        }
        self.source.len()
    }
}

/// Ends in a backslash that is not escaped itself.
fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

/// Appends quoted text, joined to quoted text before it.
pub(super) fn push_quoted(word: &mut Word, text: &str) {
    match word.last_mut() {
        Some(Part::Quoted(before)) => before.push_str(text),
        _ => word.push(Part::Quoted(text.into())),
    }
}
