//! What a tool gets: its arguments, the system, a buffered standard output; and how it reports.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;

use xinim_os::{Error, Fd, Os, Output, STDIN, STDOUT, complain, open};

/// Status of wrong usage, where POSIX asks for no other.
pub const USAGE: i32 = 1;
/// Status where others die of SIGPIPE: nobody reads our output any more.
const BROKEN_PIPE: i32 = 141;

pub struct Context<'a> {
    pub os: &'a dyn Os,
    pub name: &'a str,
    /// Without the name.
    pub args: &'a [String],
    /// `NAME=value` each.
    pub env: &'a [String],
    pub out: Output<'a>,
    status: i32,
}

impl<'a> Context<'a> {
    pub fn new(os: &'a dyn Os, name: &'a str, args: &'a [String], env: &'a [String]) -> Self {
        Self { os, name, args, env, out: Output::new(os, STDOUT), status: 0 }
    }

    /// Reports a problem with `what`; the tool goes on and ends with status 1.
    pub fn problem(&mut self, what: &str, error: impl Display) {
        // In the order in which it happened.
        self.out.flush();
        complain(self.os, self.name, what, error);
        self.status = 1;
    }

    /// Reports wrong usage; its status.
    pub fn usage(&mut self, message: impl Display) -> i32 {
        complain(self.os, self.name, "", message);
        USAGE
    }

    /// Writes what is buffered. The tool's status: 1 if there was a problem.
    pub fn finish(mut self, status: i32) -> i32 {
        self.out.flush();
        let own = if status != 0 { status } else { self.status };
        match self.out.error() {
            None => own,
            Some(Error::Pipe) => BROKEN_PIPE,
            Some(error) => {
                complain(self.os, self.name, "write error", error);
                1
            }
        }
    }

    /// A problem was reported.
    pub fn failed(&self) -> bool {
        self.status != 0
    }

    /// The tool ends with status 1, though nothing is to be said.
    pub fn fail(&mut self) {
        self.status = 1;
    }

    /// Opens for reading; `-` is standard input. Reports what goes wrong.
    pub fn open_input(&mut self, path: &str) -> Option<InputFile<'a>> {
        if path == "-" {
            return Some(InputFile { os: self.os, fd: STDIN, owned: false });
        }
        match self.os.open(path, open::READ, 0) {
            Ok(fd) => Some(InputFile { os: self.os, fd, owned: true }),
            Err(error) => {
                self.problem(path, error);
                None
            }
        }
    }

    /// Opens for writing; created with mode 0666 where missing. Reports what goes wrong.
    pub fn create(&mut self, path: &str, flags: u32) -> Option<InputFile<'a>> {
        match self.os.open(path, open::WRITE | open::CREATE | flags, 0o666) {
            Ok(fd) => Some(InputFile { os: self.os, fd, owned: true }),
            Err(error) => {
                self.problem(path, error);
                None
            }
        }
    }

    /// The operands, or `-` where there are none.
    pub fn inputs(operands: &[String]) -> Vec<String> {
        if operands.is_empty() { Vec::from(["-".into()]) } else { operands.to_vec() }
    }
}

/// An open file; closed at its end.
pub struct InputFile<'a> {
    os: &'a dyn Os,
    pub fd: Fd,
    owned: bool,
}

impl InputFile<'_> {
    /// Closes now; tells what only then is found out.
    pub fn close(mut self) -> xinim_os::Result<()> {
        self.owned = false;
        self.os.close(self.fd)
    }
}

impl Drop for InputFile<'_> {
    fn drop(&mut self) {
        if self.owned {
            let _ = self.os.close(self.fd);
        }
    }
}
