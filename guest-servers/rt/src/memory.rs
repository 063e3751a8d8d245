//! Memory objects and mappings.
//!
//! The library chooses addresses ([`reserve`]); the kernel only checks that they are free.
//! Memory that another process or a device may write is never lent as a slice: it is copied in
//! and out, or read and written by volatile and atomic accesses.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use alloc::vec::Vec;
use spin::Mutex;
use xinim_abi::error::{Error, Result};
use xinim_abi::object::{
    Handle, LARGE_PAGE_SIZE, MemoryFlags, PAGE_SIZE, Protection, Rights, SELF,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::handle::OwnedHandle;
use crate::sys;

/// Addresses that [`reserve`] gives out.
const REGION_START: u64 = 0x20_0000_0000;
const REGION_END: u64 = 0x6000_0000_0000;

struct Addresses {
    next: u64,
    /// Freed ranges by (address, length), reused for equal lengths only: windows and rings come
    /// in few sizes, so this keeps the region from growing without a tree.
    free: Vec<(u64, u64)>,
}

static ADDRESSES: Mutex<Addresses> = Mutex::new(Addresses { next: REGION_START, free: Vec::new() });

fn rounded(len: u64) -> u64 {
    let unit = if len >= LARGE_PAGE_SIZE as u64 { LARGE_PAGE_SIZE } else { PAGE_SIZE } as u64;
    len.next_multiple_of(unit)
}

/// An unused address range for `len` bytes, aligned to 2 MiB if that large. One page is left
/// free behind each range, so that running off its end faults.
pub fn reserve(len: u64) -> Option<u64> {
    let size = rounded(len);
    let mut addresses = ADDRESSES.lock();
    if let Some(at) = addresses.free.iter().position(|&(_, free)| free == size) {
        return Some(addresses.free.swap_remove(at).0);
    }
    let align = if size >= LARGE_PAGE_SIZE as u64 { LARGE_PAGE_SIZE } else { PAGE_SIZE } as u64;
    let start = addresses.next.next_multiple_of(align);
    let end = start.checked_add(size)?.checked_add(PAGE_SIZE as u64)?;
    if end > REGION_END {
        return None;
    }
    addresses.next = end;
    Some(start)
}

fn release(address: u64, len: u64) {
    // Grown outside the lock's critical path it could deadlock with the heap: reserve first.
    let mut addresses = ADDRESSES.lock();
    if addresses.free.len() < addresses.free.capacity() {
        addresses.free.push((address, rounded(len)));
        return;
    }
    drop(addresses);
    let mut bigger: Vec<(u64, u64)> = Vec::new();
    let wanted = ADDRESSES.lock().free.len() + 16;
    if bigger.try_reserve(wanted).is_err() {
        return; // the range is lost, nothing else
    }
    let mut addresses = ADDRESSES.lock();
    bigger.extend_from_slice(&addresses.free[..addresses.free.len().min(wanted - 1)]);
    bigger.push((address, rounded(len)));
    let old = core::mem::replace(&mut addresses.free, bigger);
    drop(addresses);
    drop(old);
}

/// A memory object.
#[derive(Debug)]
pub struct Memory {
    handle: OwnedHandle,
    len: u64,
}

impl Memory {
    /// Zeroed memory; the length is rounded up to pages (2 MiB with `LARGE`).
    pub fn create(len: u64, flags: MemoryFlags) -> Result<Self> {
        let handle = OwnedHandle::from_raw(sys::memory_create(len, flags)?);
        let (len, _) = sys::memory_info(handle.raw())?;
        Ok(Self { handle, len })
    }

    /// Memory that came in a message or start block. `BadHandle` if it is none.
    pub fn from_handle(handle: OwnedHandle) -> Result<Self> {
        let (len, _) = sys::memory_info(handle.raw())?;
        Ok(Self { handle, len })
    }

    pub fn handle(&self) -> &OwnedHandle {
        &self.handle
    }

    pub fn raw(&self) -> Handle {
        self.handle.raw()
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Maps all of it.
    pub fn map(&self, protection: Protection) -> Result<Mapping> {
        self.map_range(0, self.len, protection)
    }

    /// Maps all of it for good, as bytes that never change: the bundle. `Access` if this handle
    /// could write; whoever made the object must not write either (RS gives out the bundle so).
    pub fn map_static(&self) -> Result<&'static [u8]> {
        self.map_static_range(0, self.len)
    }

    /// As [`Memory::map_static`], `len` bytes from `offset` (both multiples of a page).
    pub fn map_static_range(&self, offset: u64, len: u64) -> Result<&'static [u8]> {
        let (_, rights) = sys::handle_info(self.raw())?;
        if rights.contains(Rights::WRITE) {
            return Err(Error::Access);
        }
        let mapping = self.map_range(offset, len, Protection::READ)?;
        let (address, len) = (mapping.address, mapping.len());
        core::mem::forget(mapping);
        // SAFETY: mapped for good now, and nobody writes it (see above).
        Ok(unsafe { core::slice::from_raw_parts(address as *const u8, len) })
    }

    /// Maps `len` bytes from `offset` (both multiples of a page).
    pub fn map_range(&self, offset: u64, len: u64, protection: Protection) -> Result<Mapping> {
        if len == 0 {
            return Err(Error::Inval);
        }
        let address = reserve(len).ok_or(Error::NoMem)?;
        if let Err(error) = sys::memory_map(SELF, self.raw(), address, offset, len, protection) {
            release(address, len);
            return Err(error);
        }
        Ok(Mapping { address, len })
    }
}

/// A mapping in this process, removed on drop. All accesses are checked against its length.
#[derive(Debug)]
pub struct Mapping {
    address: u64,
    len: u64,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: accesses borrow the mapping, so none is left.
        if unsafe { sys::memory_unmap(SELF, self.address, self.len) }.is_ok() {
            release(self.address, self.len);
        }
    }
}

macro_rules! accessors {
    ($($read:ident $write:ident $ty:ty;)*) => {$(
        /// A device register: one volatile access of this size. `Fault` if out of bounds or
        /// unaligned.
        pub fn $read(&self, at: usize) -> Result<$ty> {
            let ptr = self.at::<$ty>(at)?;
            // SAFETY: in bounds and aligned, mapped while `self` lives.
            Ok(unsafe { ptr.read_volatile() })
        }

        pub fn $write(&self, at: usize, value: $ty) -> Result<()> {
            let ptr = self.at::<$ty>(at)?;
            // SAFETY: in bounds and aligned, mapped while `self` lives; a peer or device may see
            // the value, nobody in this process holds a reference into the mapping.
            unsafe { ptr.write_volatile(value) };
            Ok(())
        }
    )*};
}

macro_rules! atomics {
    ($($load:ident $store:ident $ty:ty, $atomic:ty;)*) => {$(
        /// Acquire.
        pub fn $load(&self, at: usize) -> Result<$ty> {
            let ptr = self.at::<$ty>(at)?;
            // SAFETY: in bounds and aligned; all sides access ring indices atomically.
            Ok(unsafe { <$atomic>::from_ptr(ptr) }.load(Ordering::Acquire))
        }

        /// Release.
        pub fn $store(&self, at: usize, value: $ty) -> Result<()> {
            let ptr = self.at::<$ty>(at)?;
            // SAFETY: as for the load.
            unsafe { <$atomic>::from_ptr(ptr) }.store(value, Ordering::Release);
            Ok(())
        }
    )*};
}

impl Mapping {
    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn range(&self, at: usize, len: usize) -> Result<*mut u8> {
        let end = at.checked_add(len).ok_or(Error::Fault)?;
        if end > self.len() {
            return Err(Error::Fault);
        }
        Ok((self.address as usize + at) as *mut u8)
    }

    fn at<T>(&self, at: usize) -> Result<*mut T> {
        let ptr = self.range(at, size_of::<T>())?.cast::<T>();
        if ptr.is_aligned() { Ok(ptr) } else { Err(Error::Fault) }
    }

    /// Writes `bytes` at `at`.
    pub fn copy_in(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let to = self.range(at, bytes.len())?;
        // SAFETY: in bounds; no reference into the mapping exists in this process, `bytes` is
        // ordinary memory. A peer that writes at the same time gets what it asked for.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Reads into `bytes` from `at`.
    pub fn copy_out(&self, at: usize, bytes: &mut [u8]) -> Result<()> {
        let from = self.range(at, bytes.len())?;
        // SAFETY: as for `copy_in`.
        unsafe { core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies between two mappings without a buffer between.
    pub fn copy_to(&self, at: usize, to: &Mapping, to_at: usize, len: usize) -> Result<()> {
        let from = self.range(at, len)?;
        let target = to.range(to_at, len)?;
        // SAFETY: both in bounds; `copy` allows overlap (two mappings of one object).
        unsafe { core::ptr::copy(from, target, len) };
        Ok(())
    }

    pub fn to_vec(&self, at: usize, len: usize) -> Result<Vec<u8>> {
        self.range(at, len)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Error::NoMem)?;
        bytes.resize(len, 0);
        self.copy_out(at, &mut bytes)?;
        Ok(bytes)
    }

    pub fn fill(&self, at: usize, len: usize, value: u8) -> Result<()> {
        let to = self.range(at, len)?;
        // SAFETY: as for `copy_in`.
        unsafe { core::ptr::write_bytes(to, value, len) };
        Ok(())
    }

    pub fn read<T: FromBytes + IntoBytes>(&self, at: usize) -> Result<T> {
        let mut value = T::new_zeroed();
        self.copy_out(at, value.as_mut_bytes())?;
        Ok(value)
    }

    pub fn write<T: IntoBytes + Immutable>(&self, at: usize, value: &T) -> Result<()> {
        self.copy_in(at, value.as_bytes())
    }

    accessors! {
        read_mmio_8 write_mmio_8 u8;
        read_mmio_16 write_mmio_16 u16;
        read_mmio_32 write_mmio_32 u32;
        read_mmio_64 write_mmio_64 u64;
    }

    atomics! {
        load_u16 store_u16 u16, AtomicU16;
        load_u32 store_u32 u32, AtomicU32;
        load_u64 store_u64 u64, AtomicU64;
    }
}

/// A fence between writes to memory shared with a device and the doorbell behind them.
pub fn write_barrier() {
    core::sync::atomic::fence(Ordering::SeqCst);
}
