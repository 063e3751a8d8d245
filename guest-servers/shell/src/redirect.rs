//! Redirections.

use alloc::format;
use alloc::string::ToString;

use xinim_os::{Error, Fd, open, write_all};

use crate::ast::{Redirect, Target};
use crate::files::File;
use crate::shell::{Result, Shell};

/// A here-document up to this long goes through a pipe, which holds it without a reader; a longer
/// one through a file.
const PIPE_ROOM: usize = 16 * 1024;

impl<'a> Shell<'a> {
    /// Applies redirections to the files of this shell. `false`: one failed, as was reported, and
    /// the status is set.
    pub(crate) fn redirect_all(&mut self, redirects: &[Redirect]) -> Result<bool> {
        for redirect in redirects {
            if !self.redirect(redirect)? {
                self.status = 1;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn redirect(&mut self, redirect: &Redirect) -> Result<bool> {
        let (word, flags) = match &redirect.target {
            Target::Read(word) => (word, open::READ),
            Target::Write(word) => (word, open::WRITE | open::CREATE | open::TRUNCATE),
            Target::Append(word) => (word, open::WRITE | open::CREATE | open::APPEND),
            Target::ReadWrite(word) => (word, open::READ_WRITE | open::CREATE),
            Target::Duplicate(word) => {
                let from = self.expand_string(word)?;
                return Ok(self.duplicate(&from, redirect.fd));
            }
            Target::Here(word) => {
                let text = self.expand_string(word)?;
                return Ok(match self.here_file(text.as_bytes()) {
                    Ok(file) => {
                        self.files.set_file(redirect.fd, file);
                        true
                    }
                    Err(error) => {
                        self.complain_about("here-document", error);
                        false
                    }
                });
            }
        };
        let path = self.expand_string(word)?;
        match self.os.open(&path, flags, 0o666) {
            Ok(fd) => {
                self.files.set_file(redirect.fd, File::owned(self.os, fd));
                Ok(true)
            }
            Err(error) => {
                self.complain_about(&path, error);
                Ok(false)
            }
        }
    }

    fn duplicate(&mut self, from: &str, to: Fd) -> bool {
        if from == "-" {
            self.files.close(to);
            return true;
        }
        let result = match from.parse() {
            Ok(number) => self.files.duplicate(number, to),
            Err(_) => Err(Error::BadF),
        };
        if let Err(error) = result {
            self.complain_about(from, error);
        }
        result.is_ok()
    }

    /// A file to read `text` from.
    fn here_file(&self, text: &[u8]) -> xinim_os::Result<File<'a>> {
        let os = self.os;
        if text.len() <= PIPE_ROOM {
            let (reader, writer) = os.pipe()?;
            let (reader, writer) = (File::owned(os, reader), File::owned(os, writer));
            write_all(os, writer.fd(), text)?;
            return Ok(reader);
        }
        let path = format!("/tmp/sh-here.{}.{}", os.pid(), os.now_ns());
        let flags = open::WRITE | open::CREATE | open::EXCLUSIVE;
        let writer = File::owned(os, os.open(&path, flags, 0o600)?);
        let reader = os.open(&path, open::READ, 0).map(|fd| File::owned(os, fd));
        let _ = os.unlink(&path.to_string());
        write_all(os, writer.fd(), text)?;
        reader
    }
}
