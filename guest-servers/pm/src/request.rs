//! A spawn request as it stands in the caller's window: hostile bytes.

use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::pm::{FdMap, SpawnHeader};
use xinim_abi::services::vfs::{FD_MAX, PATH_MAX};
use zerocopy::FromBytes;

/// Bytes of path, arguments and environment together; the start block holds little more.
pub const TEXT_MAX: usize = 96 * 1024;
/// Arguments, and variables.
pub const STRINGS_MAX: usize = 4096;

/// A request that is sound in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub path: &'a str,
    pub args: Vec<&'a str>,
    pub env: Vec<&'a str>,
    /// (descriptor in the child, descriptor of the caller)
    pub fds: Vec<(u32, u32)>,
}

impl<'a> Request<'a> {
    /// `Inval`: not what [`SpawnHeader`] describes; `TooBig`: over a bound; `NoEnt`: no path.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (header, mut rest) = SpawnHeader::ref_from_prefix(bytes).map_err(|_| Error::Inval)?;
        let (argc, envc) = (header.argc.get() as usize, header.envc.get() as usize);
        let count = header.fd_count.get();
        if argc > STRINGS_MAX || envc > STRINGS_MAX || count > FD_MAX {
            return Err(Error::TooBig);
        }
        let before = rest.len();
        let path = string(&mut rest)?;
        let args = (0..argc).map(|_| string(&mut rest)).collect::<Result<Vec<_>>>()?;
        let env = (0..envc).map(|_| string(&mut rest)).collect::<Result<Vec<_>>>()?;
        if before - rest.len() > TEXT_MAX {
            return Err(Error::TooBig);
        }
        if path.is_empty() {
            return Err(Error::NoEnt);
        }
        if path.len() >= PATH_MAX {
            return Err(Error::NameTooLong);
        }
        let mut fds = Vec::new();
        for _ in 0..count {
            let (map, tail) = FdMap::ref_from_prefix(rest).map_err(|_| Error::Inval)?;
            let (child, parent) = (map.child.get(), map.parent.get());
            if child >= FD_MAX || fds.iter().any(|&(c, _)| c == child) {
                return Err(Error::BadF);
            }
            fds.push((child, parent));
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(Error::Inval);
        }
        Ok(Request { path, args, env, fds })
    }
}

/// Takes a NUL-terminated string off.
fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a str> {
    let end = rest.iter().position(|&b| b == 0).ok_or(Error::Inval)?;
    let text = core::str::from_utf8(&rest[..end]).map_err(|_| Error::Inval)?;
    *rest = &rest[end + 1..];
    Ok(text)
}
