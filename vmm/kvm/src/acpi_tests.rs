use super::*;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at a physical address, its length taken from its header.
fn table(image: &[u8], address: u64) -> &[u8] {
    let at = (address - ACPI_BASE) as usize;
    &image[at..at + u32_at(image, at + 4) as usize]
}

/// Finds a table through RSDP and XSDT, as a kernel does.
fn find<'a>(image: &'a [u8], signature: &[u8; 4]) -> &'a [u8] {
    let xsdt = table(image, u64_at(image, 24));
    xsdt[36..]
        .chunks_exact(8)
        .map(|entry| table(image, u64_at(entry, 0)))
        .find(|table| table.starts_with(signature))
        .unwrap()
}

#[test]
fn every_checksum_is_right() {
    let image = build(3, false).unwrap();
    assert_eq!(&image[..8], b"RSD PTR ");
    assert_eq!(sum(&image[..20]), 0);
    assert_eq!(sum(&image[..36]), 0);
    assert_eq!(sum(table(&image, u64_at(&image, 24))), 0);
    for signature in [b"FACP", b"APIC", b"MCFG"] {
        assert_eq!(sum(find(&image, signature)), 0, "{signature:?}");
    }
    let dsdt = table(&image, u64::from(u32_at(find(&image, b"FACP"), 40)));
    assert!(dsdt.starts_with(b"DSDT"));
    assert_eq!(sum(dsdt), 0);
}

#[test]
fn the_fadt_names_the_platform_ports() {
    let image = build(1, false).unwrap();
    let fadt = find(&image, b"FACP");
    assert_eq!(u32_at(fadt, 56), u32::from(platform::PM1A_EVENT));
    assert_eq!(u32_at(fadt, 64), u32::from(platform::PM1A_CONTROL));
    assert_eq!(u32_at(fadt, 76), u32::from(platform::PM_TIMER));
    // Reset register: generic address at 116, value at 128.
    assert_eq!(u64_at(fadt, 120), u64::from(platform::PORT_RESET));
    assert_eq!(fadt[128], 6);
    let facs = table(&image, u64::from(u32_at(fadt, 36)));
    assert!(facs.starts_with(b"FACS"));
    assert_eq!(u32_at(fadt, 36) % 64, 0);
}

#[test]
fn the_madt_lists_each_processor_once() {
    let image = build(5, false).unwrap();
    let madt = find(&image, b"APIC");
    let (mut at, mut processors, mut ioapics) = (44, Vec::new(), 0);
    while at < madt.len() {
        match madt[at] {
            0 => processors.push(madt[at + 3]),
            1 => {
                ioapics += 1;
                assert_eq!(u64::from(u32_at(madt, at + 4)), platform::IOAPIC_BASE);
            }
            _ => {}
        }
        at += usize::from(madt[at + 1]);
    }
    assert_eq!(at, madt.len());
    assert_eq!(processors, [0, 1, 2, 3, 4]);
    assert_eq!(ioapics, 1);
}

#[test]
fn the_mcfg_names_the_configuration_window() {
    let image = build(1, false).unwrap();
    let mcfg = find(&image, b"MCFG");
    assert_eq!(u64_at(mcfg, 44), platform::ECAM_BASE);
    assert_eq!(mcfg[54..56], [0, 255]);
}

#[test]
fn cpus_beyond_the_apic_are_refused() {
    assert!(build(0, false).is_err());
    assert!(build(CPUS_MAX, false).is_ok());
    assert!(build(CPUS_MAX + 1, false).is_err());
}

/// Writes the tables where `ACPI_DUMP` names a directory, for `iasl -d` and the like.
#[test]
fn tables_can_be_dumped() {
    let image = build(2, false).unwrap();
    let fadt = find(&image, b"FACP");
    let dsdt = table(&image, u64::from(u32_at(fadt, 40)));
    assert!(dsdt.len() > 36 && fadt.len() == 276);
    if let Some(directory) = std::env::var_os("ACPI_DUMP") {
        let tables = [fadt, dsdt, find(&image, b"APIC"), find(&image, b"MCFG")];
        for table in tables {
            let name = String::from_utf8_lossy(&table[..4]).into_owned();
            std::fs::write(std::path::Path::new(&directory).join(name + ".dat"), table).unwrap();
        }
    }
}

/// As a kernel would read it: `_PRT` is a package of packages, here for one device.
#[test]
fn the_dsdt_routes_interrupt_pins() {
    let image = build(1, false).unwrap();
    let dsdt = table(&image, u64::from(u32_at(find(&image, b"FACP"), 40)));
    for (device, input) in [(1u8, 17u8), (7, 23), (8, 16), (31, 23)] {
        // DWord address, pin A, no source, byte input.
        let route = [0x0C, 0xFF, 0xFF, device, 0x00, 0x00, 0x00, 0x0A, input];
        assert!(dsdt.windows(route.len()).any(|bytes| bytes == route), "device {device}");
    }
    assert!(dsdt.windows(4).any(|name| name == b"_PRT"));
}

#[test]
fn an_iommu_is_found_by_its_table() {
    let image = build(1, true).unwrap();
    let viot = find(&image, b"VIOT");
    assert_eq!(sum(viot), 0);
    let (first, second) = viot[48..].split_at(16);
    let nodes = [first, second];
    assert_eq!((viot.len(), nodes[0][0], nodes[1][0]), (48 + 16 + 24, 3, 1));
    // The IOMMU's segment and requester id; the range's first endpoint and last function.
    assert_eq!(u32_at(nodes[0], 4), u32::from(PLACE.bits()) << 16);
    assert_eq!((u32_at(nodes[1], 4), u32_at(nodes[1], 12)), (0, 0xFF << 16));
    assert_eq!(u16::from_le_bytes([nodes[1][16], nodes[1][17]]), 48, "its IOMMU");
    assert!(build(1, false).unwrap().windows(4).all(|bytes| bytes != b"VIOT"));
}
