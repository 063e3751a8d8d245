//! Tables made here, in a small physical memory.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

struct Memory(&'static [u8]);

impl PhysicalMemory for Memory {
    fn bytes(&self, address: u64, len: usize) -> Option<&'static [u8]> {
        self.0.get(address as usize..(address as usize).checked_add(len)?)
    }
}

fn put(memory: &mut [u8], at: usize, signature: &[u8; 4], body: &[u8]) {
    memory[at..at + 4].copy_from_slice(signature);
    memory[at + 4..at + 8].copy_from_slice(&((HEADER + body.len()) as u32).to_le_bytes());
    memory[at + HEADER..at + HEADER + body.len()].copy_from_slice(body);
}

fn image() -> Vec<u8> {
    let mut m = vec![0; 0x1000];
    m[0x10..0x18].copy_from_slice(b"RSD PTR ");
    m[0x1F] = 0;
    m[0x20..0x24].copy_from_slice(&0x100u32.to_le_bytes());
    put(&mut m, 0x100, b"RSDT", &[0, 2, 0, 0, 0, 4, 0, 0]);
    let mut madt = vec![0; 8];
    madt.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    madt.extend([0, 8, 1, 6, 1, 0, 0, 0]);
    madt.extend([0, 8, 2, 7, 0, 0, 0, 0]);
    madt.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    madt.extend([1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 24, 0, 0, 0]);
    put(&mut m, 0x200, b"APIC", &madt);
    let mut fadt = vec![0; 100];
    fadt[40 - 36..44 - 36].copy_from_slice(&0x800u32.to_le_bytes());
    fadt[64 - 36..68 - 36].copy_from_slice(&0x604u32.to_le_bytes());
    fadt[112 - 36..116 - 36].copy_from_slice(&(1u32 << 10).to_le_bytes());
    fadt[116 - 36] = 1;
    fadt[120 - 36..122 - 36].copy_from_slice(&0xCF9u16.to_le_bytes());
    fadt[128 - 36] = 6;
    put(&mut m, 0x400, b"FACP", &fadt);
    put(&mut m, 0x800, b"DSDT", b"\x08_S5_\x12\x06\x04\x0A\x05\x0A\x05\x00\x00");
    m
}

#[test]
fn finds_everything() {
    let memory = Memory(Box::leak(image().into_boxed_slice()));
    let root = Root::read(&memory, 0x10).unwrap();
    let madt = root.find(&memory, b"APIC").unwrap();
    let apics: Vec<_> = io_apics(madt).collect();
    assert_eq!(processors(madt).collect::<Vec<_>>(), [0, 6, 256]);
    assert_eq!(apics, [IoApic { address: 0xFEC0_0000, gsi_base: 24 }]);
    let power = Power::read(&memory, root.find(&memory, b"FACP").unwrap()).unwrap();
    assert_eq!(power, Power { pm1a_control: 0x604, sleep_type: 5, reset: Some((0xCF9, 6)) });
    assert!(root.find(&memory, b"MCFG").is_none());
}

proptest! {
    #[test]
    fn damage_is_survived(changes in prop::collection::vec((0usize..0x900, any::<u8>()), 1..30)) {
        let mut m = image();
        changes.into_iter().for_each(|(at, byte)| m[at] = byte);
        let memory = Memory(Box::leak(m.into_boxed_slice()));
        if let Some(root) = Root::read(&memory, 0x10) {
            for table in root.tables(&memory) {
                prop_assert!(io_apics(table).count() < 4096);
                prop_assert!(processors(table).count() < 4096);
                let _ = Power::read(&memory, table);
            }
        }
    }
}
