use super::*;
use xinim_abi::hw::pci::{BarKind, HEADER, decode_bar};

fn space() -> ConfigSpace {
    ConfigSpace::new(&Identity {
        vendor: 0x1AF4,
        device: 0x1042,
        revision: 1,
        class: [1, 0, 0],
        subsystem_vendor: 0x1AF4,
        subsystem: 0x1042,
        interrupt_pin: 1,
    })
}

fn read(space: &mut ConfigSpace, offset: usize, size: u8) -> u64 {
    space.access(Access::read(offset as u64, size)).value
}

fn write(space: &mut ConfigSpace, offset: usize, size: u8, value: u64) -> Outcome {
    space.access(Access::write(offset as u64, size, value))
}

/// Every register of the header table, written with ones and with zeros, changes in exactly the
/// bits its masks say.
#[test]
fn the_header_obeys_its_table() {
    for register in HEADER {
        for value in [u64::MAX, 0, 0x5555_5555] {
            let mut space = space();
            let at = register.offset as usize;
            let old = read(&mut space, at, register.width);
            write(&mut space, at, register.width, value & register.mask());
            let expected = register.written(old, value & register.mask());
            assert_eq!(read(&mut space, at, register.width), expected, "{}", register.name);
            space.reset();
            assert_eq!(read(&mut space, at, register.width), old, "{} after reset", register.name);
        }
    }
}

#[test]
fn status_bits_are_cleared_by_ones_and_kept_by_a_command_write() {
    let mut space = space();
    space.set_u8(pci::STATUS + 1, 0xF9);
    write(&mut space, pci::COMMAND, 2, 0x0006);
    assert_eq!(read(&mut space, pci::STATUS, 2), 0xF900);
    write(&mut space, pci::STATUS, 2, 0x8000);
    assert_eq!(read(&mut space, pci::STATUS, 2), 0x7900);
}

#[test]
fn bars_answer_the_sizing_protocol() {
    let mut space = space();
    let wide = BarSpec { size: 0x4000, is_64: true, prefetchable: true };
    let narrow = BarSpec { size: 0x1000, is_64: false, prefetchable: false };
    assert_eq!(space.add_bar(0, wide), Ok(()));
    assert_eq!(space.add_bar(1, narrow), Err(ConfigError::BadBar), "upper half of BAR 0");
    assert_eq!(space.add_bar(2, narrow), Ok(()));
    assert_eq!(space.add_bar(5, wide), Err(ConfigError::BadBar), "no BAR 6");
    assert_eq!(
        space.add_bar(4, BarSpec { size: 3000, ..narrow }),
        Err(ConfigError::BadBar),
        "size is no power of two"
    );
    for bar in 0..6 {
        write(&mut space, pci::BAR0 + 4 * bar, 4, 0xFFFF_FFFF);
    }
    let low = |space: &mut ConfigSpace, bar: usize| read(space, pci::BAR0 + 4 * bar, 4) as u32;
    let kind = |space: &mut ConfigSpace, bar| decode_bar(low(space, bar), low(space, bar + 1));
    assert_eq!(kind(&mut space, 0), BarKind::Memory64 { size: 0x4000, prefetchable: true });
    assert_eq!(kind(&mut space, 2), BarKind::Memory32 { size: 0x1000, prefetchable: false });
    assert_eq!(kind(&mut space, 3), BarKind::Unimplemented);
}

#[test]
fn a_bar_is_decoded_only_with_memory_space_on_and_a_sane_address() {
    let mut space = space();
    assert_eq!(
        space.add_bar(0, BarSpec { size: 0x4000, is_64: true, prefetchable: false }),
        Ok(())
    );
    write(&mut space, pci::BAR0, 4, 0xC000_0000);
    assert_eq!(space.decoded(0), None);
    write(&mut space, pci::COMMAND, 2, 2);
    assert_eq!(space.decoded(0), Some((0xC000_0000, 0x4000)));
    write(&mut space, pci::BAR0 + 4, 4, 0xFFFF_FFFF);
    assert_eq!(space.decoded(0), None, "being sized");
    write(&mut space, pci::BAR0 + 4, 4, 1);
    assert_eq!(space.decoded(0), Some((0x1_C000_0000, 0x4000)));
}

#[test]
fn capabilities_are_linked_in_order_and_bounded() {
    let mut space = space();
    assert_eq!(read(&mut space, pci::STATUS, 2) & 0x10, 0);
    let first = space.add_capability(&[0x09, 0, 16, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
    let second = space.add_capability(&[0x11; 12], pci::MSIX_CAPABILITY);
    assert_eq!((first, second), (Ok(0x40), Ok(0x50)));
    assert_eq!(read(&mut space, pci::STATUS, 2) & 0x10, 0x10);
    assert_eq!(read(&mut space, pci::CAPABILITIES, 1), 0x40);
    assert_eq!(read(&mut space, 0x40, 2), 0x5009);
    assert_eq!(read(&mut space, 0x50, 2), 0x0011);
    write(&mut space, 0x52, 2, 0xFFFF);
    assert_eq!(read(&mut space, 0x52, 2), 0xC000 | (0x1111 & !0xC000), "only enable and mask");
    let mut added = 0;
    while space.add_capability(&[9; 16], &[]).is_ok() {
        added += 1;
        assert!(added < 20);
    }
    assert_eq!(added, (256 - 0x5C) / 16);
}

#[test]
fn beyond_256_bytes_there_is_nothing() {
    let mut space = space();
    write(&mut space, 0x100, 4, 0xFFFF_FFFF);
    assert_eq!(read(&mut space, 0x100, 4), 0);
    assert_eq!(read(&mut space, 0xFFC, 4), 0);
}

#[test]
fn a_write_to_the_vendor_id_is_a_mistake() {
    let outcome = write(&mut space(), pci::VENDOR_ID, 2, 0);
    assert_eq!(outcome.error, Some(GuestError::ReadOnly));
    let outcome = write(&mut space(), pci::COMMAND, 4, 0);
    assert_eq!(outcome.error, None, "a dword over command and status is ordinary");
}
