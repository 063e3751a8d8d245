//! Processes: programs found and started, subshells, pipelines, command substitution.
//!
//! XINIM has no `fork`. A program is started directly, with an explicit list of descriptors. What
//! POSIX lets run in a copy of the shell (a subshell, a built-in or compound member of a pipeline,
//! a list in the background) is run by a new shell: it gets the commands as text (`unparse`) and
//! the state that is not in the environment in the variable [`STATE`].

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use xinim_os::{Error, STDIN, STDOUT, Spawn, join, open, signal};

use crate::ast::*;
use crate::files::{Entry, File};
use crate::shell::{
    Result, STATUS_INTERRUPTED, STATUS_NOT_EXECUTABLE, STATUS_NOT_FOUND, Shell, Unwind,
};
use crate::{builtin, unparse};

/// Environment variable of a subshell: `status pid`, then commands that restore the state.
const STATE: &str = "SH_STATE";
/// What runs subshells and scripts.
const SHELL: &str = "/bin/sh";

pub(crate) enum Started {
    Process(u32),
    /// Nothing runs; the reason was reported. The status.
    Ended(u32),
}

impl<'a> Shell<'a> {
    /// Starts a program with the shell's files.
    pub(crate) fn start_program(
        &mut self,
        fields: &[String],
        assignments: &[(String, String)],
    ) -> Started {
        let Some(name) = fields.first() else { return Started::Ended(0) };
        let env = self.vars.environment(assignments);
        let mut failure = None;
        if name.contains('/') {
            match self.try_path(name, fields, &env) {
                Ok(pid) => return Started::Process(pid),
                Err(error) => failure = Some(error),
            }
        } else if !name.is_empty() {
            let assigned = assignments.iter().find(|(name, _)| name == "PATH");
            let path = assigned.map(|(_, value)| value.as_str()).or(self.vars.get("PATH"));
            for dir in path.unwrap_or("").split(':') {
                let path = join(if dir.is_empty() { "." } else { dir }, name);
                match self.try_path(&path, fields, &env) {
                    Ok(pid) => return Started::Process(pid),
                    Err(Error::NoEnt | Error::NotDir) => {}
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        let (status, message) = match failure {
            None => (STATUS_NOT_FOUND, format!("{name}: command not found")),
            Some(error @ Error::NoEnt) => (STATUS_NOT_FOUND, format!("{name}: {error}")),
            Some(error) => (STATUS_NOT_EXECUTABLE, format!("{name}: {error}")),
        };
        self.complain(&message);
        Started::Ended(status)
    }

    fn try_path(&self, path: &str, fields: &[String], env: &[String]) -> xinim_os::Result<u32> {
        let fds = self.files.for_child();
        let spawned = self.os.spawn(&Spawn { path, args: fields, env, fds: &fds });
        if spawned != Err(Error::NoExec) || !self.is_text(path) {
            return spawned;
        }
        // A script without `#!`.
        let mut args = Vec::from([fields[0].clone(), path.to_string()]);
        args.extend_from_slice(&fields[1..]);
        self.os.spawn(&Spawn { path: SHELL, args: &args, env, fds: &fds })
    }

    fn is_text(&self, path: &str) -> bool {
        let Ok(fd) = self.os.open(path, open::READ, 0) else { return false };
        let file = File::owned(self.os, fd);
        let mut start = [0; 256];
        let count = self.os.read(file.fd(), &mut start).unwrap_or(0);
        count > 0 && !start[..count].contains(&0)
    }

    /// Starts a shell that runs `text` from where this one stands.
    pub(crate) fn start_subshell(&mut self, text: &str) -> Started {
        let mut args = Vec::from([self.name.clone(), "-c".to_string(), text.to_string()]);
        args.push(self.name.clone());
        args.extend_from_slice(&self.args);
        let state = [(STATE.to_string(), self.state())];
        let env = self.vars.environment(&state);
        let fds = self.files.for_child();
        match self.os.spawn(&Spawn { path: SHELL, args: &args, env: &env, fds: &fds }) {
            Ok(pid) => Started::Process(pid),
            Err(error) => {
                self.complain_about("subshell", error);
                Started::Ended(STATUS_NOT_EXECUTABLE)
            }
        }
    }

    fn state(&self) -> String {
        let mut state = format!("{} {}\n", self.status, self.pid);
        for (name, body) in &self.functions {
            state += &format!("{name}() {}\n", unparse::command(body));
        }
        let letters = self.options.letters();
        if !letters.is_empty() {
            state += &format!("set -{letters}\n");
        }
        // Last: a changed IFS or read-only variables concern nothing before.
        self.vars.script(&mut state);
        state
    }

    /// Takes over what the parent shell left in [`STATE`].
    pub(crate) fn take_inherited(&mut self) {
        let Some(state) = self.vars.get(STATE).map(str::to_string) else { return };
        let _ = self.vars.unset(STATE);
        let (head, script) = state.split_once('\n').unwrap_or((&state, ""));
        let _ = self.run_text(script);
        let mut numbers = head.split(' ').map(|number| number.parse().unwrap_or(0));
        self.status = numbers.next().unwrap_or(0);
        self.pid = numbers.next().unwrap_or(self.pid);
    }

    pub(crate) fn run_subshell(&mut self, text: &str) -> Result<()> {
        match self.start_subshell(text) {
            Started::Process(pid) => self.wait_foreground(&[pid], "subshell"),
            Started::Ended(status) => {
                self.status = status;
                Ok(())
            }
        }
    }

    /// Starts one command as a process of its own, whatever it is.
    fn start(&mut self, command: &Command) -> Result<Started> {
        let saved = self.files.clone();
        let started = self.start_redirected(command);
        self.files = saved;
        started
    }

    fn start_redirected(&mut self, command: &Command) -> Result<Started> {
        if let Kind::Simple { assignments, words } = &command.kind {
            let expanded = self.expand_simple(assignments, words)?;
            if !self.redirect_all(&command.redirects)? {
                return Ok(Started::Ended(self.status));
            }
            let Some(name) = expanded.fields.first() else { return Ok(Started::Ended(0)) };
            let own = self.functions.contains_key(name)
                || (builtin::find(name).is_some() && !builtin::is_program(name));
            if own {
                return Ok(self.start_subshell(&expanded.script()));
            }
            return Ok(self.start_program(&expanded.fields, &expanded.assignments));
        }
        if !self.redirect_all(&command.redirects)? {
            return Ok(Started::Ended(self.status));
        }
        let bare = Command { kind: command.kind.clone(), redirects: Vec::new() };
        Ok(self.start_subshell(&unparse::command(&bare)))
    }

    /// Starts all members, connected by pipes. Their process ids; the status if the last one
    /// could not be started.
    fn start_piped(&mut self, commands: &[Command]) -> Result<(Vec<u32>, Option<u32>)> {
        let mut pids = Vec::new();
        let mut ended = None;
        let mut input: Option<File<'a>> = None;
        for (index, command) in commands.iter().enumerate() {
            let saved = self.files.clone();
            if let Some(reader) = input.take() {
                self.files.set_file(STDIN, reader);
            }
            if index + 1 < commands.len() {
                match self.os.pipe() {
                    Ok((reader, writer)) => {
                        input = Some(File::owned(self.os, reader));
                        self.files.set_file(STDOUT, File::owned(self.os, writer));
                    }
                    Err(error) => {
                        self.files = saved;
                        self.complain_about("pipe", error);
                        return Ok((pids, Some(1)));
                    }
                }
            }
            let started = self.start(command);
            self.files = saved;
            ended = match started? {
                Started::Process(pid) => {
                    pids.push(pid);
                    None
                }
                Started::Ended(status) => Some(status),
            };
        }
        Ok((pids, ended))
    }

    pub(crate) fn run_piped(&mut self, commands: &[Command]) -> Result<()> {
        let (pids, ended) = self.start_piped(commands)?;
        let result = self.wait_foreground(&pids, "pipeline");
        self.status = ended.unwrap_or(self.status);
        result
    }

    pub(crate) fn run_background(&mut self, and_or: &AndOr) -> Result<()> {
        let saved = self.files.clone();
        if let Ok(fd) = self.os.open("/dev/null", open::READ, 0) {
            self.files.set_file(STDIN, File::owned(self.os, fd));
        }
        let plain = and_or.rest.is_empty() && !and_or.first.negated && !and_or.first.timed;
        let started = if plain {
            self.start_piped(&and_or.first.commands)
        } else {
            Ok(match self.start_subshell(&unparse::and_or(and_or)) {
                Started::Process(pid) => (Vec::from([pid]), None),
                Started::Ended(status) => (Vec::new(), Some(status)),
            })
        };
        self.files = saved;
        let (pids, ended) = started?;
        self.status = ended.unwrap_or(0);
        if let Some(job) = self.jobs.add(pids, unparse::and_or(and_or).replace('\n', " ")) {
            self.last_background = job.pid;
            if self.interactive {
                let line = format!("[{}] {}\n", job.number, job.pid);
                let _ = self.files.write(xinim_os::STDERR, line.as_bytes());
            }
        }
        Ok(())
    }

    /// Waits for all of them; the status is the last one's.
    pub(crate) fn wait_foreground(&mut self, pids: &[u32], name: &str) -> Result<()> {
        let Some(&last) = pids.last() else { return Ok(()) };
        let terminal = self.is_on_terminal();
        if terminal {
            let _ = self.os.set_foreground(last);
        }
        // The last one first: Ctrl-C ends it, and what feeds it must not keep the shell waiting.
        self.status = self.wait_status(last);
        if terminal && self.status == STATUS_INTERRUPTED {
            for &pid in &pids[..pids.len() - 1] {
                let _ = self.os.kill(pid, signal::INT);
            }
        }
        for &pid in &pids[..pids.len() - 1] {
            self.wait_status(pid);
        }
        if terminal {
            let own = if self.interactive { 0 } else { self.os.pid() };
            let _ = self.os.set_foreground(own);
        }
        if let Some(text) = death_text(self.status) {
            self.complain(&format!("{name}: {text}"));
        }
        if terminal && self.status == STATUS_INTERRUPTED {
            // A script that Ctrl-C interrupts ends; so does an interactive command line.
            return Err(if self.interactive { Unwind::Error } else { Unwind::Exit });
        }
        Ok(())
    }

    fn wait_status(&self, pid: u32) -> u32 {
        match self.os.wait(pid, false) {
            Ok(ended) => ended.status,
            Err(error) => {
                self.complain_about("wait", error);
                STATUS_NOT_FOUND
            }
        }
    }

    /// The output of commands, without the newlines at its end.
    pub(crate) fn capture(&mut self, list: &List) -> Result<String> {
        let saved = self.files.clone();
        let mut text = self.deeper_capture(list);
        self.files = saved;
        self.substituted = true;
        if let Ok(text) = &mut text {
            text.truncate(text.trim_end_matches('\n').len());
            text.retain(|c| c != '\0');
        }
        text
    }

    fn deeper_capture(&mut self, list: &List) -> Result<String> {
        let commands = match list.as_slice() {
            [] => return Ok(String::new()),
            [Item { and_or, background: false }]
                if and_or.rest.is_empty() && !and_or.first.negated && !and_or.first.timed =>
            {
                and_or.first.commands.as_slice()
            }
            _ => &[],
        };
        if let [Command { kind: Kind::Simple { assignments, words }, redirects }] = commands
            && redirects.is_empty()
            && assignments.is_empty()
            && let Some([Part::Literal(name)]) = words.first().map(Vec::as_slice)
            && builtin::is_pure(name)
            && !self.functions.contains_key(name)
            && let Some(run) = builtin::find(name)
        {
            let expanded = self.expand_simple(&[], words)?;
            let captured = Rc::new(RefCell::new(Vec::new()));
            self.files.set(STDOUT, Entry::Capture(Rc::clone(&captured)));
            self.status = run(self, &expanded.fields)?;
            return Ok(String::from_utf8_lossy(&captured.borrow()).into_owned());
        }
        let (reader, writer) = match self.os.pipe() {
            Ok(pipe) => pipe,
            Err(error) => return Err(self.fail(&format!("pipe: {error}"))),
        };
        let reader = File::owned(self.os, reader);
        let saved = self.files.clone();
        self.files.set_file(STDOUT, File::owned(self.os, writer));
        let started = if commands.is_empty() {
            Ok(match self.start_subshell(&unparse::list(list)) {
                Started::Process(pid) => (Vec::from([pid]), None),
                Started::Ended(status) => (Vec::new(), Some(status)),
            })
        } else {
            self.start_piped(commands)
        };
        // Our copy of the write end must go, or the end never comes.
        self.files = saved;
        let (pids, ended) = started?;
        let output = xinim_os::read_file(self.os, reader.fd());
        drop(reader);
        let waited = self.wait_foreground(&pids, "command substitution");
        self.status = ended.unwrap_or(self.status);
        waited?;
        match output {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => Err(self.fail(&format!("command substitution: {error}"))),
        }
    }
}

/// What to say about a child that a CPU exception ended.
fn death_text(status: u32) -> Option<&'static str> {
    Some(match status.checked_sub(128)? {
        signal::ILL => "illegal instruction",
        signal::TRAP => "breakpoint trap",
        signal::FPE => "arithmetic exception",
        signal::SEGV => "segmentation fault",
        signal::KILL => "killed",
        _ => return None,
    })
}
