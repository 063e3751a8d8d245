//! Where bytes go to and come from: memory that another process may see, or a plain buffer.

use xinim_abi::error::{Error, Result};

/// Takes bytes at offsets from its start.
pub trait Sink {
    /// `Fault` outside its bounds.
    fn put(&mut self, at: usize, bytes: &[u8]) -> Result<()>;
}

/// Gives bytes at offsets from its start.
pub trait Source {
    /// `Fault` outside its bounds.
    fn get(&mut self, at: usize, out: &mut [u8]) -> Result<()>;
}

/// Memory shared with a peer. The peer may change it at any time: copy first, then check.
pub trait Window {
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// `Fault` out of bounds.
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()>;
    /// `Fault` out of bounds.
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()>;
}

impl Sink for &mut [u8] {
    fn put(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let end = at.checked_add(bytes.len()).ok_or(Error::Fault)?;
        self.get_mut(at..end).ok_or(Error::Fault)?.copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for &[u8] {
    fn get(&mut self, at: usize, out: &mut [u8]) -> Result<()> {
        let end = at.checked_add(out.len()).ok_or(Error::Fault)?;
        out.copy_from_slice((**self).get(at..end).ok_or(Error::Fault)?);
        Ok(())
    }
}
