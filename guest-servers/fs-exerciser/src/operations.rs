//! The single operations.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::Error;

use crate::Target;
use crate::exercise::Exercise;
use crate::model::{Body, Id, ROOT};

/// Files open at once.
const OPEN_MAX: usize = 8;
const DIRECTORIES_MAX: usize = 14;
const DEPTH_MAX: usize = 5;
/// Longest single write.
const WRITE_MAX: u64 = 40_000;

type Outcome = Result<(), String>;

impl<T: Target> Exercise<'_, T> {
    pub(crate) fn operation(&mut self) -> Outcome {
        match self.random.below(100) {
            0..20 => self.write(),
            20..32 => self.read(),
            32..41 => self.create(),
            41..47 => self.truncate(),
            47..54 => self.unlink(),
            54..65 => self.rename(),
            65..70 => self.mkdir(),
            70..73 => self.rmdir(),
            73..77 => self.link(),
            77..79 => self.symlink(),
            79..84 => self.open_again(),
            84..88 => self.close(),
            88..91 => self.fsync(),
            91 => self.sync(),
            92..95 => self.list(),
            95..97 => self.chmod(),
            97 => self.set_mtime(),
            _ => self.lost_paths(),
        }
    }

    fn pick(&mut self, count: usize) -> usize {
        self.random.below(count.max(1) as u64) as usize
    }

    /// A directory, a name in it that may be there or not, and the path of both.
    fn place(&mut self) -> (Id, String, String) {
        let directories = self.model.directories();
        let dir = directories[self.pick(directories.len())];
        let taken: Vec<String> = self.model.entries(dir).keys().cloned().collect();
        // Half of the time a name that is there.
        let name = if !taken.is_empty() && self.random.below(2) == 0 {
            taken[self.pick(taken.len())].clone()
        } else {
            let count = self.names.len();
            let n = self.pick(count);
            self.names[n].clone()
        };
        let path = match self.model.path(dir) {
            above if above.is_empty() => name.clone(),
            above => format!("{above}/{name}"),
        };
        (dir, name, path)
    }

    fn open_file(&mut self) -> Option<usize> {
        if self.open.is_empty() { None } else { Some(self.pick(self.open.len())) }
    }

    fn write(&mut self) -> Outcome {
        let Some(n) = self.open_file() else { return self.create() };
        let id = self.open[n].0;
        let size = self.model.data(id).len() as u64;
        let limit = self.can.file_len as u64;
        let offset = match self.random.below(4) {
            0 => size,
            1 => self.random.below(limit),
            _ => self.random.below(size + 1),
        };
        let longest = match self.random.below(3) {
            0 => 40,
            1 => 5_000,
            _ => WRITE_MAX,
        };
        let len = (1 + self.random.below(longest)).min(limit.saturating_sub(offset));
        if len == 0 || self.model.total() as u64 + len > self.can.total_len as u64 {
            return self.truncate();
        }
        // A pattern that tells pieces and places apart.
        let key = self.random.below(256) as u8;
        let data: Vec<u8> =
            (0..len).map(|at| key.wrapping_add((at / 7) as u8) ^ (at as u8)).collect();
        self.note(format!("write #{id} {len} bytes at {offset}, of {size}"));
        let written = self.target.write(&self.open[n].1, offset, &data);
        let Some(count) = self.judge(written, Ok(()))? else { return Ok(()) };
        if count > data.len() {
            return Err(format!("wrote {count} of {} bytes", data.len()));
        }
        self.summary.no_space += u64::from(count < data.len());
        self.summary.written += count as u64;
        self.model.nodes[id].mtime = None;
        if let Some(body) = self.model.data_mut(id).filter(|_| count > 0) {
            let (start, end) = (offset as usize, offset as usize + count);
            body.resize(body.len().max(end), 0);
            body[start..end].copy_from_slice(&data[..count]);
        }
        Ok(())
    }

    fn read(&mut self) -> Outcome {
        let Some(n) = self.open_file() else { return self.create() };
        let id = self.open[n].0;
        let offset = self.random.below(self.model.data(id).len() as u64 + 10);
        let len = 1 + self.random.below(WRITE_MAX) as usize;
        self.note(format!("read #{id} {len} bytes at {offset}"));
        let (id, file) = self.open.swap_remove(n);
        let compared = self.compare_part(&file, id, offset, len, &format!("#{id}"));
        self.open.push((id, file));
        compared
    }

    fn truncate(&mut self) -> Outcome {
        let Some(n) = self.open_file() else { return self.create() };
        let id = self.open[n].0;
        let old = self.model.data(id).len() as u64;
        let full = self.model.total() >= self.can.total_len / 2;
        let size = match self.random.below(4) {
            0 => 0,
            1 if !full => self.random.below(self.can.file_len as u64),
            _ => self.random.below(old + 1),
        };
        self.note(format!("truncate #{id} from {old} to {size}"));
        let cut = self.target.truncate(&self.open[n].1, size);
        if self.judge(cut, Ok(()))?.is_some() {
            self.model.nodes[id].mtime = None;
            if let Some(body) = self.model.data_mut(id) {
                body.resize(size as usize, 0);
            }
        }
        Ok(())
    }

    fn create(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        self.note(format!("create '{path}'"));
        let made = self.target.create(&path);
        let there = self.model.find(dir, &name).is_some();
        let allowed = if there { Err(&[Error::Exist][..]) } else { Ok(()) };
        if let Some(file) = self.judge(made, allowed)? {
            let id = self.model.add(Body::File(Vec::new()), dir);
            self.model.insert(dir, &name, id);
            self.note(format!("  is #{id}"));
            self.keep(id, file)?;
        }
        Ok(())
    }

    fn keep(&mut self, id: Id, file: T::File) -> Outcome {
        self.open.push((id, file));
        if self.open.len() > OPEN_MAX { self.close() } else { Ok(()) }
    }

    fn open_again(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        let allowed = match self.model.find(dir, &name) {
            None => Err(&[Error::NoEnt][..]),
            Some(id) if self.model.is_directory(id) => Err(&[Error::IsDir][..]),
            Some(id) if matches!(self.model.nodes[id].body, Body::Link(_)) => return Ok(()),
            Some(_) => Ok(()),
        };
        self.note(format!("open '{path}'"));
        let opened = self.target.open(&path);
        match (self.judge(opened, allowed)?, self.model.find(dir, &name)) {
            (Some(file), Some(id)) => self.keep(id, file),
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Outcome {
        let Some(n) = self.open_file() else { return Ok(()) };
        let (id, file) = self.open.swap_remove(n);
        self.note(format!("close #{id}"));
        let closed = self.target.close(file);
        self.judge(closed, Ok(()))?;
        let open: Vec<Id> = self.open.iter().map(|entry| entry.0).collect();
        self.model.collect(&open);
        Ok(())
    }

    fn fsync(&mut self) -> Outcome {
        let Some(n) = self.open_file() else { return Ok(()) };
        self.note(format!("fsync #{}", self.open[n].0));
        let synced = self.target.fsync(&self.open[n].1);
        self.judge(synced, Ok(())).map(|_| ())
    }

    fn sync(&mut self) -> Outcome {
        self.note("sync".into());
        let synced = self.target.sync();
        self.judge(synced, Ok(())).map(|_| ())
    }

    fn unlink(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        self.note(format!("unlink '{path}'"));
        let removed = self.target.unlink(&path);
        if self.judge(removed, self.model.unlink(dir, &name))?.is_some() {
            self.model.remove(dir, &name);
            let open: Vec<Id> = self.open.iter().map(|entry| entry.0).collect();
            self.model.collect(&open);
        }
        Ok(())
    }

    fn mkdir(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        let many = self.model.directories().len() >= DIRECTORIES_MAX;
        let there = self.model.find(dir, &name).is_some();
        if (many || path.matches('/').count() >= DEPTH_MAX) && !there {
            return self.rmdir();
        }
        self.note(format!("mkdir '{path}'"));
        let made = self.target.mkdir(&path);
        let allowed = if there { Err(&[Error::Exist][..]) } else { Ok(()) };
        if self.judge(made, allowed)?.is_some() {
            let id = self.model.add(Body::Directory(Default::default()), dir);
            self.model.insert(dir, &name, id);
        }
        Ok(())
    }

    fn rmdir(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        self.note(format!("rmdir '{path}'"));
        let removed = self.target.rmdir(&path);
        if self.judge(removed, self.model.rmdir(dir, &name))?.is_some() {
            self.model.remove(dir, &name);
        }
        Ok(())
    }

    fn rename(&mut self) -> Outcome {
        let (from, to) = (self.place(), self.place());
        self.note(format!("rename '{}' to '{}'", from.2, to.2));
        let renamed = self.target.rename(&from.2, &to.2);
        let allowed = self.model.rename((from.0, &from.1), (to.0, &to.1));
        if self.judge(renamed, allowed)?.is_some() {
            self.model.renamed((from.0, &from.1), (to.0, &to.1));
            let open: Vec<Id> = self.open.iter().map(|entry| entry.0).collect();
            self.model.collect(&open);
        }
        Ok(())
    }

    fn link(&mut self) -> Outcome {
        let (from, to) = (self.place(), self.place());
        let source = self.model.find(from.0, &from.1);
        if source.is_some_and(|id| matches!(self.model.nodes[id].body, Body::Link(_))) {
            return Ok(()); // whether it is followed differs between systems
        }
        self.note(format!("link '{}' as '{}'", from.2, to.2));
        let linked = self.target.link(&from.2, &to.2);
        let there = self.model.find(to.0, &to.1).is_some();
        let allowed = match source {
            None => Err(&[Error::NoEnt][..]),
            _ if !self.can.hard_links => Err(&[Error::NotSup, Error::Perm, Error::Exist][..]),
            Some(id) if self.model.is_directory(id) && there => {
                Err(&[Error::Perm, Error::Exist, Error::IsDir][..])
            }
            Some(id) if self.model.is_directory(id) => Err(&[Error::Perm, Error::IsDir][..]),
            _ if there => Err(&[Error::Exist][..]),
            Some(_) => Ok(()),
        };
        if let (Some(()), Some(id)) = (self.judge(linked, allowed)?, source) {
            self.model.insert(to.0, &to.1, id);
            self.model.nodes[id].links += 1;
        }
        Ok(())
    }

    fn symlink(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        let target = format!("../{}/{}", name, "t".repeat(self.random.below(60) as usize));
        self.note(format!("symlink '{path}'"));
        let made = self.target.symlink(&target, &path);
        let allowed = match self.model.find(dir, &name) {
            Some(_) if self.can.symbolic_links => Err(&[Error::Exist][..]),
            _ if !self.can.symbolic_links => Err(&[Error::NotSup, Error::Perm, Error::Exist][..]),
            _ => Ok(()),
        };
        if self.judge(made, allowed)?.is_some() {
            let id = self.model.add(Body::Link(target), dir);
            self.model.insert(dir, &name, id);
            self.verify_link(&path, id)?;
        }
        Ok(())
    }

    fn list(&mut self) -> Outcome {
        let directories = self.model.directories();
        let dir = directories[self.pick(directories.len())];
        let path = self.model.path(dir);
        self.note(format!("list '{path}'"));
        let listed = self.target.list(&path);
        let Some(found) = self.judge(listed, Ok(()))? else { return Ok(()) };
        let mut found: Vec<String> = found.into_iter().map(|entry| entry.0).collect();
        found.sort();
        let right: Vec<String> = self.model.entries(dir).keys().cloned().collect();
        if found == right { Ok(()) } else { Err(format!("'{path}' has {found:?}, not {right:?}")) }
    }

    fn chmod(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        let Some(id) = self.model.find(dir, &name) else { return Ok(()) };
        if matches!(self.model.nodes[id].body, Body::Link(_)) {
            return Ok(());
        }
        // The owner keeps reading, writing and searching, whoever runs this.
        let bits = 0o700 | self.random.below(0o100) as u32;
        self.note(format!("chmod {bits:o} '{path}'"));
        let set = self.target.chmod(&path, bits);
        if self.judge(set, Ok(()))?.is_some() {
            self.model.nodes[id].mode = Some(bits);
            self.verify_stat(&path, id)?;
        }
        Ok(())
    }

    fn set_mtime(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        let Some(id) = self.model.find(dir, &name) else { return Ok(()) };
        // Directories of FAT keep no time that can be set; links are followed.
        if !matches!(self.model.nodes[id].body, Body::File(_)) {
            return Ok(());
        }
        let time = (1_000_000_000 + self.random.below(1_000_000_000)) * 1_000_000_000
            + self.random.below(1_000_000_000);
        self.note(format!("mtime {time} '{path}'"));
        let set = self.target.set_mtime(&path, time);
        if self.judge(set, Ok(()))?.is_some() {
            self.model.nodes[id].mtime = Some(time);
            self.verify_stat(&path, id)?;
        }
        Ok(())
    }

    /// Paths that lead nowhere: below a file, below nothing; the root is not to be removed.
    fn lost_paths(&mut self) -> Outcome {
        let (dir, name, path) = self.place();
        let below = format!("{path}/x");
        let allowed = match self.model.find(dir, &name) {
            None => Err(&[Error::NoEnt][..]),
            Some(id) if matches!(self.model.nodes[id].body, Body::File(_)) => {
                Err(&[Error::NotDir][..])
            }
            Some(_) => return self.root(),
        };
        self.note(format!("stat, create, unlink '{below}'"));
        let found = self.target.stat(&below);
        self.judge(found, allowed)?;
        let made = self.target.create(&below);
        self.judge(made, allowed)?;
        let removed = self.target.unlink(&below);
        self.judge(removed, allowed).map(|_| ())
    }

    fn root(&mut self) -> Outcome {
        let path = self.model.path(ROOT);
        self.verify_stat(&path, ROOT)
    }
}
