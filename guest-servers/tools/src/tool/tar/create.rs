//! Packing.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xinim_os::{Error, Fd, Output, Result, Stat, join, mode, open};

use super::format::{BLOCK, Member, header};
use crate::tool::owner::{group_name, user_name};
use crate::{Context, Options};

const DEPTH_MAX: usize = 128;
/// Archives are written in records of so many bytes.
const RECORD: u64 = 20 * BLOCK as u64;

struct Archive<'a> {
    out: Output<'a>,
    written: u64,
    /// Files with several names, by device and inode: the first name.
    linked: BTreeMap<(u64, u64), String>,
    verbose: bool,
    /// Where names are told.
    to_stderr: bool,
    own: (u64, u64),
    /// Names of users and groups seen so far.
    names: BTreeMap<(bool, u32), String>,
}

pub fn run(c: &mut Context<'_>, options: &Options, fd: Fd) -> i32 {
    let own = c.os.fstat(fd).map_or((0, 0), |stat| (stat.device, stat.ino));
    let mut archive = Archive {
        out: Output::new(c.os, fd),
        written: 0,
        linked: BTreeMap::new(),
        verbose: options.has('v'),
        to_stderr: fd == xinim_os::STDOUT,
        own,
        names: BTreeMap::new(),
    };
    for path in &options.operands {
        archive.tree(c, path, 0);
    }
    archive.write(&[0; 2 * BLOCK]);
    let rest = archive.written.next_multiple_of(RECORD) - archive.written;
    archive.write(&vec![0; rest as usize]);
    archive.out.flush();
    match archive.out.error() {
        None => 0,
        Some(error) => {
            c.problem("write error", error);
            2
        }
    }
}

impl Archive<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.out.write(bytes);
        self.written += bytes.len() as u64;
    }

    fn tree(&mut self, c: &mut Context<'_>, path: &str, depth: usize) {
        let result = c.os.lstat(path).and_then(|stat| {
            if (stat.device, stat.ino) == self.own && stat.mode & mode::TYPE_MASK == mode::REGULAR {
                c.problem(path, "is the archive; left out");
                return Ok(());
            }
            self.member(c, path, &stat)?;
            if stat.mode & mode::TYPE_MASK != mode::DIRECTORY {
                return Ok(());
            }
            if depth == DEPTH_MAX {
                return Err(Error::NameTooLong);
            }
            let mut names: Vec<String> =
                c.os.read_dir(path)?.into_iter().map(|entry| entry.name).collect();
            names.sort();
            for name in names {
                self.tree(c, &join(path, &name), depth + 1);
            }
            Ok(())
        });
        if let Err(error) = result {
            c.problem(path, error);
        }
    }

    fn name(&mut self, c: &Context<'_>, group: bool, id: u32) -> String {
        let found = self.names.entry((group, id)).or_insert_with(|| {
            let name = if group { group_name(c, id) } else { user_name(c, id) };
            name.unwrap_or_default()
        });
        found.clone()
    }

    fn member(&mut self, c: &mut Context<'_>, path: &str, stat: &Stat) -> Result<()> {
        let mut member = Member {
            name: path.trim_start_matches('/').to_string(),
            mode: stat.mode & mode::PERMISSIONS,
            uid: stat.uid,
            gid: stat.gid,
            mtime: stat.mtime,
            kind: b'0',
            user: self.name(c, false, stat.uid),
            group: self.name(c, true, stat.gid),
            ..Member::default()
        };
        if member.name.is_empty() {
            member.name = ".".into();
        }
        let several = stat.links > 1 && stat.mode & mode::TYPE_MASK != mode::DIRECTORY;
        let first = self.linked.get(&(stat.device, stat.ino)).filter(|_| several);
        match stat.mode & mode::TYPE_MASK {
            _ if first.is_some() => {
                member.kind = b'1';
                member.link = first.cloned().unwrap_or_default();
            }
            mode::REGULAR => member.size = stat.size,
            mode::DIRECTORY => {
                member.kind = b'5';
                if !member.name.ends_with('/') {
                    member.name.push('/');
                }
            }
            mode::SYMLINK => {
                member.kind = b'2';
                member.link = c.os.readlink(path)?;
            }
            kind @ (mode::CHARACTER | mode::BLOCK) => {
                member.kind = if kind == mode::CHARACTER { b'3' } else { b'4' };
                (member.major, member.minor) = (stat.rdev >> 16, stat.rdev & 0xFFFF);
            }
            mode::FIFO => member.kind = b'6',
            _ => {
                c.problem(path, "is a socket; left out");
                return Ok(());
            }
        }
        let fd = if member.kind == b'0' { Some(c.os.open(path, open::READ, 0)?) } else { None };
        if several && member.kind != b'1' {
            self.linked.insert((stat.device, stat.ino), member.name.clone());
        }
        if self.verbose {
            let line = alloc::format!("{}\n", member.name);
            match self.to_stderr {
                true => _ = xinim_os::write_all(c.os, xinim_os::STDERR, line.as_bytes()),
                false => c.out.write(line.as_bytes()),
            }
        }
        self.write(&header(&member));
        if let Some(fd) = fd {
            let result = self.data(c, path, fd, member.size);
            c.os.close(fd)?;
            result?;
        }
        Ok(())
    }

    /// Exactly `size` bytes, as the header says, whatever became of the file.
    fn data(&mut self, c: &mut Context<'_>, path: &str, fd: Fd, size: u64) -> Result<()> {
        let mut buffer = vec![0; crate::tool::BUFFER];
        let mut left = size;
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            let count = match c.os.read(fd, &mut buffer[..want]) {
                Ok(0) => {
                    c.problem(path, "became shorter; filled up with zeros");
                    break;
                }
                Ok(count) => count,
                Err(error) => {
                    c.problem(path, error);
                    break;
                }
            };
            self.write(&buffer[..count]);
            left -= count as u64;
        }
        buffer.fill(0);
        while left > 0 {
            let count = left.min(buffer.len() as u64);
            self.write(&buffer[..count as usize]);
            left -= count;
        }
        let pad = size.next_multiple_of(BLOCK as u64) - size;
        self.write(&vec![0; pad as usize]);
        Ok(())
    }
}
