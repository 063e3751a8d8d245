use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::*;

#[test]
fn small_ram_is_one_aligned_part() {
    let ram = GuestRam::new(64 << 20).unwrap();
    assert_eq!(ram.parts().len(), 1);
    assert_eq!(ram.low_end(), 64 << 20);
    assert_eq!(ram.high(), None);
    assert_eq!(ram.parts()[0].host_address() % HUGE_PAGE, 0);
}

#[test]
fn large_ram_continues_at_4_gib() {
    let ram = GuestRam::new(LOW_RAM_MAX + (6 << 20)).unwrap();
    assert_eq!(ram.low_end(), LOW_RAM_MAX);
    assert_eq!(ram.high(), Some((HIGH_RAM_BASE, 6 << 20)));
    ram.map().write_obj(7u8, GuestAddress(HIGH_RAM_BASE + (6 << 20) - 1)).unwrap();
    assert!(ram.map().write_obj(7u8, GuestAddress(HIGH_RAM_BASE + (6 << 20))).is_err());
    assert!(!ram.map().address_in_range(GuestAddress(LOW_RAM_MAX)));
}

#[test]
fn fresh_ram_reads_zero() {
    let ram = GuestRam::new(4 << 20).unwrap();
    let mut bytes = [1u8; 4096];
    ram.map().read_slice(&mut bytes, GuestAddress((4 << 20) - 4096)).unwrap();
    assert_eq!(bytes, [0; 4096]);
}

#[test]
fn host_addresses_are_of_ram_only() {
    let ram = GuestRam::new(2 * HUGE_PAGE).unwrap();
    let start = ram.parts()[0].host_address();
    let at = |address, length| ram.host_address(address, length).map(|at| at.as_ptr() as u64);
    assert_eq!(at(0, 2 * HUGE_PAGE), Some(start));
    assert_eq!(at(5, 1), Some(start + 5));
    assert_eq!(at(1, 2 * HUGE_PAGE), None);
    assert_eq!(at(2 * HUGE_PAGE, 1), None);
    assert_eq!(at(u64::MAX, 2), None);
}
