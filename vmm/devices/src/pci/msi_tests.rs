use super::*;
use crate::device::Access;
use crate::pci::Identity;
use crate::testing::MsiLog;

fn setup() -> (ConfigSpace, Msi, Arc<MsiLog>) {
    let log = MsiLog::new();
    let mut config = ConfigSpace::new(&Identity {
        vendor: 1,
        device: 2,
        revision: 0,
        class: [1, 6, 1],
        subsystem_vendor: 0,
        subsystem: 0,
        interrupt_pin: 1,
    });
    let msi = Msi::new(&mut config, 0x80, log.clone(), Tracer::off()).unwrap();
    (config, msi, log)
}

fn program(config: &mut ConfigSpace, control: u64) {
    config.access(Access::write(0x84, 4, 0xFEE0_1000));
    config.access(Access::write(0x8C, 2, 0x4123));
    config.access(Access::write(0x82, 2, control));
}

const MESSAGE: MsiMessage = MsiMessage { address: 0xFEE0_1000, data: 0x4123 };

#[test]
fn a_message_needs_msi_and_bus_mastering() {
    let (mut config, mut msi, log) = setup();
    let raise = |config: &ConfigSpace, msi: &mut Msi| {
        msi.update(config);
        msi.signal(config, &Origin::default());
        log.take()
    };
    assert_eq!(raise(&config, &mut msi), []);
    program(&mut config, 1);
    assert_eq!(raise(&config, &mut msi), [], "no bus master");
    config.access(Access::write(4, 2, 6));
    assert_eq!(raise(&config, &mut msi), [(0, MESSAGE)]);
    program(&mut config, 0);
    assert_eq!(raise(&config, &mut msi), []);
}

#[test]
fn the_sink_learns_each_change_once() {
    let (mut config, mut msi, log) = setup();
    msi.update(&config);
    assert_eq!(log.take_routes().len(), 1);
    program(&mut config, 1);
    msi.update(&config);
    msi.update(&config);
    assert_eq!(log.take_routes(), [(0, MsiRoute { message: MESSAGE, masked: false })]);
}

#[test]
fn the_capability_obeys_its_table() {
    for register in pci::MSI_CAPABILITY.iter().skip(2) {
        let (mut config, ..) = setup();
        let at = 0x80 + u64::from(register.offset);
        assert_eq!(config.access(Access::read(at, register.width)).value, register.reset);
        config.access(Access::write(at, register.width, register.mask()));
        let expected = register.written(register.reset, register.mask());
        let now = config.access(Access::read(at, register.width)).value;
        assert_eq!(now, expected, "{}", register.name);
    }
}
