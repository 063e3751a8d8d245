//! [`MachineControl`]: disks of a running machine plugged in and pulled out, from any thread.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xinim_block::HostDisk;
use xinim_devices::ahci::Ahci;
use xinim_devices::backend::{BayError, Clock, Drive, DriveBays, Medium};
use xinim_devices::bus::lock;
use xinim_devices::device::Origin;
use xinim_devices::fault::Faults;
use xinim_machine::control::{Injection, ThreadStatus};
use xinim_machine::trace::TraceStatus;
use xinim_machine::{
    DiskBus, DiskSpec, DiskStatus, FaultStatus, MachineControl, MachineStatistics, NetStatus,
};
use xinim_record::Recorded;

use crate::disks::{Disks, Known};
use crate::dump;
use crate::fault;
use crate::net::Card;
use crate::reach::Reach;
use crate::shared::Shared;
use crate::threads::{self, Guest};
use crate::traces::Traces;

/// What it works on.
pub struct Controls {
    pub shared: Arc<Shared>,
    pub disks: Arc<Disks>,
    pub attaching: Mutex<()>,
    pub cards: Vec<Card>,
    pub traces: Traces,
    pub faults: Arc<Faults>,
    pub controller: Option<Arc<Mutex<Recorded<Ahci>>>>,
    pub reach: Reach,
}

impl Controls {
    fn find(&self, name: &str) -> Result<Known, String> {
        self.disks.find(name).ok_or_else(|| format!("there is no {name}"))
    }

    /// Lets `work` at the device that a disk is behind.
    fn bays<T>(
        &self,
        known: &Known,
        work: impl FnOnce(&mut dyn DriveBays, &Origin) -> T,
    ) -> Result<T, String> {
        let origin = Origin::host(self.shared.clock.monotonic().as_nanos() as u64);
        let done = self.shared.bus.bays(known.function, |bays| work(bays, &origin));
        done.ok_or_else(|| "the machine has no AHCI controller".to_owned())
    }

    fn watch(&self, disk: &HostDisk, known: &Known) -> Result<(), String> {
        self.disks.watch(disk, known.function, known.unit).map_err(|error| error.to_string())
    }

    fn open(&self, spec: &DiskSpec) -> Result<HostDisk, String> {
        xinim_block::open(spec)?.serve(self.shared.ram.clone())
    }
}

fn sentence(name: &str, error: BayError) -> String {
    format!("{name}: {error}")
}

impl MachineControl for Controls {
    fn traces(&self) -> Result<Vec<TraceStatus>, String> {
        Ok(self.traces.status())
    }

    fn switch_traces(&self, path: Option<&Path>, on: bool) -> Result<(), String> {
        self.traces.switch(path, on)
    }

    fn statistics(&self) -> Result<MachineStatistics, String> {
        Ok(self.shared.meter.statistics(&self.shared))
    }

    fn nets(&self) -> Result<Vec<NetStatus>, String> {
        let status =
            |card: &Card| NetStatus { link: lock(&card.device).link(), ..card.status.clone() };
        Ok(self.cards.iter().map(status).collect())
    }

    fn set_link(&self, name: &str, up: bool) -> Result<(), String> {
        let card = self.cards.iter().find(|card| card.status.name == name);
        let card = card.ok_or_else(|| format!("there is no {name}"))?;
        let origin = Origin::host(self.shared.clock.monotonic().as_nanos() as u64);
        lock(&card.device).set_link(up, &origin);
        Ok(())
    }

    fn faults(&self) -> Result<Vec<FaultStatus>, String> {
        Ok(fault::list(&self.faults))
    }

    fn add_fault(&self, rule: &str) -> Result<u32, String> {
        self.faults.add(rule)
    }

    fn remove_fault(&self, id: u32) -> Result<(), String> {
        let found = self.faults.remove(id);
        found.then_some(()).ok_or_else(|| format!("there is no fault rule {id}"))
    }

    fn inject(&self, injection: &Injection, patience: Duration) -> Result<String, String> {
        self.shared.injector.run(injection.clone(), patience)
    }

    fn clear_faults(&self) -> Result<(), String> {
        self.faults.clear();
        Ok(())
    }

    fn disks(&self) -> Result<Vec<DiskStatus>, String> {
        let status = |known: Known| DiskStatus {
            port: known.port(),
            bytes: known.handle.map(|handle| handle.info().length),
            name: known.name,
            spec: known.spec,
        };
        Ok(self.disks.list().into_iter().map(status).collect())
    }

    fn attach(&self, spec: &DiskSpec, port: Option<u16>) -> Result<String, String> {
        if spec.bus != DiskBus::Ahci {
            return Err("only disks on AHCI can be attached to a running machine".into());
        }
        let disk = self.open(spec)?;
        // Two at once must not plan the same port.
        let _one = lock(&self.attaching);
        let known = self.disks.plan(spec, port)?;
        self.watch(&disk, &known)?;
        let known = Known { handle: Some(disk.handle()), ..known };
        let medium = if spec.cd_rom { Medium::CdRom } else { Medium::Disk };
        let controller = self.controller.as_ref().ok_or("the machine has no AHCI controller")?;
        let place = (&self.reach, &self.faults, &self.disks);
        let backend = fault::bay(disk, &known, place, controller);
        let drive = Drive { backend: Some(backend), medium, serial: known.serial() };
        self.bays(&known, |bays, origin| bays.attach(known.unit, drive, origin))?
            .map_err(|error| sentence(&known.name, error))?;
        let name = known.name.clone();
        self.disks.remember(known);
        Ok(name)
    }

    fn detach(&self, name: &str) -> Result<(), String> {
        let known = self.find(name)?;
        self.bays(&known, |bays, origin| bays.detach(known.unit, origin))?
            .map_err(|error| sentence(name, error))?;
        self.disks.forget(name);
        Ok(())
    }

    fn insert(&self, name: &str, disc: &DiskSpec) -> Result<(), String> {
        let known = self.find(name)?;
        let disk = self.open(&DiskSpec { read_only: true, ..disc.clone() })?;
        self.watch(&disk, &known)?;
        let handle = disk.handle();
        let controller = self.controller.as_ref().ok_or("the machine has no AHCI controller")?;
        let place = (&self.reach, &self.faults, &self.disks);
        let disc_there = fault::bay(disk, &known, place, controller);
        self.bays(&known, |bays, origin| bays.insert(known.unit, disc_there, origin))?
            .map_err(|error| sentence(name, error))?;
        let spec = DiskSpec { source: disc.source.clone(), format: disc.format, ..known.spec };
        self.disks.remember(Known { handle: Some(handle), spec, ..known });
        Ok(())
    }

    fn eject(&self, name: &str, force: bool) -> Result<(), String> {
        let known = self.find(name)?;
        self.bays(&known, |bays, origin| bays.eject(known.unit, force, origin))?
            .map_err(|error| sentence(name, error))?;
        self.disks.remember(Known { handle: None, ..known });
        Ok(())
    }

    fn dump(&self, file: &std::path::Path) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", file.display());
        let mut core = std::fs::File::create(file).map_err(failed)?;
        let held = self.shared.halt.hold();
        let vcpus = held.vcpus().into_iter();
        let states: Vec<_> =
            vcpus.filter_map(|vcpu| held.on(vcpu, |runner| runner.state())?).collect();
        dump::write(&mut core, &self.shared.ram, &states).map_err(failed)
    }

    fn threads(&self) -> Result<Vec<ThreadStatus>, String> {
        let shared = &self.shared;
        let held = shared.halt.hold();
        let cpus: Vec<_> = held
            .vcpus()
            .into_iter()
            .filter_map(|vcpu| {
                let state = held.on(vcpu, |runner| runner.state())??;
                let process = shared.page.process(&shared.ram, vcpu);
                Some((state, process.map(|process| process.pid)))
            })
            .collect();
        threads::list(&Guest { ram: &shared.ram, images: &shared.images, cpus: &cpus })
    }

    fn resize(&self, name: &str, bytes: u64) -> Result<(), String> {
        let known = self.find(name)?;
        let handle = known.handle.as_ref().ok_or_else(|| format!("{name} has no medium"))?;
        handle.resize(bytes).map_err(|why| format!("{name} cannot be resized: {why}"))?;
        self.bays(&known, |bays, origin| bays.resized(known.unit, origin))
    }
}
