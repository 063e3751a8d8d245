//! `test EXPRESSION` and `[ EXPRESSION ]`.
//!
//! ```text
//! or := and { -o and }    and := not { -a not }    not := { ! } primary
//! ```
//! Up to three arguments are taken as POSIX says, so that operands that look like operators work.

use alloc::format;
use alloc::string::{String, ToString};

use xinim_os::{Fd, Os, is_kind, mode};

use crate::Context;

/// Nested parentheses and negations.
const DEPTH_MAX: usize = 100;

pub fn run(c: &mut Context<'_>) -> i32 {
    let os = c.os;
    match evaluate(os, &|fd| os.is_terminal(fd), c.name, c.args) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(message) => {
            c.usage(message);
            2
        }
    }
}

/// `name` is `test` or `[`; the latter wants a `]` at the end.
pub fn evaluate(
    os: &dyn Os,
    terminal: &dyn Fn(Fd) -> bool,
    name: &str,
    args: &[String],
) -> Result<bool, String> {
    let args = match args.split_last() {
        Some((last, args)) if name == "[" && last == "]" => args,
        _ if name == "[" => return Err("] missing".to_string()),
        _ => args,
    };
    let mut test = Test { os, terminal, rest: args, depth: 0 };
    match args {
        [] => return Ok(false),
        [only] => return Ok(!only.is_empty()),
        [not, only] if not == "!" => return Ok(only.is_empty()),
        [left, operator, right] if is_binary(operator) => {
            return test.binary(left, operator, right);
        }
        _ => {}
    }
    let value = test.or()?;
    match test.rest.first() {
        None => Ok(value),
        Some(extra) => Err(format!("unexpected '{extra}'")),
    }
}

struct Test<'a> {
    os: &'a dyn Os,
    terminal: &'a dyn Fn(Fd) -> bool,
    rest: &'a [String],
    depth: usize,
}

fn is_binary(operator: &str) -> bool {
    matches!(
        operator,
        "=" | "=="
            | "!="
            | "<"
            | ">"
            | "-eq"
            | "-ne"
            | "-lt"
            | "-le"
            | "-gt"
            | "-ge"
            | "-nt"
            | "-ot"
            | "-ef"
    )
}

impl<'a> Test<'a> {
    fn next(&mut self) -> Option<&'a String> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest.first().is_some_and(|arg| arg == text);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn or(&mut self) -> Result<bool, String> {
        let mut value = self.and()?;
        while self.take("-o") {
            value |= self.and()?;
        }
        Ok(value)
    }

    fn and(&mut self) -> Result<bool, String> {
        let mut value = self.not()?;
        while self.take("-a") {
            value &= self.not()?;
        }
        Ok(value)
    }

    fn not(&mut self) -> Result<bool, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("expression nested too deeply".to_string());
        }
        let value =
            if self.rest.len() > 1 && self.take("!") { !self.not()? } else { self.primary()? };
        self.depth -= 1;
        Ok(value)
    }

    fn primary(&mut self) -> Result<bool, String> {
        if let [left, operator, right, ..] = self.rest
            && is_binary(operator)
        {
            self.rest = &self.rest[3..];
            return self.binary(left, operator, right);
        }
        let Some(first) = self.next() else { return Err("argument expected".to_string()) };
        if first == "(" {
            let value = self.or()?;
            return if self.take(")") { Ok(value) } else { Err(") missing".to_string()) };
        }
        match first.strip_prefix('-') {
            Some(operator) if operator.len() == 1 && !self.rest.is_empty() => {
                let operand = self.next().map(String::as_str).unwrap_or("");
                self.unary(operator, operand)
            }
            _ => Ok(!first.is_empty()),
        }
    }

    fn unary(&self, operator: &str, operand: &str) -> Result<bool, String> {
        let is = |kind| self.os.stat(operand).is_ok_and(|stat| is_kind(&stat, kind));
        let allowed = |bit| self.os.stat(operand).is_ok_and(|stat| stat.mode & bit != 0);
        Ok(match operator {
            "n" => !operand.is_empty(),
            "z" => operand.is_empty(),
            "e" => self.os.stat(operand).is_ok(),
            "f" => is(mode::REGULAR),
            "d" => is(mode::DIRECTORY),
            "b" => is(mode::BLOCK),
            "c" => is(mode::CHARACTER),
            "p" => is(mode::FIFO),
            "h" | "L" => self.os.lstat(operand).is_ok_and(|stat| is_kind(&stat, mode::SYMLINK)),
            "s" => self.os.stat(operand).is_ok_and(|stat| stat.size > 0),
            "r" => allowed(0o444),
            "w" => allowed(0o222),
            "x" => allowed(0o111),
            "t" => operand.parse().is_ok_and(|fd| (self.terminal)(fd)),
            _ => return Err(format!("-{operator}: unknown operator")),
        })
    }

    fn binary(&self, left: &str, operator: &str, right: &str) -> Result<bool, String> {
        let numbers = || Ok::<_, String>((number(left)?, number(right)?));
        let files = || Some((self.os.stat(left).ok()?, self.os.stat(right).ok()?));
        Ok(match operator {
            "=" | "==" => left == right,
            "!=" => left != right,
            "<" => left < right,
            ">" => left > right,
            "-nt" => files().is_some_and(|(a, b)| a.mtime > b.mtime),
            "-ot" => files().is_some_and(|(a, b)| a.mtime < b.mtime),
            "-ef" => files().is_some_and(|(a, b)| (a.device, a.ino) == (b.device, b.ino)),
            _ => {
                let (a, b) = numbers()?;
                match operator {
                    "-eq" => a == b,
                    "-ne" => a != b,
                    "-lt" => a < b,
                    "-le" => a <= b,
                    "-gt" => a > b,
                    _ => a >= b,
                }
            }
        })
    }
}

fn number(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| format!("'{text}': not a number"))
}
