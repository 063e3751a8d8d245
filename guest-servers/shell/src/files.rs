//! The descriptors that the commands of this shell see.
//!
//! Redirections change this map, never the process's own descriptors: children get an explicit
//! list, and built-ins look their output up here. So nothing has to be saved or moved back.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use xinim_os::{Error, Fd, Os, Result, write_all};

/// An open descriptor of the process; closed with its last user if it was opened here.
pub struct File<'a> {
    os: &'a dyn Os,
    fd: Fd,
    owned: bool,
}

impl<'a> File<'a> {
    pub fn owned(os: &'a dyn Os, fd: Fd) -> Self {
        Self { os, fd, owned: true }
    }

    pub fn fd(&self) -> Fd {
        self.fd
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        if self.owned {
            let _ = self.os.close(self.fd);
        }
    }
}

/// What a number stands for.
#[derive(Clone)]
pub enum Entry<'a> {
    File(Rc<File<'a>>),
    /// Output of a built-in in a command substitution: no child ever sees one.
    Capture(Rc<RefCell<Vec<u8>>>),
}

#[derive(Clone)]
pub struct Files<'a> {
    os: &'a dyn Os,
    map: BTreeMap<Fd, Entry<'a>>,
}

impl<'a> Files<'a> {
    /// Standard streams as the process has them.
    pub fn standard(os: &'a dyn Os) -> Self {
        let map =
            (0..3).map(|fd| (fd, Entry::File(Rc::new(File { os, fd, owned: false })))).collect();
        Self { os, map }
    }

    pub fn set(&mut self, fd: Fd, entry: Entry<'a>) {
        self.map.insert(fd, entry);
    }

    pub fn set_file(&mut self, fd: Fd, file: File<'a>) {
        self.set(fd, Entry::File(Rc::new(file)));
    }

    pub fn close(&mut self, fd: Fd) {
        self.map.remove(&fd);
    }

    pub fn duplicate(&mut self, from: Fd, to: Fd) -> Result<()> {
        let entry = self.map.get(&from).ok_or(Error::BadF)?.clone();
        self.map.insert(to, entry);
        Ok(())
    }

    /// The process's descriptor behind `fd`.
    pub fn get(&self, fd: Fd) -> Result<Fd> {
        match self.map.get(&fd) {
            Some(Entry::File(file)) => Ok(file.fd),
            _ => Err(Error::BadF),
        }
    }

    pub fn write(&self, fd: Fd, bytes: &[u8]) -> Result<()> {
        match self.map.get(&fd) {
            Some(Entry::File(file)) => write_all(self.os, file.fd, bytes),
            Some(Entry::Capture(captured)) => {
                captured.borrow_mut().extend_from_slice(bytes);
                Ok(())
            }
            None => Err(Error::BadF),
        }
    }

    /// (the child's, ours) for a child that sees what the commands see.
    pub fn for_child(&self) -> Vec<(Fd, Fd)> {
        let files = self.map.iter().filter_map(|(&fd, entry)| match entry {
            Entry::File(file) => Some((fd, file.fd)),
            Entry::Capture(_) => None,
        });
        files.collect()
    }
}
