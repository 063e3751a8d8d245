//! Programs' files: opened through VFS as the parent sees them, mapped in place where the file
//! system can (the bundle), else read. Mapped ones are remembered by identity and time, so that
//! starting a program again costs one request.

use alloc::rc::Rc;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::object::PAGE_SIZE;
use xinim_abi::services::vfs::{Stat, mode, vfs};
use xinim_rt::fs;
use xinim_rt::handle::OwnedHandle;
use xinim_rt::loader::Image;
use xinim_rt::memory::Memory;

/// Longest program that is read into memory.
const READ_MAX: u64 = 64 * 1024 * 1024;
/// Mapped programs remembered; they stay mapped. Programs beyond these are read each time.
const CACHE_MAX: usize = 128;
const PAGE: u64 = PAGE_SIZE as u64;

/// A program ready for the loader.
#[derive(Clone)]
pub enum Loadable {
    /// In memory that never changes.
    Mapped {
        bytes: &'static [u8],
        memory: Rc<Memory>,
        offset: u64,
    },
    Read(Rc<Vec<u8>>),
}

impl Loadable {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Loadable::Mapped { bytes, .. } => bytes,
            Loadable::Read(bytes) => bytes,
        }
    }

    pub fn as_image(&self) -> Image<'_> {
        let memory = match self {
            Loadable::Mapped { memory, offset, .. } => Some((memory.raw(), *offset)),
            Loadable::Read(_) => None,
        };
        Image { bytes: self.bytes(), memory }
    }
}

/// Which file, in which version.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    ino: u64,
    size: u64,
    mtime: u64,
    ctime: u64,
}

#[derive(Default)]
pub struct Images {
    mapped: Vec<(Identity, Loadable)>,
}

/// Whose authority a program file lends: user and group of its set-ID bits.
pub type SetId = (Option<u32>, Option<u32>);

impl Images {
    /// The program at `path`, resolved from the working directory of `parent`. `Access` if it is
    /// not a regular file that `parent` may execute; what root may needs fewer questions.
    pub fn open(&mut self, parent: u32, is_root: bool, path: &str) -> Result<(Loadable, SetId)> {
        if path.starts_with('/') && is_root {
            let stat = fs::stat(path)?;
            if stat.mode & (mode::SET_UID | mode::SET_GID) == 0
                && let Some(found) = self.find(&identity(&stat)?)
            {
                return Ok((found, (None, None)));
            }
        }
        let path_len = path.len() as u32;
        let opened = fs::request(path.as_bytes(), &vfs::OpenFor { parent, path_len })?;
        let result = self.load(opened.fd);
        let _ = fs::close(opened.fd);
        let (image, stat) = result?;
        let lends = |bit| stat.mode & bit != 0 && !opened.no_suid;
        let uid = lends(mode::SET_UID).then_some(stat.uid);
        Ok((image, (uid, lends(mode::SET_GID).then_some(stat.gid))))
    }

    fn find(&self, identity: &Identity) -> Option<Loadable> {
        self.mapped.iter().find(|(i, _)| i == identity).map(|(_, image)| image.clone())
    }

    fn load(&mut self, fd: u32) -> Result<(Loadable, Stat)> {
        let stat = fs::fstat(fd)?;
        let identity = identity(&stat)?;
        if let Some(found) = self.find(&identity) {
            return Ok((found, stat));
        }
        if self.mapped.len() < CACHE_MAX {
            match map(fd) {
                Ok(image) => {
                    self.mapped.push((identity, image.clone()));
                    return Ok((image, stat));
                }
                // Not in memory as it is, or memory that somebody may change.
                Err(Error::NotSup | Error::Access) => {}
                Err(error) => return Err(error),
            }
        }
        if stat.size > READ_MAX {
            return Err(Error::FBig);
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(stat.size as usize).map_err(|_| Error::NoMem)?;
        bytes.resize(stat.size as usize, 0);
        let mut at = 0;
        while at < bytes.len() {
            match fs::pread(fd, &mut bytes[at..], at as u64)? {
                0 => break,
                count => at += count,
            }
        }
        bytes.truncate(at);
        Ok((Loadable::Read(Rc::new(bytes)), stat))
    }
}

fn identity(stat: &Stat) -> Result<Identity> {
    if stat.mode & mode::TYPE_MASK != mode::REGULAR || stat.mode & 0o111 == 0 {
        return Err(Error::Access);
    }
    let Stat { device, ino, size, mtime, ctime, .. } = *stat;
    Ok(Identity { device, ino, size, mtime, ctime })
}

fn map(fd: u32) -> Result<Loadable> {
    let found = fs::request(&[], &vfs::Map { fd })?;
    let handle = OwnedHandle::from_raw(found.memory);
    let memory = Memory::from_handle(handle)?;
    let end = found.offset.checked_add(found.len).ok_or(Error::BadReply)?;
    if !found.offset.is_multiple_of(PAGE) || end > memory.len() || found.len == 0 {
        return Err(Error::NotSup);
    }
    let pages = found.len.next_multiple_of(PAGE).min(memory.len() - found.offset);
    let bytes = memory.map_static_range(found.offset, pages)?;
    let bytes = bytes.get(..found.len as usize).ok_or(Error::BadReply)?;
    Ok(Loadable::Mapped { bytes, memory: Rc::new(memory), offset: found.offset })
}
