//! Memory that outlives a stack, on the host.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use xinim_abi::error::{Error, Result};
use xinim_keep::Area;

use crate::lasting::Vault;

/// Bytes that several hold.
#[derive(Clone)]
pub struct Memory(Rc<RefCell<Vec<u8>>>);

impl Memory {
    pub fn new(len: usize) -> Self {
        Self(Rc::new(RefCell::new(vec![0; len])))
    }

    /// Damages one byte.
    pub fn flip(&self, at: usize) {
        self.0.borrow_mut()[at] ^= 0x10;
    }
}

impl Area for Memory {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let bytes = self.0.borrow();
        out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(Error::Fault)?);
        Ok(())
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let mut own = self.0.borrow_mut();
        let len = bytes.len();
        own.get_mut(at..at + len).ok_or(Error::Fault)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// What outlives one stack after the other.
#[derive(Clone, Default)]
pub struct Shelf {
    pub memories: Rc<RefCell<BTreeMap<u64, Memory>>>,
    /// More memories than that there are none.
    pub limit: Option<usize>,
}

impl Vault for Shelf {
    fn open(&mut self, key: u64, len: usize) -> Result<Box<dyn Area>> {
        let mut memories = self.memories.borrow_mut();
        if !memories.contains_key(&key) && self.limit.is_some_and(|most| memories.len() >= most) {
            return Err(Error::Limit);
        }
        Ok(Box::new(memories.entry(key).or_insert_with(|| Memory::new(len)).clone()))
    }
    fn forget(&mut self, key: u64) {
        self.memories.borrow_mut().remove(&key);
    }
}
