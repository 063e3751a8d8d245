//! The whole request path of the AHCI driver in one process, with clients at several units that come
//! and go.

use std::sync::{Arc, Mutex};

use xinim_abi::error::Error;
use xinim_abi::services::block::{DATA_OFFSET, identity, op};
use xinim_ahci::Hba;
use xinim_block_service::BlockDevice;
use xinim_block_service::service::Service;
use xinim_devices::ahci::{Ahci, AhciConfig};
use xinim_devices::backend::{Drive, DriveBays, Medium};
use xinim_devices::testing::{MemoryDisk, MsiLog};
use xinim_driver_kit::SharedMemory;
use xinim_driver_kit::testing::FakeClock;
use xinim_tests::block::{Client, TestService, Told, pump};
use xinim_tests::pair::{BarMmio, Machine, RamDma, ram};

const SECTORS: usize = 512;

type HbaService<'a> = TestService<Hba<BarMmio, RamDma, &'a FakeClock>>;
type SharedDisk = Arc<Mutex<MemoryDisk>>;

struct Rig {
    machine: Machine,
    model: Arc<Mutex<Ahci>>,
    disks: [SharedDisk; 2],
}

fn drive(disk: &SharedDisk, serial: &str) -> Drive {
    let backend = Some(Box::new(Arc::clone(disk)) as _);
    Drive { backend, medium: Medium::Disk, serial: serial.into() }
}

fn rig() -> Rig {
    let memory = ram(8192);
    let mut hba =
        Ahci::new(AhciConfig::new("ahci.0", memory.clone(), MsiLog::new())).expect("an HBA");
    let disks = [1u8, 2].map(|fill| {
        let disk = MemoryDisk { data: vec![fill; SECTORS * 512], ..MemoryDisk::default() };
        Arc::new(Mutex::new(disk))
    });
    for (port, disk) in disks.iter().enumerate() {
        hba.install(port as u16, drive(disk, &format!("DISK{port}")), None).unwrap();
    }
    let model = Arc::new(Mutex::new(hba));
    Rig { machine: Machine::new(&memory, model.clone()), model, disks }
}

impl Rig {
    fn service<'a>(&self, clock: &'a FakeClock) -> HbaService<'a> {
        let function = self.machine.fresh_function();
        Service::new(Hba::start(&function, self.machine.ram.clone(), clock).unwrap(), 0)
    }
}

/// Pumps while time passes.
fn settle(service: &mut HbaService<'_>, clock: &FakeClock) {
    for _ in 0..20 {
        pump(service);
        clock.advance(5_000_000);
        service.device_mut().attend();
    }
}

#[test]
fn each_client_has_its_unit() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let units = service.units();
    assert_eq!(units.present, 0b11);
    assert_eq!(service.identity(1, identity::SERIAL).unwrap().text.as_str(), "DISK1");
    assert_eq!(service.identity(1, 9), Err(Error::Inval));
    assert_eq!(service.info(2), Err(Error::NxIo));
    let mut clients = [Client::new(&rig.machine), Client::new(&rig.machine)];
    for (unit, client) in clients.iter_mut().enumerate() {
        client.attach(7, unit as u32, &mut service);
        client.request(unit as u64, op::READ, 3, 0, 1024);
    }
    pump(&mut service);
    for (unit, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.completions(), [(unit as u64, 0)]);
        let mut seen = [0; 1024];
        client.memory.read_bytes(DATA_OFFSET, &mut seen);
        assert_eq!(seen, [unit as u8 + 1; 1024]);
        let reads = service.statistics(unit as u32, op::READ).unwrap();
        assert_eq!((reads.requests, reads.bytes), (1, 1024));
    }
    // The same process at both units: giving one up leaves the other.
    service.detach(7, 0);
    assert_eq!(service.clients(), 1);
    clients[1].request(5, op::FLUSH, 0, 0, 0);
    pump(&mut service);
    assert_eq!(clients[1].completions(), [(5, 0)]);
}

#[test]
fn a_unit_torn_away_ends_its_clients_requests_and_tells_them() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let (mut first, mut second) = (Client::new(&rig.machine), Client::new(&rig.machine));
    first.attach(1, 0, &mut service);
    second.attach(2, 1, &mut service);
    let told = Told::default();
    let before = service.subscribe(3, told.clone()).unwrap();
    assert_eq!(before, service.units().generation);
    let instance = service.info(0).unwrap().instance;
    rig.model.lock().unwrap().detach(0, &Default::default()).unwrap();
    // Submitted before anybody knows.
    first.request(1, op::WRITE, 0, 0, 512);
    second.request(2, op::WRITE, 0, 0, 512);
    settle(&mut service, &clock);
    assert_eq!(first.completions(), [(1, Error::NxIo as u32)]);
    assert_eq!(second.completions(), [(2, 0)]);
    assert_eq!(service.units().present, 0b10);
    assert_eq!((told.0.get(), first.told.0.get() / 1000, second.told.0.get()), (1000, 1, 1));
    // Another disk in its place is not what the ring was attached to.
    let other = drive(&rig.disks[0], "OTHER");
    rig.model.lock().unwrap().attach(0, other, &Default::default()).unwrap();
    settle(&mut service, &clock);
    assert_eq!(service.units().present, 0b11);
    assert!(service.info(0).unwrap().instance > instance);
    assert!(service.units().generation > before);
    first.request(3, op::READ, 0, 0, 512);
    pump(&mut service);
    assert_eq!(first.completions(), [(3, Error::NxIo as u32)]);
    // Until the client attaches anew.
    first.attach(1, 0, &mut service);
    first.request(4, op::READ, 0, 0, 512);
    pump(&mut service);
    assert_eq!(first.completions(), [(4, 0)]);
}

/// Disks torn away and put back a hundred times under load: every request ends once, and the disk
/// that stays has all that was written to it.
#[test]
fn survivors_are_whole_after_a_hundred_removals() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let (mut guest, mut stays) = (Client::new(&rig.machine), Client::new(&rig.machine));
    stays.attach(2, 1, &mut service);
    let mut lost = 0;
    for round in 0..100u32 {
        guest.attach(1, 0, &mut service);
        let id = u64::from(round) << 8;
        for i in 0..16u64 {
            guest.request(id + i, op::WRITE, i, i as usize * 512, 512);
            let at = (round as usize * 16 + i as usize) % 512;
            let data = [round as u8 ^ i as u8; 512];
            stays.memory.write_bytes(DATA_OFFSET + at * 512, &data);
            stays.request(id + i, op::WRITE, at as u64, at * 512, 512);
        }
        if round % 3 != 0 {
            pump(&mut service);
        }
        rig.model.lock().unwrap().detach(0, &Default::default()).unwrap();
        settle(&mut service, &clock);
        let ended = guest.completions();
        assert_eq!(ended.len(), 16, "round {round}");
        lost += ended.iter().filter(|(_, status)| *status == Error::NxIo as u32).count();
        assert!(ended.iter().all(|(_, status)| [0, Error::NxIo as u32].contains(status)));
        let kept = stays.completions();
        assert!(kept.len() == 16 && kept.iter().all(|(_, status)| *status == 0), "{kept:?}");
        let again = drive(&rig.disks[0], "DISK0");
        rig.model.lock().unwrap().attach(0, again, &Default::default()).unwrap();
        settle(&mut service, &clock);
        assert_eq!(service.units().present, 0b11, "round {round}");
    }
    assert!(lost > 100, "{lost} requests met a removal");
    let mut expected = vec![0; SECTORS * 512];
    stays.memory.read_bytes(DATA_OFFSET, &mut expected);
    assert!(rig.disks[1].lock().unwrap().data == expected);
}
