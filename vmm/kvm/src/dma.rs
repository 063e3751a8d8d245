//! Guest memory as the device models reach it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
use xinim_devices::dma::{Dma, DmaError};

use crate::memory::GuestRam;

/// [`Dma`] over a machine's RAM. Every range is checked whole before a byte moves.
#[derive(Clone, Debug)]
pub struct GuestDma(pub Arc<GuestRam>);

impl GuestDma {
    fn check(&self, address: u64, length: usize) -> Result<(), DmaError> {
        if self.0.map().check_range(GuestAddress(address), length) {
            Ok(())
        } else {
            Err(DmaError { address, length: length as u64 })
        }
    }
}

impl Dma for GuestDma {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        self.check(address, data.len())?;
        let length = data.len() as u64;
        let failed = |_| DmaError { address, length };
        self.0.map().read_slice(data, GuestAddress(address)).map_err(failed)
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        self.check(address, data.len())?;
        let failed = |_| DmaError { address, length: data.len() as u64 };
        self.0.map().write_slice(data, GuestAddress(address)).map_err(failed)
    }

    fn load_u16(&self, address: u64) -> Result<u16, DmaError> {
        let value: Result<u16, _> = self.0.map().load(GuestAddress(address), Ordering::Acquire);
        value.map(u16::from_le).map_err(|_| DmaError { address, length: 2 })
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), DmaError> {
        let failed = |_| DmaError { address, length: 2 };
        self.0.map().store(value.to_le(), GuestAddress(address), Ordering::Release).map_err(failed)
    }

    fn reaches(&self, address: u64, length: u64, _write: bool) -> bool {
        usize::try_from(length).is_ok_and(|length| self.check(address, length).is_ok())
    }
}

#[cfg(test)]
#[path = "dma_tests.rs"]
mod tests;
