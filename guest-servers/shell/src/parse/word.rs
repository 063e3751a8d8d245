//! Words: quotes and expansions.

use alloc::boxed::Box;
use alloc::string::String;

use super::redirect::push_quoted;
use super::{End, Parser, Result, is_meta, is_name};
use crate::ast::*;

/// What ends the text being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// A blank or operator.
    Meta,
    /// `}`, in `${x:-…}` outside quotes.
    Brace,
    /// `"`
    Quote,
    /// `}`, in `${x:-…}` inside quotes.
    QuotedBrace,
    /// `))`, counting parentheses.
    Arithmetic,
    /// The end of the text (here-documents).
    Input,
}

impl Until {
    /// Whether expansions are as in double quotes: neither split nor globbed.
    fn quoted(self) -> bool {
        !matches!(self, Until::Meta | Until::Brace)
    }
}

impl Parser<'_> {
    /// The word that comes next, if one does.
    pub(super) fn word(&mut self) -> Result<Option<Word>> {
        let start = self.at;
        let mut word = Word::new();
        let rest = self.rest();
        if rest.starts_with('~') && rest[1..].chars().next().is_none_or(|c| c == '/' || is_meta(c))
        {
            self.at += 1;
            word.push(Part::Tilde);
        }
        self.parts(Until::Meta, &mut word)?;
        Ok((self.at > start).then(|| normalize(word)))
    }

    /// A here-document's text.
    pub(super) fn here_text(&mut self) -> Result<Word> {
        let mut word = Word::new();
        self.parts(Until::Input, &mut word)?;
        Ok(word)
    }

    fn parts(&mut self, until: Until, word: &mut Word) -> Result<()> {
        let mut parentheses = 0usize;
        loop {
            let Some(c) = self.peek() else {
                return match until {
                    Until::Meta | Until::Input => Ok(()),
                    Until::Quote => Err(self.incomplete("unterminated \"")),
                    Until::Brace | Until::QuotedBrace => Err(self.incomplete("`}` expected")),
                    Until::Arithmetic => Err(self.incomplete("`))` expected")),
                };
            };
            match until {
                Until::Meta if is_meta(c) => return Ok(()),
                Until::Brace | Until::QuotedBrace if c == '}' => return Ok(()),
                Until::Quote if c == '"' => return Ok(()),
                Until::Arithmetic if c == '(' => parentheses += 1,
                Until::Arithmetic if c == ')' => {
                    if parentheses == 0 {
                        return Ok(());
                    }
                    parentheses -= 1;
                }
                _ => {}
            }
            match c {
                '\\' => self.backslash(until, word),
                '\'' if !until.quoted() => {
                    self.at += 1;
                    let Some(len) = self.rest().find('\'') else {
                        return Err(self.incomplete("unterminated '"));
                    };
                    let text = &self.rest()[..len];
                    push_quoted(word, text);
                    self.at += len + 1;
                }
                '"' if until != Until::Input => {
                    self.at += 1;
                    // "" makes an empty field where nothing else would.
                    push_quoted(word, "");
                    self.nested(|parser| parser.parts(Until::Quote, word))?;
                    self.at += 1;
                }
                '$' => self.dollar(until.quoted(), word)?,
                '`' => self.backquote(until.quoted(), word)?,
                _ => {
                    self.at += c.len_utf8();
                    self.push(c, until, word);
                }
            }
        }
    }

    fn push(&mut self, c: char, until: Until, word: &mut Word) {
        let mut bytes = [0; 4];
        let text = c.encode_utf8(&mut bytes);
        if until.quoted() {
            return push_quoted(word, text);
        }
        match word.last_mut() {
            Some(Part::Literal(before)) => before.push(c),
            _ => word.push(Part::Literal(text.into())),
        }
    }

    fn backslash(&mut self, until: Until, word: &mut Word) {
        self.at += 1;
        let Some(c) = self.peek() else { return push_quoted(word, "\\") };
        let special = match until {
            Until::Meta | Until::Brace => true,
            Until::Quote | Until::QuotedBrace => matches!(c, '$' | '`' | '"' | '\\' | '\n' | '}'),
            Until::Input | Until::Arithmetic => matches!(c, '$' | '`' | '\\' | '\n'),
        };
        // `\}` means `}` only where a brace would end the text.
        let special = special && !(until == Until::Quote && c == '}');
        if !special {
            return push_quoted(word, "\\");
        }
        self.at += c.len_utf8();
        if c != '\n' {
            let mut bytes = [0; 4];
            push_quoted(word, c.encode_utf8(&mut bytes));
        } else if matches!(word.last(), Some(Part::Literal(_))) {
            // What a line's end splits is no reserved word, assignment or descriptor number.
            push_quoted(word, "");
        }
    }

    fn dollar(&mut self, quoted: bool, word: &mut Word) -> Result<()> {
        self.at += 1;
        if self.take("((") {
            let mut expression = Word::new();
            self.nested(|parser| parser.parts(Until::Arithmetic, &mut expression))?;
            if !self.take("))") {
                return Err(self.error("`))` expected"));
            }
            word.push(Part::Arithmetic { expression, quoted });
            return Ok(());
        }
        if self.take("(") {
            let here_end = self.here_end.take();
            let list = self.nested(|parser| parser.list(End::Parenthesis))?;
            if !self.take(")") {
                return Err(self.unexpected_here());
            }
            self.here_end = here_end.or(self.here_end);
            word.push(Part::Command { list, quoted });
            return Ok(());
        }
        if self.take("{") {
            let parameter = self.nested(|parser| parser.braces(quoted))?;
            word.push(Part::Parameter { parameter, quoted });
            return Ok(());
        }
        match self.simple_name() {
            Some(name) => {
                let parameter = Parameter { name, operation: Operation::Plain };
                word.push(Part::Parameter { parameter, quoted });
            }
            // Quoted, so that a literal dollar is never taken for the start of anything.
            None => push_quoted(word, "$"),
        }
        Ok(())
    }

    /// The name behind an unbraced `$`.
    fn simple_name(&mut self) -> Option<Name> {
        let c = self.peek()?;
        if let Some(digit) = c.to_digit(10) {
            self.at += 1;
            return Some(Name::Positional(digit));
        }
        if matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            self.at += 1;
            return Some(Name::Special(c));
        }
        let name = self.variable_name();
        (!name.is_empty()).then_some(Name::Variable(name))
    }

    fn variable_name(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let name = &rest[..end.unwrap_or(rest.len())];
        if !is_name(name) {
            return String::new();
        }
        self.at += name.len();
        name.into()
    }

    fn braced_name(&mut self) -> Result<Name> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            let number = self.rest()[..digits].parse();
            let number = number.map_err(|_| self.error("bad substitution"))?;
            self.at += digits;
            return Ok(Name::Positional(number));
        }
        self.simple_name().ok_or_else(|| match self.peek() {
            None => self.incomplete("`}` expected"),
            Some(_) => self.error("bad substitution"),
        })
    }

    /// What stands in `${…}`, with the closing brace.
    fn braces(&mut self, quoted: bool) -> Result<Parameter> {
        let rest = self.rest();
        if rest.starts_with('#')
            && !rest.starts_with("#}")
            && !rest[1..].starts_with([':', '#', '%'])
        {
            self.at += 1;
            let name = self.braced_name()?;
            self.close_brace()?;
            return Ok(Parameter { name, operation: Operation::Length });
        }
        let name = self.braced_name()?;
        let colon = self.take(":");
        let operation = match self.next() {
            Some('}') if !colon => return Ok(Parameter { name, operation: Operation::Plain }),
            Some('-') => Operation::Default { colon, word: self.operand(quoted)? },
            Some('=') => Operation::Assign { colon, word: self.operand(quoted)? },
            Some('?') => Operation::Error { colon, word: self.operand(quoted)? },
            Some('+') => Operation::Alternative { colon, word: self.operand(quoted)? },
            Some(c @ ('#' | '%')) if !colon => {
                let longest = self.take(if c == '#' { "#" } else { "%" });
                let pattern = Box::new(self.operand(false)?);
                Operation::Trim { suffix: c == '%', longest, pattern }
            }
            None => return Err(self.incomplete("`}` expected")),
            Some(_) => return Err(self.error("bad substitution")),
        };
        self.close_brace()?;
        Ok(Parameter { name, operation })
    }

    fn operand(&mut self, quoted: bool) -> Result<Word> {
        let mut word = Word::new();
        let until = if quoted { Until::QuotedBrace } else { Until::Brace };
        self.parts(until, &mut word)?;
        Ok(normalize(word))
    }

    fn close_brace(&mut self) -> Result<()> {
        if self.take("}") {
            return Ok(());
        }
        match self.peek() {
            None => Err(self.incomplete("`}` expected")),
            Some(_) => Err(self.error("bad substitution")),
        }
    }

    /// A command substitution in backquotes: its text with `\$`, `` \` `` and `\\` undone.
    fn backquote(&mut self, quoted: bool, word: &mut Word) -> Result<()> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(self.incomplete("unterminated `")),
                Some('`') => break,
                Some('\\') => match self.peek() {
                    Some(c) if matches!(c, '$' | '`' | '\\') || (quoted && c == '"') => {
                        self.at += 1;
                        text.push(c);
                    }
                    _ => text.push('\\'),
                },
                Some(c) => text.push(c),
            }
        }
        let mut parser = Parser { depth: self.depth, ..Parser::new(&text) };
        let list = parser.nested(|parser| {
            let list = parser.list(End::Input)?;
            match parser.peek() {
                None => Ok(list),
                Some(c) => Err(parser.unexpected(c)),
            }
        })?;
        word.push(Part::Command { list, quoted });
        Ok(())
    }
}

/// Without the empty quoted parts that another quoted part makes superfluous: an empty one only
/// says that there is a field. Between two literals it stays: it keeps `i""f` from being `if`.
fn normalize(mut word: Word) -> Word {
    let quoted = |part: &Part| match part {
        Part::Quoted(text) => !text.is_empty(),
        Part::Parameter { quoted, .. }
        | Part::Command { quoted, .. }
        | Part::Arithmetic { quoted, .. } => *quoted,
        Part::Literal(_) | Part::Tilde => false,
    };
    if !word.iter().any(quoted) {
        return word;
    }
    let mut at = 0;
    while at < word.len() {
        let literal = |at: usize| matches!(word.get(at), Some(Part::Literal(_)));
        let between = at > 0 && literal(at - 1) && literal(at + 1);
        let empty = matches!(&word[at], Part::Quoted(text) if text.is_empty());
        if empty && !between {
            word.remove(at);
            // Two literals never meet here, but two quoted texts may.
            if let (Some(before), Some(Part::Quoted(text))) = (at.checked_sub(1), word.get(at))
                && let Part::Quoted(joined) = &word[before]
            {
                word[before] = Part::Quoted(joined.clone() + text);
                word.remove(at);
            }
        } else {
            at += 1;
        }
    }
    word
}
