//! A device or image file as [`Storage`]: system calls in pieces of [`PIECE`] bytes, kept until
//! there are many.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_block_client::Storage;
use xinim_os::{Error, Fd, Os, Result, Whence, base_name, open};
use xinim_tools::Context;

const PIECE: u64 = 32 * 1024;
/// Pieces kept: 4 MiB.
const PIECES: usize = 128;

struct Piece {
    bytes: Vec<u8>,
    dirty: bool,
}

/// An open device or file; see the module.
pub struct Device<'a> {
    os: &'a dyn Os,
    fd: Fd,
    len: u64,
    writable: bool,
    pieces: BTreeMap<u64, Piece>,
}

impl<'a> Device<'a> {
    pub fn open(os: &'a dyn Os, path: &str, writable: bool) -> Result<Self> {
        let flags = if writable { open::READ_WRITE } else { open::READ };
        let fd = os.open(path, flags, 0)?;
        let mut device = Self { os, fd, len: 0, writable, pieces: BTreeMap::new() };
        device.len = os.seek(fd, 0, Whence::End)?;
        Ok(device)
    }

    fn write_back(&mut self) -> Result<()> {
        for (index, piece) in &mut self.pieces {
            if !piece.dirty {
                continue;
            }
            self.os.seek(self.fd, (index * PIECE) as i64, Whence::Start)?;
            xinim_os::write_all(self.os, self.fd, &piece.bytes)?;
            piece.dirty = false;
        }
        Ok(())
    }

    fn piece(&mut self, index: u64, fill: bool) -> Result<&mut Piece> {
        if self.pieces.len() >= PIECES && !self.pieces.contains_key(&index) {
            self.write_back()?;
            self.pieces.clear();
        }
        if !self.pieces.contains_key(&index) {
            let start = index * PIECE;
            let mut bytes = vec![0; (self.len - start).min(PIECE) as usize];
            if fill {
                self.os.seek(self.fd, start as i64, Whence::Start)?;
                let mut done = 0;
                while done < bytes.len() {
                    match self.os.read(self.fd, &mut bytes[done..])? {
                        0 => return Err(Error::Io),
                        count => done += count,
                    }
                }
            }
            self.pieces.insert(index, Piece { bytes, dirty: false });
        }
        self.pieces.get_mut(&index).ok_or(Error::Io)
    }

    fn check(&self, offset: u64, len: usize) -> Result<()> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::Inval),
        }
    }
}

impl Storage for Device<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_only(&self) -> bool {
        !self.writable
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.check(offset, out.len())?;
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let within = (at % PIECE) as usize;
            let count = (PIECE as usize - within).min(out.len() - done);
            let piece = self.piece(at / PIECE, true)?;
            out[done..done + count].copy_from_slice(&piece.bytes[within..within + count]);
            done += count;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.check(offset, data.len())?;
        if !self.writable {
            return Err(Error::RoFs);
        }
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % PIECE) as usize;
            let count = (PIECE as usize - within).min(data.len() - done);
            // A piece that is written whole need not be read.
            let whole = within == 0 && at + count as u64 == (at + PIECE).min(self.len);
            let piece = self.piece(at / PIECE, !whole)?;
            piece.bytes[within..within + count].copy_from_slice(&data[done..done + count]);
            piece.dirty = true;
            done += count;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.write_back()?;
        if self.writable { self.os.fsync(self.fd) } else { Ok(()) }
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        // What was not flushed was given up.
        let _ = self.os.close(self.fd);
    }
}

/// A whole file as text.
pub fn read_text(os: &dyn Os, path: &str) -> Result<String> {
    let fd = os.open(path, open::READ, 0)?;
    let bytes = xinim_os::read_file(os, fd);
    let _ = os.close(fd);
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens a device that is to be changed, unless something is mounted from it. Reports what goes
/// wrong.
pub fn open_for_change<'a>(c: &mut Context<'a>, path: &str) -> Option<Device<'a>> {
    let mounts = c.os.mounts().unwrap_or_default();
    let own = base_name(path);
    let sources = mounts.lines().filter_map(|line| line.split(' ').next());
    if sources.into_iter().any(|source| base_name(source) == own) {
        c.problem(path, "is mounted");
        return None;
    }
    open(c, path, true)
}

/// Opens a device. Reports what goes wrong.
pub fn open<'a>(c: &mut Context<'a>, path: &str, writable: bool) -> Option<Device<'a>> {
    match Device::open(c.os, path, writable) {
        Ok(device) => Some(device),
        Err(error) => {
            c.problem(path, error);
            None
        }
    }
}
