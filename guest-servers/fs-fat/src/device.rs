//! lamfat's storage: a position over ours.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;

use lamfat::{IoBase, IoError, Read, Seek, SeekFrom, Write};
use xinim_abi::error::{Error, Result as OurResult};
use xinim_block_client::Storage;

/// The storage of a mounted volume: lamfat's view of it and ours.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<Box<dyn Storage>>>);

impl Shared {
    pub fn new(storage: Box<dyn Storage>) -> Self {
        Self(Rc::new(RefCell::new(storage)))
    }
}

impl Storage for Shared {
    fn len(&self) -> u64 {
        self.0.borrow().len()
    }
    fn read_only(&self) -> bool {
        self.0.borrow().read_only()
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> OurResult<()> {
        self.0.borrow_mut().read(offset, out)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> OurResult<()> {
        self.0.borrow_mut().write(offset, data)
    }
    fn barrier(&mut self) -> OurResult<()> {
        self.0.borrow_mut().barrier()
    }
    fn flush(&mut self) -> OurResult<()> {
        self.0.borrow_mut().flush()
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
