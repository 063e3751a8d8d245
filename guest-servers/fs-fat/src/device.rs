//! lamfat's storage: a position over ours.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;

use lamfat::{IoBase, IoError, Read, Seek, SeekFrom, Write};
use xinim_abi::error::{Error, Result as OurResult};
use xinim_block_client::Storage;

/// The storage of a mounted volume: lamfat's view of it and ours.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<Inner>>);

struct Inner {
    storage: Box<dyn Storage>,
    /// An access has failed, perhaps in the middle of an operation.
    failed: bool,
}

impl Inner {
    fn noted(&mut self, result: OurResult<()>) -> OurResult<()> {
        self.failed |= result.is_err();
        result
    }
}

impl Shared {
    pub fn new(storage: Box<dyn Storage>) -> Self {
        Self(Rc::new(RefCell::new(Inner { storage, failed: false })))
    }

    /// An operation may have been left half done: lamfat cannot undo.
    pub fn failed(&self) -> bool {
        self.0.borrow().failed
    }
}

impl Storage for Shared {
    fn len(&self) -> u64 {
        self.0.borrow().storage.len()
    }
    fn read_only(&self) -> bool {
        self.0.borrow().storage.read_only()
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> OurResult<()> {
        let mut inner = self.0.borrow_mut();
        let result = inner.storage.read(offset, out);
        inner.noted(result)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> OurResult<()> {
        let mut inner = self.0.borrow_mut();
        let result = inner.storage.write(offset, data);
        inner.noted(result)
    }
    fn barrier(&mut self) -> OurResult<()> {
        self.0.borrow_mut().storage.barrier()
    }
    fn flush(&mut self) -> OurResult<()> {
        self.0.borrow_mut().storage.flush()
    }
    fn discard(&mut self, offset: u64, len: u64) -> OurResult<()> {
        self.0.borrow_mut().storage.discard(offset, len)
    }
    fn read_ahead(&mut self, offset: u64, len: u64) {
        self.0.borrow_mut().storage.read_ahead(offset, len);
    }
    fn background(&mut self, tick: bool) -> bool {
        self.0.borrow_mut().storage.background(tick)
    }
}

/// A storage with a position.
pub struct Device<S> {
    storage: S,
    position: u64,
}

impl<S: Storage> Device<S> {
    pub fn new(storage: S) -> Self {
        Self { storage, position: 0 }
    }

    /// Bytes of `len` that lie before the end.
    fn left(&self, len: usize) -> usize {
        let left = self.storage.len().saturating_sub(self.position);
        len.min(usize::try_from(left).unwrap_or(usize::MAX))
    }
}

/// A block error, as lamfat wants to see it.
#[derive(Clone, Copy, Debug)]
pub struct DeviceError(pub Error);

impl IoError for DeviceError {
    fn is_interrupted(&self) -> bool {
        false
    }

    fn new_unexpected_eof_error() -> Self {
        DeviceError(Error::Io)
    }

    fn new_write_zero_error() -> Self {
        DeviceError(Error::Io)
    }
}

impl<S: Storage> IoBase for Device<S> {
    type Error = DeviceError;
}

impl<S: Storage> Read for Device<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let count = self.left(buffer.len());
        if count > 0 {
            self.storage.read(self.position, &mut buffer[..count]).map_err(DeviceError)?;
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl<S: Storage> Write for Device<S> {
    fn write(&mut self, data: &[u8]) -> Result<usize, DeviceError> {
        let count = self.left(data.len());
        // The mark "in use" is ours (`check::mark`): lamfat clears it before what it stands for is
        // on the medium. It writes that byte alone.
        let mark = data.len() == 1 && matches!(self.position, 0x25 | 0x41);
        if count > 0 && !mark {
            self.storage.write(self.position, &data[..count]).map_err(DeviceError)?;
        }
        self.position += count as u64;
        Ok(count)
    }

    /// lamfat asks for this after each file; what is durable is decided by `sync`.
    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl<S: Storage> Seek for Device<S> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, DeviceError> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.storage.len().checked_add_signed(offset),
        };
        self.position = target.ok_or(DeviceError(Error::Inval))?;
        Ok(self.position)
    }
}
