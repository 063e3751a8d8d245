//! What a file system's logic stands on: bytes at offsets, and an order between writes.
//!
//! [`Cache`] is one in the guest; host tests put a plain image, a recorder for power cuts or a
//! damaged image in its place (crate `xinim-fs-testing`), tools a file.

use alloc::boxed::Box;

use xinim_abi::error::Result;

use crate::{Cache, Transport};

/// A device or partition as its file system uses it. Offsets and lengths are bytes, any alignment.
pub trait Storage {
    /// Bytes.
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read_only(&self) -> bool;

    /// Fills `out`. `Inval` beyond the end.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Takes all of `data`, durable at the next [`Storage::flush`]. Before that any part of it,
    /// down to single 512-byte sectors, may be on the medium or not, in any order. `RoFs`,
    /// `Inval` beyond the end.
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()>;

    /// Nothing written from now on reaches the medium before everything written so far has.
    fn barrier(&mut self) -> Result<()> {
        self.flush()
    }

    /// Everything written so far is on the medium when this returns `Ok`.
    fn flush(&mut self) -> Result<()>;

    /// Nobody needs these bytes any more: what they read as is undefined until written. A hint.
    fn discard(&mut self, offset: u64, len: u64) -> Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// These bytes will be wanted soon. A hint.
    fn read_ahead(&mut self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Whether anything written is not on the device yet; then to be called about once a second with
    /// `tick`, which writes what has waited long without making anybody wait.
    fn background(&mut self, tick: bool) -> bool {
        let _ = tick;
        false
    }

    /// Nothing is lost of what an earlier instance of this server had written and not flushed.
    fn recovered(&self) -> bool {
        false
    }
}

impl<T: Transport> Storage for Cache<T> {
    fn len(&self) -> u64 {
        Cache::len(self)
    }
    fn read_only(&self) -> bool {
        Cache::read_only(self)
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        Cache::read(self, offset, out)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        Cache::write(self, offset, data)
    }
    fn flush(&mut self) -> Result<()> {
        Cache::flush(self)
    }
    fn barrier(&mut self) -> Result<()> {
        Cache::barrier(self)
    }
    fn discard(&mut self, offset: u64, len: u64) -> Result<()> {
        Cache::discard(self, offset, len)
    }
    fn read_ahead(&mut self, offset: u64, len: u64) {
        Cache::read_ahead(self, offset, len);
    }
    fn background(&mut self, tick: bool) -> bool {
        Cache::background(self, tick)
    }
    fn recovered(&self) -> bool {
        Cache::recovered(self)
    }
}

macro_rules! pointers {
    ($($pointer:ty),*) => {$(
        impl<S: Storage + ?Sized> Storage for $pointer {
        fn len(&self) -> u64 {
            (**self).len()
        }
        fn read_only(&self) -> bool {
            (**self).read_only()
        }
        fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
            (**self).read(offset, out)
        }
        fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
            (**self).write(offset, data)
        }
        fn barrier(&mut self) -> Result<()> {
            (**self).barrier()
        }
        fn flush(&mut self) -> Result<()> {
            (**self).flush()
        }
        fn discard(&mut self, offset: u64, len: u64) -> Result<()> {
            (**self).discard(offset, len)
        }
        fn read_ahead(&mut self, offset: u64, len: u64) {
            (**self).read_ahead(offset, len);
        }
        fn background(&mut self, tick: bool) -> bool {
            (**self).background(tick)
        }
        fn recovered(&self) -> bool {
            (**self).recovered()
        }
        }
    )*};
}

pointers!(Box<S>, &mut S);

/// A storage that remembers whether an access has failed, perhaps in the middle of an operation: for
/// formats that cannot undo, which have to check a volume before they call it whole again.
#[derive(Debug)]
pub struct Watched<S> {
    storage: S,
    failed: bool,
}

impl<S: Storage> Watched<S> {
    pub fn new(storage: S) -> Self {
        Self { storage, failed: false }
    }

    pub fn failed(&self) -> bool {
        self.failed
    }

    /// What the failure left has been put right.
    pub fn forget(&mut self) {
        self.failed = false;
    }

    fn note(&mut self, result: Result<()>) -> Result<()> {
        self.failed |= result.is_err();
        result
    }
}

impl<S: Storage> Storage for Watched<S> {
    fn len(&self) -> u64 {
        self.storage.len()
    }
    fn read_only(&self) -> bool {
        self.storage.read_only()
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        let result = self.storage.read(offset, out);
        self.note(result)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let result = self.storage.write(offset, data);
        self.note(result)
    }
    fn barrier(&mut self) -> Result<()> {
        // Between two steps of an operation, unlike `flush`.
        let result = self.storage.barrier();
        self.note(result)
    }
    fn flush(&mut self) -> Result<()> {
        self.storage.flush()
    }
    fn discard(&mut self, offset: u64, len: u64) -> Result<()> {
        self.storage.discard(offset, len)
    }
    fn read_ahead(&mut self, offset: u64, len: u64) {
        self.storage.read_ahead(offset, len);
    }
    fn background(&mut self, tick: bool) -> bool {
        self.storage.background(tick)
    }
    fn recovered(&self) -> bool {
        self.storage.recovered()
    }
}
