//! Guest memory as host files see it: I/O vectors, without a copy in between.
//!
//! The only place of this crate that touches guest memory. A guest reads and writes its memory
//! while the host does I/O on it, so nothing here makes Rust references to it: addresses go to
//! system calls, or bytes are copied by raw pointer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use xinim_devices::dma::Segment;

/// Where guest memory is in this process.
///
/// # Safety
/// A range that [`host_address`](Self::host_address) gives stays mapped, readable and writable, for
/// as long as `self` lives, and is accessed by no Rust reference.
pub unsafe trait HostMemory: Send + Sync {
    /// Host address of `length` bytes of RAM at guest-physical `address`; `None` unless all of
    /// them are RAM in one piece.
    fn host_address(&self, address: u64, length: u64) -> Option<NonNull<u8>>;
}

/// I/O vectors that one system call takes at most.
const VECTORS_MAX: usize = 1024;
/// Zeros to write where a host cannot clear by itself.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// Memory to be read from or written to, and how far that has come.
pub struct Pieces {
    vectors: Vec<libc::iovec>,
    /// Vectors before this one are done.
    first: usize,
    left: u64,
    writable: bool,
    /// Keeps the memory.
    _memory: Option<Arc<dyn HostMemory>>,
}

// SAFETY: the vectors are addresses of memory that `_memory` keeps, which is shared between
// threads anyway, or of `ZEROS`; nothing else is tied to a thread.
unsafe impl Send for Pieces {}

impl Pieces {
    /// `None` where a segment is no RAM.
    pub fn of_guest(memory: &Arc<dyn HostMemory>, segments: &[Segment]) -> Option<Self> {
        let mut vectors = Vec::with_capacity(segments.len());
        let mut left = 0;
        for segment in segments.iter().filter(|segment| segment.length > 0) {
            let address = memory.host_address(segment.address, segment.length.into())?;
            let base = address.as_ptr().cast();
            vectors.push(libc::iovec { iov_base: base, iov_len: segment.length as usize });
            left += u64::from(segment.length);
        }
        Some(Self { vectors, first: 0, left, writable: true, _memory: Some(memory.clone()) })
    }

    /// `length` zeros, to be written to a file only.
    pub fn zeros(length: u64) -> Self {
        let mut vectors = Vec::new();
        let mut rest = length;
        while rest > 0 {
            let take = rest.min(ZEROS.len() as u64);
            let base = ZEROS.as_ptr().cast_mut().cast();
            vectors.push(libc::iovec { iov_base: base, iov_len: take as usize });
            rest -= take;
        }
        Self { vectors, first: 0, left: length, writable: false, _memory: None }
    }

    /// Bytes left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// What one system call takes of the rest: address of the vectors and how many. Valid until
    /// `self` is changed or dropped.
    pub fn next(&self) -> (*const libc::iovec, usize) {
        let rest = &self.vectors[self.first..];
        (rest.as_ptr(), rest.len().min(VECTORS_MAX))
    }

    /// Whether all addresses and lengths are multiples of `alignment`.
    pub fn aligned(&self, alignment: usize) -> bool {
        let fits = |v: &libc::iovec| {
            v.iov_base.addr().is_multiple_of(alignment) && v.iov_len.is_multiple_of(alignment)
        };
        self.vectors[self.first..].iter().all(fits)
    }

    /// The next `count` bytes are done.
    pub fn advance(&mut self, count: usize) {
        let mut count = (count as u64).min(self.left) as usize;
        self.left -= count as u64;
        while let Some(vector) = self.vectors.get_mut(self.first) {
            if count < vector.iov_len {
                vector.iov_base = vector.iov_base.wrapping_byte_add(count);
                vector.iov_len -= count;
                return;
            }
            count -= vector.iov_len;
            self.first += 1;
        }
    }

    /// The first `length` bytes of the rest as pieces of their own; `self` goes on after them.
    pub fn split(&mut self, length: u64) -> Self {
        let mut vectors = Vec::new();
        let mut left = length.min(self.left);
        let total = left;
        for vector in &self.vectors[self.first..] {
            if left == 0 {
                break;
            }
            let take = left.min(vector.iov_len as u64);
            vectors.push(libc::iovec { iov_base: vector.iov_base, iov_len: take as usize });
            left -= take;
        }
        self.advance(total as usize);
        let (writable, _memory) = (self.writable, self._memory.clone());
        Self { vectors, first: 0, left: total, writable, _memory }
    }

    /// Fills the rest from the file.
    pub fn read_from(&mut self, file: BorrowedFd<'_>, mut offset: u64) -> io::Result<()> {
        assert!(self.writable, "zeros are not to be read into");
        while self.left > 0 {
            let (vectors, count) = self.next();
            // SAFETY: the vectors describe memory that lives as long as `self`, and is writable.
            let done = unsafe {
                libc::preadv(file.as_raw_fd(), vectors, count as i32, offset as libc::off_t)
            };
            offset += self.moved(done)?;
        }
        Ok(())
    }

    /// Stores the rest in the file.
    pub fn write_to(&mut self, file: BorrowedFd<'_>, mut offset: u64) -> io::Result<()> {
        while self.left > 0 {
            let (vectors, count) = self.next();
            // SAFETY: the vectors describe memory that lives as long as `self`.
            let done = unsafe {
                libc::pwritev(file.as_raw_fd(), vectors, count as i32, offset as libc::off_t)
            };
            offset += self.moved(done)?;
        }
        Ok(())
    }

    fn moved(&mut self, done: isize) -> io::Result<u64> {
        match usize::try_from(done) {
            // The file has become shorter.
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(done) => {
                self.advance(done);
                Ok(done as u64)
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Copies `data` into the memory as far as it goes.
    pub fn fill(&mut self, mut data: &[u8]) {
        assert!(self.writable, "zeros are not to be written");
        while let Some((at, take)) = self.piece(data.len()) {
            // SAFETY: `piece` gave `take` bytes of memory that `self` keeps; `data` is ours and
            // has as many.
            unsafe { at.copy_from_nonoverlapping(data.as_ptr(), take) };
            data = &data[take..];
            self.advance(take);
        }
    }

    /// Copies as many bytes out of the memory as `data` has.
    pub fn take(&mut self, mut data: &mut [u8]) {
        while let Some((at, take)) = self.piece(data.len()) {
            // SAFETY: as in `fill`, the other way round.
            unsafe { at.copy_to_nonoverlapping(data.as_mut_ptr(), take) };
            data = &mut data[take..];
            self.advance(take);
        }
    }

    /// The next contiguous bytes, at most `max`; `None` at the end.
    fn piece(&self, max: usize) -> Option<(*mut u8, usize)> {
        let vector = self.vectors.get(self.first).filter(|_| max > 0)?;
        Some((vector.iov_base.cast(), vector.iov_len.min(max)))
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
