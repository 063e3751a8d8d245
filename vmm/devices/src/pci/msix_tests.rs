use super::*;
use crate::testing::MsiLog;
use xinim_abi::hw::pci::MSIX_ENTRY;

fn setup() -> (Msix, Arc<MsiLog>) {
    let log = MsiLog::new();
    (Msix::new(3, log.clone(), Tracer::off()), log)
}

fn program(msix: &mut Msix, vector: u64, data: u64, masked: u64) {
    let at = vector * 16;
    for (offset, value) in [(0, 0xFEE0_1000), (4, 0), (8, data), (12, masked)] {
        assert!(msix.access(Access::write(at + offset, 4, value)).error.is_none());
    }
}

const ON: u16 = msix::CONTROL_ENABLE;

#[test]
fn entries_obey_their_table() {
    for register in MSIX_ENTRY {
        let (mut msix, _) = setup();
        let at = 16 + u64::from(register.offset);
        assert_eq!(msix.access(Access::read(at, 4)).value, register.reset, "{}", register.name);
        msix.access(Access::write(at, 4, 0xFFFF_FFFF));
        let expected = register.written(register.reset, 0xFFFF_FFFF);
        assert_eq!(msix.access(Access::read(at, 4)).value, expected, "{}", register.name);
    }
}

#[test]
fn an_unmasked_vector_is_delivered() {
    let (mut msix, log) = setup();
    msix.control(ON, true, &Origin::default());
    program(&mut msix, 1, 0x4123, 0);
    msix.signal(1, &Origin::default());
    assert_eq!(log.take(), [(1, MsiMessage { address: 0xFEE0_1000, data: 0x4123 })]);
    msix.signal(7, &Origin::default());
    assert_eq!(log.take(), [], "no such vector");
}

#[test]
fn a_masked_vector_waits_in_the_pending_bits() {
    let (mut msix, log) = setup();
    msix.control(ON, true, &Origin::default());
    program(&mut msix, 2, 5, 1);
    msix.signal(2, &Origin::default());
    msix.signal(2, &Origin::default());
    assert_eq!(log.take(), []);
    assert_eq!(msix.access(Access::read(PBA_OFFSET, 8)).value, 0b100);
    msix.access(Access::write(2 * 16 + 12, 4, 0));
    assert_eq!(log.take().len(), 1, "once, however often it was raised");
    assert_eq!(msix.access(Access::read(PBA_OFFSET, 4)).value, 0);
}

#[test]
fn the_function_mask_and_bus_mastering_hold_vectors_back() {
    let (mut msix, log) = setup();
    program(&mut msix, 0, 5, 0);
    msix.signal(0, &Origin::default());
    msix.control(ON, true, &Origin::default());
    assert_eq!(log.take(), [], "raised while MSI-X was off: lost");
    msix.control(ON | msix::CONTROL_FUNCTION_MASK, true, &Origin::default());
    msix.signal(0, &Origin::default());
    msix.control(ON, false, &Origin::default());
    assert_eq!(log.take(), []);
    msix.control(ON, true, &Origin::default());
    assert_eq!(log.take().len(), 1);
}

#[test]
fn the_sink_learns_each_change_of_a_route_once() {
    let (mut msix, log) = setup();
    program(&mut msix, 1, 0x77, 0);
    log.take_routes();
    msix.control(ON, true, &Origin::default());
    let routes = log.take_routes();
    let message = MsiMessage { address: 0xFEE0_1000, data: 0x77 };
    assert!(routes.contains(&(1, MsiRoute { message, masked: false })), "{routes:?}");
    msix.control(ON, true, &Origin::default());
    msix.access(Access::write(16 + 8, 4, 0x77));
    assert_eq!(log.take_routes(), []);
    msix.access(Access::write(16 + 12, 4, 1));
    assert_eq!(log.take_routes(), [(1, MsiRoute { message, masked: true })]);
}

#[test]
fn quadwords_are_two_dwords_and_bytes_are_refused() {
    let (mut msix, _) = setup();
    msix.access(Access::write(8, 8, 0x0000_0000_0000_0042));
    assert_eq!(msix.access(Access::read(8, 8)).value, 0x42);
    assert_eq!(msix.access(Access::read(8, 1)).error, Some(GuestError::BadSize));
    assert_eq!(msix.access(Access::read(4, 8)).error, Some(GuestError::Unaligned));
    assert_eq!(msix.access(Access::read(48, 4)).error, Some(GuestError::NoRegister));
    assert_eq!(msix.access(Access::write(PBA_OFFSET, 4, 1)).error, Some(GuestError::ReadOnly));
}
