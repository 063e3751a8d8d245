//! What the kernel wants from the ACPI tables (ACPI 6.5, chapter 5): processors, I/O APICs,
//! power-off and reset registers. Tables only; AML is not interpreted, except that the sleep type of `_S5_` is
//! looked for by its bytes.

/// Access to physical memory.
pub trait PhysicalMemory {
    /// `len` bytes at `address`, if that is memory.
    fn bytes(&self, address: u64, len: usize) -> Option<&'static [u8]>;
}

/// Largest table that is looked at.
const MAX_TABLE: usize = 256 * 1024;
/// Header all tables share.
pub const HEADER: usize = 36;
const MAX_TABLES: usize = 64;

fn u32_at(table: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(table.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(table: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(table.get(at..at + 8)?.try_into().ok()?))
}

/// The root table: RSDT or XSDT.
#[derive(Clone, Copy)]
pub struct Root {
    table: &'static [u8],
    wide: bool,
}

impl Root {
    /// From the root pointer structure at `rsdp`.
    pub fn read<M: PhysicalMemory>(memory: &M, rsdp: u64) -> Option<Self> {
        let pointer = memory.bytes(rsdp, 20)?;
        if &pointer[..8] != b"RSD PTR " {
            return None;
        }
        let xsdt = if pointer[15] >= 2 { u64_at(memory.bytes(rsdp, 36)?, 24)? } else { 0 };
        let wide = xsdt != 0;
        let address = if wide { xsdt } else { u64::from(u32_at(pointer, 16)?) };
        Some(Self { table: table(memory, address)?, wide })
    }

    /// All tables the root names.
    pub fn tables<'m, M: PhysicalMemory>(
        self,
        memory: &'m M,
    ) -> impl Iterator<Item = &'static [u8]> + use<'m, M> {
        let size = if self.wide { 8 } else { 4 };
        self.table[HEADER..].chunks_exact(size).take(MAX_TABLES).filter_map(move |entry| {
            let address = match self.wide {
                true => u64_at(entry, 0)?,
                false => u64::from(u32_at(entry, 0)?),
            };
            table(memory, address)
        })
    }

    pub fn find<M: PhysicalMemory>(self, memory: &M, signature: &[u8; 4]) -> Option<&'static [u8]> {
        self.tables(memory).find(|table| table.starts_with(signature))
    }
}

/// The table at `address`, as long as its header says.
fn table<M: PhysicalMemory>(memory: &M, address: u64) -> Option<&'static [u8]> {
    let length = u32_at(memory.bytes(address, HEADER)?, 4)? as usize;
    if !(HEADER..=MAX_TABLE).contains(&length) {
        return None;
    }
    memory.bytes(address, length)
}

/// Looks for the root pointer where a PC BIOS puts it.
pub fn scan_rsdp<M: PhysicalMemory>(memory: &M) -> Option<u64> {
    (0xE_0000u64..0x10_0000)
        .step_by(16)
        .find(|&address| memory.bytes(address, 8).is_some_and(|bytes| bytes == b"RSD PTR "))
}

/// Flag of a processor: it can be used.
const ENABLED: u32 = 1;

/// One I/O APIC of the MADT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoApic {
    pub address: u32,
    /// First global system interrupt of its pins.
    pub gsi_base: u32,
}

/// The entries of a MADT (5.2.12), each with its type in front.
fn entries(madt: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = HEADER + 8;
    core::iter::from_fn(move || {
        let length = usize::from(*madt.get(at + 1)?).max(2);
        let entry = madt.get(at..at + length)?;
        at += length;
        Some(entry)
    })
}

/// The I/O APICs in a MADT (5.2.12.3).
pub fn io_apics(madt: &[u8]) -> impl Iterator<Item = IoApic> + '_ {
    entries(madt).filter(|entry| entry[0] == 1).filter_map(|entry| {
        Some(IoApic { address: u32_at(entry, 4)?, gsi_base: u32_at(entry, 8)? })
    })
}

/// APIC identifiers of the processors in a MADT that can be used: local APICs and x2APICs
/// (5.2.12.2, 5.2.12.12).
pub fn processors(madt: &[u8]) -> impl Iterator<Item = u32> + '_ {
    entries(madt).filter_map(|entry| {
        let (id, flags) = match entry[0] {
            0 => (u32::from(*entry.get(3)?), u32_at(entry, 4)?),
            9 => (u32_at(entry, 4)?, u32_at(entry, 8)?),
            _ => return None,
        };
        (flags & ENABLED != 0).then_some(id)
    })
}

/// How to switch the machine off and reset it, from the FADT (5.2.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    /// Port of PM1a control, 0 if none.
    pub pm1a_control: u16,
    /// SLP_TYPa of `_S5_`.
    pub sleep_type: u16,
    /// Reset register, if it is an I/O port, and the value to write there.
    pub reset: Option<(u16, u8)>,
}

impl Power {
    pub fn read<M: PhysicalMemory>(memory: &M, fadt: &[u8]) -> Option<Self> {
        let dsdt = table(memory, u64::from(u32_at(fadt, 40)?));
        let reset_supported = u32_at(fadt, 112)? & 1 << 10 != 0;
        // Generic address structure: space id 1 is I/O.
        let reset = fadt.get(116..129).filter(|gas| reset_supported && gas[0] == 1);
        Some(Self {
            pm1a_control: u32_at(fadt, 64)? as u16,
            sleep_type: dsdt.and_then(sleep_type_s5).unwrap_or(0),
            reset: reset.and_then(|gas| Some((u64_at(gas, 4)? as u16, gas[12]))),
        })
    }
}

/// First element of the package `_S5_` in an AML table: NameOp? "_S5_" PackageOp length count value.
fn sleep_type_s5(aml: &[u8]) -> Option<u16> {
    let at = aml.windows(5).position(|window| window == b"_S5_\x12")?;
    let package = &aml[at + 5..];
    // The package length is 1..4 bytes long, told by the top bits of the first.
    let length_bytes = 1 + usize::from(package.first()? >> 6);
    match package.get(length_bytes + 1..length_bytes + 3)? {
        [0x0A, value] => Some(u16::from(*value)),
        [value @ 0..=1, _] => Some(u16::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
