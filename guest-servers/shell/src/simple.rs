//! Simple commands: functions, built-ins, programs.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::ast::{Redirect, Word};
use crate::builtin;
use crate::shell::{Result, Shell};
use crate::spawn::Started;
use crate::unparse::quote;

/// A simple command after expansion.
pub(crate) struct Expanded {
    pub assignments: Vec<(String, String)>,
    /// The command's name first; may be empty.
    pub fields: Vec<String>,
}

impl Expanded {
    /// Text that runs the same in another shell.
    pub fn script(&self) -> String {
        let assignments =
            self.assignments.iter().map(|(name, value)| format!("{name}={}", quote(value)));
        let words: Vec<String> =
            assignments.chain(self.fields.iter().map(|field| quote(field))).collect();
        words.join(" ")
    }
}

impl Shell<'_> {
    pub(crate) fn expand_simple(
        &mut self,
        assignments: &[(String, Word)],
        words: &[Word],
    ) -> Result<Expanded> {
        self.substituted = false;
        let fields = self.expand_words(words)?;
        let mut values = Vec::new();
        for (name, word) in assignments {
            let value = self.expand_string(word)?;
            // One assignment sees the one before it: `A=1 B=$A`.
            if fields.is_empty() {
                self.vars.set(name, value.clone()).map_err(|message| self.fail(&message))?;
            }
            values.push((name.clone(), value));
        }
        let expanded = Expanded { assignments: values, fields };
        if self.options.xtrace {
            let words = expanded.assignments.iter().map(|(name, value)| format!("{name}={value}"));
            let words: Vec<String> = words.chain(expanded.fields.iter().cloned()).collect();
            let line = format!("+ {}\n", words.join(" "));
            let _ = self.files.write(xinim_os::STDERR, line.as_bytes());
        }
        Ok(expanded)
    }

    pub(crate) fn run_simple(
        &mut self,
        assignments: &[(String, Word)],
        words: &[Word],
        redirects: &[Redirect],
    ) -> Result<()> {
        let expanded = self.expand_simple(assignments, words)?;
        let saved = (!redirects.is_empty()).then(|| self.files.clone());
        let keep = expanded.fields.len() == 1 && expanded.fields[0] == "exec";
        let result = match self.redirect_all(redirects) {
            Ok(true) => self.run_expanded(expanded),
            Ok(false) => Ok(()),
            Err(unwind) => Err(unwind),
        };
        if let Some(saved) = saved
            && !keep
        {
            self.files = saved;
        }
        result
    }

    fn run_expanded(&mut self, expanded: Expanded) -> Result<()> {
        let Some(name) = expanded.fields.first() else {
            if !self.substituted {
                self.status = 0;
            }
            return Ok(());
        };
        if self.options.noexec {
            return Ok(());
        }
        if let Some(body) = self.functions.get(name).map(Rc::clone) {
            let args = expanded.fields[1..].to_vec();
            return self.with_assignments(&expanded.assignments, |shell| shell.call(args, &body));
        }
        if let Some(run) = builtin::find(name) {
            return self.with_assignments(&expanded.assignments, |shell| {
                // The status is set behind the call: `exit` and `return` begin with the old one.
                let status = run(shell, &expanded.fields)?;
                shell.status = status;
                Ok(())
            });
        }
        match self.start_program(&expanded.fields, &expanded.assignments) {
            Started::Process(pid) => self.wait_foreground(&[pid], name),
            Started::Ended(status) => {
                self.status = status;
                Ok(())
            }
        }
    }

    /// Runs with variables changed for as long.
    fn with_assignments(
        &mut self,
        assignments: &[(String, String)],
        run: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let mut saved = Vec::new();
        for (name, value) in assignments {
            saved.push((name.to_string(), self.vars.save(name)));
            self.vars.set(name, value.clone()).map_err(|message| self.fail(&message))?;
            self.vars.export(name);
        }
        let result = run(self);
        for (name, variable) in saved.into_iter().rev() {
            self.vars.restore(&name, variable);
        }
        result
    }
}
