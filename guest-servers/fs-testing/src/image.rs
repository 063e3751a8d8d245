//! A disk image in memory.

use std::cell::RefCell;
use std::rc::Rc;

use xinim_abi::error::{Error, Result};
use xinim_block_client::Storage;

/// What happened to an image, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    /// A barrier or a flush: what stood before it is on the medium before what comes after.
    Barrier,
    /// The test's own remark ([`Image::mark`]).
    Mark(u64),
}

/// An image as it was, and every step since.
#[derive(Clone, Debug)]
pub struct Recording {
    pub start: Vec<u8>,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
struct Inner {
    bytes: Vec<u8>,
    read_only: bool,
    recovered: bool,
    steps: Option<Vec<Step>>,
    start: Vec<u8>,
    accesses: u64,
    budget: u64,
    fail_writes: bool,
}

/// A storage in memory; clones are the same image.
#[derive(Clone, Debug)]
pub struct Image(Rc<RefCell<Inner>>);

impl Image {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            bytes,
            read_only: false,
            recovered: false,
            steps: None,
            start: Vec::new(),
            accesses: 0,
            budget: u64::MAX,
            fail_writes: false,
        })))
    }

    pub fn zeroed(len: usize) -> Self {
        Self::new(vec![0; len])
    }

    /// Writes are `RoFs`.
    pub fn read_only(self) -> Self {
        self.0.borrow_mut().read_only = true;
        self
    }

    /// As a cache whose unwritten lines outlive the server: nothing is ever lost.
    pub fn recovered(self) -> Self {
        self.0.borrow_mut().recovered = true;
        self
    }

    /// Reads and writes beyond this number fail, so that whoever loops comes to an end;
    /// [`Image::exhausted`] tells.
    pub fn budget(self, accesses: u64) -> Self {
        self.0.borrow_mut().budget = accesses;
        self
    }

    /// Reads and writes so far.
    pub fn accesses(&self) -> u64 {
        self.0.borrow().accesses
    }

    pub fn exhausted(&self) -> bool {
        let inner = self.0.borrow();
        inner.accesses > inner.budget
    }

    /// From now on the medium refuses every write (`true`) or none.
    pub fn fail_writes(&self, fail: bool) {
        self.0.borrow_mut().fail_writes = fail;
    }

    /// A copy of the bytes as they are.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    /// Changes bytes behind the file system's back.
    pub fn edit(&self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.0.borrow_mut().bytes);
    }

    /// Starts recording writes and barriers.
    pub fn record(&self) {
        let mut inner = self.0.borrow_mut();
        inner.start = inner.bytes.clone();
        inner.steps = Some(Vec::new());
    }

    /// A remark between the steps of a recording.
    pub fn mark(&self, mark: u64) {
        if let Some(steps) = &mut self.0.borrow_mut().steps {
            steps.push(Step::Mark(mark));
        }
    }

    /// Ends the recording. Panics without one.
    pub fn recording(&self) -> Recording {
        let mut inner = self.0.borrow_mut();
        let steps = inner.steps.take().expect("a recording was started");
        Recording { start: std::mem::take(&mut inner.start), steps }
    }
}

impl Inner {
    fn count(&mut self) -> Result<()> {
        self.accesses += 1;
        if self.accesses > self.budget { Err(Error::Io) } else { Ok(()) }
    }

    fn part(&mut self, offset: u64, len: usize) -> Result<&mut [u8]> {
        let start = usize::try_from(offset).map_err(|_| Error::Inval)?;
        let end = start.checked_add(len).ok_or(Error::Inval)?;
        self.bytes.get_mut(start..end).ok_or(Error::Inval)
    }
}

impl Storage for Image {
    fn len(&self) -> u64 {
        self.0.borrow().bytes.len() as u64
    }

    fn read_only(&self) -> bool {
        self.0.borrow().read_only
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut inner = self.0.borrow_mut();
        inner.count()?;
        out.copy_from_slice(inner.part(offset, out.len())?);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let mut inner = self.0.borrow_mut();
        inner.count()?;
        if inner.read_only {
            return Err(Error::RoFs);
        }
        if inner.fail_writes {
            return Err(Error::Io);
        }
        inner.part(offset, data.len())?.copy_from_slice(data);
        if let Some(steps) = &mut inner.steps {
            steps.push(Step::Write { offset, data: data.to_vec() });
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut inner = self.0.borrow_mut();
        if inner.fail_writes {
            return Err(Error::Io);
        }
        if let Some(steps) = &mut inner.steps {
            steps.push(Step::Barrier);
        }
        Ok(())
    }

    fn recovered(&self) -> bool {
        self.0.borrow().recovered
    }

    /// What nobody needs becomes noise, so that who reads it is found out.
    fn discard(&mut self, offset: u64, len: u64) -> Result<()> {
        let len = usize::try_from(len).map_err(|_| Error::Inval)?;
        self.write(offset, &vec![0xDD; len])
    }
}
