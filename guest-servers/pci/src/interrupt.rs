//! A function's interrupts: MSI-X (PCI 6.8.2), else MSI (6.8.1), else its pin (INTx, 2.2.6), which
//! firmware has wired to the I/O APIC input named in the interrupt line register.

use crate::ConfigAccess;
use xinim_abi::hw::pci::{Bdf, COMMAND, Command, INTERRUPT_LINE, msix};
use xinim_driver_kit::Mmio;

/// Where a function's MSI-X table and pending bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    /// Offset of the capability.
    pub capability: u8,
    pub count: u32,
    pub table_bar: u8,
    pub table_offset: u32,
    pub pba_bar: u8,
    pub pba_offset: u32,
}

impl Msix {
    /// Reads the capability at `capability` whose first dword is `head`.
    pub fn read(config: &impl ConfigAccess, function: Bdf, capability: u8, head: u32) -> Self {
        let table = config.read32(function, usize::from(capability) + msix::TABLE);
        let pba = config.read32(function, usize::from(capability) + msix::PBA);
        let control = (head >> 16) as u16;
        Self {
            capability,
            count: u32::from(control & msix::CONTROL_SIZE_MASK) + 1,
            table_bar: (table & msix::BIR_MASK) as u8,
            table_offset: table & !msix::BIR_MASK,
            pba_bar: (pba & msix::BIR_MASK) as u8,
            pba_offset: pba & !msix::BIR_MASK,
        }
    }

    /// The ranges (offset, length) of BAR `bar` that are not for the driver.
    pub fn hidden(&self, bar: u8) -> [(u64, u64); 2] {
        let table = u64::from(self.count) * msix::ENTRY_SIZE as u64;
        let pba = u64::from(self.count.div_ceil(64)) * 8;
        let part = |here: u8, offset: u32, len| {
            if here == bar { (u64::from(offset), len) } else { (0, 0) }
        };
        [part(self.table_bar, self.table_offset, table), part(self.pba_bar, self.pba_offset, pba)]
    }

    /// Turns MSI-X on and INTx off; vectors not programmed stay masked.
    pub fn enable(&self, config: &impl ConfigAccess, function: Bdf) {
        let at = usize::from(self.capability) + msix::MESSAGE_CONTROL;
        let control = config.read16(function, at);
        let wanted = (control | msix::CONTROL_ENABLE) & !msix::CONTROL_FUNCTION_MASK;
        if wanted != control {
            config.write16(function, at, wanted);
        }
    }
}

/// Programs one entry of a table: masked while it changes. `table` begins at the entry.
pub fn program_entry(entry: &impl Mmio, address: u32, data: u32) {
    entry.write32(msix::ENTRY_CONTROL, msix::ENTRY_MASKED);
    entry.write32(msix::ENTRY_ADDRESS_LOW, address);
    entry.write32(msix::ENTRY_ADDRESS_HIGH, 0);
    entry.write32(msix::ENTRY_DATA, data);
    entry.write32(msix::ENTRY_CONTROL, 0);
}

const MSI_CONTROL: usize = 2;
const MSI_ADDRESS: usize = 4;
const MSI_ENABLE: u16 = 1;
/// Log2 of the messages enabled: one.
const MSI_MULTIPLE_MASK: u16 = 7 << 4;
const MSI_64BIT: u16 = 1 << 7;

/// Programs the single message of an MSI capability and turns it on.
pub fn program_msi(
    config: &impl ConfigAccess,
    function: Bdf,
    capability: u8,
    address: u32,
    data: u16,
) {
    let at = usize::from(capability);
    let control = config.read16(function, at + MSI_CONTROL) & !(MSI_ENABLE | MSI_MULTIPLE_MASK);
    config.write16(function, at + MSI_CONTROL, control);
    config.write32(function, at + MSI_ADDRESS, address);
    let data_at = if control & MSI_64BIT != 0 {
        config.write32(function, at + MSI_ADDRESS + 4, 0);
        at + MSI_ADDRESS + 8
    } else {
        at + MSI_ADDRESS + 4
    };
    config.write16(function, data_at, data);
    config.write16(function, at + MSI_CONTROL, control | MSI_ENABLE);
}

/// The I/O APIC input of a function's pin. `None`: it has no pin, or firmware knows no route.
pub fn pin(config: &impl ConfigAccess, function: Bdf) -> Option<u8> {
    let word = config.read16(function, INTERRUPT_LINE);
    let (line, pin) = (word as u8, word >> 8);
    ((1..=4).contains(&pin) && !matches!(line, 0 | 0xFF)).then_some(line)
}

/// Memory decoding, and nothing else: whoever drives the function goes on.
pub fn decode(config: &impl ConfigAccess, function: Bdf) {
    let command = Command::from_bits_retain(config.read16(function, COMMAND));
    if !command.contains(Command::MEMORY_SPACE) {
        config.write16(function, COMMAND, (command | Command::MEMORY_SPACE).bits());
    }
}

/// The command register with what a started driver needs: memory decoding, its pin or no INTx, bus
/// mastering as asked. Written only where it changes.
pub fn enable(config: &impl ConfigAccess, function: Bdf, pin: bool, bus_master: Option<bool>) {
    let command = Command::from_bits_retain(config.read16(function, COMMAND));
    let mut wanted = command | Command::MEMORY_SPACE;
    wanted.set(Command::INTX_DISABLE, !pin);
    if let Some(on) = bus_master {
        wanted.set(Command::BUS_MASTER, on);
    }
    if wanted != command {
        config.write16(function, COMMAND, wanted.bits());
    }
}
