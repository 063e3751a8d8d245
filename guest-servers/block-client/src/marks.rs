//! Marks in the memory that a read is to fill: a driver that says "done" while its device wrote somewhere else,
//! or nothing, would hand out what was there before. A damaged driver does, and a wrong bit in a descriptor.
//!
//! ```text
//! | mark |            what a device has to write            | mark |
//! ```
//! Nobody but the client knows the number, so no disk has it.

use xinim_abi::error::Result;

/// Bytes of a mark; requests are whole sectors.
const LEN: usize = 8;

#[derive(Clone, Copy, Debug)]
pub struct Marks([u8; LEN]);

impl Marks {
    /// `number`: a random one.
    pub fn new(number: u64) -> Self {
        Self(number.to_le_bytes())
    }

    fn places(offset: usize, len: usize) -> [usize; 2] {
        [offset, offset + len.saturating_sub(LEN)]
    }

    /// Before a read of `len` bytes to `offset`.
    pub fn set(
        self,
        offset: usize,
        len: usize,
        mut write: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        Self::places(offset, len).into_iter().try_for_each(|at| write(at, &self.0))
    }

    /// After it: whether both have been written over.
    pub fn are_gone(
        self,
        offset: usize,
        len: usize,
        mut read: impl FnMut(usize, &mut [u8]) -> Result<()>,
    ) -> Result<bool> {
        let mut there = [0; LEN];
        for at in Self::places(offset, len) {
            read(at, &mut there)?;
            if there == self.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::vec;

    #[test]
    fn what_was_not_written_whole_is_seen() {
        let memory = RefCell::new(vec![0u8; 4096]);
        let marks = Marks::new(0x0123_4567_89AB_CDEF);
        let set = || {
            let write = |at: usize, data: &[u8]| {
                memory.borrow_mut()[at..at + data.len()].copy_from_slice(data);
                Ok(())
            };
            marks.set(512, 1024, write).unwrap();
        };
        let are_gone = || {
            let read = |at: usize, out: &mut [u8]| {
                out.copy_from_slice(&memory.borrow()[at..at + out.len()]);
                Ok(())
            };
            marks.are_gone(512, 1024, read).unwrap()
        };
        for (from, to, whole) in
            [(0, 0, false), (512, 1024, false), (1024, 1536, false), (512, 1536, true)]
        {
            set();
            memory.borrow_mut()[from..to].fill(7);
            assert_eq!(are_gone(), whole, "{from}..{to}");
        }
        assert!(memory.borrow()[..512].iter().chain(&memory.borrow()[1536..]).all(|b| *b == 0));
    }
}
