//! Transfers between a device and guest memory that fail, are lost, or arrive with a wrong bit.
//!
//! Sees what the model itself moves (rings, descriptors, frames, headers, small data). The data of
//! disk requests are moved by the back end: rules on requests are for those.

use super::plan::Site;
use super::rule::{Action, Point};
use crate::dma::{Dma, DmaError};
use std::sync::Arc;

/// Guest memory as a device with faults sees it.
pub struct FaultDma {
    inner: Arc<dyn Dma>,
    site: Site,
}

enum Fate {
    Pass,
    Fail,
    Drop,
    /// A bit of the transfer.
    Flip(u64),
}

impl FaultDma {
    pub fn new(inner: Arc<dyn Dma>, site: Site) -> Self {
        Self { inner, site }
    }

    fn fate(&self, write: bool, address: u64, length: usize) -> Fate {
        if self.site.is_gone() {
            return Fate::Fail;
        }
        let length = length as u64;
        let Some(hit) = self.site.decide(&Point::Dma { write, address, length }) else {
            return Fate::Pass;
        };
        match hit.action {
            Action::Error => Fate::Fail,
            Action::Drop => Fate::Drop,
            Action::Corrupt if length > 0 => Fate::Flip(hit.random % (8 * length)),
            _ => Fate::Pass,
        }
    }
}

fn flip(data: &mut [u8], bit: u64) {
    if let Some(byte) = data.get_mut((bit / 8) as usize) {
        *byte ^= 1 << (bit % 8);
    }
}

impl Dma for FaultDma {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        match self.fate(false, address, data.len()) {
            Fate::Pass => self.inner.read(address, data),
            Fate::Fail => Err(DmaError { address, length: data.len() as u64 }),
            Fate::Drop => {
                data.fill(0);
                Ok(())
            }
            Fate::Flip(bit) => {
                self.inner.read(address, data)?;
                flip(data, bit);
                Ok(())
            }
        }
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        match self.fate(true, address, data.len()) {
            Fate::Pass => self.inner.write(address, data),
            Fate::Fail => Err(DmaError { address, length: data.len() as u64 }),
            Fate::Drop => Ok(()),
            Fate::Flip(bit) => {
                let mut copy = data.to_vec();
                flip(&mut copy, bit);
                self.inner.write(address, &copy)
            }
        }
    }

    fn load_u16(&self, address: u64) -> Result<u16, DmaError> {
        match self.fate(false, address, 2) {
            Fate::Pass => self.inner.load_u16(address),
            Fate::Fail => Err(DmaError { address, length: 2 }),
            Fate::Drop => Ok(0),
            Fate::Flip(bit) => Ok(self.inner.load_u16(address)? ^ 1 << bit),
        }
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), DmaError> {
        match self.fate(true, address, 2) {
            Fate::Pass => self.inner.store_u16(address, value),
            Fate::Fail => Err(DmaError { address, length: 2 }),
            Fate::Drop => Ok(()),
            Fate::Flip(bit) => self.inner.store_u16(address, value ^ 1 << bit),
        }
    }

    fn reaches(&self, address: u64, length: u64, write: bool) -> bool {
        self.inner.reaches(address, length, write)
    }

    fn full_barrier(&self) {
        self.inner.full_barrier();
    }
}
