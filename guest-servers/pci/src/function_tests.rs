use super::*;
use crate::interrupt;
use crate::testing::FakeConfig;
use xinim_abi::hw::pci::Bdf;
use xinim_driver_kit::Mmio;
use xinim_driver_kit::testing::FakeMmio;

/// A virtio function: common capability at 0x40, configuration access at 0x50, MSI-X at 0x70.
fn virtio() -> (FakeConfig, Function) {
    let config = FakeConfig::default();
    let bdf = Bdf::new(0, 1, 0);
    config.add(bdf, 0x1042_1AF4, 0x01_00_00, 0);
    config.set(bdf, 6, 0x10);
    config.set(bdf, 0x34, 0x40);
    config.set_bytes(bdf, 0x40, &[9, 0x50, 16, 1, 0]);
    config.set_bytes(bdf, 0x50, &[9, 0x70, 20, 5, 0]);
    config.set_bytes(bdf, 0x70, &[0x11, 0, 2, 0, 2, 0x10, 0, 0, 2, 0x18, 0, 0]);
    config.set_bar(bdf, 0, 0xC000_0000, 0xFFFF_C000);
    config.set_bar(bdf, 2, 0xC100_0000, 0xFFFF_C000);
    let found = Found { bdf, id: 0x1042_1AF4, class: 0x01_00_00, header: 0 };
    (config, Function::new(found))
}

#[test]
fn capabilities_are_walked_once() {
    let (config, mut function) = virtio();
    let first = function.capability(&config, 9, 0).unwrap();
    assert_eq!((first.offset, first.bytes[3]), (0x40, 1));
    let before = config.accesses();
    assert_eq!(function.capability(&config, 9, 2), Err(Error::NoEnt));
    assert_eq!(function.capability(&config, 0x109, 0), Err(Error::NoEnt));
    assert_eq!(config.accesses(), before);
}

#[test]
fn the_message_table_is_not_in_the_drivers_bar() {
    let (config, mut function) = virtio();
    let all = [function.found];
    assert_eq!(function.memory_bar(&config, 0, &all).unwrap().len, 0x4000);
    // Table at 0x1000, pending bits at 0x1800: only the first page is left.
    assert_eq!(function.memory_bar(&config, 2, &all).unwrap().len, 0x1000);
    assert_eq!(function.memory_bar(&config, 1, &all), Err(Error::NoEnt));
    assert_eq!(function.memory_bar(&config, 99, &all), Err(Error::NoEnt));
    let Messages::Msix(msix) = function.messages(&config) else { panic!("no MSI-X") };
    assert_eq!((msix.count, msix.table_bar, msix.table_offset), (3, 2, 0x1000));
}

#[test]
fn a_driver_writes_only_what_is_its_own() {
    let (config, mut function) = virtio();
    let mut write = |offset, size| function.check_write(&config, offset, size);
    assert_eq!(write(0x44, 4), Ok(()));
    for (offset, size) in [
        (0x04, 2), // command
        (0x10, 4), // BAR
        (0x40, 4), // a capability's head
        (0x4C, 4), // allowed: body of the capability ends at 0x50
        (0x54, 4), // the window into the BARs
        (0x60, 4), // its data
        (0x72, 2), // MSI-X control
        (0x74, 4), // MSI-X table place
        (0xF0, 4), // nothing known
    ] {
        let expected = if offset == 0x4C { Ok(()) } else { Err(Error::Perm) };
        assert_eq!(write(offset, size), expected, "{offset:#x}");
    }
    assert_eq!(crate::filter::check_shape(0x43, 2), Err(Error::Inval));
    assert_eq!(crate::filter::check_shape(256, 4), Err(Error::Inval));
    assert_eq!(crate::filter::check_shape(u32::MAX, 1), Err(Error::Inval));
    assert_eq!(crate::filter::check_shape(8, 3), Err(Error::Inval));
}

#[test]
fn messages_are_programmed_masked_and_then_opened() {
    let (config, mut function) = virtio();
    let entry = FakeMmio::new(16);
    interrupt::program_entry(&entry, 0xFEE0_1000, 0x41);
    assert_eq!(entry.read32(0), 0xFEE0_1000);
    assert_eq!((entry.read32(4), entry.read32(8), entry.read32(12)), (0, 0x41, 0));
    let Messages::Msix(msix) = function.messages(&config) else { panic!("no MSI-X") };
    msix.enable(&config, function.found.bdf);
    assert_eq!(config.dump(function.found.bdf)[0x73], 0x80);
}

#[test]
fn msi_is_programmed_in_both_widths() {
    for (control, data_at) in [(0u8, 0x88), (0x80, 0x8C)] {
        let (config, function) = virtio();
        let bdf = function.found.bdf;
        config.set_bytes(bdf, 0x80, &[5, 0, control | 0x0A]);
        interrupt::program_msi(&config, bdf, 0x80, 0xFEE0_2000, 0x77);
        let dump = config.dump(bdf);
        assert_eq!(dump[0x82], control | 0x0A & 0x0E | 1);
        assert_eq!(dump[0x84..0x88], 0xFEE0_2000u32.to_le_bytes());
        assert_eq!(dump[data_at..data_at + 2], [0x77, 0]);
    }
}

#[test]
fn enabling_writes_only_changes() {
    let (config, function) = virtio();
    let bdf = function.found.bdf;
    interrupt::enable(&config, bdf, false, Some(true));
    assert_eq!(config.dump(bdf)[4..6], [0x06, 0x04]);
    let before = config.writes();
    interrupt::enable(&config, bdf, false, None);
    interrupt::enable(&config, bdf, false, Some(true));
    assert_eq!(config.writes(), before);
    interrupt::enable(&config, bdf, false, Some(false));
    assert_eq!(config.dump(bdf)[4..6], [0x02, 0x04]);
    interrupt::enable(&config, bdf, true, None);
    assert_eq!(config.dump(bdf)[4..6], [0x02, 0x00]);
}

#[test]
fn a_function_without_messages_has_its_pin() {
    let pin_of = |line: u8, pin: u8| {
        let (config, function) = virtio();
        let bdf = function.found.bdf;
        config.set_bytes(bdf, 0x34, &[0]); // no capabilities
        config.set_bytes(bdf, 0x3C, &[line, pin]);
        Function::new(function.found).messages(&config)
    };
    assert_eq!(pin_of(11, 1), Messages::Pin(11));
    assert_eq!(pin_of(20, 4), Messages::Pin(20));
    for (line, pin) in [(0, 1), (255, 1), (11, 0), (11, 5), (11, 255)] {
        assert_eq!(pin_of(line, pin), Messages::None, "{line} {pin}");
    }
    let (_, mut function) = virtio();
    let (config, _) = virtio();
    config.set_bytes(function.found.bdf, 0x3C, &[11, 1]);
    assert!(matches!(function.messages(&config), Messages::Msix(_)));
}
