//! A bounded, seeded run of each fuzz harness, and what was found before, as inputs and recordings.

use std::fs::File;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use xinim_devices::device::Access;
use xinim_devices::dma::Dma;
use xinim_devices::pci::PciDevice;
use xinim_devices::virtio::{Console, VirtioConfig, VirtioPci};
use xinim_record::{Call, Kind, replay};

use crate::findings::play;
use crate::input::Input;
use crate::stage::Stage;

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

/// Recordings of what was found, each of them mended.
#[test]
fn findings_are_replayed_bit_for_bit() {
    let kept = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/findings"));
    let mut devices = 0;
    for entry in kept.read_dir().expect("findings") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "rec") {
            continue;
        }
        let outcomes = replay(File::open(&path).expect("recording"), None).expect("sound");
        for outcome in outcomes {
            assert_eq!(outcome.difference, None, "{} of {}", outcome.device, path.display());
            devices += 1;
        }
    }
    assert!(devices > 0, "there are no recordings");
}

/// A console, and in the middle of a call something that should not be.
fn broken(stage: &Stage, input: &mut Input<'_>) {
    let tape = stage.tape("virtio-console.0", Kind::Console { queue_size: 16 });
    let setup = VirtioConfig {
        queue_size: 16,
        tracer: stage.tracer.clone(),
        ..VirtioConfig::new("virtio-console.0", stage.dma(&tape), stage.msi(&tape))
    };
    let stream = xinim_devices::backend::NullStream;
    let console = VirtioPci::new(Console::new(stream), setup).expect("console");
    let mut console = stage.function(console, tape.clone());
    console.bar_access(0, Access::write(0x14, 1, u64::from(input.byte())));
    console.bar_access(0, Access::read(0x14, 1));
    console.device.run(Call::Notify { queue: 1 }, |_| {
        let asked = stage.dma(&tape).read(0x100, &mut [0; 4]);
        panic!("the device is broken: {asked:?}");
    });
}

#[test]
fn a_finding_is_a_recording_up_to_what_went_wrong() {
    let played = play(broken, &[1]).expect("stage");
    assert!(played.failure.is_some());
    // The model asks for nothing here; the recording says that it did, in the call that broke.
    let outcomes = replay(&played.recording[..], None).expect("recording");
    let [outcome] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(outcome.cut_off && outcome.calls == 2, "{outcome:?}");
    let difference = outcome.difference.as_deref().expect("a difference");
    assert!(difference.contains("Notify") && difference.contains("did not ask"), "{difference}");
}

/// What a device does not do the same again is a finding, too.
#[test]
fn a_device_that_is_not_repeatable_is_found() {
    fn unrepeatable(stage: &Stage, _: &mut Input<'_>) {
        let tape = stage.tape("virtio-console.0", Kind::Console { queue_size: 16 });
        let setup = VirtioConfig::new("virtio-console.0", stage.dma(&tape), stage.msi(&tape));
        let stream = xinim_devices::backend::NullStream;
        // It is made with another size of queues than the recording says.
        let console = VirtioPci::new(Console::new(stream), setup).expect("console");
        let mut console = stage.function(console, tape);
        console.bar_access(0, Access::read(0x18, 2));
    }
    let played = play(unrepeatable, &[]).expect("stage");
    let failure = played.failure.expect("a failure");
    let words = failure.downcast_ref::<String>().expect("words");
    assert!(words.contains("virtio-console.0 is not repeatable"), "{words}");
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
