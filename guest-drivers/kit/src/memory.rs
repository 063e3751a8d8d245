//! Memory that somebody else, a device or another process, reads and writes at the same time.

use alloc::rc::Rc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Shared memory, reached only through copies: there is no reference to its bytes, so a value
/// cannot change after it was judged. Integers are little-endian.
///
/// # Panics
/// An access beyond [`len`](Self::len), or an integer not aligned to its size, is a bug of the
/// caller: check offsets that come from the other side first.
pub trait SharedMemory {
    /// Bytes.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies from `at` into `out`. The bytes are not one snapshot.
    fn read_bytes(&self, at: usize, out: &mut [u8]);
    /// Copies `data` to `at`.
    fn write_bytes(&self, at: usize, data: &[u8]);

    /// One access with acquire order: what the other side wrote before it stored this value is
    /// seen by later reads.
    fn load_u16(&self, at: usize) -> u16;
    fn load_u32(&self, at: usize) -> u32;
    /// One access with release order: the other side, having seen this value, sees everything
    /// written before.
    fn store_u16(&self, at: usize, value: u16);
    fn store_u32(&self, at: usize, value: u32);

    /// A plain value: read once, then the caller's own.
    fn read_value<T: FromBytes + IntoBytes>(&self, at: usize) -> T
    where
        Self: Sized,
    {
        let mut value = T::new_zeroed();
        self.read_bytes(at, value.as_mut_bytes());
        value
    }

    fn write_value<T: IntoBytes + Immutable>(&self, at: usize, value: &T)
    where
        Self: Sized,
    {
        self.write_bytes(at, value.as_bytes());
    }
}

impl<S: SharedMemory> SharedMemory for Rc<S> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn read_bytes(&self, at: usize, out: &mut [u8]) {
        (**self).read_bytes(at, out);
    }
    fn write_bytes(&self, at: usize, data: &[u8]) {
        (**self).write_bytes(at, data);
    }
    fn load_u16(&self, at: usize) -> u16 {
        (**self).load_u16(at)
    }
    fn load_u32(&self, at: usize) -> u32 {
        (**self).load_u32(at)
    }
    fn store_u16(&self, at: usize, value: u16) {
        (**self).store_u16(at, value);
    }
    fn store_u32(&self, at: usize, value: u32) {
        (**self).store_u32(at, value);
    }
}

/// Orders everything before it against everything after it, stores against later loads too:
/// between publishing an index and reading the other side's event index (VIRTIO 2.7.7.2).
pub fn full_barrier() {
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}
