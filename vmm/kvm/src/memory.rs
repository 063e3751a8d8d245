//! Guest RAM: where it lies, and the host memory behind it.
//!
//! Low RAM starts at 0 and ends at [`platform::LOW_RAM_MAX`] at the latest; the rest starts at
//! 4 GiB. Each part is one anonymous mapping, aligned to 2 MiB on the host as in the guest and
//! marked for transparent huge pages: a nested KVM then fills one large entry where it would fill
//! 512 small ones. Nothing is touched before it is used, so a fresh machine costs no memory and
//! its RAM reads as zeros.

use std::io;
use std::ptr::{NonNull, null_mut};

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};
use xinim_abi::platform::LOW_RAM_MAX;
use xinim_block::memory::HostMemory;

/// Size and alignment of the pages both sides should use.
pub const HUGE_PAGE: u64 = 2 << 20;
/// Where RAM that did not fit below [`LOW_RAM_MAX`] starts.
pub const HIGH_RAM_BASE: u64 = 4 << 30;

/// RAM of one machine.
#[derive(Debug)]
pub struct GuestRam {
    // Declared before the mappings it points into, so dropped before them.
    map: GuestMemoryMmap,
    parts: Vec<RamPart>,
}

/// One contiguous part of RAM and the host address it is mapped at.
#[derive(Debug)]
pub struct RamPart {
    /// Guest physical address of the first byte.
    pub base: u64,
    /// Bytes, a multiple of 2 MiB.
    pub size: u64,
    mapping: Mapping,
}

impl RamPart {
    /// Host virtual address of the first byte, for `KVM_SET_USER_MEMORY_REGION`.
    pub fn host_address(&self) -> u64 {
        self.mapping.start().as_ptr() as u64
    }
}

impl GuestRam {
    /// Reserves `size` bytes, a multiple of 2 MiB. No memory is committed.
    pub fn new(size: u64) -> io::Result<Self> {
        let low = size.min(LOW_RAM_MAX);
        let mut parts = Vec::new();
        for (base, part) in [(0, low), (HIGH_RAM_BASE, size - low)] {
            if part != 0 {
                parts.push(RamPart { base, size: part, mapping: Mapping::new(part)? });
            }
        }
        let mut regions = Vec::new();
        for part in &parts {
            let builder = MmapRegionBuilder::new(part.size as usize)
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE);
            // SAFETY: the mapping is `part.size` bytes long, readable and writable, and outlives
            // the region: `map` is dropped before `parts`, and nothing hands out the region.
            let region = unsafe { builder.with_raw_mmap_pointer(part.mapping.start().as_ptr()) }
                .build()
                .map_err(io::Error::other)?;
            let region = GuestRegionMmap::new(region, GuestAddress(part.base))
                .ok_or(io::ErrorKind::InvalidInput)?;
            regions.push(region);
        }
        let map = GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)?;
        Ok(Self { map, parts })
    }

    /// The memory, for reads and writes by guest physical address.
    pub fn map(&self) -> &GuestMemoryMmap {
        &self.map
    }

    /// The parts in ascending order; their index is their KVM slot.
    pub fn parts(&self) -> &[RamPart] {
        &self.parts
    }

    /// First address after low RAM.
    pub fn low_end(&self) -> u64 {
        self.parts[0].size
    }

    /// RAM above 4 GiB as (base, size).
    pub fn high(&self) -> Option<(u64, u64)> {
        self.parts.get(1).map(|part| (part.base, part.size))
    }
}

// SAFETY: the parts' mappings live as long as `self` and are readable and writable; Rust references
// are made to them by nobody.
unsafe impl HostMemory for GuestRam {
    fn host_address(&self, address: u64, length: u64) -> Option<NonNull<u8>> {
        let part = self.parts.iter().find(|part| {
            let offset = address.checked_sub(part.base);
            offset.and_then(|o| o.checked_add(length)).is_some_and(|end| end <= part.size)
        })?;
        let offset = usize::try_from(address - part.base).ok()?;
        // SAFETY: `offset` lies within the part, which is `size` bytes long.
        Some(unsafe { part.mapping.start().add(offset) })
    }
}

/// An anonymous mapping whose used part is aligned to [`HUGE_PAGE`].
#[derive(Debug)]
struct Mapping {
    whole: NonNull<u8>,
    whole_len: usize,
    offset: usize,
}

// SAFETY: the mapping is plain memory owned by this value; it is only handed out as an address.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared references give out nothing but the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(size: u64) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let size = usize::try_from(size).map_err(|_| too_large())?;
        let whole_len = size.checked_add(HUGE_PAGE as usize).ok_or_else(too_large)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(null_mut(), whole_len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let whole = NonNull::new(address.cast::<u8>()).ok_or_else(too_large)?;
        let offset = whole.as_ptr().align_offset(HUGE_PAGE as usize);
        let mapping = Self { whole, whole_len, offset };
        // Advice only: a host without transparent huge pages runs the guest all the same.
        // SAFETY: the range lies inside the mapping just made.
        unsafe {
            libc::madvise(mapping.start().as_ptr().cast(), size, libc::MADV_HUGEPAGE);
        }
        Ok(mapping)
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: `offset` is below HUGE_PAGE, by which the mapping is longer than asked.
        unsafe { self.whole.add(self.offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; the owner drops all users first.
        unsafe {
            libc::munmap(self.whole.as_ptr().cast(), self.whole_len);
        }
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
