//! The pci service's logic: finding functions ([`enumerate`]), sizing and placing BARs ([`bar`]),
//! routing messages ([`interrupt`]), what a driver may write ([`filter`]), where configuration space is
//! ([`acpi`]), and which refusals of an IOMMU are logged ([`refused`]). No system calls; configuration
//! space is the trait [`ConfigAccess`].
//!
//! An access to configuration space leaves the virtual machine and costs tens of microseconds, so
//! everything is read once and when it is needed: BARs are sized when a driver asks for them.
//!
//! Nothing here changes a function that nobody asked about. So a reincarnated pci service finds the
//! same functions again under the feet of running drivers.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod bar;
pub mod enumerate;
pub mod filter;
pub mod function;
pub mod interrupt;
pub mod refused;
#[cfg(test)]
mod testing;

use xinim_abi::hw::pci::Bdf;

/// Configuration space of all functions. Offsets are below 256 and multiples of `size` (1, 2, 4).
pub trait ConfigAccess {
    /// All ones (right-aligned) where no function is.
    fn read(&self, function: Bdf, offset: u8, size: u8) -> u32;
    fn write(&self, function: Bdf, offset: u8, size: u8, value: u32);

    fn read32(&self, function: Bdf, offset: usize) -> u32 {
        self.read(function, offset as u8, 4)
    }
    fn write32(&self, function: Bdf, offset: usize, value: u32) {
        self.write(function, offset as u8, 4, value);
    }
    fn read16(&self, function: Bdf, offset: usize) -> u16 {
        self.read(function, offset as u8, 2) as u16
    }
    fn write16(&self, function: Bdf, offset: usize, value: u16) {
        self.write(function, offset as u8, 2, value.into());
    }
}
