//! Guest memory as a device sees it. Addresses are guest-physical, or (behind an
//! [IOMMU](crate::iommu)) the device's own.

/// An access outside guest RAM, or one that the IOMMU refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaError {
    /// Guest-physical address.
    pub address: u64,
    /// Bytes.
    pub length: u64,
}

/// A buffer in guest memory. Not checked against RAM: the access does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address.
    pub address: u64,
    /// Bytes.
    pub length: u32,
}

/// Reads and writes guest-physical memory. Every address comes from the guest: implementations
/// check bounds and overflow. A range must lie wholly in RAM, else nothing is transferred.
///
/// Other threads (vCPUs) access the same memory at the same time, so a value read twice may
/// differ; models read each thing once and judge the copy.
pub trait Dma: Send + Sync {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError>;
    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError>;
    /// Aligned, atomic, little-endian, acquire: what the guest wrote before storing this value
    /// is visible afterwards.
    fn load_u16(&self, address: u64) -> Result<u16, DmaError>;
    /// Aligned, atomic, little-endian, release: what was written before is visible to a guest
    /// that loads this value.
    fn store_u16(&self, address: u64, value: u16) -> Result<(), DmaError>;
    /// Whether the whole range is RAM that the device may read, or (`write`) write.
    fn reaches(&self, address: u64, length: u64, write: bool) -> bool;

    /// Full barrier between an index store and the load of the other side's event index
    /// (VIRTIO 2.7.10, 2.7.7): neither side may miss the other's update.
    fn full_barrier(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}
