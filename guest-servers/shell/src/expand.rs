//! Word expansion (POSIX 2.6): parameters, command substitution, arithmetic, field splitting, path
//! names.
//!
//! While a field grows it is a pattern string (see `glob`): quoted text is escaped, unquoted text
//! acts. Path-name expansion, or taking the escapes out, comes last.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem::take;

use crate::ast::*;
use crate::shell::{Result, Shell, Unwind};
use crate::{arith, glob};

struct Expansion {
    fields: Vec<String>,
    current: Option<String>,
    /// Split unquoted results at these; `None`: not at all.
    separators: Option<String>,
    /// White space ended the field before; a separator right behind it belongs to it.
    after_blank: bool,
}

impl Expansion {
    fn new(separators: Option<String>) -> Self {
        Self { fields: Vec::new(), current: None, separators, after_blank: false }
    }

    fn current(&mut self) -> &mut String {
        self.after_blank = false;
        self.current.get_or_insert_default()
    }

    fn end_field(&mut self) {
        self.fields.extend(self.current.take());
    }

    fn quoted(&mut self, text: &str) {
        glob::push_escaped(self.current(), text);
    }

    /// The result of an unquoted expansion.
    fn split(&mut self, text: &str) {
        let Some(separators) = take(&mut self.separators) else {
            push_result(self.current(), text);
            return;
        };
        for c in text.chars() {
            if !separators.contains(c) {
                let mut bytes = [0; 4];
                push_result(self.current(), c.encode_utf8(&mut bytes));
            } else if matches!(c, ' ' | '\t' | '\n') {
                if self.current.is_some() {
                    self.end_field();
                    self.after_blank = true;
                }
            } else {
                if !self.after_blank {
                    self.current();
                }
                self.end_field();
                self.after_blank = false;
            }
        }
        self.separators = Some(separators);
    }

    fn finish(mut self) -> Vec<String> {
        self.end_field();
        self.fields
    }
}

/// Pattern characters of a result act; a backslash is itself.
fn push_result(field: &mut String, text: &str) {
    for c in text.chars() {
        if c == '\\' {
            field.push('\\');
        }
        field.push(c);
    }
}

/// Whether a value is there.
enum Value {
    Unset,
    One(String),
    /// `$@` or `$*`.
    Arguments(char),
}

impl Shell<'_> {
    /// Fields of a command's words.
    pub(crate) fn expand_words(&mut self, words: &[Word]) -> Result<Vec<String>> {
        let mut fields = Vec::new();
        for word in words {
            // The usual case first: nothing to expand.
            if let [Part::Quoted(text)] = word.as_slice() {
                fields.push(text.clone());
                continue;
            }
            let mut expansion = Expansion::new(Some(self.separators()));
            self.expand_parts(word, &mut expansion)?;
            for field in expansion.finish() {
                self.push_paths(field, &mut fields);
            }
        }
        Ok(fields)
    }

    fn push_paths(&self, field: String, fields: &mut Vec<String>) {
        if glob::is_pattern(&field) && !self.options.noglob {
            let paths = glob::expand(self.os, &field);
            if !paths.is_empty() {
                fields.extend(paths);
                return;
            }
        }
        fields.push(glob::unescape(&field));
    }

    /// One string, neither split nor globbed: assignments, redirections, here-documents.
    pub(crate) fn expand_string(&mut self, word: &Word) -> Result<String> {
        Ok(glob::unescape(&self.expand_pattern(word)?))
    }

    /// One pattern string.
    pub(crate) fn expand_pattern(&mut self, word: &Word) -> Result<String> {
        let mut expansion = Expansion::new(None);
        self.expand_parts(word, &mut expansion)?;
        Ok(expansion.finish().join(" "))
    }

    fn separators(&self) -> String {
        self.vars.get("IFS").unwrap_or(" \t\n").to_string()
    }

    fn expand_parts(&mut self, word: &Word, out: &mut Expansion) -> Result<()> {
        let is_arguments = |part: &Part| {
            matches!(part, Part::Parameter { parameter, quoted: true }
                if parameter.name == Name::Special('@') && parameter.operation == Operation::Plain)
        };
        if self.args.is_empty() && word.iter().all(is_arguments) {
            // "$@" of nothing is nothing, not an empty field.
            return Ok(());
        }
        for part in word {
            match part {
                Part::Literal(text) => out.current().push_str(text),
                Part::Quoted(text) => out.quoted(text),
                Part::Tilde => {
                    let home = self.vars.get("HOME").unwrap_or("/").to_string();
                    out.quoted(&home);
                }
                Part::Parameter { parameter, quoted } => {
                    self.expand_parameter(parameter, *quoted, out)?;
                }
                Part::Command { list, quoted } => {
                    let text = self.capture(list)?;
                    push(out, *quoted, &text);
                }
                Part::Arithmetic { expression, quoted } => {
                    let text = self.expand_string(expression)?;
                    let value = self.arithmetic(&text)?;
                    push(out, *quoted, &value.to_string());
                }
            }
        }
        Ok(())
    }

    pub(crate) fn arithmetic(&mut self, text: &str) -> Result<i64> {
        arith::evaluate(text, &mut self.vars).map_err(|message| self.fail(&message))
    }

    fn value(&self, name: &Name) -> Value {
        let value = match name {
            Name::Variable(name) => self.vars.get(name).map(str::to_string),
            Name::Positional(0) => Some(self.name.clone()),
            Name::Positional(number) => self.args.get(*number as usize - 1).cloned(),
            Name::Special(c @ ('@' | '*')) => return Value::Arguments(*c),
            Name::Special('#') => Some(self.args.len().to_string()),
            Name::Special('?') => Some(self.status.to_string()),
            Name::Special('$') => Some(self.pid.to_string()),
            Name::Special('!') if self.last_background == 0 => None,
            Name::Special('!') => Some(self.last_background.to_string()),
            Name::Special(_) => Some(self.options.letters()),
        };
        value.map_or(Value::Unset, Value::One)
    }

    fn expand_parameter(
        &mut self,
        parameter: &Parameter,
        quoted: bool,
        out: &mut Expansion,
    ) -> Result<()> {
        let name = &parameter.name;
        let value = self.value(name);
        let (unset, empty) = match &value {
            Value::Unset => (true, true),
            Value::One(text) => (false, text.is_empty()),
            Value::Arguments(_) => (self.args.is_empty(), self.args.iter().all(String::is_empty)),
        };
        let missing = |colon: bool| unset || (colon && empty);
        match &parameter.operation {
            Operation::Plain => self.push_value(name, value, quoted, out),
            Operation::Length => {
                let length = match value {
                    Value::Unset => 0,
                    Value::One(text) => text.chars().count(),
                    Value::Arguments(_) => self.args.len(),
                };
                push(out, quoted, &length.to_string());
                Ok(())
            }
            Operation::Default { colon, word } if missing(*colon) => {
                self.operand(word, quoted, out)
            }
            Operation::Alternative { colon, .. } if missing(*colon) => Ok(()),
            Operation::Alternative { word, .. } => self.operand(word, quoted, out),
            Operation::Assign { colon, word } if missing(*colon) => {
                let Name::Variable(variable) = name else {
                    return Err(self.fail("only variables can be assigned to"));
                };
                let text = self.expand_string(word)?;
                self.vars.set(variable, text.clone()).map_err(|message| self.fail(&message))?;
                push(out, quoted, &text);
                Ok(())
            }
            Operation::Error { colon, word } if missing(*colon) => {
                let text = self.expand_string(word)?;
                let text = if text.is_empty() { "parameter not set" } else { &text };
                Err(self.fail(&format!("{}: {text}", name_text(name))))
            }
            Operation::Default { .. } | Operation::Assign { .. } | Operation::Error { .. } => {
                self.push_value(name, value, quoted, out)
            }
            Operation::Trim { suffix, longest, pattern } => {
                let pattern = glob::Pattern::new(&self.expand_pattern(pattern)?);
                let text = match value {
                    Value::Unset => String::new(),
                    Value::One(text) => text,
                    Value::Arguments(_) => self.args.join(" "),
                };
                push(out, quoted, &trim(&text, &pattern, *suffix, *longest));
                Ok(())
            }
        }
    }

    /// The word of `${x:-word}`: parts keep their own quoting.
    fn operand(&mut self, word: &Word, quoted: bool, out: &mut Expansion) -> Result<()> {
        if !quoted {
            // Unquoted text of the word is split like a result.
            for part in word {
                match part {
                    Part::Literal(text) => out.split(text),
                    _ => self.expand_parts(&Vec::from([part.clone()]), out)?,
                }
            }
            return Ok(());
        }
        let text = self.expand_string(word)?;
        out.quoted(&text);
        Ok(())
    }

    fn push_value(
        &mut self,
        name: &Name,
        value: Value,
        quoted: bool,
        out: &mut Expansion,
    ) -> Result<()> {
        match value {
            Value::Unset if self.options.nounset => {
                return Err(self.fail(&format!("{}: parameter not set", name_text(name))));
            }
            Value::Unset => push(out, quoted, ""),
            Value::One(text) => push(out, quoted, &text),
            Value::Arguments(c) => self.push_arguments(c, quoted, out),
        }
        Ok(())
    }

    fn push_arguments(&mut self, c: char, quoted: bool, out: &mut Expansion) {
        if quoted && (c == '*' || out.separators.is_none()) {
            let separator = match self.vars.get("IFS") {
                Some(separators) if c == '*' => {
                    separators.chars().next().map(String::from).unwrap_or_default()
                }
                _ => " ".to_string(),
            };
            out.quoted(&self.args.join(&separator));
            return;
        }
        for (index, argument) in self.args.iter().enumerate() {
            if index > 0 {
                if out.separators.is_some() {
                    out.end_field();
                } else {
                    out.current().push(' ');
                }
            }
            push(out, quoted, argument);
        }
    }
}

fn push(out: &mut Expansion, quoted: bool, text: &str) {
    if quoted { out.quoted(text) } else { out.split(text) }
}

fn name_text(name: &Name) -> String {
    match name {
        Name::Variable(name) => name.clone(),
        Name::Positional(number) => number.to_string(),
        Name::Special(c) => c.to_string(),
    }
}

/// `text` without the part at its start or end that matches.
fn trim(text: &str, pattern: &glob::Pattern, suffix: bool, longest: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let lengths = 0..=chars.len();
    let cut = |length: &usize| {
        let part = if suffix { &chars[chars.len() - length..] } else { &chars[..*length] };
        pattern.matches_chars(part)
    };
    let found = if longest { lengths.rev().find(cut) } else { lengths.into_iter().find(cut) };
    let length = found.unwrap_or(0);
    let rest = if suffix { &chars[..chars.len() - length] } else { &chars[length..] };
    rest.iter().collect()
}

impl arith::Variables for crate::vars::Variables {
    fn get(&self, name: &str) -> String {
        self.get(name).unwrap_or("").to_string()
    }

    fn set(&mut self, name: &str, value: String) -> core::result::Result<(), String> {
        self.set(name, value)
    }
}

impl Shell<'_> {
    /// Reports an error of expansion; what it returns ends the command line.
    pub(crate) fn fail(&mut self, message: &str) -> Unwind {
        self.complain(message);
        self.status = 1;
        Unwind::Error
    }
}
