//! What ACPI says of PCI, reached from the RSDP (ACPI 5.2.5): where configuration space is
//! memory-mapped (MCFG, PCI Firmware 4.1.2), and which functions are behind a virtio-iommu (VIOT, ACPI
//! 6.5 5.2.34). Everything is checked against checksums and lengths.

use alloc::vec::Vec;
use xinim_abi::hw::pci::Bdf;

/// Physical memory, for reading tables: exactly `len` bytes from `address`, or nothing.
pub trait Physical {
    fn read(&self, address: u64, len: usize) -> Option<Vec<u8>>;
}

/// The firmware area that is searched for the RSDP (ACPI 5.2.5.1).
pub const RSDP_AREA: core::ops::Range<u64> = 0xE_0000..0x10_0000;

const RSDP_LEN: usize = 20;
const RSDP2_LEN: usize = 36;
const HEADER_LEN: usize = 36;
/// No table here needs more; a longer one is damaged.
const TABLE_MAX: usize = 64 * 1024;
const MCFG_FIRST: usize = 44;
const MCFG_ENTRY: usize = 16;

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Finds the RSDP in a copy of (part of) the firmware area: its offset.
pub fn find_rsdp(area: &[u8]) -> Option<usize> {
    (0..area.len()).step_by(16).find(|&at| {
        area.get(at..at + RSDP_LEN)
            .is_some_and(|rsdp| rsdp.starts_with(b"RSD PTR ") && sums_to_zero(rsdp))
    })
}

/// A whole table with the right signature, or nothing.
fn table(memory: &impl Physical, address: u64, signature: &[u8; 4]) -> Option<Vec<u8>> {
    let header = memory.read(address, HEADER_LEN)?;
    let len = u32_at(&header, 4)? as usize;
    if !header.starts_with(signature) || !(HEADER_LEN..=TABLE_MAX).contains(&len) {
        return None;
    }
    memory.read(address, len).filter(|table| sums_to_zero(table))
}

/// The first table with this signature.
fn find(memory: &impl Physical, rsdp: u64, signature: &[u8; 4]) -> Option<Vec<u8>> {
    let head = memory.read(rsdp, RSDP_LEN)?;
    let xsdt = match head.get(15)? {
        0 | 1 => None,
        _ => u64_at(&memory.read(rsdp, RSDP2_LEN)?, 24).filter(|&address| address != 0),
    };
    let mut addresses = Vec::new();
    match xsdt {
        Some(address) => {
            let root = table(memory, address, b"XSDT")?;
            addresses.extend((HEADER_LEN..root.len()).step_by(8).filter_map(|i| u64_at(&root, i)));
        }
        None => {
            let root = table(memory, u32_at(&head, 16)?.into(), b"RSDT")?;
            let entries = (HEADER_LEN..root.len()).step_by(4);
            addresses.extend(entries.filter_map(|i| u32_at(&root, i).map(u64::from)));
        }
    }
    addresses.into_iter().find_map(|address| table(memory, address, signature))
}

/// Physical address of segment 0's configuration space at bus 0, by the RSDP at `rsdp`.
pub fn ecam_base(memory: &impl Physical, rsdp: u64) -> Option<u64> {
    let mcfg = find(memory, rsdp, b"MCFG")?;
    (MCFG_FIRST..mcfg.len()).step_by(MCFG_ENTRY).find_map(|at| {
        let base = u64_at(&mcfg, at)?;
        let segment_and_start = u32_at(&mcfg, at + 8)?;
        // Segment group 0, from bus 0 on.
        (segment_and_start & 0x00FF_FFFF == 0 && base != 0).then_some(base)
    })
}

/// A virtio-iommu and who is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viot {
    /// Its own function, in segment 0.
    pub iommu: Bdf,
    ranges: Vec<EndpointRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EndpointRange {
    /// Requester ids of the first and the last function.
    first: u16,
    last: u16,
    /// The first one's number as an endpoint.
    endpoint: u32,
}

impl Viot {
    /// A function's number at the IOMMU; `None`: it is not behind it.
    pub fn endpoint(&self, function: Bdf) -> Option<u32> {
        let id = function.bits();
        let range = self.ranges.iter().find(|r| (r.first..=r.last).contains(&id))?;
        (function != self.iommu).then(|| range.endpoint.wrapping_add((id - range.first).into()))
    }
}

const VIOT_COUNT: usize = 36;
const VIOT_NODES: usize = 38;
const VIOT_PCI_RANGE: u8 = 1;
const VIOT_VIRTIO_PCI: u8 = 3;

/// The first virtio-iommu of segment 0, by the RSDP at `rsdp`.
pub fn viot(memory: &impl Physical, rsdp: u64) -> Option<Viot> {
    let table = find(memory, rsdp, b"VIOT")?;
    let count = u16_at(&table, VIOT_COUNT)?;
    let mut nodes = Vec::new();
    let mut at = usize::from(u16_at(&table, VIOT_NODES)?);
    for _ in 0..count {
        let length = usize::from(u16_at(&table, at + 2)?);
        nodes.push((at, table.get(at..at + length).filter(|node| node.len() >= 16)?));
        at += length;
    }
    let (offset, iommu) = nodes.iter().find_map(|&(at, node)| {
        let good = node[0] == VIOT_VIRTIO_PCI && u16_at(node, 4)? == 0;
        good.then_some((at, Bdf::from_bits(u16_at(node, 6)?)))
    })?;
    let range = |node: &[u8]| {
        let (segments, output) = (u32_at(node, 8)?, usize::from(u16_at(node, 16)?));
        let good = node[0] == VIOT_PCI_RANGE && segments == 0 && output == offset;
        let (first, last) = (u16_at(node, 12)?, u16_at(node, 14)?);
        good.then_some(EndpointRange { first, last, endpoint: u32_at(node, 4)? })
    };
    Some(Viot { iommu, ranges: nodes.iter().filter_map(|(_, node)| range(node)).collect() })
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
