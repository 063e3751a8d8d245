//! ACPI tables (ACPI 6.4): what a kernel without our paravirtual ports finds its machine by.
//!
//! RSDP -> XSDT -> FADT (-> FACS, DSDT), MADT, MCFG, and VIOT where there is an IOMMU. Not hardware-reduced: PM1a, PM timer and
//! reset register are the ports of q35. No HPET. The interrupt pins
//! of PCI devices are routed by `_PRT`, pin A only: network cards have one, for drivers without MSI.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name,
    Package, Path, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as GasSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::viot::{PciDevice, PciRange, VIOT, VirtIoPciIommu};
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use xinim_abi::hw::chipset::SLEEP_TYPE_S5;
use xinim_abi::platform;
use zerocopy::{Immutable, IntoBytes};

use crate::irq::pci_input;
use crate::layout::{ACPI_BASE, ACPI_END, ECAM_SIZE, SCI_IRQ};
use crate::reach::PLACE;

const OEM_ID: [u8; 6] = *b"XINIM ";
const OEM_TABLE: [u8; 8] = *b"XINIMVMM";
const OEM_REVISION: u32 = 1;
/// Largest number of processors an 8-bit local APIC identifier can name (255 is broadcast).
pub const CPUS_MAX: u32 = 255;

const HEADER: u32 = 36;
/// MADT flag: the machine also has a pair of 8259s.
const PCAT_COMPAT: u32 = 1;
/// MADT interrupt flags (5.2.12.5): level-triggered, active high.
const LEVEL_HIGH: u16 = 0b11_01;
/// FADT boot flags (5.2.9.3): legacy devices on the LPC bus, no VGA to probe.
const BOOT_LEGACY: u16 = 1 << 0;
const BOOT_NO_VGA: u16 = 1 << 2;
/// What [`platform::PORT_RESET`] must be given for a full reset.
const RESET_VALUE: u8 = 6;

/// The tables as bytes to be placed at [`ACPI_BASE`]; the RSDP comes first.
///
/// `cpus` is at most [`CPUS_MAX`]; `iommu`: at [`PLACE`], for all functions of bus 0.
pub fn build(cpus: u32, iommu: bool) -> Result<Vec<u8>, String> {
    if cpus == 0 || cpus > CPUS_MAX {
        return Err(format!("a machine has 1 to {CPUS_MAX} CPUs, not {cpus}"));
    }
    let mut image = Image { bytes: vec![0; Rsdp::len()] };
    let facs = image.add(&FACS::new(), 64);
    let dsdt = image.add(&dsdt(), 16);
    let fadt = image.add(&fadt(facs, dsdt), 16);
    let madt = image.add(&madt(cpus), 16);
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE, OEM_REVISION);
    mcfg.add_ecam(platform::ECAM_BASE, 0, 0, 255);
    let mcfg = image.add(&mcfg, 16);
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE, OEM_REVISION);
    for table in [fadt, madt, mcfg] {
        xsdt.add_entry(u64::from(table));
    }
    if iommu {
        xsdt.add_entry(u64::from(image.add(&viot(), 16)));
    }
    let xsdt = image.add(&xsdt, 16);
    let rsdp = Rsdp::new(OEM_ID, u64::from(xsdt));
    image.bytes[..Rsdp::len()].copy_from_slice(rsdp.as_bytes());
    if image.bytes.len() as u64 > ACPI_END - ACPI_BASE {
        return Err("the ACPI tables are larger than their place in memory".into());
    }
    Ok(image.bytes)
}

/// The tables as they will lie in memory from [`ACPI_BASE`] on.
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Appends a table at the next multiple of `align` and returns its physical address.
    fn add(&mut self, table: &dyn Aml, align: usize) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let address = ACPI_BASE as u32 + self.bytes.len() as u32;
        table.to_aml_bytes(&mut Sink(&mut self.bytes));
        address
    }
}

struct Sink<'a>(&'a mut Vec<u8>);

impl AmlSink for Sink<'_> {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

/// Every function of bus 0 is an endpoint, numbered by its requester id.
fn viot() -> VIOT {
    let mut viot = VIOT::new(OEM_ID, OEM_TABLE, OEM_REVISION);
    let place = PciDevice::new(0, PLACE.bus(), PLACE.device(), PLACE.function());
    let iommu = viot.add_virtio_pci_iommu(VirtIoPciIommu::new(place));
    let (first, last) = (PciDevice::new(0, 0, 0, 0), PciDevice::new(0, 0, 31, 7));
    viot.add_pci_range(PciRange::new(first, last, &iommu));
    viot
}

fn fadt(facs: u32, dsdt: u32) -> FADT {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup);
    fadt.firmware_ctrl = facs.into();
    fadt.dsdt = dsdt.into();
    fadt.x_dsdt = u64::from(dsdt).into();
    // No SMI command port: ACPI mode is always on (5.2.9).
    fadt.sci_int = u16::from(SCI_IRQ).into();
    fadt.pm1a_evt_blk = u32::from(platform::PM1A_EVENT).into();
    fadt.pm1a_cnt_blk = u32::from(platform::PM1A_CONTROL).into();
    fadt.pm_tmr_blk = u32::from(platform::PM_TIMER).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_len = 4;
    fadt.x_pm1a_evt_blk = io_gas(platform::PM1A_EVENT, 32, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = io_gas(platform::PM1A_CONTROL, 16, AccessSize::WordAccess);
    fadt.x_pm_tmr_blk = io_gas(platform::PM_TIMER, 32, AccessSize::DwordAccess);
    // Latencies above 100 and 1000 us say that C2 and C3 are not there.
    fadt.p_lvl2_lat = 101.into();
    fadt.p_lvl3_lat = 1001.into();
    fadt.iapc_boot_arch = (BOOT_LEGACY | BOOT_NO_VGA).into();
    fadt.reset_reg = io_gas(platform::PORT_RESET, 8, AccessSize::ByteAccess);
    fadt.reset_value = RESET_VALUE;
    fadt.finalize()
}

fn io_gas(port: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(GasSpace::SystemIo, bits, 0, access, u64::from(port))
}

/// Interrupt Source Override (5.2.12.5).
#[repr(C, packed)]
#[derive(Clone, Copy, IntoBytes, Immutable)]
struct SourceOverride {
    kind: u8,
    length: u8,
    bus: u8,
    source: u8,
    interrupt: u32,
    flags: u16,
}

/// Local APIC NMI (5.2.12.7).
#[repr(C, packed)]
#[derive(Clone, Copy, IntoBytes, Immutable)]
struct LocalNmi {
    kind: u8,
    length: u8,
    processor: u8,
    flags: u16,
    lint: u8,
}

fn madt(cpus: u32) -> Sdt {
    let mut madt = Sdt::new(*b"APIC", HEADER, 3, OEM_ID, OEM_TABLE, OEM_REVISION);
    madt.append_slice(&(platform::LAPIC_BASE as u32).to_le_bytes());
    madt.append_slice(&PCAT_COMPAT.to_le_bytes());
    for cpu in 0..cpus {
        let id = cpu as u8;
        madt.append_slice(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled).as_bytes());
    }
    madt.append_slice(IoApic::new(0, platform::IOAPIC_BASE as u32, 0).as_bytes());
    // The PIT's output is wired to pin 2, as on every PC with an I/O APIC.
    for (source, interrupt, flags) in [(0, 2, 0), (SCI_IRQ, SCI_IRQ, LEVEL_HIGH)] {
        let entry = SourceOverride {
            kind: 2,
            length: 10,
            bus: 0,
            source,
            interrupt: u32::from(interrupt),
            flags,
        };
        madt.append_slice(entry.as_bytes());
    }
    // On all processors (255), NMI comes in by LINT1.
    let nmi = LocalNmi { kind: 4, length: 6, processor: 255, flags: 0, lint: 1 };
    madt.append_slice(nmi.as_bytes());
    madt
}

fn dsdt() -> Sdt {
    let mut children = Vec::new();
    // Device number with any function, pin A, no link device, and the input.
    let addresses: Vec<u32> = (0..32).map(|device| device << 16 | 0xFFFF).collect();
    let inputs: Vec<u8> = (0..32).map(pci_input).collect();
    let routes: Vec<Package> = addresses
        .iter()
        .zip(&inputs)
        .map(|(address, input)| Package::new(vec![address, &ZERO, &ZERO, input]))
        .collect();
    let routes = Package::new(routes.iter().map(|route| route as &dyn Aml).collect());
    let mmio_end = (platform::MMIO32_END - 1) as u32;
    let uncached = AddressSpaceCacheable::NotCacheable;
    device(
        &mut children,
        "PCI0",
        "PNP0A08",
        &[
            &Name::new(Path::new("_CID"), &EISAName::new("PNP0A03")),
            &Name::new(Path::new("_SEG"), &ZERO),
            &Name::new(Path::new("_BBN"), &ZERO),
            &Name::new(Path::new("_PRT"), &routes),
        ],
        vec![
            &AddressSpace::new_bus_number(0u16, 255),
            &IO::new(0xCF8, 0xCF8, 1, 8),
            &AddressSpace::new_io(0u16, 0xCF7, None),
            &AddressSpace::new_io(0xD00u16, 0xFFFF, None),
            &AddressSpace::new_memory(uncached, true, platform::MMIO32_BASE as u32, mmio_end, None),
        ],
    );
    // The configuration window, reserved as the PCI Firmware Specification asks (4.1.2).
    let ecam = Memory32Fixed::new(true, platform::ECAM_BASE as u32, ECAM_SIZE as u32);
    device(&mut children, "MRES", "PNP0C02", &[], vec![&ecam]);
    let com1_irq = Interrupt::new(true, true, false, false, u32::from(platform::COM1_IRQ));
    let com1_ports = IO::new(platform::COM1, platform::COM1, 1, 8);
    device(&mut children, "COM1", "PNP0501", &[], vec![&com1_ports, &com1_irq]);
    device(&mut children, "RTC0", "PNP0B00", &[], vec![&IO::new(0x70, 0x70, 1, 2)]);

    let mut aml = Vec::new();
    // Sleep type of S5 in PM1a's and PM1b's control registers; the rest is reserved.
    let kind = SLEEP_TYPE_S5 as u8;
    let s5 = Package::new(vec![&kind, &kind, &ZERO, &ZERO]);
    Name::new(Path::new("_S5_"), &s5).to_aml_bytes(&mut Sink(&mut aml));
    aml.extend(Scope::raw(Path::new("_SB_"), children));
    let mut table = Sdt::new(*b"DSDT", HEADER, 2, OEM_ID, OEM_TABLE, OEM_REVISION);
    table.append_slice(&aml);
    table
}

/// Appends a device with its identifier, the given objects and `_CRS`.
fn device(out: &mut Vec<u8>, name: &str, hid: &str, objects: &[&dyn Aml], crs: Vec<&dyn Aml>) {
    let hid = Name::new(Path::new("_HID"), &EISAName::new(hid));
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let crs = Name::new(Path::new("_CRS"), &ResourceTemplate::new(crs));
    let mut children: Vec<&dyn Aml> = vec![&hid, &uid];
    children.extend(objects);
    children.push(&crs);
    Device::new(Path::new(name), children).to_aml_bytes(&mut Sink(out));
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
