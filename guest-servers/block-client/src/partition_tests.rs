use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::partition::{Partition, partitions};
use xinim_abi::error::Error;

fn read_from(disk: &[u8]) -> impl FnMut(u64, &mut [u8]) -> xinim_abi::error::Result<()> + '_ {
    move |sector, out| {
        let start = usize::try_from(sector).map_err(|_| Error::Inval)?.saturating_mul(512);
        let end = start.checked_add(out.len()).ok_or(Error::Inval)?;
        out.copy_from_slice(disk.get(start..end).ok_or(Error::Inval)?);
        Ok(())
    }
}

fn slot(disk: &mut [u8], sector: usize, index: usize, kind: u8, start: u32, sectors: u32) {
    let base = sector * 512;
    let at = base + 446 + index * 16;
    disk[at + 4] = kind;
    disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
    disk[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    disk[base + 510..base + 512].copy_from_slice(&[0x55, 0xAA]);
}

fn list(disk: &[u8]) -> Vec<Partition> {
    partitions((disk.len() / 512) as u64, 512, read_from(disk)).expect("readable")
}

#[test]
fn mbr_with_logical_partitions() {
    let mut disk = vec![0; 512 * 200];
    slot(&mut disk, 0, 0, 0x0C, 10, 20);
    slot(&mut disk, 0, 2, 0x05, 50, 100);
    slot(&mut disk, 50, 0, 0x83, 1, 9);
    slot(&mut disk, 50, 1, 0x05, 20, 20);
    slot(&mut disk, 70, 0, 0x83, 2, 8);
    // beyond the device
    slot(&mut disk, 0, 3, 0x83, 190, 11);
    assert_eq!(
        list(&disk),
        [
            Partition { number: 1, start: 10, sectors: 20 },
            Partition { number: 5, start: 51, sectors: 9 },
            Partition { number: 6, start: 72, sectors: 8 },
        ]
    );
}

#[test]
fn a_chain_that_loops_ends() {
    let mut disk = vec![0; 512 * 100];
    slot(&mut disk, 0, 0, 0x05, 50, 50);
    slot(&mut disk, 50, 1, 0x05, 0, 50);
    slot(&mut disk, 50, 0, 0x83, 1, 9);
    assert_eq!(list(&disk), [Partition { number: 5, start: 51, sectors: 9 }]);
}

#[test]
fn a_fat_volume_is_no_table() {
    let mut disk = vec![0; 512 * 100];
    slot(&mut disk, 0, 0, 0x0C, 10, 20);
    disk[0] = 0xEB;
    disk[11..13].copy_from_slice(&512u16.to_le_bytes());
    disk[13] = 4;
    disk[16] = 2;
    disk[21] = 0xF8;
    assert!(list(&disk).is_empty());
}

proptest! {
    #[test]
    fn garbage_never_panics_and_stays_inside(
        mut disk in proptest::collection::vec(any::<u8>(), 512 * 8),
        gpt: bool,
    ) {
        disk[510..512].copy_from_slice(&[0x55, 0xAA]);
        for at in [446, 462, 478, 494] {
            disk[at] &= 0x80;
        }
        if gpt {
            disk[450] = 0xEE;
            disk[512..520].copy_from_slice(b"EFI PART");
        }
        let sectors = 8;
        for partition in partitions(sectors, 512, read_from(&disk)).unwrap_or_default() {
            prop_assert!(partition.start + partition.sectors <= sectors);
        }
    }
}
