//! lamfat's storage: a position over ours.
//!
//! lamfat reads a directory field by field, two dozen accesses a slot. So the sector that was read last is
//! kept here: what a look-up costs, in directories of a hostile volume too, is its sectors.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;

use lamfat::{IoBase, IoError, Read, Seek, SeekFrom, Write};
use xinim_abi::error::{Error, Result as OurResult};
use xinim_block_client::{Storage, Watched};

/// The storage of a mounted volume: lamfat's view of it and ours.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<Inner>>);

struct Inner {
    storage: Watched<Box<dyn Storage>>,
    /// The sector read last, and its number.
    sector: [u8; SECTOR],
    number: Option<u64>,
}

const SECTOR: usize = 512;

impl Inner {
    /// The part of one sector that `len` bytes at `offset` are: its number and where they stand in it.
    fn part(&self, offset: u64, len: usize) -> Option<(u64, core::ops::Range<usize>)> {
        let (number, at) = (offset / SECTOR as u64, (offset % SECTOR as u64) as usize);
        let whole = number.checked_add(1)?.checked_mul(SECTOR as u64)? <= self.storage.len();
        (whole && at + len <= SECTOR).then_some((number, at..at + len))
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> OurResult<()> {
        let Some((number, place)) = self.part(offset, out.len()) else {
            return self.storage.read(offset, out);
        };
        if self.number != Some(number) {
            self.number = None;
            self.storage.read(number * SECTOR as u64, &mut self.sector)?;
            self.number = Some(number);
        }
        out.copy_from_slice(&self.sector[place]);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> OurResult<()> {
        let known = self.number.take();
        self.storage.write(offset, data)?;
        if let Some((number, place)) = self.part(offset, data.len())
            && known == Some(number)
        {
            self.sector[place].copy_from_slice(data);
            self.number = known;
        }
        Ok(())
    }
}

impl Shared {
    pub fn new(storage: Box<dyn Storage>) -> Self {
        let inner = Inner { storage: Watched::new(storage), sector: [0; SECTOR], number: None };
        Self(Rc::new(RefCell::new(inner)))
    }

    /// An operation may have been left half done: lamfat cannot undo.
    pub fn failed(&self) -> bool {
        self.0.borrow().storage.failed()
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
        self.0.borrow_mut().read(offset, out)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> OurResult<()> {
        self.0.borrow_mut().write(offset, data)
    }
    fn barrier(&mut self) -> OurResult<()> {
        self.0.borrow_mut().storage.barrier()
    }
    fn flush(&mut self) -> OurResult<()> {
        self.0.borrow_mut().storage.flush()
    }
    fn discard(&mut self, offset: u64, len: u64) -> OurResult<()> {
        let mut inner = self.0.borrow_mut();
        inner.number = None;
        inner.storage.discard(offset, len)
    }
    fn read_ahead(&mut self, offset: u64, len: u64) {
        self.0.borrow_mut().storage.read_ahead(offset, len);
    }
    fn background(&mut self, tick: bool) -> bool {
        self.0.borrow_mut().storage.background(tick)
    }
    fn recovered(&self) -> bool {
        self.0.borrow().storage.recovered()
    }
}

/// A storage with a position.
pub struct Device<S> {
    storage: S,
    position: u64,
    /// Whether FAT32's mark "in use" reads as clear.
    hides_mark: bool,
}

/// Byte of FAT32's boot sector whose lowest bit is the mark.
const MARK: u64 = 0x41;

impl<S: Storage> Device<S> {
    pub fn new(storage: S) -> Self {
        Self { storage, position: 0, hides_mark: false }
    }

    /// For a FAT32 volume that was found in order before it was marked as in use: lamfat does not go by the
    /// count of free clusters, nor writes it, where it finds the mark.
    #[must_use]
    pub fn hide_mark(self) -> Self {
        Self { hides_mark: true, ..self }
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
        if self.hides_mark
            && let Some(at) = MARK.checked_sub(self.position)
            && let Some(byte) = buffer[..count].get_mut(at as usize)
        {
            *byte &= !1;
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
        let mark = data.len() == 1 && matches!(self.position, 0x25 | MARK);
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
