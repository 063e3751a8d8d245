use super::*;

const MIB: u64 = 1 << 20;
const LONG: Paging = Paging { cr0: CR0_PG, cr3: 0x1000, cr4: CR4_PAE, efer: EFER_LMA };

fn ram(entries: &[(u64, u64)]) -> GuestRam {
    let ram = GuestRam::new(4 * MIB).unwrap();
    for (at, entry) in entries {
        ram.map().write_obj(*entry, GuestAddress(*at)).unwrap();
    }
    ram
}

#[test]
fn without_paging_addresses_are_physical() {
    let paging = Paging { cr0: 1, ..LONG };
    assert_eq!(translate(&ram(&[]), paging, 0x1_0000_1234), Some(0x1234));
}

#[test]
fn four_levels_lead_to_small_large_and_huge_pages() {
    let tables = ram(&[
        (0x1000 + 511 * 8, 0x2003), // the highest 512 GiB
        (0x2000 + 510 * 8, 0x3003),
        (0x2000 + 511 * 8, 0x4000_0083), // a 1 GiB page
        (0x3000, 0x4003),
        (0x3008, 0x20_0083), // a 2 MiB page
        (0x4000 + 5 * 8, 0x30_0003),
    ]);
    let kernel = 0xFFFF_FFFF_8000_0000;
    assert_eq!(translate(&tables, LONG, kernel + 0x5678), Some(0x30_0678));
    assert_eq!(translate(&tables, LONG, kernel + 2 * MIB + 9), Some(2 * MIB + 9));
    assert_eq!(translate(&tables, LONG, 0xFFFF_FFFF_C000_0123), Some(0x4000_0123));
    assert_eq!(translate(&tables, LONG, kernel + 0x6000), None);
    assert_eq!(translate(&tables, LONG, 0), None);
}

#[test]
fn five_levels_begin_one_table_higher() {
    let tables = ram(&[(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003), (0x4000, 0x83)]);
    let paging = Paging { cr4: CR4_PAE | CR4_LA57, ..LONG };
    assert_eq!(translate(&tables, paging, 0x1234), Some(0x1234));
}

#[test]
fn thirty_two_bit_modes() {
    let tables = ram(&[(0x1000, 0x2003), (0x2000, 0x0000_0000_0030_0003), (0x1008, 0x3001)]);
    let pae = Paging { efer: 0, ..LONG };
    assert_eq!(translate(&tables, Paging { cr4: 0, ..pae }, 0x456), Some(0x30_0456));
    // With PAE, CR3 points to four entries, of which the first leads to the table at 0x2000,
    // whose first entry leads to a table at 0x300000 that is empty.
    assert_eq!(translate(&tables, pae, 0x456), None);
}

#[test]
fn tables_outside_ram_or_in_circles_end() {
    let outside = Paging { cr3: 0x7FFF_F000, ..LONG };
    assert_eq!(translate(&ram(&[]), outside, 0), None);
    // A table that points to itself at every level ends as its own page.
    assert_eq!(translate(&ram(&[(0x1000, 0x1003)]), LONG, 0x10), Some(0x1010));
}
