//! The physical region descriptor table of a command (4.2.3.3): where in guest memory its data is.

use crate::dma::{Dma, DmaError, Segment};
use xinim_abi::hw::ahci::{Prd, table};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Entries read at a time.
const CHUNK: usize = 64;

/// What a transfer covers of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regions {
    /// Adjacent regions are one.
    pub segments: Vec<Segment>,
    /// Bytes of all of them: as asked for, or less where the table ends before.
    pub bytes: u64,
    /// A region with the I bit was used up.
    pub interrupt: bool,
}

/// The table could not be read, or one of its regions is not memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrdtError {
    Table(DmaError),
    Region(DmaError),
}

/// Collects regions for `length` bytes, which are to be written to memory or (`write` is false) read,
/// from a table of `entries` entries at `address`.
pub fn collect(
    dma: &dyn Dma,
    address: u64,
    entries: u16,
    (length, write): (u64, bool),
) -> Result<Regions, PrdtError> {
    let mut regions = Regions::default();
    let mut left = usize::from(entries);
    let mut at = address;
    while left > 0 && regions.bytes < length {
        let mut chunk = [Prd::new_zeroed(); CHUNK];
        let count = left.min(CHUNK);
        let bytes = count * table::PRD_SIZE;
        dma.read(at, &mut chunk.as_mut_bytes()[..bytes]).map_err(PrdtError::Table)?;
        for prd in &chunk[..count] {
            if regions.bytes == length {
                break;
            }
            regions.add(dma, prd, (length, write))?;
        }
        left -= count;
        at = at.saturating_add(bytes as u64);
    }
    Ok(regions)
}

impl Regions {
    fn add(
        &mut self,
        dma: &dyn Dma,
        prd: &Prd,
        (length, write): (u64, bool),
    ) -> Result<(), PrdtError> {
        let take = u64::from(prd.bytes()).min(length - self.bytes) as u32;
        let address = prd.address();
        if !dma.reaches(address, u64::from(take), write) {
            return Err(PrdtError::Region(DmaError { address, length: u64::from(take) }));
        }
        self.bytes += u64::from(take);
        self.interrupt |= prd.interrupt() && take == prd.bytes();
        if let Some(last) = self.segments.last_mut()
            && last.address.checked_add(u64::from(last.length)) == Some(address)
            && let Some(both) = last.length.checked_add(take)
        {
            last.length = both;
            return Ok(());
        }
        self.segments.push(Segment { address, length: take });
        Ok(())
    }

    /// The part from `offset` on, `length` bytes or up to the end.
    pub fn slice(&self, offset: u64, length: u64) -> Vec<Segment> {
        let mut skip = offset;
        let mut left = length;
        let mut part = Vec::new();
        for segment in &self.segments {
            let size = u64::from(segment.length);
            if left == 0 {
                break;
            }
            if skip >= size {
                skip -= size;
                continue;
            }
            let take = (size - skip).min(left);
            part.push(Segment { address: segment.address + skip, length: take as u32 });
            left -= take;
            skip = 0;
        }
        part
    }

    /// Puts `data` at `offset`, as much of it as there is room for; returns how much.
    pub fn write(&self, dma: &dyn Dma, offset: u64, data: &[u8]) -> Result<u64, DmaError> {
        let mut rest = data;
        for segment in self.slice(offset, data.len() as u64) {
            let (now, later) = rest.split_at(segment.length as usize);
            dma.write(segment.address, now)?;
            rest = later;
        }
        Ok((data.len() - rest.len()) as u64)
    }

    /// Takes `length` bytes, or as many as there are.
    pub fn read(&self, dma: &dyn Dma, length: usize) -> Result<Vec<u8>, DmaError> {
        let mut data = vec![0; length.min(usize::try_from(self.bytes).unwrap_or(length))];
        let mut at = 0;
        for segment in self.slice(0, data.len() as u64) {
            let end = at + segment.length as usize;
            dma.read(segment.address, &mut data[at..end])?;
            at = end;
        }
        Ok(data)
    }
}

/// Reads a structure of the HBA's from guest memory.
pub fn fetch<T: FromBytes + IntoBytes>(dma: &dyn Dma, address: u64) -> Result<T, DmaError> {
    let mut value = T::new_zeroed();
    dma.read(address, value.as_mut_bytes())?;
    Ok(value)
}

#[cfg(test)]
#[path = "tests/prdt_tests.rs"]
mod tests;
