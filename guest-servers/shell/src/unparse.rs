//! Syntax tree back to text that parses to the same tree.
//!
//! There is no `fork`: what must run in a process of its own (subshells, compound members of
//! pipelines, background lists) is handed to a new shell as text. Here-documents come out as
//! `<<<| word`, here-strings without a newline added, so the text has no parts elsewhere.

use alloc::string::String;
use core::fmt::Write;

use crate::ast::*;

pub fn list(list: &List) -> String {
    let mut out = String::new();
    write_list(&mut out, list);
    out
}

pub fn and_or(and_or: &AndOr) -> String {
    let mut out = String::new();
    write_and_or(&mut out, and_or);
    out
}

pub fn command(command: &Command) -> String {
    let mut out = String::new();
    write_command(&mut out, command);
    out
}

/// `text` as one word that expands to it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("'\\''"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

fn write_list(out: &mut String, list: &List) {
    for item in list {
        write_and_or(out, &item.and_or);
        out.push_str(if item.background { " &\n" } else { "\n" });
    }
}

fn write_and_or(out: &mut String, and_or: &AndOr) {
    write_pipeline(out, &and_or.first);
    for (connector, pipeline) in &and_or.rest {
        out.push_str(match connector {
            Connector::And => " && ",
            Connector::Or => " || ",
        });
        write_pipeline(out, pipeline);
    }
}

fn write_pipeline(out: &mut String, pipeline: &Pipeline) {
    if pipeline.timed {
        out.push_str("time ");
    }
    if pipeline.negated {
        out.push_str("! ");
    }
    for (index, command) in pipeline.commands.iter().enumerate() {
        if index > 0 {
            out.push_str(" | ");
        }
        write_command(out, command);
    }
}

fn write_command(out: &mut String, command: &Command) {
    match &command.kind {
        Kind::Simple { assignments, words } => {
            for (name, value) in assignments {
                let _ = write!(out, "{name}=");
                write_word(out, value);
                out.push(' ');
            }
            // Redirections first: a word that reads as a number must not come before them.
            for redirect in &command.redirects {
                write_redirect(out, redirect);
                out.push(' ');
            }
            for word in words {
                write_word(out, word);
                out.push(' ');
            }
            return;
        }
        Kind::Group(list) => {
            out.push_str("{\n");
            write_list(out, list);
            out.push('}');
        }
        Kind::Subshell(list) => {
            out.push_str("( ");
            write_list(out, list);
            out.push(')');
        }
        Kind::If { arms, otherwise } => {
            for (index, (condition, body)) in arms.iter().enumerate() {
                out.push_str(if index == 0 { "if " } else { "elif " });
                write_list(out, condition);
                out.push_str("then ");
                write_list(out, body);
            }
            if let Some(body) = otherwise {
                out.push_str("else ");
                write_list(out, body);
            }
            out.push_str("fi");
        }
        Kind::Loop { until, condition, body } => {
            out.push_str(if *until { "until " } else { "while " });
            write_list(out, condition);
            out.push_str("do ");
            write_list(out, body);
            out.push_str("done");
        }
        Kind::For { name, words, body } => {
            let _ = write!(out, "for {name}");
            if let Some(words) = words {
                out.push_str(" in");
                for word in words {
                    out.push(' ');
                    write_word(out, word);
                }
            }
            out.push_str("\ndo ");
            write_list(out, body);
            out.push_str("done");
        }
        Kind::Case { subject, arms } => {
            out.push_str("case ");
            write_word(out, subject);
            out.push_str(" in\n");
            for (patterns, body) in arms {
                for (index, pattern) in patterns.iter().enumerate() {
                    out.push_str(if index == 0 { "(" } else { " | " });
                    write_word(out, pattern);
                }
                out.push_str(") ");
                write_list(out, body);
                out.push_str(";;\n");
            }
            out.push_str("esac");
        }
        Kind::Function { name, body } => {
            let _ = write!(out, "{name}() ");
            write_command(out, body);
        }
    }
    for redirect in &command.redirects {
        out.push(' ');
        write_redirect(out, redirect);
    }
}

fn write_redirect(out: &mut String, redirect: &Redirect) {
    let (operator, word) = match &redirect.target {
        Target::Read(word) => ("<", word),
        Target::Write(word) => (">", word),
        Target::Append(word) => (">>", word),
        Target::ReadWrite(word) => ("<>", word),
        Target::Duplicate(word) => (">&", word),
        Target::Here(word) => return write_here(out, redirect.fd, word),
    };
    let _ = write!(out, "{}{operator} ", redirect.fd);
    write_word(out, word);
}

/// `<<<|`: exactly this text.
fn write_here(out: &mut String, fd: u32, text: &Word) {
    let _ = write!(out, "{fd}<<<| ");
    if text.is_empty() {
        out.push_str("''");
    }
    write_word(out, text);
}

fn write_word(out: &mut String, word: &Word) {
    if word.is_empty() {
        return;
    }
    for (index, part) in word.iter().enumerate() {
        // Nothing may stick to the name of an unbraced parameter: they are written with braces.
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Quoted(text) => out.push_str(&quote(text)),
            Part::Tilde => {
                debug_assert_eq!(index, 0);
                out.push('~');
            }
            Part::Parameter { parameter, quoted } => {
                quoted_if(out, *quoted, |out| write_parameter(out, parameter, *quoted));
            }
            Part::Command { list, quoted } => quoted_if(out, *quoted, |out| {
                out.push_str("$( ");
                write_list(out, list);
                out.push(')');
            }),
            Part::Arithmetic { expression, quoted } => quoted_if(out, *quoted, |out| {
                out.push_str("$((");
                write_in_quotes(out, expression);
                out.push_str("))");
            }),
        }
    }
}

fn quoted_if(out: &mut String, quoted: bool, write: impl FnOnce(&mut String)) {
    if quoted {
        out.push('"');
    }
    write(out);
    if quoted {
        out.push('"');
    }
}

/// A word all of whose parts are quoted, without the quotes.
fn write_in_quotes(out: &mut String, word: &Word) {
    for part in word {
        match part {
            Part::Quoted(text) if text.is_empty() => out.push_str("\"\""),
            Part::Literal(text) | Part::Quoted(text) => {
                for c in text.chars() {
                    if matches!(c, '$' | '`' | '"' | '\\' | '}') {
                        out.push('\\');
                    }
                    out.push(c);
                }
            }
            Part::Tilde => out.push('~'),
            Part::Parameter { parameter, .. } => write_parameter(out, parameter, true),
            Part::Command { list, .. } => {
                out.push_str("$( ");
                write_list(out, list);
                out.push(')');
            }
            Part::Arithmetic { expression, .. } => {
                out.push_str("$((");
                write_in_quotes(out, expression);
                out.push_str("))");
            }
        }
    }
}

fn write_parameter(out: &mut String, parameter: &Parameter, quoted: bool) {
    out.push_str("${");
    if parameter.operation == Operation::Length {
        out.push('#');
    }
    match &parameter.name {
        Name::Variable(name) => out.push_str(name),
        Name::Positional(number) => {
            let _ = write!(out, "{number}");
        }
        Name::Special(c) => out.push(*c),
    }
    let mut operand = |colon: bool, operator: &str, word: &Word| {
        if colon {
            out.push(':');
        }
        out.push_str(operator);
        if quoted { write_in_quotes(out, word) } else { write_word(out, word) }
    };
    match &parameter.operation {
        Operation::Plain | Operation::Length => {}
        Operation::Default { colon, word } => operand(*colon, "-", word),
        Operation::Assign { colon, word } => operand(*colon, "=", word),
        Operation::Error { colon, word } => operand(*colon, "?", word),
        Operation::Alternative { colon, word } => operand(*colon, "+", word),
        Operation::Trim { suffix, longest, pattern } => {
            let operator = match (suffix, longest) {
                (false, false) => "#",
                (false, true) => "##",
                (true, false) => "%",
                (true, true) => "%%",
            };
            out.push_str(operator);
            write_word(out, pattern);
        }
    }
    out.push('}');
}
