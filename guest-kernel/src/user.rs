//! Access to user memory: every page is looked up first, so that a bad pointer is an error and
//! never a fault in the kernel. Interrupts are off and the lock is held, so what was looked up
//! stays true.

use zerocopy::{Immutable, IntoBytes};

use xinim_abi::error::{Error, Result};
use xinim_abi::object::USER_END;
use xinim_kernel_logic::paging::{self, USER, WRITE};

use crate::physical;
use crate::process::Process;
use crate::space::Tables;

const PAGE: u64 = 4096;

/// A checked range of a process's memory: pieces that lie in one page each.
fn pieces(
    process: &Process,
    address: u64,
    len: usize,
    write: bool,
) -> impl Iterator<Item = Result<(u64, usize)>> + '_ {
    let needed = USER | if write { WRITE } else { 0 };
    let mut at = address;
    let mut left = len;
    core::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let here = left.min((PAGE - at % PAGE) as usize);
        let tables: &Tables = &process.tables;
        let found = (at < USER_END)
            .then(|| paging::translate(tables, process.pml4.get(), at))
            .flatten()
            .filter(|(_, entry)| entry & needed == needed)
            // Device registers are not for the kernel to read or write.
            .filter(|(_, entry)| entry & paging::CACHE_DISABLE == 0)
            .filter(|(physical, _)| physical::is_direct(*physical));
        let Some((physical, _)) = found else {
            left = 0;
            return Some(Err(Error::Fault));
        };
        at += here as u64;
        left -= here;
        Some(Ok((physical::direct(physical), here)))
    })
}

fn check(process: &Process, address: u64, len: usize, write: bool) -> Result<()> {
    pieces(process, address, len, write).try_for_each(|piece| piece.map(|_| ()))
}

/// Copies from user memory.
pub fn read(process: &Process, address: u64, to: &mut [u8]) -> Result<()> {
    let mut done = 0;
    for piece in pieces(process, address, to.len(), false) {
        let (from, len) = piece?;
        let part = &mut to[done..done + len];
        // SAFETY: the page is mapped for this process in RAM that the direct map covers, and bytes
        // have no invalid values. Threads of the process on other CPUs may write there meanwhile:
        // what is copied (by `memcpy`, assembled by hand) is then theirs to answer for.
        unsafe { core::ptr::copy_nonoverlapping(from as *const u8, part.as_mut_ptr(), part.len()) }
        done += len;
    }
    Ok(())
}

/// Copies to user memory: everything, or nothing and `Fault`.
pub fn write(process: &Process, address: u64, from: &[u8]) -> Result<()> {
    check(process, address, from.len(), true)?;
    let mut done = 0;
    for piece in pieces(process, address, from.len(), true) {
        let (to, len) = piece?;
        // SAFETY: as in `read`, and the mapping is writable by the process.
        unsafe { core::ptr::copy_nonoverlapping(from[done..].as_ptr(), to as *mut u8, len) }
        done += len;
    }
    Ok(())
}

/// Writes a record, which must fit into `len` bytes; gives its size.
pub fn write_record<T: IntoBytes + Immutable>(
    process: &Process,
    address: u64,
    len: u64,
    record: &T,
) -> Result<u64> {
    let bytes = record.as_bytes();
    if len < bytes.len() as u64 {
        return Err(Error::Inval);
    }
    write(process, address, bytes)?;
    Ok(bytes.len() as u64)
}
