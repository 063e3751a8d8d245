//! What must be there: a tree of names over nodes.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::Error;

pub type Id = usize;
pub const ROOT: Id = 0;

#[derive(Debug)]
pub enum Body {
    File(Vec<u8>),
    Directory(BTreeMap<String, Id>),
    Link(String),
}

#[derive(Debug)]
pub struct Node {
    pub body: Body,
    /// Names of a file; for a directory 1 while it has one.
    pub links: u32,
    /// Of a directory.
    pub parent: Id,
    /// Permission bits and mtime, once they were set and as long as nothing changes them.
    pub mode: Option<u32>,
    pub mtime: Option<u64>,
}

#[derive(Debug)]
pub struct Model {
    pub nodes: Vec<Node>,
}

/// What an operation may answer instead of success.
pub type Refusals = &'static [Error];

impl Model {
    pub fn new() -> Self {
        let mut model = Self { nodes: Vec::new() };
        model.add(Body::Directory(BTreeMap::new()), ROOT);
        model
    }

    pub fn add(&mut self, body: Body, parent: Id) -> Id {
        self.nodes.push(Node { body, links: 1, parent, mode: None, mtime: None });
        self.nodes.len() - 1
    }

    pub fn entries(&self, dir: Id) -> &BTreeMap<String, Id> {
        static NONE: BTreeMap<String, Id> = BTreeMap::new();
        match &self.nodes[dir].body {
            Body::Directory(entries) => entries,
            _ => &NONE,
        }
    }

    fn entries_mut(&mut self, dir: Id) -> Option<&mut BTreeMap<String, Id>> {
        match &mut self.nodes[dir].body {
            Body::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn find(&self, dir: Id, name: &str) -> Option<Id> {
        self.entries(dir).get(name).copied()
    }

    pub fn is_directory(&self, id: Id) -> bool {
        matches!(self.nodes[id].body, Body::Directory(_))
    }

    pub fn data(&self, id: Id) -> &[u8] {
        match &self.nodes[id].body {
            Body::File(data) => data,
            _ => &[],
        }
    }

    pub fn data_mut(&mut self, id: Id) -> Option<&mut Vec<u8>> {
        match &mut self.nodes[id].body {
            Body::File(data) => Some(data),
            _ => None,
        }
    }

    /// Directories that have a name, the root first.
    pub fn directories(&self) -> Vec<Id> {
        let all = 0..self.nodes.len();
        all.filter(|&id| self.is_directory(id) && self.nodes[id].links > 0).collect()
    }

    /// Bytes in all files that exist.
    pub fn total(&self) -> usize {
        let alive = self.nodes.iter().filter(|node| node.links > 0);
        alive.map(|node| if let Body::File(data) = &node.body { data.len() } else { 0 }).sum()
    }

    /// From the root; empty for the root.
    pub fn path(&self, dir: Id) -> String {
        let mut names: Vec<&str> = Vec::new();
        let mut at = dir;
        while at != ROOT {
            let parent = self.nodes[at].parent;
            let name = self.entries(parent).iter().find(|(_, id)| **id == at);
            names.push(name.map_or("?", |(name, _)| name));
            at = parent;
        }
        names.reverse();
        names.join("/")
    }

    fn is_below(&self, mut at: Id, above: Id) -> bool {
        loop {
            if at == above {
                return true;
            }
            if at == ROOT {
                return false;
            }
            at = self.nodes[at].parent;
        }
    }

    pub fn insert(&mut self, dir: Id, name: &str, id: Id) {
        if let Some(entries) = self.entries_mut(dir) {
            entries.insert(name.into(), id);
        }
        if self.is_directory(id) {
            self.nodes[id].parent = dir;
        }
        self.nodes[dir].mtime = None;
    }

    /// Takes a name away; what it named loses a link.
    pub fn remove(&mut self, dir: Id, name: &str) {
        if let Some(id) = self.entries_mut(dir).and_then(|entries| entries.remove(name)) {
            let node = &mut self.nodes[id];
            node.links = node.links.saturating_sub(1);
        }
        self.nodes[dir].mtime = None;
    }

    /// Bodies that nobody can reach any more are dropped; `open` are reached by descriptors.
    pub fn collect(&mut self, open: &[Id]) {
        for (id, node) in self.nodes.iter_mut().enumerate() {
            if node.links == 0 && !open.contains(&id) {
                node.body = Body::Link(String::new());
            }
        }
    }

    pub fn unlink(&self, dir: Id, name: &str) -> Result<(), Refusals> {
        match self.find(dir, name) {
            None => Err(&[Error::NoEnt]),
            Some(id) if self.is_directory(id) => Err(&[Error::IsDir, Error::Perm]),
            Some(_) => Ok(()),
        }
    }

    pub fn rmdir(&self, dir: Id, name: &str) -> Result<(), Refusals> {
        match self.find(dir, name) {
            None => Err(&[Error::NoEnt]),
            Some(id) if !self.is_directory(id) => Err(&[Error::NotDir]),
            Some(id) if !self.entries(id).is_empty() => Err(&[Error::NotEmpty, Error::Exist]),
            Some(_) => Ok(()),
        }
    }

    pub fn rename(&self, from: (Id, &str), to: (Id, &str)) -> Result<(), Refusals> {
        let Some(source) = self.find(from.0, from.1) else { return Err(&[Error::NoEnt]) };
        let directory = self.is_directory(source);
        if directory && self.is_below(to.0, source) {
            // Where the target is there and of the wrong kind, either may be found first.
            return match self.find(to.0, to.1) {
                None => Err(&[Error::Inval]),
                Some(_) => Err(&[Error::Inval, Error::NotDir, Error::NotEmpty, Error::Exist]),
            };
        }
        let Some(target) = self.find(to.0, to.1).filter(|target| *target != source) else {
            return Ok(());
        };
        match (directory, self.is_directory(target)) {
            // Over a directory that it stands in.
            (false, true) if self.is_below(from.0, target) => {
                Err(&[Error::IsDir, Error::NotEmpty, Error::Exist])
            }
            (false, true) => Err(&[Error::IsDir]),
            (true, false) => Err(&[Error::NotDir]),
            (true, true) if !self.entries(target).is_empty() => {
                Err(&[Error::NotEmpty, Error::Exist])
            }
            _ => Ok(()),
        }
    }

    /// Carries out what [`Model::rename`] allowed.
    pub fn renamed(&mut self, from: (Id, &str), to: (Id, &str)) {
        let Some(source) = self.find(from.0, from.1) else { return };
        let same = self.find(to.0, to.1) == Some(source);
        if same && from != to {
            return; // two names of one file stay
        }
        if same {
            return;
        }
        self.remove(to.0, to.1);
        self.insert(to.0, to.1, source);
        if let Some(entries) = self.entries_mut(from.0) {
            entries.remove(from.1);
        }
        self.nodes[from.0].mtime = None;
    }
}
