use super::*;
use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_driver_kit::pci::CAPABILITY_MAX;
use xinim_driver_kit::testing::FakeMmio;

struct Function {
    capabilities: Vec<[u8; CAPABILITY_MAX]>,
    bar_len: usize,
}

impl PciFunction for Function {
    type Mmio = FakeMmio;
    fn capability(&self, id: u8, index: usize) -> Result<Option<Capability>> {
        assert_eq!(id, CAP_VENDOR);
        Ok(self.capabilities.get(index).map(|&bytes| Capability { offset: 0x40, bytes }))
    }
    fn bar(&self, index: u8) -> Result<FakeMmio> {
        assert!(index < 6);
        if index == 5 { Err(Error::NoEnt) } else { Ok(FakeMmio::new(self.bar_len)) }
    }
    fn enable(&self, _bus_master: bool) -> Result<()> {
        Ok(())
    }
    fn reset_done(&self) -> Result<()> {
        Ok(())
    }
}

fn capability(kind: u8, bar: u8, offset: u32, length: u32) -> [u8; CAPABILITY_MAX] {
    let mut bytes = [0; CAPABILITY_MAX];
    bytes[..5].copy_from_slice(&[9, 0, 20, kind, bar]);
    bytes[8..12].copy_from_slice(&offset.to_le_bytes());
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    bytes[16..20].copy_from_slice(&4u32.to_le_bytes());
    bytes
}

fn outcome(capabilities: Vec<[u8; CAPABILITY_MAX]>) -> core::result::Result<(), StartError> {
    discover(&Function { capabilities, bar_len: 0x4000 }).map(|_| ())
}

#[test]
fn the_first_of_each_type_is_taken() {
    let function = Function {
        capabilities: std::vec![
            capability(77, 0, 0, 0),
            capability(1, 9, 0, 0x38),
            capability(1, 4, 0x100, 0x38),
            capability(1, 4, 0x200, 0x38),
            capability(2, 4, 0x3000, 0x1000),
            capability(4, 1, 0x2000, 0x40),
        ],
        bar_len: 0x4000,
    };
    let found = discover(&function).map_err(|e| std::format!("{e}")).unwrap();
    assert_eq!(found.notify_multiplier, 4);
    assert!(found.device.is_some());
}

#[test]
fn structures_must_be_there_and_lie_in_their_bar() {
    let good = capability(1, 4, 0, 0x38);
    let notify = capability(2, 4, 0x3000, 0x1000);
    assert_eq!(outcome(std::vec![good, notify]), Ok(()));
    let bad = |name| Err(StartError::Device(DeviceError::Layout(name)));
    assert_eq!(outcome(std::vec![notify]), bad("common"));
    assert_eq!(outcome(std::vec![good]), bad("notify"));
    assert_eq!(outcome(std::vec![capability(1, 4, 0, 0x37), notify]), bad("common"));
    assert_eq!(outcome(std::vec![capability(1, 4, 2, 0x38), notify]), bad("common"));
    assert_eq!(outcome(std::vec![capability(1, 4, 0x3FFC, 0x38), notify]), bad("common"));
    assert_eq!(outcome(std::vec![good, capability(2, 4, 0xFFFF_FFFC, 0x1000)]), bad("notify"));
    assert_eq!(
        outcome(std::vec![good, capability(2, 5, 0, 0x1000)]),
        Err(StartError::System(Error::NoEnt))
    );
}

proptest! {
    #[test]
    fn any_capabilities_are_answered(
        bytes in prop::collection::vec(any::<[u8; CAPABILITY_MAX]>(), 0..20)
    ) {
        let _ = outcome(bytes);
    }
}
