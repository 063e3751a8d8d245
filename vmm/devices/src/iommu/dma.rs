//! Guest memory as a device behind an IOMMU reaches it.

use super::Iommu;
use super::table::Piece;
use crate::dma::{Dma, DmaError, Segment};
use std::sync::Arc;

/// [`Dma`] of one endpoint: every address goes through its domain. A range that is not wholly mapped
/// for the access is refused before a byte moves.
pub struct TranslatedDma {
    inner: Arc<dyn Dma>,
    iommu: Arc<Iommu>,
    endpoint: u32,
    /// What is refused is a fault.
    reports: bool,
}

impl TranslatedDma {
    pub fn new(inner: Arc<dyn Dma>, iommu: Arc<Iommu>, endpoint: u32) -> Self {
        Self { inner, iommu, endpoint, reports: true }
    }

    /// The same for somebody who only looks: what is refused is no fault of the device's.
    pub fn quiet(&self) -> Self {
        let (inner, iommu) = (self.inner.clone(), self.iommu.clone());
        Self { inner, iommu, endpoint: self.endpoint, reports: false }
    }

    fn with<T>(
        &self,
        range: (u64, u64, bool),
        work: impl FnOnce(&[Piece]) -> Result<T, DmaError>,
    ) -> Result<T, DmaError> {
        self.iommu.with(self.endpoint, self.reports, range, work)
    }

    /// The memory behind segments of device addresses, for a back end that moves data by itself.
    pub fn physical(&self, segments: &[Segment], write: bool) -> Result<Vec<Segment>, DmaError> {
        let mut all = Vec::with_capacity(segments.len());
        for &Segment { address, length } in segments {
            self.with((address, length.into(), write), |pieces| {
                // No piece is longer than the segment.
                all.extend(
                    pieces.iter().map(|piece| Segment {
                        address: piece.address,
                        length: piece.length as u32,
                    }),
                );
                Ok(())
            })?;
        }
        Ok(all)
    }
}

impl Dma for TranslatedDma {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let range = (address, data.len() as u64, false);
        self.with(range, |pieces| {
            let mut rest = data;
            for piece in pieces {
                let (now, later) = rest.split_at_mut(piece.length as usize);
                self.inner.read(piece.address, now)?;
                rest = later;
            }
            Ok(())
        })
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let range = (address, data.len() as u64, true);
        self.with(range, |pieces| {
            let mut rest = data;
            for piece in pieces {
                let (now, later) = rest.split_at(piece.length as usize);
                self.inner.write(piece.address, now)?;
                rest = later;
            }
            Ok(())
        })
    }

    // Aligned, so in one page and one piece.
    fn load_u16(&self, address: u64) -> Result<u16, DmaError> {
        self.with((address, 2, false), |pieces| match pieces {
            [piece] => self.inner.load_u16(piece.address),
            _ => Err(DmaError { address, length: 2 }),
        })
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), DmaError> {
        self.with((address, 2, true), |pieces| match pieces {
            [piece] => self.inner.store_u16(piece.address, value),
            _ => Err(DmaError { address, length: 2 }),
        })
    }

    fn reaches(&self, address: u64, length: u64, write: bool) -> bool {
        let found = self.with((address, length, write), |pieces| {
            Ok(pieces.iter().all(|p| self.inner.reaches(p.address, p.length, write)))
        });
        found.unwrap_or(false)
    }

    fn full_barrier(&self) {
        self.inner.full_barrier();
    }
}
