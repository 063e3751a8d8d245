//! The AHCI driver's logic against our AHCI model under random mixes of requests and failures, registers
//! that lie, and any state to start from.

use std::collections::BTreeMap;

use proptest::prelude::*;
use xinim_abi::error::Error;
use xinim_abi::hw::ahci as hw;
use xinim_ahci::Hba;
use xinim_block_service::{BlockDevice, Completion, Request};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Mmio, SharedMemory};
use xinim_tests::ahci::{FIRST, SECOND, SECTORS, clock_ms, interrupt, rig, settle, submit, works};

const BUFFERS: usize = 80;

#[derive(Clone, Debug)]
enum Step {
    Submit {
        port: u32,
        write: bool,
        sector: u64,
        sectors: usize,
    },
    Flush(u32),
    Kick,
    Finish(u32, usize),
    Poll,
    Interrupt,
    /// The next request that the disk carries out fails.
    Fail(u32, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let port = || prop_oneof![Just(FIRST), Just(SECOND)];
    let step = prop_oneof![
        10 => (port(), any::<bool>(), 0..SECTORS as u64, 1usize..=32).prop_map(
            |(port, write, sector, sectors)| Step::Submit { port, write, sector, sectors }),
        1 => port().prop_map(Step::Flush),
        4 => Just(Step::Kick),
        6 => (port(), 0usize..40).prop_map(|(port, index)| Step::Finish(port, index)),
        3 => Just(Step::Poll),
        2 => Just(Step::Interrupt),
        1 => (port(), 0usize..40).prop_map(|(port, index)| Step::Fail(port, index)),
    ];
    prop::collection::vec(step, 1..250)
}

/// What a test knows of a request in flight.
struct Pending {
    port: u32,
    write: bool,
    sector: u64,
    data: Vec<u8>,
    buffer: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any mix on two drives, any order of completion, queued or not, commands that fail now and then:
    /// every request ends once; where it ends well, the drive holds what was written and the memory
    /// what was read.
    #[test]
    fn every_mix_ends(steps in steps(), queuing: bool) {
        let rig = rig();
        let clock = FakeClock::default();
        rig.machine.lie((!queuing).then(|| -> Box<dyn FnMut(u64, u64) -> u64> {
            Box::new(|offset, value| match offset {
                0 => value & !u64::from(hw::Cap::SNCQ.bits()),
                _ => value,
            })
        }));
        let mut hba = rig.start(&clock);
        for port in [FIRST, SECOND] {
            rig.disk(port).held = true;
        }
        let mut expected: BTreeMap<u32, Vec<u8>> =
            [FIRST, SECOND].map(|port| (port, rig.disk(port).data.clone())).into();
        let buffers: Vec<_> = (0..BUFFERS).map(|_| rig.buffer()).collect();
        let mut free: Vec<usize> = (0..BUFFERS).collect();
        let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
        let mut done = Vec::new();
        let mut cookie = 0u64;
        let finish = |done: &mut Vec<Completion>,
                          pending: &mut BTreeMap<u64, Pending>,
                          free: &mut Vec<usize>,
                          expected: &mut BTreeMap<u32, Vec<u8>>| {
            for completion in done.drain(..) {
                let request = pending.remove(&completion.cookie).expect("completed twice");
                free.push(request.buffer);
                let range = request.sector as usize * 512..request.sector as usize * 512
                    + request.data.len();
                match completion.result {
                    Ok(()) if request.write => {}
                    Ok(()) => {
                        let mut seen = vec![0; request.data.len()];
                        buffers[request.buffer].read_bytes(0, &mut seen);
                        assert_eq!(seen, request.data);
                    }
                    // Written or not: what the drive says now is what it is.
                    Err(Error::Io) if request.write && !request.data.is_empty() => {
                        let now = rig.disk(request.port).data[range.clone()].to_vec();
                        expected.get_mut(&request.port).unwrap()[range].copy_from_slice(&now);
                    }
                    Err(error) => assert_eq!(error, Error::Io),
                }
            }
        };
        for step in steps {
            match step {
                Step::Submit { port, write, sector, sectors } => {
                    let sectors = sectors.min(SECTORS - sector as usize);
                    let end = sector + sectors as u64;
                    let clash = pending.values().any(|p| {
                        let p_end = p.sector + (p.data.len() / 512) as u64;
                        p.port == port && (write || p.write) && p.sector < end && sector < p_end
                    });
                    if clash {
                        continue;
                    }
                    let Some(buffer) = free.pop() else { continue };
                    let range = sector as usize * 512..end as usize * 512;
                    let bytes = (sectors * 512) as u32;
                    let mut data = expected[&port][range.clone()].to_vec();
                    if write {
                        data.fill((cookie as u8).wrapping_mul(31).wrapping_add(1));
                        buffers[buffer].write_bytes(0, &data);
                    }
                    let request =
                        if write { Request::write(sector, bytes) } else { Request::read(sector, bytes) };
                    match submit(&mut hba, port, request, &buffers[buffer], cookie) {
                        Ok(()) => {
                            if write {
                                expected.get_mut(&port).unwrap()[range].copy_from_slice(&data);
                            }
                            pending.insert(cookie, Pending { port, write, sector, data, buffer });
                        }
                        Err(error) => {
                            prop_assert_eq!(error, Error::Again);
                            free.push(buffer);
                        }
                    }
                    cookie += 1;
                }
                Step::Flush(port) => {
                    let Some(buffer) = free.pop() else { continue };
                    match submit(&mut hba, port, Request::flush(), &buffers[buffer], cookie) {
                        Ok(()) => {
                            let data = Vec::new();
                            let flush = Pending { port, write: true, sector: 0, data, buffer };
                            pending.insert(cookie, flush);
                        }
                        Err(_) => free.push(buffer),
                    }
                    cookie += 1;
                }
                Step::Kick => hba.kick(),
                Step::Finish(port, index) => {
                    rig.finish(port, index);
                }
                Step::Fail(port, index) => {
                    rig.disk(port).failing = true;
                    rig.finish(port, index);
                    rig.disk(port).failing = false;
                    // The host ends what the drive has given up, or the port never stops.
                    while rig.finish(port, 0) {}
                }
                Step::Poll => hba.poll(&mut done).unwrap(),
                Step::Interrupt => interrupt(&mut hba, &mut done),
            }
            finish(&mut done, &mut pending, &mut free, &mut expected);
        }
        for port in [FIRST, SECOND] {
            rig.disk(port).held = false;
            while rig.finish(port, 0) {}
        }
        done = settle(&mut hba, &rig, &clock);
        finish(&mut done, &mut pending, &mut free, &mut expected);
        prop_assert!(pending.is_empty(), "{} lost", pending.len());
        for (port, expected) in &expected {
            prop_assert!(&rig.disk(*port).data == expected, "port {port}");
            prop_assert_eq!(rig.disk(*port).violations, 0);
        }
        rig.machine.lie(None);
    }

    /// Registers that read as anything: an error or a working driver, never a panic or a hang.
    #[test]
    fn lies_in_registers_are_survived(
        lies in prop::collection::vec(prop::option::weighted(0.1, any::<u64>()), 1..80)
    ) {
        let (rig, clock) = (rig(), FakeClock::default());
        let mut lies = lies.into_iter().cycle();
        let mut reads = 0;
        rig.machine.lie(Some(Box::new(move |_, value| {
            reads += 1;
            lies.next().flatten().filter(|_| reads < 2000).unwrap_or(value)
        })));
        let function = rig.machine.fresh_function();
        let started = Hba::start(&function, rig.machine.ram.clone(), &clock);
        prop_assert!(clock_ms(&clock) < 120_000, "waited {} ms", clock_ms(&clock));
        if let Ok(mut hba) = started {
            let buffer = rig.buffer();
            let _ = submit(&mut hba, FIRST, Request::read(0, 4096), &buffer, 1);
            let mut done = Vec::new();
            for _ in 0..50 {
                hba.kick();
                if hba.poll(&mut done).is_err() {
                    break;
                }
                hba.arm();
                clock.advance(1_000_000_000);
                hba.attend();
                rig.work();
            }
            prop_assert!(done.len() <= 1);
        }
        rig.machine.lie(None);
        let mut hba = rig.start(&clock);
        works(&mut hba, &rig, &clock, FIRST);
    }

    /// Whatever was written to the registers before, the driver takes the HBA over.
    #[test]
    fn starts_from_any_state(writes in prop::collection::vec(
        (0usize..hw::abar_size(6) / 4, any::<u32>()), 0..80))
    {
        let (rig, clock) = (rig(), FakeClock::default());
        let registers = rig.machine.fresh_function().bar(hw::ABAR).unwrap();
        for (register, value) in writes {
            registers.write32(4 * register, value);
        }
        rig.work();
        let mut hba = rig.start(&clock);
        works(&mut hba, &rig, &clock, FIRST);
        works(&mut hba, &rig, &clock, SECOND);
    }
}
