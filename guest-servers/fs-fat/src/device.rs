//! lamfat's storage: a position over the block cache.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;

use lamfat::{IoBase, IoError, Read, Seek, SeekFrom, Write};
use xinim_abi::error::Error;
use xinim_block_client::{Cache, Transport};

/// The block cache of whatever carries the volume.
pub type BlockCache = Cache<Box<dyn Transport>>;

/// One view of the volume's bytes; clones share the cache.
pub struct Device {
    cache: Rc<RefCell<BlockCache>>,
    position: u64,
}

impl Device {
    pub fn new(cache: Rc<RefCell<BlockCache>>) -> Self {
        Self { cache, position: 0 }
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

impl IoBase for Device {
    type Error = DeviceError;
}

impl Read for Device {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let mut cache = self.cache.borrow_mut();
        let left = cache.len().saturating_sub(self.position);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        cache.read(self.position, &mut buffer[..count]).map_err(DeviceError)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Device {
    fn write(&mut self, data: &[u8]) -> Result<usize, DeviceError> {
        let mut cache = self.cache.borrow_mut();
        let left = cache.len().saturating_sub(self.position);
        let count = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        cache.write(self.position, &data[..count]).map_err(DeviceError)?;
        self.position += count as u64;
        Ok(count)
    }

    /// lamfat asks for this after each file; what is durable is decided by `sync`.
    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl Seek for Device {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, DeviceError> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.cache.borrow().len().checked_add_signed(offset),
        };
        self.position = target.ok_or(DeviceError(Error::Inval))?;
        Ok(self.position)
    }
}
