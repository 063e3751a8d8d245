//! The virtio-iommu driver's logic against our model, in one process: what is granted is reached and
//! nothing else, in whatever order grants come and go, and over a restart of the driver.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use xinim_abi::hw::virtio_iommu::{Fault, fault};
use xinim_devices::device::Origin;
use xinim_devices::dma::Dma as _;
use xinim_devices::iommu::Iommu as Model;
use xinim_devices::iommu::device::{IommuPci, faulted, function};
use xinim_devices::iommu::dma::TranslatedDma;
use xinim_devices::net::NoTimer;
use xinim_devices::testing::{FlatMemory, MsiLog};
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::VirtioConfig;
use xinim_driver_kit::testing::FakeClock;
use xinim_tests::pair::{BarMmio, Machine, RamBuffer, ram};
use xinim_virtio::{DeviceError, StartError};
use xinim_virtio_iommu::{Iommu, Range};

/// Endpoints: 00:03.0 and 00:04.0.
const DISK: u32 = 0x18;
const CARD: u32 = 0x20;
const PAGE: u64 = 4096;
/// Where the machine's RAM begins.
const BASE: u64 = 0x10_0000;
const PAGES: usize = 512;

struct Rig {
    machine: Machine,
    memory: Arc<FlatMemory>,
    model: Arc<Model>,
    function: Arc<Mutex<IommuPci>>,
    clock: FakeClock,
}

type Driver<'a> = Iommu<BarMmio, RamBuffer, &'a FakeClock>;

impl Rig {
    fn new() -> Self {
        let memory = ram(PAGES);
        let model = Arc::new(Model::new(Arc::new(NoTimer), Tracer::off()));
        model.add_endpoint(DISK);
        model.add_endpoint(CARD);
        let setup = VirtioConfig::new("virtio-iommu.0", memory.clone(), MsiLog::new());
        let function = Arc::new(Mutex::new(function(model.clone(), setup).unwrap()));
        let machine = Machine::new(&memory, function.clone());
        Self { machine, memory, model, function, clock: FakeClock::default() }
    }

    fn start(&self) -> Driver<'_> {
        self.try_start().unwrap()
    }

    fn try_start(&self) -> Result<Driver<'_>, StartError> {
        let function = self.machine.fresh_function();
        Iommu::start(&function, &self.machine.ram, &self.clock, Some(0))
    }

    fn reaches(&self, endpoint: u32, page: u64) -> bool {
        let memory = self.memory.clone();
        let dma = TranslatedDma::new(memory, self.model.clone(), endpoint);
        dma.reaches(BASE + page * PAGE, PAGE, true) && dma.reaches(BASE + page * PAGE, PAGE, false)
    }
}

fn pages(first: u64, count: u64) -> Range {
    Range { address: BASE + first * PAGE, bytes: count * PAGE }
}

#[test]
fn each_device_reaches_its_own_memory_only() {
    let rig = Rig::new();
    let mut driver = rig.start();
    assert!(rig.reaches(DISK, 100), "nothing is enforced yet");
    driver.allow(DISK, [pages(100, 4)]).unwrap();
    driver.enforce();
    assert!((100..104).all(|page| rig.reaches(DISK, page)));
    assert!(!rig.reaches(DISK, 99) && !rig.reaches(DISK, 104) && !rig.reaches(DISK, 0));
    assert!(!rig.reaches(CARD, 100), "it was given nothing");
    driver.allow(CARD, [pages(104, 1)]).unwrap();
    assert!(rig.reaches(CARD, 104) && !rig.reaches(CARD, 100) && !rig.reaches(DISK, 104));
    driver.allow(DISK, []).unwrap();
    assert!((0..PAGES as u64).all(|page| !rig.reaches(DISK, page)));
    assert_eq!((driver.mapped(DISK), driver.mapped(CARD)), (0, 1));
}

#[test]
fn more_grants_than_the_queue_takes_at_once() {
    let rig = Rig::new();
    let mut driver = rig.start();
    let every_other = |from: u64| (0..200).map(move |i| pages(from + 2 * i, 1));
    driver.allow(DISK, every_other(0)).unwrap();
    driver.enforce();
    assert!((0..400).all(|page| rig.reaches(DISK, page) == page.is_multiple_of(2)));
    driver.allow(DISK, every_other(1)).unwrap();
    assert!((0..400).all(|page| rig.reaches(DISK, page) != page.is_multiple_of(2)));
}

#[test]
fn a_driver_that_starts_again_keeps_devices_working_until_it_knows() {
    let rig = Rig::new();
    let mut driver = rig.start();
    driver.allow(DISK, [pages(100, 1)]).unwrap();
    driver.enforce();
    assert!(!rig.reaches(CARD, 7));
    drop(driver);
    let mut driver = rig.start();
    assert_eq!(rig.machine.resets(), 2);
    assert!(rig.reaches(DISK, 100), "requests in flight are not lost");
    driver.allow(DISK, [pages(100, 1)]).unwrap();
    driver.enforce();
    assert!(rig.reaches(DISK, 100) && !rig.reaches(DISK, 101) && !rig.reaches(CARD, 7));
}

#[test]
fn refusals_are_reported() {
    let rig = Rig::new();
    let mut driver = rig.start();
    driver.allow(DISK, [pages(100, 1)]).unwrap();
    driver.enforce();
    let dma = TranslatedDma::new(rig.memory.clone(), rig.model.clone(), DISK);
    for index in 0..40 {
        assert!(dma.write(BASE + index * PAGE, &[1]).is_err());
        if index % 10 == 9 {
            faulted(&mut rig.function.lock().unwrap(), &Origin::default());
        }
    }
    let mut seen = Vec::new();
    for _ in 0..8 {
        driver.faults(|fault| seen.push(*fault)).unwrap();
        faulted(&mut rig.function.lock().unwrap(), &Origin::default());
    }
    let addresses: Vec<u64> = seen.iter().map(|fault| fault.address).collect();
    assert_eq!(addresses, (0..40).map(|i| BASE + i * PAGE).collect::<Vec<_>>());
    let expected = Fault {
        reason: fault::MAPPING,
        flags: fault::ADDRESS | fault::WRITE,
        endpoint: DISK,
        address: BASE,
        ..Fault::default()
    };
    assert_eq!(seen[0], expected);
}

#[test]
fn a_device_that_does_not_answer_is_given_up() {
    let rig = Rig::new();
    let mut driver = rig.start();
    rig.machine.defer_doorbells(true);
    assert_eq!(driver.allow(DISK, [pages(1, 1)]), Err(DeviceError::TimedOut));
    // It started with what it knows; the next instance does.
    rig.machine.defer_doorbells(false);
    let mut driver = rig.start();
    driver.allow(DISK, [pages(1, 1)]).unwrap();
}

#[test]
fn a_request_that_fails_is_an_error() {
    let rig = Rig::new();
    let mut driver = rig.start();
    let nobody = 0x99;
    assert_eq!(driver.allow(nobody, [pages(1, 1)]), Err(DeviceError::Answer(6)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever grants come and go, of both devices, with restarts in between.
    #[test]
    fn grants_and_nothing_else(
        steps in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((200u64..240, 1u64..6), 0..6), 0..12u8), 1..12,
        )
    ) {
        let rig = Rig::new();
        let mut driver = rig.start();
        driver.enforce();
        let mut granted = [vec![], vec![]];
        for (card, grants, restart) in steps {
            let grants: Vec<Range> =
                grants.into_iter().map(|(first, count)| pages(first, count)).collect();
            granted[usize::from(card)] = grants;
            if restart == 0 {
                drop(driver);
                driver = rig.start();
                driver.enforce();
            }
            for (endpoint, ranges) in [DISK, CARD].into_iter().zip(&granted) {
                driver.allow(endpoint, ranges.iter().copied()).unwrap();
            }
            for (endpoint, ranges) in [DISK, CARD].into_iter().zip(&granted) {
                for page in 195..250 {
                    let at = BASE + page * PAGE;
                    let inside = |r: &Range| (r.address..r.address + r.bytes).contains(&at);
                    prop_assert_eq!(rig.reaches(endpoint, page), ranges.iter().any(inside));
                }
            }
        }
    }

    /// Registers that read as anything never make it panic or wait for ever.
    #[test]
    fn lies_end_in_errors(seed: u64) {
        let rig = Rig::new();
        let mut state = seed | 1;
        rig.machine.lie(Some(Box::new(move |_, value| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state % 4 == 0 { state >> 8 } else { value }
        })));
        if let Ok(mut driver) = rig.try_start() {
            let _ = driver.allow(DISK, [pages(1, 1)]);
            driver.enforce();
            let _ = driver.faults(|_| {});
        }
    }
}
