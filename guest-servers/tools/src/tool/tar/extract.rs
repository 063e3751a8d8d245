//! Unpacking and listing.

use alloc::format;
use alloc::string::{String, ToString};

use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{Error, Fd, Input, Os, Result, dir_name, file_time, is_kind, mode, open, write_all};

use super::format::{BLOCK, EXTENDED_MAX, Member, extend, is_zero, parse};
use crate::format::{date_time, mode_text};
use crate::{Context, Options};

/// Permissions while a directory is filled.
const FILLING: u32 = 0o700;

struct Reader<'a> {
    input: Input<'a>,
}

/// Why reading ended: the sentence for people.
type Failure = String;

impl Reader<'_> {
    /// `None` at a clean end.
    fn block(&mut self) -> core::result::Result<Option<[u8; BLOCK]>, Failure> {
        let mut block = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            let bytes = self.input.fill().map_err(|error| error.to_string())?;
            if bytes.is_empty() {
                return if at == 0 { Ok(None) } else { Err("the archive is cut off".into()) };
            }
            let count = bytes.len().min(BLOCK - at);
            block[at..at + count].copy_from_slice(&bytes[..count]);
            self.input.consume(count);
            at += count;
        }
        Ok(Some(block))
    }

    /// Hands `len` bytes of data on and reads past their padding.
    fn data(&mut self, len: u64, mut to: impl FnMut(&[u8])) -> core::result::Result<(), Failure> {
        let total = len.checked_next_multiple_of(BLOCK as u64).ok_or("a size is impossible")?;
        let mut done = 0;
        while done < total {
            let bytes = self.input.fill().map_err(|error| error.to_string())?;
            if bytes.is_empty() {
                return Err("the archive is cut off".into());
            }
            let count = (bytes.len() as u64).min(total - done);
            let useful = len.saturating_sub(done).min(count) as usize;
            to(&bytes[..useful]);
            self.input.consume(count as usize);
            done += count;
        }
        Ok(())
    }

    fn small(&mut self, len: u64) -> core::result::Result<Vec<u8>, Failure> {
        if len > EXTENDED_MAX {
            return Err("an extended header is too long".into());
        }
        let mut bytes = Vec::new();
        self.data(len, |part| bytes.extend_from_slice(part))?;
        Ok(bytes)
    }

    /// The next member, with what extended headers say of it.
    fn member(&mut self) -> core::result::Result<Option<Member>, Failure> {
        let (mut records, mut name, mut link) = (Vec::new(), None, None);
        loop {
            let Some(block) = self.block()? else { return Ok(None) };
            if is_zero(&block) {
                return Ok(None);
            }
            let mut member = parse(&block)?;
            let long =
                |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string();
            match member.kind {
                b'x' => records = self.small(member.size)?,
                b'g' => _ = self.small(member.size)?,
                b'L' => name = Some(long(self.small(member.size)?)),
                b'K' => link = Some(long(self.small(member.size)?)),
                _ => {
                    extend(&mut member, &records)?;
                    member.name = name.unwrap_or(member.name);
                    member.link = link.unwrap_or(member.link);
                    if !matches!(member.kind, b'0' | b'7') {
                        member.size = 0;
                    }
                    return Ok(Some(member));
                }
            }
        }
    }
}

/// What is done when everything else is there: directories' attributes, symbolic links.
struct Later {
    member: Member,
    path: String,
}

pub fn run(c: &mut Context<'_>, options: &Options, fd: Fd) -> i32 {
    let mut reader = Reader { input: Input::new(c.os, fd) };
    let mut wanted: Vec<(String, bool)> =
        options.operands.iter().map(|path| (path.trim_matches('/').to_string(), false)).collect();
    let is_root = c.os.identity().is_ok_and(|identity| identity.users.effective == 0);
    let mut unpack = Unpack {
        extract: options.has('x'),
        verbose: options.has('v'),
        // Root's archives keep their owners, unless told otherwise.
        owners: is_root && !options.has('o'),
        permissions: is_root || options.has('p'),
        later: Vec::new(),
    };
    loop {
        let member = match reader.member() {
            Ok(Some(member)) => member,
            Ok(None) => break,
            Err(message) => {
                c.problem("", message);
                break;
            }
        };
        let name = member.name.trim_matches('/');
        let mut chosen = wanted.is_empty();
        for (path, found) in &mut wanted {
            let below = name.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if name == path || below {
                (chosen, *found) = (true, true);
            }
        }
        let result = match chosen {
            true => unpack.member(c, &mut reader, member),
            false => reader.data(member.size, |_| {}),
        };
        if let Err(message) = result {
            c.problem("", message);
            break;
        }
    }
    unpack.finish(c);
    for (path, _) in wanted.iter().filter(|(_, found)| !found) {
        c.problem(path, "not in the archive");
    }
    0
}

struct Unpack {
    extract: bool,
    verbose: bool,
    owners: bool,
    permissions: bool,
    later: Vec<Later>,
}

impl Unpack {
    fn member(
        &mut self,
        c: &mut Context<'_>,
        reader: &mut Reader<'_>,
        member: Member,
    ) -> core::result::Result<(), Failure> {
        if !self.extract {
            list(c, &member, self.verbose);
            return reader.data(member.size, |_| {});
        }
        if self.verbose {
            let _ = writeln!(c.out, "{}", member.name);
        }
        let path = match safe(&member.name) {
            Some(path) => path,
            None => {
                c.problem(&member.name, "leads out of the directory; left out");
                return reader.data(member.size, |_| {});
            }
        };
        if member.kind == b'0' || member.kind == b'7' {
            return self.file(c, reader, &member, &path);
        }
        if let Err(error) = self.special(c, &member, &path) {
            c.problem(&path, error);
        }
        Ok(())
    }

    fn file(
        &mut self,
        c: &mut Context<'_>,
        reader: &mut Reader<'_>,
        member: &Member,
        path: &str,
    ) -> core::result::Result<(), Failure> {
        let opened = parents(c.os, path).and_then(|()| {
            let _ = c.os.unlink(path);
            let flags = open::WRITE | open::CREATE | open::EXCLUSIVE;
            c.os.open(path, flags, member.mode & 0o777 & !0o077 | 0o600)
        });
        let fd = match opened {
            Ok(fd) => fd,
            Err(error) => {
                c.problem(path, error);
                return reader.data(member.size, |_| {});
            }
        };
        let mut written = Ok(());
        let read = reader.data(member.size, |bytes| {
            if written.is_ok() {
                written = write_all(c.os, fd, bytes);
            }
        });
        let done = written.and(c.os.close(fd)).and_then(|()| self.attributes(c.os, member, path));
        if let Err(error) = done {
            c.problem(path, error);
        }
        read
    }

    fn special(&mut self, c: &mut Context<'_>, member: &Member, path: &str) -> Result<()> {
        if member.kind != b'5' || path != "." {
            parents(c.os, path)?;
        }
        let remove = |os: &dyn Os| {
            // What cannot be removed shows in the next step.
            let _ = os.unlink(path);
        };
        match member.kind {
            b'5' => {
                match c.os.mkdir(path, FILLING) {
                    Err(Error::Exist)
                        if c.os.stat(path).is_ok_and(|s| is_kind(&s, mode::DIRECTORY)) => {}
                    result => result?,
                }
                self.later.push(Later { member: member.clone(), path: path.into() });
                Ok(())
            }
            b'1' => {
                let target = safe(&member.link).ok_or(Error::Inval)?;
                remove(c.os);
                c.os.link(&target, path)
            }
            b'2' => {
                remove(c.os);
                // A file in its place until the end: nothing is unpacked through the link.
                let fd = c.os.open(path, open::WRITE | open::CREATE | open::EXCLUSIVE, 0)?;
                c.os.close(fd)?;
                self.later.push(Later { member: member.clone(), path: path.into() });
                Ok(())
            }
            b'3' | b'4' | b'6' => {
                let kind = match member.kind {
                    b'3' => mode::CHARACTER,
                    b'4' => mode::BLOCK,
                    _ => mode::FIFO,
                };
                remove(c.os);
                c.os.mknod(path, kind | member.mode & 0o777, member.major << 16 | member.minor)?;
                self.attributes(c.os, member, path)
            }
            other => {
                c.problem(path, format!("members of type '{}' are not known", other as char));
                Ok(())
            }
        }
    }

    fn attributes(&self, os: &dyn Os, member: &Member, path: &str) -> Result<()> {
        let link = member.kind == b'2';
        if self.owners {
            os.chown(path, false, member.uid, member.gid)?;
        }
        if !link {
            let old = if self.permissions { 0 } else { os.umask(0o022)? };
            if !self.permissions {
                os.umask(old)?;
            }
            let mut permissions = member.mode & !old;
            if !self.owners {
                permissions &= 0o777 | mode::STICKY;
            }
            os.chmod(path, permissions)?;
        }
        match os.set_times(path, false, file_time::NOW, member.mtime) {
            // Times of links are a luxury.
            Err(_) if link => Ok(()),
            result => result,
        }
    }

    /// Directories get their attributes when nothing is made in them any more, deepest first.
    fn finish(&mut self, c: &mut Context<'_>) {
        for later in core::mem::take(&mut self.later).into_iter().rev() {
            let Later { member, path } = later;
            let made = match member.kind {
                b'2' => c.os.unlink(&path).and_then(|()| c.os.symlink(&member.link, &path)),
                _ => Ok(()),
            };
            if let Err(error) = made.and_then(|()| self.attributes(c.os, &member, &path)) {
                c.problem(&path, error);
            }
        }
    }
}

/// A member's name below the working directory.
fn safe(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(if parts.is_empty() { ".".into() } else { parts.join("/") })
}

/// Makes the directories above `path`.
fn parents(os: &dyn Os, path: &str) -> Result<()> {
    let dir = dir_name(path);
    if dir == "." || dir == "/" || dir.is_empty() || os.stat(dir).is_ok() {
        return Ok(());
    }
    parents(os, dir)?;
    os.mkdir(dir, 0o777)
}

fn list(c: &mut Context<'_>, member: &Member, verbose: bool) {
    if !verbose {
        let _ = writeln!(c.out, "{}", member.name);
        return;
    }
    let kind = match member.kind {
        b'1' => 'h',
        b'2' => 'l',
        b'3' => 'c',
        b'4' => 'b',
        b'5' => 'd',
        b'6' => 'p',
        _ => '-',
    };
    let permissions = mode_text(member.mode);
    let size = match member.kind {
        b'3' | b'4' => format!("{},{}", member.major, member.minor),
        _ => format!("{}", member.size),
    };
    let or_number = |name: &String, id: u32| match name.is_empty() {
        true => format!("{id}"),
        false => name.clone(),
    };
    let (user, group) = (or_number(&member.user, member.uid), or_number(&member.group, member.gid));
    let owners = format!("{user}/{group}");
    let width = 18usize.saturating_sub(owners.len()).max(size.len());
    let _ = write!(
        c.out,
        "{kind}{} {owners} {size:>width$} {} {}",
        &permissions[1..],
        date_time(member.mtime),
        member.name
    );
    let _ = match member.kind {
        b'1' => writeln!(c.out, " link to {}", member.link),
        b'2' => writeln!(c.out, " -> {}", member.link),
        _ => writeln!(c.out),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(safe("/etc/passwd").as_deref(), Some("etc/passwd"));
        assert_eq!(safe("./a//b/").as_deref(), Some("a/b"));
        assert_eq!(safe("./").as_deref(), Some("."));
        for bad in ["..", "a/../b", "../x", "a/.."] {
            assert_eq!(safe(bad), None, "{bad}");
        }
    }
}
