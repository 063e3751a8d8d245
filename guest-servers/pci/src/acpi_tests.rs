use super::*;
use alloc::vec;
use proptest::prelude::*;

struct Image(Vec<u8>);

const BASE: u64 = 0xE_0000;

impl Physical for Image {
    fn read(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let at = usize::try_from(address.checked_sub(BASE)?).ok()?;
        Some(self.0.get(at..at.checked_add(len)?)?.to_vec())
    }
}

fn seal(table: &mut [u8], at: usize) {
    table[at] = 0;
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    table[at] = 0u8.wrapping_sub(sum);
}

fn sdt(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut table = vec![0; HEADER_LEN];
    table[..4].copy_from_slice(signature);
    table.extend_from_slice(body);
    let len = (table.len() as u32).to_le_bytes();
    table[4..8].copy_from_slice(&len);
    seal(&mut table, 9);
    table
}

fn image(revision: u8) -> Image {
    let mut bytes = vec![0; 0x1000];
    let mut mcfg = vec![0; 8];
    mcfg.extend_from_slice(&0xB000_0000u64.to_le_bytes());
    mcfg.extend_from_slice(&[0, 0, 0, 255, 0, 0, 0, 0]);
    let mcfg = sdt(b"MCFG", &mcfg);
    let other = sdt(b"APIC", &[1, 2, 3]);
    bytes[0x300..0x300 + mcfg.len()].copy_from_slice(&mcfg);
    bytes[0x200..0x200 + other.len()].copy_from_slice(&other);
    // 00:1e.0 is the IOMMU of the functions of bus 0, and a second range is somebody else's.
    let mut viot = vec![3, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    viot.extend_from_slice(&[3, 0, 16, 0, 0, 0, 0xF0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (endpoint, last, output) in [(0x40, 0xFF, 48), (0x900, 0x2FF, 99)] {
        let mut node = [0; 24];
        (node[0], node[2], node[16]) = (1, 24, output);
        node[4..8].copy_from_slice(&u32::to_le_bytes(endpoint));
        node[12..14].copy_from_slice(&(u16::to_le_bytes(last & !0xFF)));
        node[14..16].copy_from_slice(&(u16::to_le_bytes(last)));
        viot.extend_from_slice(&node);
    }
    let viot = sdt(b"VIOT", &viot);
    bytes[0x380..0x380 + viot.len()].copy_from_slice(&viot);
    let mut root = Vec::new();
    for address in [BASE + 0x200, BASE + 0x300, BASE + 0x380] {
        match revision {
            0 => root.extend_from_slice(&(address as u32).to_le_bytes()),
            _ => root.extend_from_slice(&address.to_le_bytes()),
        }
    }
    let root = sdt(if revision == 0 { b"RSDT" } else { b"XSDT" }, &root);
    bytes[0x100..0x100 + root.len()].copy_from_slice(&root);
    let mut rsdp = vec![0; RSDP2_LEN];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[15] = revision;
    match revision {
        0 => rsdp[16..20].copy_from_slice(&(BASE as u32 + 0x100).to_le_bytes()),
        _ => rsdp[24..32].copy_from_slice(&(BASE + 0x100).to_le_bytes()),
    }
    seal(&mut rsdp[..RSDP_LEN], 8);
    bytes[0x40..0x40 + RSDP2_LEN].copy_from_slice(&rsdp);
    Image(bytes)
}

#[test]
fn both_revisions_lead_to_configuration_space() {
    for revision in [0, 2] {
        let image = image(revision);
        assert_eq!(find_rsdp(&image.0), Some(0x40));
        assert_eq!(ecam_base(&image, BASE + 0x40), Some(0xB000_0000));
    }
}

#[test]
fn a_damaged_table_is_not_believed() {
    let mut damaged = image(2);
    damaged.0[0x300 + 44] ^= 1;
    assert_eq!(ecam_base(&damaged, BASE + 0x40), None);
    damaged.0[0x41] ^= 1;
    assert_eq!(find_rsdp(&damaged.0), None);
}

#[test]
fn who_is_behind_the_iommu() {
    for revision in [0, 2] {
        let viot = viot(&image(revision), BASE + 0x40).unwrap();
        assert_eq!(viot.iommu, Bdf::new(0, 0x1E, 0));
        assert_eq!(viot.endpoint(Bdf::new(0, 3, 1)), Some(0x40 + 0x19));
        assert_eq!(viot.endpoint(viot.iommu), None);
        assert_eq!(viot.endpoint(Bdf::new(2, 0, 0)), None);
    }
}

proptest! {
    #[test]
    fn no_tables_are_too_strange(changes in prop::collection::vec((0usize..0x500, any::<u8>()), 0..8)) {
        let mut image = image(2);
        for (at, value) in changes {
            image.0[at] = value;
        }
        if let Some(at) = find_rsdp(&image.0) {
            let _ = ecam_base(&image, BASE + at as u64);
            let _ = viot(&image, BASE + at as u64);
        }
    }
}
