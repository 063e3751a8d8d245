//! Commands that run inside the shell.

use alloc::string::String;

use xinim_os::STDOUT;

use crate::shell::{Result, STATUS_USAGE, Shell};

mod control;
mod environment;
mod output;
mod processes;
mod read;

/// Gets the command's name and arguments; answers its status.
pub(crate) type Builtin = fn(&mut Shell<'_>, &[String]) -> Result<u32>;

const BUILTINS: &[(&str, Builtin)] = &[
    (".", control::source),
    (":", control::colon),
    ("[", output::test),
    ("break", control::break_),
    ("builtin", control::builtin),
    ("cd", environment::cd),
    ("command", control::command),
    ("continue", control::continue_),
    ("echo", output::echo),
    ("eval", control::eval),
    ("exec", control::exec),
    ("exit", control::exit),
    ("export", environment::export),
    ("false", control::false_),
    ("help", output::help),
    ("jobs", processes::jobs),
    ("kill", processes::kill),
    ("printf", output::printf),
    ("pwd", environment::pwd),
    ("read", read::read),
    ("readonly", environment::readonly),
    ("return", control::return_),
    ("set", environment::set),
    ("shift", environment::shift),
    ("source", control::source),
    ("test", output::test),
    ("true", control::colon),
    ("type", output::type_),
    ("umask", environment::umask),
    ("unset", environment::unset),
    ("wait", processes::wait),
];

pub(crate) fn find(name: &str) -> Option<Builtin> {
    BUILTINS.iter().find(|(own, _)| *own == name).map(|(_, run)| *run)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|(name, _)| *name)
}

/// There is a program that does the same: members of pipelines need no shell for it.
pub(crate) fn is_program(name: &str) -> bool {
    matches!(name, "[" | "echo" | "false" | "kill" | "printf" | "pwd" | "test" | "true")
}

/// Does nothing but write and have a status: a command substitution can run it right here.
pub(crate) fn is_pure(name: &str) -> bool {
    matches!(name, ":" | "[" | "echo" | "false" | "printf" | "pwd" | "test" | "true" | "type")
}

impl Shell<'_> {
    /// Output of a built-in; its status.
    pub(crate) fn print(&mut self, name: &str, text: &[u8]) -> u32 {
        match self.files.write(STDOUT, text) {
            Ok(()) => 0,
            Err(error) => {
                self.complain_about(name, error);
                1
            }
        }
    }

    /// A wrong use of a built-in; its status.
    pub(crate) fn misused(&self, name: &str, message: &str) -> u32 {
        self.complain(&alloc::format!("{name}: {message}"));
        STATUS_USAGE
    }
}
