use super::super::{ahci, chipset, e1000, pci, rtc, uart16550};
use super::super::{virtio, virtio_blk, virtio_console, virtio_net};
use super::*;

fn tables() -> std::vec::Vec<(&'static str, &'static [Register])> {
    std::vec![
        ("pci header", pci::HEADER),
        ("msi capability", pci::MSI_CAPABILITY),
        ("msi-x capability", pci::MSIX_CAPABILITY),
        ("msi-x entry", pci::MSIX_ENTRY),
        ("virtio capability", virtio::PCI_CAPABILITY),
        ("virtio common", virtio::COMMON),
        ("virtio isr", virtio::ISR),
        ("virtio-blk", virtio_blk::CONFIG),
        ("virtio-console", virtio_console::CONFIG),
        ("ahci hba", ahci::HBA),
        ("ahci port", ahci::PORT),
        ("virtio-net", virtio_net::CONFIG),
        ("e1000", e1000::REGISTERS),
        ("e1000 8254x", e1000::REGISTERS_8254X),
        ("e1000 82574", e1000::REGISTERS_82574),
        ("16550", uart16550::REGISTERS),
        ("16550 divisor", uart16550::DIVISOR),
        ("rtc", rtc::REGISTERS),
        ("rtc ports", rtc::PORTS),
        ("pm1a event", chipset::PM1A_EVENT),
        ("pm1a control", chipset::PM1A_CONTROL),
        ("pm timer", chipset::PM_TIMER),
        ("i8042", chipset::I8042),
    ]
}

#[test]
fn every_table_is_well_formed() {
    for (name, table) in tables() {
        assert!(!table.is_empty(), "{name} is empty");
        for r in table {
            assert!(matches!(r.width, 1 | 2 | 4 | 8), "{name}.{}: width {}", r.name, r.width);
            let mask = r.mask();
            assert_eq!(r.reset & !mask, 0, "{name}.{}: reset wider than the register", r.name);
            assert_eq!(r.writable & !mask, 0, "{name}.{}: writable mask too wide", r.name);
            assert_eq!(r.write_one_to_clear & !mask, 0, "{name}.{}: w1c mask too wide", r.name);
            assert_eq!(r.writable & r.write_one_to_clear, 0, "{name}.{}: masks overlap", r.name);
            assert!(!r.section.is_empty(), "{name}.{}: no section", r.name);
            if r.direction == Direction::ReadOnly {
                assert_eq!(r.writable | r.write_one_to_clear, 0, "{name}.{}", r.name);
            }
            for field in r.fields {
                assert!(field.bits > 0 && field.lsb + field.bits <= r.width * 8, "{}", field.name);
            }
        }
        for (i, a) in table.iter().enumerate() {
            for b in &table[i + 1..] {
                let overlap = a.offset < b.end() && b.offset < a.end();
                let apart = matches!(
                    (a.direction, b.direction),
                    (Direction::ReadOnly, Direction::WriteOnly)
                        | (Direction::WriteOnly, Direction::ReadOnly)
                );
                assert!(!overlap || apart, "{name}: {} overlaps {}", a.name, b.name);
            }
        }
    }
}

#[test]
fn masks_decide_what_a_write_changes() {
    let r = Register::rw(0, "status", 2, "none").writable(0x00F0).w1c(0x0F00);
    assert_eq!(r.written(0x0F0F, 0xFFFF), 0x00FF);
    assert_eq!(r.written(0x0F0F, 0x0100), 0x0E0F);
}

#[test]
fn direction_picks_between_registers_of_one_offset() {
    let read = find(uart16550::REGISTERS, 0, false).map(|r| r.name);
    let write = find(uart16550::REGISTERS, 0, true).map(|r| r.name);
    assert_eq!((read, write), (Some("RBR"), Some("THR")));
    assert_eq!(find(uart16550::REGISTERS, 5, true).map(|r| r.name), Some("LSR"));
    assert_eq!(find(uart16550::REGISTERS, 8, false), None);
}

#[test]
fn a_dword_touches_both_halves() {
    let names: std::vec::Vec<_> = touched(pci::HEADER, 4, 4, false).map(|r| r.name).collect();
    assert_eq!(names, ["command", "status"]);
}

#[test]
fn constants_and_tables_agree() {
    let at = |table: &'static [Register], offset: usize| {
        find(table, offset as u32, false).map(|r| (r.name, r.offset as usize))
    };
    assert_eq!(at(pci::HEADER, pci::COMMAND), Some(("command", pci::COMMAND)));
    assert_eq!(at(pci::HEADER, pci::CAPABILITIES), Some(("capabilities", 0x34)));
    assert_eq!(at(virtio::COMMON, virtio::common::QUEUE_DESC), Some(("queue_desc", 0x20)));
    assert_eq!(at(virtio::COMMON, virtio::common::DEVICE_STATUS), Some(("device_status", 0x14)));
    assert_eq!(at(virtio_blk::CONFIG, virtio_blk::config::BLK_SIZE), Some(("blk_size", 20)));
    assert_eq!(at(uart16550::REGISTERS, 5), Some(("LSR", uart16550::LSR as usize)));
}

#[test]
fn e1000_arrays_are_found_and_belong_to_their_models() {
    use e1000::{BLOCKS, Model, reg, registers::locate};
    for block in BLOCKS {
        let last = block.first + (block.count - 1) * block.stride;
        let found = locate(Model::I82574l, last).expect("the 82574L has every array");
        assert_eq!((found.1, found.2), (0, Some(block.count as u16 - 1)));
        assert_eq!(locate(Model::I82540em, last).is_none(), block.only_82574);
    }
    let name = |model, offset| locate(model, offset).and_then(|(t, o, _)| find(t, o, false));
    assert_eq!(name(Model::I82540em, reg::RAH).map(|r| r.name), Some("RAH"));
    assert_eq!(name(Model::I82540em, reg::IVAR), None);
    assert_eq!(name(Model::I82574l, reg::IVAR).map(|r| r.name), Some("IVAR"));
    // The two layouts of EERD.
    let done = |model| name(model, reg::EERD).map(|r| r.fields[1].lsb);
    assert_eq!((done(Model::I82540em), done(Model::I82574l)), (Some(4), Some(1)));
}

#[test]
fn an_e1000_checksum_is_made_as_it_is_checked() {
    use e1000::nvm;
    let mut words = [0x1234; nvm::WORDS];
    assert!(!nvm::is_valid(&words));
    nvm::seal(&mut words);
    assert!(nvm::is_valid(&words));
}
