//! The exerciser finds what it is made to find: file systems with a fault.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::Result;
use xinim_abi::services::vfs::Stat;

use crate::model::{Body, Model, ROOT};
use crate::{Can, Target, run};

/// Answers from a model of its own, with a fault now and then.
struct Faulty {
    model: Model,
    fault: &'static str,
    writes: u32,
}

impl Faulty {
    fn new(fault: &'static str) -> Self {
        Self { model: Model::new(), fault, writes: 0 }
    }

    fn walk(&self, path: &str) -> Result<usize> {
        use xinim_abi::error::Error;
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |at, name| {
            if !self.model.is_directory(at) {
                return Err(Error::NotDir);
            }
            self.model.find(at, name).ok_or(Error::NoEnt)
        })
    }

    fn split<'p>(&self, path: &'p str) -> Result<(usize, &'p str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.walk(dir)?;
        if !self.model.is_directory(dir) {
            return Err(xinim_abi::error::Error::NotDir);
        }
        Ok((dir, name))
    }

    fn make(&mut self, path: &str, body: Body) -> Result<usize> {
        let (dir, name) = self.split(path)?;
        if self.model.find(dir, name).is_some() {
            return Err(xinim_abi::error::Error::Exist);
        }
        let id = self.model.add(body, dir);
        self.model.insert(dir, name, id);
        Ok(id)
    }

    fn stat_of(&self, id: usize) -> Stat {
        use xinim_abi::services::vfs::mode;
        let node = &self.model.nodes[id];
        let (kind, size) = match &node.body {
            Body::File(data) => (mode::REGULAR, data.len()),
            Body::Directory(_) => (mode::DIRECTORY, 0),
            Body::Link(target) => (mode::SYMLINK, target.len()),
        };
        let mode = kind | node.mode.unwrap_or(0o755);
        let (size, mtime) = (size as u64, node.mtime.unwrap_or(0));
        Stat { ino: id as u64, mode, size, links: node.links, mtime, ..Stat::default() }
    }
}

fn first(refused: core::result::Result<(), crate::model::Refusals>) -> Result<()> {
    refused.map_err(|errors| errors[0])
}

impl Target for Faulty {
    type File = usize;

    fn create(&mut self, path: &str) -> Result<usize> {
        self.make(path, Body::File(Vec::new()))
    }
    fn open(&mut self, path: &str) -> Result<usize> {
        match self.walk(path)? {
            id if self.model.is_directory(id) => Err(xinim_abi::error::Error::IsDir),
            id => Ok(id),
        }
    }
    fn close(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
    fn read(&mut self, file: &usize, offset: u64, out: &mut [u8]) -> Result<usize> {
        let data = self.model.data(*file);
        let data = &data[(offset as usize).min(data.len())..];
        let count = data.len().min(out.len());
        out[..count].copy_from_slice(&data[..count]);
        Ok(count)
    }
    fn write(&mut self, file: &usize, offset: u64, data: &[u8]) -> Result<usize> {
        self.writes += 1;
        let fault = self.writes.is_multiple_of(40);
        let body = self.model.data_mut(*file).expect("a file");
        let end = offset as usize + data.len();
        let fill = if self.fault == "hole" { 1 } else { 0 };
        body.resize(body.len().max(end), fill);
        body[offset as usize..end].copy_from_slice(data);
        if fault && self.fault == "byte" {
            body[offset as usize] ^= 1;
        }
        Ok(data.len())
    }
    fn truncate(&mut self, file: &usize, size: u64) -> Result<()> {
        self.model.data_mut(*file).expect("a file").resize(size as usize, 0);
        Ok(())
    }
    fn fsync(&mut self, _: &usize) -> Result<()> {
        Ok(())
    }
    fn stat_open(&mut self, file: &usize) -> Result<Stat> {
        Ok(self.stat_of(*file))
    }
    fn stat(&mut self, path: &str) -> Result<Stat> {
        Ok(self.stat_of(self.walk(path)?))
    }
    fn list(&mut self, path: &str) -> Result<Vec<(String, u32)>> {
        let dir = self.walk(path)?;
        let entries = self.model.entries(dir).iter();
        Ok(entries.map(|(name, id)| (name.clone(), self.stat_of(*id).mode & 0o170000)).collect())
    }
    fn mkdir(&mut self, path: &str) -> Result<()> {
        self.make(path, Body::Directory(Default::default())).map(|_| ())
    }
    fn rmdir(&mut self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path)?;
        first(self.model.rmdir(dir, name))?;
        self.model.remove(dir, name);
        Ok(())
    }
    fn unlink(&mut self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path)?;
        first(self.model.unlink(dir, name))?;
        self.model.remove(dir, name);
        Ok(())
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.split(from)?, self.split(to)?);
        first(self.model.rename(from, to))?;
        if self.fault == "rename" && self.model.find(to.0, to.1).is_some() {
            return Err(xinim_abi::error::Error::Exist);
        }
        self.model.renamed(from, to);
        Ok(())
    }
    fn link(&mut self, from: &str, to: &str) -> Result<()> {
        let id = self.walk(from)?;
        let (dir, name) = self.split(to)?;
        if self.model.find(dir, name).is_some() {
            return Err(xinim_abi::error::Error::Exist);
        }
        if self.model.is_directory(id) {
            return Err(xinim_abi::error::Error::Perm);
        }
        self.model.insert(dir, name, id);
        self.model.nodes[id].links += u32::from(self.fault != "links");
        Ok(())
    }
    fn symlink(&mut self, target: &str, path: &str) -> Result<()> {
        self.make(path, Body::Link(target.into())).map(|_| ())
    }
    fn readlink(&mut self, path: &str) -> Result<String> {
        match &self.model.nodes[self.walk(path)?].body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(xinim_abi::error::Error::Inval),
        }
    }
    fn chmod(&mut self, path: &str, mode: u32) -> Result<()> {
        let id = self.walk(path)?;
        self.model.nodes[id].mode = Some(mode);
        Ok(())
    }
    fn set_mtime(&mut self, path: &str, ns: u64) -> Result<()> {
        let id = self.walk(path)?;
        self.model.nodes[id].mtime = Some(ns);
        Ok(())
    }
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_system_without_fault_passes() {
    for seed in 0..6 {
        let done = run(&mut Faulty::new(""), &Can::default(), seed, 3000);
        let summary = done.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(summary.operations, 3000);
        assert!(summary.refused > 200 && summary.written > 100_000, "{summary:?}");
    }
}

#[test]
fn faults_are_found_and_told() {
    for (fault, word) in
        [("byte", "byte"), ("hole", "bytes at"), ("rename", "Exist"), ("links", "links")]
    {
        let failure = run(&mut Faulty::new(fault), &Can::default(), 1, 20_000).expect_err(fault);
        assert!(failure.what.contains(word), "{fault}: {failure}");
        assert!(!failure.history.is_empty() && failure.step > 0);
    }
}

#[test]
fn the_same_seed_does_the_same() {
    let once = |seed| format_of(run(&mut Faulty::new("byte"), &Can::default(), seed, 5000));
    assert_eq!(once(3), once(3));
    assert_ne!(once(3), once(4));
}

fn format_of(result: core::result::Result<crate::Summary, crate::Failure>) -> String {
    alloc::format!("{result:?}")
}
