//! The shell's state, and how lists and compound commands run.
//!
//! ```text
//! run_list -> run_and_or -> run_pipeline -> run_command -> compound | simple (see `simple`)
//! ```
//! The status of what ran is in [`Shell::status`]; an `Err` means that control goes somewhere
//! else ([`Unwind`]).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xinim_os::{Error, Os, STDERR, open};

use crate::ast::*;
use crate::files::{File, Files};
use crate::glob::Pattern;
use crate::jobs::Jobs;
use crate::vars::Variables;
use crate::{parse, unparse};

/// Functions and sourced files within each other.
const CALLS_MAX: usize = 60;

/// Status of usage errors and of scripts that do not parse.
pub const STATUS_USAGE: u32 = 2;
pub const STATUS_NOT_EXECUTABLE: u32 = 126;
pub const STATUS_NOT_FOUND: u32 = 127;
/// A child ended by Ctrl-C: 128 + SIGINT.
pub const STATUS_INTERRUPTED: u32 = 130;

/// Why the rest of a list does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwind {
    /// Out of this many loops.
    Break(u32),
    Continue(u32),
    Return,
    Exit,
    /// An error was reported; a script ends, an interactive shell asks for the next line.
    Error,
}

pub type Result<T> = core::result::Result<T, Unwind>;

/// Options of `set`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub errexit: bool,
    pub xtrace: bool,
    pub noglob: bool,
    pub nounset: bool,
    pub noexec: bool,
}

impl Options {
    /// The option behind its letter.
    pub fn by_letter(&mut self, letter: char) -> Option<&mut bool> {
        Some(match letter {
            'e' => &mut self.errexit,
            'x' => &mut self.xtrace,
            'f' => &mut self.noglob,
            'u' => &mut self.nounset,
            'n' => &mut self.noexec,
            _ => return None,
        })
    }

    pub fn letters(mut self) -> String {
        "exfun".chars().filter(|&c| self.by_letter(c).is_some_and(|on| *on)).collect()
    }
}

pub struct Shell<'a> {
    pub(crate) os: &'a dyn Os,
    /// `$0`
    pub(crate) name: String,
    /// `$1` …
    pub(crate) args: Vec<String>,
    pub(crate) vars: Variables,
    pub(crate) functions: BTreeMap<String, Rc<Command>>,
    pub(crate) files: Files<'a>,
    pub(crate) options: Options,
    pub status: u32,
    /// `$$`: in subshells the first shell's.
    pub(crate) pid: u32,
    /// `$!`; 0: none yet.
    pub(crate) last_background: u32,
    pub(crate) jobs: Jobs,
    /// Time of the newest alert that was shown, us since boot.
    pub(crate) alerts_seen: u64,
    pub(crate) interactive: bool,
    /// Whether Ctrl-C must be directed to children; found out at the first one.
    pub(crate) on_terminal: Option<bool>,
    pub(crate) loops: u32,
    pub(crate) calls: usize,
    /// Inside of a condition, where `set -e` does not act.
    pub(crate) conditions: u32,
    /// Whether a command substitution ran: its status is that of a command without a name.
    pub(crate) substituted: bool,
}

impl<'a> Shell<'a> {
    pub fn new<'e>(os: &'a dyn Os, name: &str, env: impl Iterator<Item = &'e str>) -> Self {
        let mut shell = Self {
            os,
            name: name.to_string(),
            args: Vec::new(),
            vars: Variables::from_env(env),
            functions: BTreeMap::new(),
            files: Files::standard(os),
            options: Options::default(),
            status: 0,
            pid: os.pid(),
            last_background: 0,
            jobs: Jobs::default(),
            alerts_seen: 0,
            interactive: false,
            on_terminal: None,
            loops: 0,
            calls: 0,
            conditions: 0,
            substituted: false,
        };
        if shell.vars.get("PATH").is_none() {
            let _ = shell.vars.set("PATH", "/bin:/sbin".to_string());
            shell.vars.export("PATH");
        }
        // A separator of fields must not come from outside.
        let _ = shell.vars.unset("IFS");
        shell.take_inherited();
        shell
    }

    /// One line on standard error, with the shell's name.
    pub(crate) fn complain(&self, message: &str) {
        let line = format!("{}: {message}\n", xinim_os::base_name(&self.name));
        let _ = self.files.write(STDERR, line.as_bytes());
    }

    pub(crate) fn complain_about(&self, what: &str, error: Error) {
        self.complain(&format!("{what}: {error}"));
    }

    /// Runs a whole script. Errors were reported; the status is in `status`.
    pub fn run_text(&mut self, text: &str) -> Result<()> {
        match parse::parse(text) {
            Ok(list) => self.run_list(&list),
            Err(error) => {
                self.complain(&error.to_string());
                self.status = STATUS_USAGE;
                Err(Unwind::Error)
            }
        }
    }

    pub(crate) fn run_list(&mut self, list: &List) -> Result<()> {
        for item in list {
            if item.background {
                self.run_background(&item.and_or)?;
            } else {
                self.run_and_or(&item.and_or)?;
            }
        }
        Ok(())
    }

    fn run_and_or(&mut self, and_or: &AndOr) -> Result<()> {
        let mut pipeline = &and_or.first;
        let mut rest = and_or.rest.iter();
        loop {
            let next = rest.next();
            let conditional = next.is_some();
            self.conditions += u32::from(conditional);
            let result = self.run_pipeline(pipeline);
            self.conditions -= u32::from(conditional);
            result?;
            let Some(next) = next else { break };
            let mut next = Some(next);
            while let Some((connector, _)) = next
                && (*connector == Connector::And) != (self.status == 0)
            {
                next = rest.next();
            }
            match next {
                Some((_, then)) => pipeline = then,
                // The command that decided was not the last: no `set -e`.
                None => return Ok(()),
            }
        }
        if self.options.errexit && self.status != 0 && self.conditions == 0 && !pipeline.negated {
            return Err(Unwind::Exit);
        }
        Ok(())
    }

    fn run_pipeline(&mut self, pipeline: &Pipeline) -> Result<()> {
        let started = self.os.now_ns();
        self.conditions += u32::from(pipeline.negated);
        let result = match pipeline.commands.as_slice() {
            [] => Ok(()),
            [command] => self.run_command(command),
            commands => self.run_piped(commands),
        };
        self.conditions -= u32::from(pipeline.negated);
        if pipeline.timed {
            let ms = (self.os.now_ns() - started) / 1_000_000;
            let line = format!("real {}.{:03}s\n", ms / 1000, ms % 1000);
            let _ = self.files.write(STDERR, line.as_bytes());
        }
        if pipeline.negated {
            self.status = u32::from(self.status == 0);
        }
        result
    }

    pub(crate) fn run_command(&mut self, command: &Command) -> Result<()> {
        if let Kind::Simple { assignments, words } = &command.kind {
            return self.run_simple(assignments, words, &command.redirects);
        }
        if command.redirects.is_empty() {
            return self.run_compound(&command.kind);
        }
        let saved = self.files.clone();
        let result = match self.redirect_all(&command.redirects)? {
            true => self.run_compound(&command.kind),
            false => Ok(()),
        };
        self.files = saved;
        result
    }

    fn run_compound(&mut self, kind: &Kind) -> Result<()> {
        match kind {
            Kind::Simple { .. } => Ok(()),
            Kind::Group(list) => self.run_list(list),
            Kind::Subshell(list) => self.run_subshell(&unparse::list(list)),
            Kind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.condition(condition)? {
                        return self.run_list(body);
                    }
                }
                self.status = 0;
                otherwise.as_ref().map_or(Ok(()), |body| self.run_list(body))
            }
            Kind::Loop { until, condition, body } => self.run_loop(*until, condition, body),
            Kind::For { name, words, body } => self.run_for(name, words.as_ref(), body),
            Kind::Case { subject, arms } => {
                let subject = self.expand_string(subject)?;
                self.status = 0;
                for (patterns, body) in arms {
                    for pattern in patterns {
                        let pattern = self.expand_pattern(pattern)?;
                        if Pattern::new(&pattern).matches(&subject) {
                            return self.run_list(body);
                        }
                    }
                }
                Ok(())
            }
            Kind::Function { name, body } => {
                self.functions.insert(name.clone(), Rc::clone(body));
                self.status = 0;
                Ok(())
            }
        }
    }

    fn condition(&mut self, list: &List) -> Result<bool> {
        self.conditions += 1;
        let result = self.run_list(list);
        self.conditions -= 1;
        result?;
        Ok(self.status == 0)
    }

    /// One turn of a loop's body: whether to go on.
    fn turn(&mut self, run: impl FnOnce(&mut Self) -> Result<bool>) -> Result<bool> {
        self.loops += 1;
        let result = run(self);
        self.loops -= 1;
        match result {
            Err(Unwind::Break(1)) => Ok(false),
            Err(Unwind::Continue(1)) => Ok(true),
            Err(Unwind::Break(levels)) => Err(Unwind::Break(levels - 1)),
            Err(Unwind::Continue(levels)) => Err(Unwind::Continue(levels - 1)),
            other => other,
        }
    }

    fn run_loop(&mut self, until: bool, condition: &List, body: &List) -> Result<()> {
        let mut status = 0;
        loop {
            let go_on = self.turn(|shell| {
                if shell.condition(condition)? == until {
                    return Ok(false);
                }
                let result = shell.run_list(body);
                status = shell.status;
                result.map(|()| true)
            })?;
            if !go_on {
                self.status = status;
                return Ok(());
            }
        }
    }

    fn run_for(&mut self, name: &str, words: Option<&Vec<Word>>, body: &List) -> Result<()> {
        let values = match words {
            Some(words) => self.expand_words(words)?,
            None => self.args.clone(),
        };
        self.status = 0;
        for value in values {
            self.vars.set(name, value).map_err(|message| self.fail(&message))?;
            if !self.turn(|shell| shell.run_list(body).map(|()| true))? {
                break;
            }
        }
        Ok(())
    }

    /// Runs `body` with `args` as its positional parameters.
    pub(crate) fn call(&mut self, args: Vec<String>, body: &Command) -> Result<()> {
        self.deeper(|shell| {
            let args = core::mem::replace(&mut shell.args, args);
            let loops = core::mem::take(&mut shell.loops);
            let result = shell.run_command(body);
            shell.args = args;
            shell.loops = loops;
            match result {
                Err(Unwind::Return) => Ok(()),
                other => other,
            }
        })
    }

    /// Runs the commands of a file here (`.`).
    pub(crate) fn source(&mut self, path: &str) -> Result<()> {
        let text = match self.read_script(path) {
            Ok(text) => text,
            Err(error) => {
                self.complain_about(path, error);
                self.status = 1;
                return Ok(());
            }
        };
        self.deeper(|shell| match shell.run_text(&text) {
            Err(Unwind::Return) => Ok(()),
            other => other,
        })
    }

    pub(crate) fn deeper(&mut self, run: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.calls == CALLS_MAX {
            return Err(self.fail("functions nested too deeply"));
        }
        self.calls += 1;
        let result = run(self);
        self.calls -= 1;
        result
    }

    pub(crate) fn read_script(&self, path: &str) -> xinim_os::Result<String> {
        let fd = self.os.open(path, open::READ, 0)?;
        let file = File::owned(self.os, fd);
        let bytes = xinim_os::read_file(self.os, file.fd())?;
        if bytes.contains(&0) {
            return Err(Error::NoExec);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn is_on_terminal(&mut self) -> bool {
        let (os, interactive) = (self.os, self.interactive);
        *self.on_terminal.get_or_insert_with(|| interactive || os.is_terminal(xinim_os::STDIN))
    }
}
