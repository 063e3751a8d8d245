//! Descriptors that close themselves, and whole files.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::open;

use crate::fs;

/// An open descriptor; closed on drop.
#[derive(Debug)]
pub struct File(u32);

impl File {
    pub fn open(path: &str, flags: u32, mode: u32) -> Result<Self> {
        fs::open(path, flags, mode).map(File)
    }

    pub fn from_fd(fd: u32) -> Self {
        File(fd)
    }

    pub fn fd(&self) -> u32 {
        self.0
    }

    pub fn into_fd(self) -> u32 {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }

    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        fs::read(self.0, buffer)
    }

    pub fn write_all(&self, bytes: &[u8]) -> Result<()> {
        write_all(self.0, bytes)
    }

    /// Closes now, telling what `drop` would swallow.
    pub fn close(self) -> Result<()> {
        fs::close(self.into_fd())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::close(self.0);
    }
}

/// Writes everything.
pub fn write_all(fd: u32, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match fs::write(fd, bytes)? {
            0 => return Err(Error::Io),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// The whole file.
pub fn read_to_end(path: &str) -> Result<Vec<u8>> {
    let file = File::open(path, open::READ, 0)?;
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        bytes.try_reserve(crate::window::LEN).map_err(|_| Error::NoMem)?;
        bytes.resize(start + crate::window::LEN, 0);
        let count = file.read(&mut bytes[start..])?;
        bytes.truncate(start + count);
        if count == 0 {
            return Ok(bytes);
        }
    }
}

/// The whole file as text; `Inval` if it is none.
pub fn read_to_string(path: &str) -> Result<String> {
    String::from_utf8(read_to_end(path)?).map_err(|_| Error::Inval)
}
