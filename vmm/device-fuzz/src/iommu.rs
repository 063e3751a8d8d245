//! A hostile driver of the IOMMU, and devices behind it that do DMA all the while. The IOMMU itself is
//! not recorded: recordings have no such device.

use std::sync::Arc;

use xinim_abi::hw::virtio::{Desc, Status};
use xinim_abi::hw::virtio_iommu::{MSI_START, config, feature};
use xinim_devices::device::Origin;
use xinim_devices::dma::Dma;
use xinim_devices::iommu::Iommu;
use xinim_devices::iommu::device::{faulted, function};
use xinim_devices::iommu::dma::TranslatedDma;
use xinim_devices::irq::NoMsi;
use xinim_devices::net::NoTimer;
use xinim_devices::testing::driver::{Driver, Ring};
use xinim_devices::virtio::VirtioConfig;
use xinim_record::Tape;

use crate::STEPS;
use crate::input::Input;
use crate::stage::Stage;

const ENDPOINTS: [u32; 3] = [0x08, 0x10, 0x18];
const REQUEST: u64 = 0x8000;
const ANSWER: u64 = 0x9000;
const CONFIG: usize = 0x2000;

/// Numbers that requests are likely to mean something with.
fn number(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0 => input.u64(),
        1 => u64::MAX - u64::from(input.byte()),
        2 => MSI_START + u64::from(input.byte()) * 4096,
        3 => u64::from(input.u16()) * 4096 + 4095,
        _ => u64::from(input.byte() % 24) * 4096,
    }
}

/// A working function whose requests, rings and configuration are what `data` says. Bookkeeping stays
/// right, and DMA reaches what is RAM or nothing.
pub fn iommu(stage: &Stage, input: &mut Input<'_>) {
    let memory = stage.memory.clone();
    let tracer = stage.tracer.clone();
    let iommu = Arc::new(Iommu::new(Arc::new(NoTimer), tracer.named("iommu.0")));
    let devices = ENDPOINTS.map(|endpoint| {
        iommu.add_endpoint(endpoint);
        TranslatedDma::new(memory.clone(), iommu.clone(), endpoint)
    });
    let setup =
        VirtioConfig { tracer, ..VirtioConfig::new("iommu.0", memory.clone(), Arc::new(NoMsi)) };
    let Ok(function) = function(iommu.clone(), setup) else { return };
    let mut function = stage.function(function, Tape::off());
    let (mut requests, mut events) = (Ring::new(&memory, 0, 16), Ring::new(&memory, 0x1000, 16));
    let start = |driver: &mut Driver<'_, _>, requests: &Ring, events: &Ring| {
        driver.negotiate(feature::MAP_UNMAP | feature::PROBE | feature::BYPASS_CONFIG);
        driver.enable_queue(0, requests);
        driver.enable_queue(1, events);
        driver.driver_ok();
    };
    start(&mut Driver::new(&mut function), &requests, &events);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0..=3 => {
                let mut request = [0; 80];
                request[0] = input.byte() % 7;
                request[4] = input.byte() % 4;
                request[8] = ENDPOINTS[usize::from(input.byte()) % ENDPOINTS.len()] as u8;
                if matches!(request[0], 3 | 4) {
                    let flags = input.byte() % 5;
                    for (at, value) in [(8, number(input)), (16, number(input))] {
                        request[at..at + 8].copy_from_slice(&value.to_le_bytes());
                    }
                    if request[0] == 3 {
                        let physical = number(input);
                        request[24..32].copy_from_slice(&physical.to_le_bytes());
                        request[32] = flags;
                    }
                }
                let _always_inside = memory.write(REQUEST, &request);
                let (read, written) = (u32::from(input.byte() % 90), input.byte() % 90);
                let read = if read < 60 {
                    [20, 20, 20, 36, 28, 72, 4][usize::from(request[0])]
                } else {
                    read
                };
                let written = if written < 60 { 68 } else { written.into() };
                requests.offer(&[(REQUEST, read, false), (ANSWER, written, true)]);
                Driver::new(&mut function).notify(0);
                requests.completions();
            }
            4 => {
                let desc = Desc {
                    addr: input.address(),
                    len: input.length(),
                    flags: input.u16() % 8,
                    next: input.u16() % 20,
                };
                requests.set_desc(requests.desc, input.u16() % 20, desc);
                requests.offer_head(input.u16() % 20);
                Driver::new(&mut function).notify(0);
                requests.completions();
            }
            5 => {
                events.offer(&[(input.address(), input.length(), true)]);
                faulted(function.device.device_mut(), &Origin::default());
                events.completions();
            }
            6 => {
                let mut driver = Driver::new(&mut function);
                driver.write(CONFIG + config::BYPASS, 1, u64::from(input.byte() % 3));
                if input.byte().is_multiple_of(8) {
                    driver.set_status(Status::empty());
                    (requests, events) =
                        (Ring::new(&memory, 0, 16), Ring::new(&memory, 0x1000, 16));
                    for at in (0..0x2000).step_by(8) {
                        let _always_inside = memory.write(at, &[0; 8]);
                    }
                    start(&mut driver, &requests, &events);
                }
            }
            _ => {
                let device = &devices[usize::from(input.byte()) % devices.len()];
                let (address, write) = (number(input), input.byte().is_multiple_of(2));
                let mut bytes = vec![0; usize::from(input.u16() % 9000)];
                let reached = device.reaches(address, bytes.len() as u64, write);
                // Into the place of requests it writes zeros at most.
                let done = if write {
                    device.write(address, &bytes)
                } else {
                    device.read(address, &mut bytes)
                };
                assert_eq!(reached, done.is_ok(), "{address:#x}+{:#x}", bytes.len());
            }
        }
        assert!(iommu.is_consistent());
    }
}
