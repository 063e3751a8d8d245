//! Commands: simple ones, and those that begin with a reserved word.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::{End, Parser, Result, is_meta, is_name};
use crate::ast::*;

impl Parser<'_> {
    pub(super) fn command(&mut self) -> Result<Command> {
        let kind = match self.reserved() {
            Some("{") => {
                self.at += 1;
                let list = self.list(End::Word(&["}"]))?;
                self.expect("}")?;
                Kind::Group(self.not_empty(list)?)
            }
            Some("if") => self.if_command()?,
            Some("while") => self.loop_command(false)?,
            Some("until") => self.loop_command(true)?,
            Some("for") => self.for_command()?,
            Some("case") => self.case_command()?,
            // A later word of a line; here it stands where a command should.
            Some(_) => return Err(self.unexpected_here()),
            None if self.take("(") => {
                let list = self.list(End::Parenthesis)?;
                if !self.take(")") {
                    return Err(self.unexpected_here());
                }
                Kind::Subshell(self.not_empty(list)?)
            }
            None => return self.simple_or_function(),
        };
        let mut redirects = Vec::new();
        loop {
            self.skip_blanks();
            match self.redirect()? {
                Some(redirect) => redirects.push(redirect),
                None => return Ok(Command { kind, redirects }),
            }
        }
    }

    fn not_empty(&self, list: List) -> Result<List> {
        if list.is_empty() { Err(self.error("a command is missing")) } else { Ok(list) }
    }

    fn list_until(&mut self, words: &'static [&'static str]) -> Result<List> {
        let list = self.list(End::Word(words))?;
        if list.is_empty() && self.peek().is_some() {
            return Err(self.unexpected_here());
        }
        Ok(list)
    }

    fn if_command(&mut self) -> Result<Kind> {
        self.expect("if")?;
        let mut arms = Vec::new();
        let mut otherwise = None;
        loop {
            let condition = self.list_until(&["then"])?;
            self.expect("then")?;
            arms.push((condition, self.list_until(&["elif", "else", "fi"])?));
            match self.reserved() {
                Some("elif") => self.at += "elif".len(),
                Some("else") => {
                    self.at += "else".len();
                    otherwise = Some(self.list_until(&["fi"])?);
                    break;
                }
                _ => break,
            }
        }
        self.expect("fi")?;
        Ok(Kind::If { arms, otherwise })
    }

    fn loop_command(&mut self, until: bool) -> Result<Kind> {
        self.expect(if until { "until" } else { "while" })?;
        let condition = self.list_until(&["do"])?;
        Ok(Kind::Loop { until, condition, body: self.do_group()? })
    }

    fn do_group(&mut self) -> Result<List> {
        self.expect("do")?;
        let body = self.list_until(&["done"])?;
        self.expect("done")?;
        Ok(body)
    }

    fn for_command(&mut self) -> Result<Kind> {
        self.expect("for")?;
        self.skip_blanks();
        let name = self.plain_word();
        if !is_name(&name) {
            return Err(self.unexpected_here());
        }
        self.skip_lines();
        let mut words = None;
        if self.reserved() == Some("in") {
            self.at += "in".len();
            words = Some(self.words()?);
            self.skip_blanks();
        }
        self.take(";");
        Ok(Kind::For { name, words, body: self.do_group()? })
    }

    fn case_command(&mut self) -> Result<Kind> {
        self.expect("case")?;
        self.skip_blanks();
        let Some(subject) = self.word()? else { return Err(self.unexpected_here()) };
        self.expect("in")?;
        let mut arms = Vec::new();
        loop {
            self.skip_lines();
            if self.reserved() == Some("esac") {
                break;
            }
            self.take("(");
            let mut patterns = Vec::new();
            loop {
                self.skip_blanks();
                match self.word()? {
                    Some(word) => patterns.push(word),
                    None => return Err(self.unexpected_here()),
                }
                self.skip_blanks();
                if !self.take("|") {
                    break;
                }
            }
            if !self.take(")") {
                return Err(self.unexpected_here());
            }
            arms.push((patterns, self.list(End::CaseArm)?));
            self.skip_lines();
            if !self.take(";;") {
                break;
            }
        }
        self.expect("esac")?;
        Ok(Kind::Case { subject, arms })
    }

    /// Characters up to the next blank or operator, unquoted.
    fn plain_word(&mut self) -> String {
        let rest = self.rest();
        let len = rest.find(is_meta).unwrap_or(rest.len());
        self.at += len;
        rest[..len].into()
    }

    fn words(&mut self) -> Result<Vec<Word>> {
        let mut words = Vec::new();
        loop {
            self.skip_blanks();
            match self.word()? {
                Some(word) => words.push(word),
                None => return Ok(words),
            }
        }
    }

    fn simple_or_function(&mut self) -> Result<Command> {
        if let Some(name) = self.function_head() {
            self.skip_lines();
            let body = self.nested(Self::command)?;
            if matches!(body.kind, Kind::Simple { .. } | Kind::Function { .. }) {
                return Err(self.error("a function's body is a compound command"));
            }
            let kind = Kind::Function { name, body: Rc::new(body) };
            return Ok(Command { kind, redirects: Vec::new() });
        }
        let mut assignments = Vec::new();
        let mut words = Vec::new();
        let mut redirects = Vec::new();
        loop {
            self.skip_blanks();
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            if words.is_empty()
                && let Some(name) = self.assignment_head()
            {
                assignments.push((name, self.word()?.unwrap_or_default()));
                continue;
            }
            match self.word()? {
                Some(word) => words.push(word),
                None => break,
            }
        }
        if assignments.is_empty() && words.is_empty() && redirects.is_empty() {
            return Err(self.unexpected_here());
        }
        Ok(Command { kind: Kind::Simple { assignments, words }, redirects })
    }

    /// Takes `name()` if it comes next.
    fn function_head(&mut self) -> Option<String> {
        let rest = self.rest();
        let len = rest.find(is_meta)?;
        if !is_name(&rest[..len]) {
            return None;
        }
        let behind = rest[len..].trim_start_matches([' ', '\t']).strip_prefix('(')?;
        let behind = behind.trim_start_matches([' ', '\t']).strip_prefix(')')?;
        self.at = self.source.len() - behind.len();
        Some(rest[..len].into())
    }

    /// Takes `name=` if it comes next.
    fn assignment_head(&mut self) -> Option<String> {
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
        if !is_name(&rest[..len]) || !rest[len..].starts_with('=') {
            return None;
        }
        self.at += len + 1;
        Some(rest[..len].into())
    }
}
