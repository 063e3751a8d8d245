//! What an image can do, whatever its format. Calls may wait for the host and may come from
//! several threads at a time.

use std::io;

use xinim_devices::backend::{BackendError, BlockInfo, Operation};

use crate::memory::Pieces;
use crate::raw::RawImage;

/// An open image. Ranges lie within its length.
pub trait Image: Send + Sync {
    fn info(&self) -> BlockInfo;
    fn read(&self, offset: u64, data: &mut Pieces) -> io::Result<()>;
    fn write(&self, offset: u64, data: &mut Pieces) -> io::Result<()>;
    /// Everything written before is on stable storage when this returns.
    fn flush(&self) -> io::Result<()>;
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;
    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()>;
    /// Gives the image another length, a multiple of 512.
    fn resize(&self, length: u64) -> io::Result<()>;
    /// The plain file that it is, if it is one: others may do I/O on it then.
    fn as_raw(&self) -> Option<&RawImage> {
        None
    }
}

/// Keeps the errno; an image that has become shorter has none.
pub fn backend_error(error: &io::Error) -> BackendError {
    BackendError { errno: error.raw_os_error().unwrap_or(0) }
}

/// Carries out one operation, start to end.
pub fn carry_out(
    image: &dyn Image,
    operation: Operation,
    offset: u64,
    length: u64,
    data: &mut Pieces,
) -> Result<(), BackendError> {
    let result = match operation {
        Operation::Read => image.read(offset, data),
        Operation::Write { fua } => image.write(offset, data).and_then(|()| match fua {
            true => image.flush(),
            false => Ok(()),
        }),
        Operation::Flush => image.flush(),
        Operation::Discard => image.discard(offset, length),
        Operation::WriteZeroes { unmap } => image.write_zeroes(offset, length, unmap),
    };
    result.map_err(|error| backend_error(&error))
}
