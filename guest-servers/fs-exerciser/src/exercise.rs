//! The exercise: choosing operations, checking the whole tree, telling what went wrong.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{NAME_MAX, mode};
use xinim_fs_kit::conformance::{Abilities, Random};

use crate::Target;
use crate::model::{Body, Id, Model, ROOT, Refusals};

/// Operations told when something went wrong.
const HISTORY: usize = 24;
/// Operations between two comparisons of the whole tree.
const VERIFY_EVERY: u64 = 250;
/// Bytes compared at once.
const PIECE: usize = 64 * 1024;

/// What the file system can do, and how much it is given to do.
#[derive(Clone, Copy, Debug)]
pub struct Can {
    pub symbolic_links: bool,
    pub hard_links: bool,
    pub modes: bool,
    pub case_sensitive: bool,
    /// Names beyond ASCII.
    pub unicode: bool,
    pub name_max: usize,
    /// Nanoseconds by which a time may be rounded down.
    pub time_step: u64,
    /// Longest file that is made.
    pub file_len: usize,
    /// Bytes of all files together.
    pub total_len: usize,
}

impl Default for Can {
    fn default() -> Self {
        Self {
            symbolic_links: true,
            hard_links: true,
            modes: true,
            case_sensitive: true,
            unicode: true,
            name_max: NAME_MAX,
            time_step: 0,
            file_len: 200_000,
            total_len: 1 << 20,
        }
    }
}

impl From<&Abilities> for Can {
    fn from(abilities: &Abilities) -> Self {
        Self {
            symbolic_links: abilities.symbolic_links,
            hard_links: abilities.hard_links,
            modes: abilities.modes,
            case_sensitive: abilities.case_sensitive,
            name_max: abilities.name_max,
            time_step: abilities.time_step,
            ..Self::default()
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub operations: u64,
    /// Of those, refused as POSIX wants it.
    pub refused: u64,
    /// Of those, refused for want of space.
    pub no_space: u64,
    /// Bytes written and bytes compared.
    pub written: u64,
    pub compared: u64,
}

/// Where file system and model differ.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub step: u64,
    pub what: String,
    /// The last operations, oldest first.
    pub history: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.history {
            writeln!(f, "  {line}")?;
        }
        write!(f, "seed {}, operation {}: {}", self.seed, self.step, self.what)
    }
}

pub struct Exercise<'a, T: Target> {
    pub(crate) target: &'a mut T,
    pub(crate) can: Can,
    pub(crate) random: Random,
    pub(crate) model: Model,
    pub(crate) open: Vec<(Id, T::File)>,
    pub(crate) names: Vec<String>,
    pub(crate) summary: Summary,
    history: VecDeque<String>,
    seed: u64,
}

/// Does `operations` random operations in an empty directory, compares, and empties it again.
pub fn run<T: Target>(
    target: &mut T,
    can: &Can,
    seed: u64,
    operations: u64,
) -> core::result::Result<Summary, Failure> {
    let mut exercise = Exercise::new(target, can, seed);
    exercise.steps(operations)?;
    exercise.finish()
}

impl<'a, T: Target> Exercise<'a, T> {
    pub fn new(target: &'a mut T, can: &Can, seed: u64) -> Self {
        let mut names: Vec<String> =
            ["a", "b", "c", "dd", "e.txt", "F", "g h"].map(String::from).into();
        names.extend(["a-longer-name.tar.gz", "With Spaces And Dots.tar.gz"].map(String::from));
        if can.case_sensitive {
            names.extend(["A", "E.TXT"].map(String::from));
        }
        if can.unicode {
            names.extend(["ä", "日本語", "naïve café.txt", "x\u{1F980}y"].map(String::from));
        }
        names.retain(|name| name.len() <= can.name_max);
        names.push("n".repeat(can.name_max));
        Self {
            target,
            can: *can,
            random: Random::new(seed),
            model: Model::new(),
            open: Vec::new(),
            names,
            summary: Summary::default(),
            history: VecDeque::new(),
            seed,
        }
    }

    pub fn steps(&mut self, operations: u64) -> core::result::Result<(), Failure> {
        for _ in 0..operations {
            self.summary.operations += 1;
            self.operation().map_err(|what| self.failure(what))?;
            if self.summary.operations.is_multiple_of(VERIFY_EVERY) {
                self.verify()?;
            }
        }
        self.verify()
    }

    /// Closes and removes everything.
    pub fn finish(mut self) -> core::result::Result<Summary, Failure> {
        self.clear().map_err(|what| self.failure(what))?;
        Ok(self.summary)
    }

    /// The whole tree and all open files are what they should be.
    pub fn verify(&mut self) -> core::result::Result<(), Failure> {
        let mut content = BTreeMap::new();
        self.verify_directory(ROOT, "", &mut content)
            .and_then(|()| self.verify_open())
            .map_err(|what| self.failure(what))
    }

    fn failure(&self, what: String) -> Failure {
        let history = self.history.iter().cloned().collect();
        Failure { seed: self.seed, step: self.summary.operations, what, history }
    }

    pub(crate) fn note(&mut self, what: String) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(format!("{} {what}", self.summary.operations));
    }

    /// Compares an answer with what is allowed. `Some`: it succeeded, as it should. `None`: it was
    /// refused, as it should be or for want of space.
    pub(crate) fn judge<R>(
        &mut self,
        got: Result<R>,
        allowed: core::result::Result<(), Refusals>,
    ) -> core::result::Result<Option<R>, String> {
        match (got, allowed) {
            (Ok(answer), Ok(())) => Ok(Some(answer)),
            (Ok(_), Err(refusals)) => Err(format!("succeeded, but must fail: {refusals:?}")),
            (Err(Error::NoSpc | Error::MLink), _) => {
                self.summary.no_space += 1;
                Ok(None)
            }
            (Err(error), Ok(())) => Err(format!("failed: {error} ({error:?})")),
            (Err(error), Err(refusals)) if refusals.contains(&error) => {
                self.summary.refused += 1;
                Ok(None)
            }
            (Err(error), Err(refusals)) => {
                Err(format!("failed with {error:?}, but must fail with {refusals:?}"))
            }
        }
    }

    fn verify_directory(
        &mut self,
        dir: Id,
        path: &str,
        content: &mut BTreeMap<Id, ()>,
    ) -> core::result::Result<(), String> {
        let mut found =
            self.target.list(path).map_err(|error| format!("list '{path}': {error}"))?;
        found.sort();
        let expected: Vec<(String, Id)> =
            self.model.entries(dir).iter().map(|(name, id)| (name.clone(), *id)).collect();
        let names: Vec<&String> = found.iter().map(|entry| &entry.0).collect();
        let wanted: Vec<&String> = expected.iter().map(|entry| &entry.0).collect();
        if names != wanted {
            return Err(format!("'{path}' has {names:?}, not {wanted:?}"));
        }
        for ((name, id), (_, kind)) in expected.into_iter().zip(found) {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let right = match self.model.nodes[id].body {
                Body::File(_) => mode::REGULAR,
                Body::Directory(_) => mode::DIRECTORY,
                Body::Link(_) => mode::SYMLINK,
            };
            if kind != right {
                return Err(format!("'{path}' is listed as {kind:o}, not {right:o}"));
            }
            self.verify_stat(&path, id)?;
            match right {
                mode::DIRECTORY => self.verify_directory(id, &path, content)?,
                mode::SYMLINK => self.verify_link(&path, id)?,
                _ if content.insert(id, ()).is_none() => {
                    let file =
                        self.target.open(&path).map_err(|e| format!("open '{path}': {e}"))?;
                    let compared = self.compare(&file, id, &path);
                    self.target.close(file).map_err(|e| format!("close '{path}': {e}"))?;
                    compared?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn verify_link(&mut self, path: &str, id: Id) -> core::result::Result<(), String> {
        let found = self.target.readlink(path).map_err(|e| format!("readlink '{path}': {e}"))?;
        match &self.model.nodes[id].body {
            Body::Link(target) if *target == found => Ok(()),
            other => Err(format!("'{path}' leads to '{found}', not {other:?}")),
        }
    }

    pub(crate) fn verify_stat(&mut self, path: &str, id: Id) -> core::result::Result<(), String> {
        let stat = self.target.stat(path).map_err(|error| format!("stat '{path}': {error}"))?;
        let node = &self.model.nodes[id];
        let mut wrong = Vec::new();
        let kind = stat.mode & mode::TYPE_MASK;
        match &node.body {
            Body::File(data) => {
                if kind != mode::REGULAR || stat.size != data.len() as u64 {
                    wrong.push(format!(
                        "mode {:o} size {}, not {}",
                        stat.mode,
                        stat.size,
                        data.len()
                    ));
                }
                if self.can.hard_links && stat.links != node.links {
                    wrong.push(format!("{} links, not {}", stat.links, node.links));
                }
            }
            Body::Directory(_) if kind != mode::DIRECTORY => wrong.push("no directory".to_string()),
            Body::Link(target) if kind != mode::SYMLINK || stat.size != target.len() as u64 => {
                wrong.push(format!("mode {:o} size {}", stat.mode, stat.size));
            }
            _ => {}
        }
        if let Some(bits) = node.mode.filter(|_| self.can.modes)
            && stat.mode & 0o7777 != bits
        {
            wrong.push(format!("permissions {:o}, not {bits:o}", stat.mode & 0o7777));
        }
        if let Some(mtime) = node.mtime
            && (stat.mtime > mtime || mtime - stat.mtime > self.can.time_step)
        {
            wrong.push(format!("mtime {}, not {mtime}", stat.mtime));
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("'{path}': {}", wrong.join(", "))) }
    }

    fn verify_open(&mut self) -> core::result::Result<(), String> {
        let open = core::mem::take(&mut self.open);
        let mut result = Ok(());
        for (id, file) in &open {
            result = result.and_then(|()| {
                let stat = self.target.stat_open(file).map_err(|e| format!("fstat: {e}"))?;
                let links = self.model.nodes[*id].links;
                if self.can.hard_links && stat.links != links {
                    return Err(format!("an open file has {} links, not {links}", stat.links));
                }
                self.compare(file, *id, "an open file")
            });
        }
        self.open = open;
        result
    }

    /// All bytes of a file.
    fn compare(&mut self, file: &T::File, id: Id, what: &str) -> core::result::Result<(), String> {
        let len = self.model.data(id).len();
        let mut at = 0;
        loop {
            let count = (len + 1 - at).min(PIECE);
            self.compare_part(file, id, at as u64, count, what)?;
            at += count;
            if at > len {
                return Ok(());
            }
        }
    }

    pub(crate) fn compare_part(
        &mut self,
        file: &T::File,
        id: Id,
        offset: u64,
        len: usize,
        what: &str,
    ) -> core::result::Result<(), String> {
        let mut found = vec![0xA5; len];
        let count = self.target.read(file, offset, &mut found);
        let count = count.map_err(|error| format!("{what}: read at {offset}: {error}"))?;
        let data = self.model.data(id);
        let start = (offset as usize).min(data.len());
        let right = &data[start..(start + len).min(data.len())];
        if count != right.len() {
            return Err(format!(
                "{what}: read {count} of {len} bytes at {offset}, of a file of {}",
                data.len()
            ));
        }
        if let Some(at) = (0..count).find(|&at| found[at] != right[at]) {
            let wrong = (at..count).filter(|&at| found[at] != right[at]).count();
            return Err(format!(
                "{what}: byte {} is {:#04x}, not {:#04x}; {wrong} of the {count} bytes at {offset} differ",
                start + at,
                found[at],
                right[at]
            ));
        }
        self.summary.compared += count as u64;
        Ok(())
    }

    fn clear(&mut self) -> core::result::Result<(), String> {
        for (_, file) in core::mem::take(&mut self.open) {
            self.target.close(file).map_err(|error| format!("close: {error}"))?;
        }
        let mut directories: Vec<(usize, String, Id)> = Vec::new();
        for id in self.model.directories() {
            let path = self.model.path(id);
            directories.push((path.matches('/').count() + usize::from(id != ROOT), path, id));
        }
        directories.sort_by_key(|directory| core::cmp::Reverse(directory.0));
        for (_, path, id) in directories {
            let entries: Vec<(String, Id)> =
                self.model.entries(id).iter().map(|(name, id)| (name.clone(), *id)).collect();
            for (name, child) in entries {
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                let removed = match self.model.is_directory(child) {
                    true => self.target.rmdir(&path),
                    false => self.target.unlink(&path),
                };
                removed.map_err(|error| format!("removing '{path}' at the end: {error}"))?;
            }
        }
        Ok(())
    }
}
