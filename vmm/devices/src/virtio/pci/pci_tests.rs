use super::*;
use crate::testing::driver::{Driver, Ring};
use crate::testing::{FlatMemory, IrqLog, MemoryDisk, MsiLog};
use crate::virtio::{Block, BlockConfig};
use xinim_abi::hw::virtio::{COMMON, CfgType, NO_VECTOR, common};

fn function() -> (VirtioPci<Block<MemoryDisk>>, Arc<FlatMemory>, Arc<IrqLog>) {
    let (memory, irq) = (FlatMemory::new(0, 0x10000), IrqLog::new());
    let setup = VirtioConfig {
        intx: Some(irq.clone()),
        ..VirtioConfig::new("virtio-blk.0", memory.clone(), MsiLog::new())
    };
    let block = Block::new(MemoryDisk::new(4096), &BlockConfig::default());
    (VirtioPci::new(block, setup).expect("capabilities fit"), memory, irq)
}

fn status(bits: u8) -> Status {
    Status::from_bits_retain(bits)
}

/// Common configuration after reset: the table's reset values, but for what depends on the
/// device.
#[test]
fn common_configuration_starts_as_its_table_says() {
    let (mut function, _, _) = function();
    let mut driver = Driver::new(&mut function);
    for register in COMMON {
        let expected = match register.offset as usize {
            common::NUM_QUEUES => 1,
            common::QUEUE_SIZE => 256,
            common::DEVICE_FEATURE => driver.offered() & 0xFFFF_FFFF,
            _ => register.reset,
        };
        driver.write(common::DEVICE_FEATURE_SELECT, 4, 0);
        let at = register.offset as usize;
        assert_eq!(driver.read(at, register.width), expected, "{}", register.name);
    }
}

/// Every register refuses accesses of another width, and read-only ones refuse writes.
#[test]
fn widths_and_directions_are_checked() {
    let (mut function, _, _) = function();
    for register in COMMON {
        for size in [1u8, 2, 4, 8] {
            let at = u64::from(register.offset);
            let outcome = function.bar_access(REGISTER_BAR, Access::read(at, size));
            let fits = size == register.width || (size == 4 && register.width == 8);
            assert_eq!(outcome.error.is_none(), fits, "{} read by {size}", register.name);
        }
        if register.writable == 0 {
            let access = Access::write(u64::from(register.offset), register.width, 0);
            let outcome = function.bar_access(REGISTER_BAR, access);
            assert_eq!(outcome.error, Some(GuestError::ReadOnly), "{}", register.name);
        }
    }
}

#[test]
fn the_status_protocol_is_strict() {
    let (mut function, _, _) = function();
    let mut driver = Driver::new(&mut function);
    for wrong in [2, 8, 4, 0x10, 0x0C] {
        assert_eq!(driver.set_status(status(wrong)).error, Some(GuestError::BadState));
        assert_eq!(driver.status(), Status::empty(), "{wrong:#x}");
    }
    driver.set_status(status(1));
    driver.set_status(status(3));
    assert_eq!(driver.set_status(status(1)).error, Some(GuestError::BadState), "taken back");
    assert_eq!(driver.set_status(status(11)).error, Some(GuestError::BadValue), "no VERSION_1");
    assert_eq!(driver.status(), status(3));
    assert!(driver.negotiate(0));
    driver.write(common::DRIVER_FEATURE_SELECT, 4, 0);
    let late = driver.write(common::DRIVER_FEATURE, 4, 0);
    assert_eq!(late.error, Some(GuestError::BadState));
    driver.driver_ok();
    assert_eq!(driver.status(), status(15));
    driver.set_status(Status::empty());
    assert_eq!(driver.status(), Status::empty());
}

#[test]
fn features_not_offered_are_refused() {
    let (mut function, _, _) = function();
    let mut driver = Driver::new(&mut function);
    let offered = driver.offered();
    assert_ne!(offered & feature::VERSION_1, 0);
    assert!(!driver.negotiate(feature::RING_PACKED));
    assert!(driver.negotiate(offered));
}

#[test]
fn an_enabled_queue_cannot_be_changed_and_a_bad_one_not_enabled() {
    let (mut function, memory, _) = function();
    let ring = Ring::new(&memory, 0, 16);
    let mut driver = Driver::new(&mut function);
    assert!(driver.negotiate(0));
    for size in [0, 3, 512] {
        let outcome = driver.write(common::QUEUE_SIZE, 2, size);
        assert_eq!(outcome.error, Some(GuestError::BadValue), "{size}");
    }
    driver.write(common::QUEUE_DESC, 8, 8);
    assert_eq!(driver.write(common::QUEUE_ENABLE, 2, 1).error, Some(GuestError::BadValue));
    driver.enable_queue(0, &ring);
    assert_eq!(driver.read(common::QUEUE_ENABLE, 2), 1);
    assert_eq!(driver.read(common::QUEUE_DRIVER, 8), ring.avail);
    assert_eq!(driver.write(common::QUEUE_DESC, 8, 0).error, Some(GuestError::BadState));
    assert_eq!(driver.read(common::QUEUE_DESC, 8), ring.desc);
    driver.write(common::QUEUE_SELECT, 2, 1);
    assert_eq!(driver.read(common::QUEUE_SIZE, 2), 0, "there is no queue 1");
    assert_eq!(driver.write(common::QUEUE_SIZE, 2, 4).error, Some(GuestError::BadQueue));
}

#[test]
fn vectors_that_do_not_exist_read_back_as_none() {
    let (mut function, _, _) = function();
    let mut driver = Driver::new(&mut function);
    driver.write(common::QUEUE_MSIX_VECTOR, 2, 1);
    assert_eq!(driver.read(common::QUEUE_MSIX_VECTOR, 2), 1);
    let outcome = driver.write(common::QUEUE_MSIX_VECTOR, 2, 2);
    assert_eq!(outcome.error, Some(GuestError::BadValue));
    assert_eq!(driver.read(common::QUEUE_MSIX_VECTOR, 2), u64::from(NO_VECTOR));
    driver.write(common::CONFIG_MSIX_VECTOR, 2, 1);
    driver.write(common::CONFIG_MSIX_VECTOR, 2, 99);
    assert_eq!(driver.read(common::CONFIG_MSIX_VECTOR, 2), u64::from(NO_VECTOR));
}

#[test]
fn intx_is_raised_by_use_and_lowered_by_reading_the_isr() {
    let (mut function, memory, irq) = function();
    let mut ring = Ring::new(&memory, 0, 16);
    let mut driver = Driver::new(&mut function);
    assert!(driver.negotiate(0));
    driver.enable_queue(0, &ring);
    driver.driver_ok();
    ring.offer(&[(0x4000, 16, false), (0x5000, 513, true)]);
    driver.notify(0);
    assert!(irq.level());
    assert_eq!(driver.read(ISR_OFFSET as usize, 1), 1);
    assert!(!irq.level());
    assert_eq!(driver.read(ISR_OFFSET as usize, 1), 0);
    driver.config_write(hw::COMMAND, 2, 0x0406);
    ring.offer(&[(0x4000, 16, false), (0x5000, 513, true)]);
    driver.notify(0);
    assert!(!irq.level(), "INTx is disabled");
    driver.config_write(hw::COMMAND, 2, 0x0006);
    assert!(irq.level(), "and comes when it is enabled");
}

/// 4.1.4.5 has a bit for queues and one for the configuration; QEMU sets both for the latter.
#[test]
fn a_configuration_change_sets_its_own_isr_bit_only() {
    for (qemu_dialect, expected) in [(false, 2), (true, 3)] {
        let memory = FlatMemory::new(0, 0x10000);
        let setup = VirtioConfig {
            qemu_dialect,
            ..VirtioConfig::new("virtio-blk.0", memory.clone(), MsiLog::new())
        };
        let block = Block::new(MemoryDisk::new(4096), &BlockConfig::default());
        let mut function = VirtioPci::new(block, setup).expect("capabilities fit");
        let mut driver = Driver::new(&mut function);
        assert!(driver.negotiate(0));
        driver.driver_ok();
        function.device_mut().backend_mut().data.resize(8192, 0);
        function.resized(0, &Origin::default());
        let isr = function.bar_access(REGISTER_BAR, Access::read(ISR_OFFSET, 1));
        assert_eq!(isr.value, expected);
    }
}

#[test]
fn a_ring_in_nowhere_breaks_the_device_until_reset() {
    let (mut function, memory, irq) = function();
    let ring = Ring::new(&memory, 0x8000_0000, 16);
    let mut driver = Driver::new(&mut function);
    assert!(driver.negotiate(0));
    driver.enable_queue(0, &ring);
    driver.driver_ok();
    assert!(matches!(driver.notify(0).error, Some(GuestError::Ring(RingError::Dma(_)))));
    assert_eq!(driver.status(), status(15 | 64));
    assert_eq!(driver.read(ISR_OFFSET as usize, 1), 2);
    assert!(driver.negotiate(0));
    assert!(!irq.level());
    assert_eq!(driver.status(), status(11));
}

#[test]
fn capabilities_lead_to_every_structure() {
    let (mut function, _, _) = function();
    let mut driver = Driver::new(&mut function);
    let control = driver.msix_control();
    let config = function.config();
    assert_eq!(config.get(control, 2) & 0x7FF, 1, "two vectors");
    let mut at = config.get(hw::CAPABILITIES, 1) as usize;
    let mut seen = Vec::new();
    while at != 0 && seen.len() < hw::CAP_LIST_MAX {
        if config.get(at, 1) as u8 == hw::CAP_VENDOR {
            seen.push((config.get(at + 3, 1) as u8, config.get(at + 8, 4)));
        }
        at = config.get(at + 1, 1) as usize;
    }
    let kinds = [
        (CfgType::Common, 0),
        (CfgType::Notify, 0x3000),
        (CfgType::Isr, 0x1000),
        (CfgType::Device, 0x2000),
        (CfgType::PciAccess, 0),
    ];
    assert_eq!(seen, kinds.map(|(kind, offset)| (kind as u8, offset)));
}

#[test]
fn the_configuration_window_reaches_the_bars() {
    let (mut function, _, _) = function();
    let cap = function.access_capability as u64;
    let mut config = |offset: u64, size: u8, write: Option<u64>| {
        let access = match write {
            Some(value) => Access::write(cap + offset, size, value),
            None => Access::read(cap + offset, size),
        };
        function.config_access(access)
    };
    assert_eq!(config(16, 4, None).error, Some(GuestError::BadState), "no length yet");
    config(4, 1, Some(0));
    config(8, 4, Some(common::NUM_QUEUES as u64));
    config(12, 4, Some(2));
    assert_eq!(config(16, 4, None).value, 1);
    config(8, 4, Some(common::DEVICE_STATUS as u64));
    config(12, 4, Some(1));
    config(16, 1, Some(1));
    assert_eq!(config(16, 1, None).value, 1);
    config(8, 4, Some(0xFFFF_FFFC));
    assert_eq!(config(16, 1, None).error, Some(GuestError::BadState));
    config(4, 1, Some(9));
    assert_eq!(config(16, 1, None).error, Some(GuestError::BadState), "no BAR 9");
}

#[test]
fn doorbells_are_where_the_capability_says() {
    let (mut function, _, _) = function();
    assert_eq!(function.doorbells(), [Doorbell { bar: 0, offset: 0x3000, queue: 0 }]);
    let outcome = function.bar_access(0, Access::write(0x3004, 2, 1));
    assert_eq!(outcome.error, Some(GuestError::BadQueue));
    assert_eq!(function.bar_access(0, Access::read(0x3000, 2)).error, Some(GuestError::WriteOnly));
    assert!(!function.notify_queue(9, &Origin::default()));
}

#[test]
fn odd_queue_sizes_of_the_machine_are_rounded() {
    for (asked, expected) in [(0, 2), (100, 64), (256, 256), (1024, 1024), (5000, 1024)] {
        let memory = FlatMemory::new(0, 4096);
        let setup = VirtioConfig {
            queue_size: asked,
            ..VirtioConfig::new("virtio-blk.0", memory, MsiLog::new())
        };
        let block = Block::new(MemoryDisk::new(512), &BlockConfig::default());
        let mut function = VirtioPci::new(block, setup).expect("capabilities fit");
        assert_eq!(Driver::new(&mut function).read(common::QUEUE_SIZE, 2), expected, "{asked}");
    }
}
