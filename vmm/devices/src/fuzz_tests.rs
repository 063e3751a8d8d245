//! A bounded, seeded run of each fuzz harness.

use proptest::collection::vec;
use proptest::prelude::*;

/// Inputs that the coverage-guided target found, kept with it.
#[test]
fn ahci_survives_what_was_found() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/ahci");
    let inputs: Vec<_> = std::fs::read_dir(seeds).expect("seeds").collect();
    assert!(inputs.len() > 100);
    for input in inputs {
        super::ahci(&std::fs::read(input.expect("entry").path()).expect("input"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn virtio_blk_survives_any_input(data in vec(any::<u8>(), 0..2048)) {
        super::virtio_blk(&data);
    }

    #[test]
    fn ahci_survives_any_input(data in vec(any::<u8>(), 0..4096)) {
        super::ahci(&data);
    }

    #[test]
    fn the_iommu_survives_any_input(data in vec(any::<u8>(), 0..2048)) {
        super::iommu(&data);
    }

    #[test]
    fn e1000_survives_any_input(data in vec(any::<u8>(), 0..2048)) {
        super::e1000(&data);
    }

    #[test]
    fn virtio_net_survives_any_input(data in vec(any::<u8>(), 0..2048)) {
        super::virtio_net(&data);
    }

    #[test]
    fn offload_headers_survive_any_input(data in vec(any::<u8>(), 0..512)) {
        super::offloads(&data);
    }

    #[test]
    fn the_bus_survives_any_input(data in vec(any::<u8>(), 0..1024)) {
        super::pci_config(&data);
    }
}
