//! ACPI tables found at boot.

use core::cell::Cell;

use xinim_kernel_logic::acpi::{self, IoApic, PhysicalMemory, Power, Root};

use crate::boot_info::BootInfo;
use crate::global::Global;
use crate::physical;

struct Memory;

impl PhysicalMemory for Memory {
    fn bytes(&self, address: u64, len: usize) -> Option<&'static [u8]> {
        physical::bytes(address, len)
    }
}

static ROOT: Global<Cell<Option<Root>>> = Global::new(Cell::new(None));

/// The tables of this machine, if it has any.
pub struct Firmware {
    root: Option<Root>,
}

impl Firmware {
    /// Through the pointer the loader gave, or where a BIOS keeps it.
    pub fn find(boot: &BootInfo) -> Self {
        let rsdp = Some(boot.rsdp).filter(|&r| r != 0).or_else(|| acpi::scan_rsdp(&Memory));
        let root = rsdp.and_then(|rsdp| Root::read(&Memory, rsdp));
        ROOT.set(root);
        Self { root }
    }

    fn madt(&self) -> Option<&'static [u8]> {
        self.root.and_then(|root| root.find(&Memory, b"APIC"))
    }

    pub fn io_apics(&self) -> impl Iterator<Item = IoApic> {
        self.madt().into_iter().flat_map(acpi::io_apics)
    }

    /// APIC identifiers of the processors.
    pub fn processors(&self) -> impl Iterator<Item = u32> {
        self.madt().into_iter().flat_map(acpi::processors)
    }

    /// The tables user space may want: all but those the kernel alone reads (and the DSDT, which
    /// the root does not name).
    pub fn tables(&self) -> impl Iterator<Item = &'static [u8]> {
        self.root.into_iter().flat_map(|root| root.tables(&Memory))
    }
}

/// How to switch off and reset, read when it is needed.
pub fn power() -> Option<Power> {
    let root = ROOT.get()?;
    Power::read(&Memory, root.find(&Memory, b"FACP")?)
}
