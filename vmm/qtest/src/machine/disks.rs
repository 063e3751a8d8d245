//! Disks and CD-ROM drives of the machine, and their images.

use super::{Machine, PCI_IRQ, messages, wrong};
use crate::Error;
use crate::args::{DriveArgs, Properties};
use crate::disk::Handle;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use xinim_abi::hw::pci::Bdf;
use xinim_devices::ahci::{self, Ahci, AhciConfig, AtaConfig};
use xinim_devices::backend::{BayError, Drive, DriveBays, Medium};
use xinim_devices::bus::lock;
use xinim_devices::device::Origin;
use xinim_devices::pci::IsaBridge;
use xinim_devices::virtio::{Block, BlockConfig, VirtioPci};

/// Queues of a virtio disk that asks for none, as QEMU's with one CPU.
const QUEUES: u16 = 1;

/// A drive on the AHCI controller.
pub(super) struct Bay {
    pub(super) id: String,
    pub(super) unit: u16,
    node: Option<String>,
    medium: Medium,
    /// What was last reported of the tray.
    open: bool,
}

/// A virtio disk.
pub(super) struct VirtioDisk {
    pub(super) id: String,
    pub(super) function: Bdf,
    node: String,
}

impl Machine {
    pub(super) fn add_ahci(&mut self) -> Result<(), Error> {
        let mut config = AhciConfig::new("ahci", self.memory.clone(), messages(&self.memory));
        config.qemu_dialect = true;
        config.intx = Some(self.wire(PCI_IRQ));
        let failed = |error| Error::Arguments(format!("the AHCI controller: {error:?}"));
        let ahci = Arc::new(Mutex::new(Ahci::new(config).map_err(failed)?));
        let bridge = Bdf::new(0, ahci::PLACE.device(), 0);
        let failed = |error| Error::Arguments(format!("the AHCI controller: {error}"));
        self.bus.add_pci_at(bridge, Arc::new(Mutex::new(IsaBridge::new()))).map_err(failed)?;
        self.bus.add_pci_at(ahci::PLACE, ahci.clone()).map_err(failed)?;
        self.ahci = Some(ahci);
        Ok(())
    }

    /// Opens an image under its name.
    pub fn add_node(&mut self, args: &DriveArgs) -> Result<(), Error> {
        if args.path.is_none() && args.blank.is_none() && args.over.is_none() {
            // An empty CD-ROM drive.
            return Ok(());
        }
        let handle = match &args.over {
            None => Handle::open(args, self.memory.clone())?,
            Some(under) => {
                let Some(handle) = self.nodes.get(under).cloned() else {
                    return wrong(format!("block node {under} does not exist"));
                };
                if args.read_delay_ns > 0 {
                    handle.set_read_delay(args.read_delay_ns);
                }
                handle
            }
        };
        self.nodes.insert(args.id.clone(), handle);
        Ok(())
    }

    pub(super) fn add_drive(&mut self, device: &Properties) -> Result<(), Error> {
        let Some(ahci) = self.ahci.clone() else {
            return wrong("IDE drives need -machine q35");
        };
        let unit = match device.get("bus").and_then(|bus| bus.rsplit('.').next()?.parse().ok()) {
            Some(unit) => unit,
            None => (0..).find(|unit| self.bays.iter().all(|bay| bay.unit != *unit)).unwrap_or(0),
        };
        let medium = if device.head == "ide-cd" { Medium::CdRom } else { Medium::Disk };
        let node = device.get("drive").map(str::to_owned);
        let handle = match &node {
            Some(name) => self.nodes.get(name).cloned(),
            None => None,
        };
        if handle.is_none() && medium == Medium::Disk {
            return wrong(format!("device {} has no drive", device.head));
        }
        let serial = device.get("serial").unwrap_or("QM00001").to_owned();
        let mut names = AtaConfig::new(&serial);
        if let Some(version) = device.get("ver") {
            names.firmware = version.to_owned();
        }
        let backend = handle.map(|handle| Box::new(handle) as Box<_>);
        let drive = Drive { backend, medium, serial };
        let failed = |error: BayError| Error::Arguments(format!("device {}: {error}", device.head));
        lock(&ahci).install(unit, drive, Some(names)).map_err(failed)?;
        let id = device.get("id").unwrap_or_default().to_owned();
        self.bays.push(Bay { id, unit, node, medium, open: false });
        Ok(())
    }

    pub(super) fn add_virtio_disk(&mut self, device: &Properties) -> Result<(), Error> {
        let node = device.get("drive").unwrap_or_default().to_owned();
        let Some(handle) = self.nodes.get(&node).cloned() else {
            return wrong(format!("device {}: there is no drive {node}", device.head));
        };
        let queues = device.get("num-queues").and_then(|text| text.parse().ok()).unwrap_or(QUEUES);
        let id = device.get("serial").unwrap_or_default().to_owned();
        let block = Block::new(handle, &BlockConfig { id, queues });
        let config = self.virtio_config("virtio-blk", device);
        let failed = |error| Error::Arguments(format!("device {}: {error:?}", device.head));
        let function = Arc::new(Mutex::new(VirtioPci::new(block, config).map_err(failed)?));
        let place = self.plug(device, function)?;
        let id = device.get("id").unwrap_or_default().to_owned();
        self.disks.push(VirtioDisk { id, function: place, node });
        Ok(())
    }

    pub(super) fn with_ahci(
        &mut self,
        work: impl FnOnce(&mut Ahci) -> Result<(), BayError>,
    ) -> Result<(), Error> {
        let Some(ahci) = &self.ahci else { return wrong("there is no AHCI controller") };
        work(&mut lock(ahci)).map_err(|error| Error::Arguments(error.to_string()))
    }

    fn bay(&self, id: &str) -> Result<&Bay, Error> {
        match self.bays.iter().find(|bay| bay.id == id && bay.medium == Medium::CdRom) {
            Some(bay) => Ok(bay),
            None => wrong(format!("Device '{id}' is not removable")),
        }
    }

    /// By hand, from outside.
    pub fn move_tray(&mut self, id: &str, open: bool) -> Result<(), Error> {
        let unit = self.bay(id)?.unit;
        self.with_ahci(|ahci| ahci.move_tray(unit, open))
    }

    pub fn remove_medium(&mut self, id: &str) -> Result<(), Error> {
        let unit = self.bay(id)?.unit;
        self.with_ahci(|ahci| ahci.eject(unit, false, &Origin::default()))
    }

    /// Lays a disc on the open tray.
    pub fn insert_medium(&mut self, id: &str, node: &str) -> Result<(), Error> {
        let unit = self.bay(id)?.unit;
        let Some(handle) = self.nodes.get(node).cloned() else {
            return wrong(format!("Cannot find device='' nor node-name='{node}'"));
        };
        for bay in self.bays.iter_mut().filter(|bay| bay.unit == unit) {
            bay.node = Some(node.to_owned());
        }
        self.with_ahci(|ahci| {
            ahci.insert(unit, Box::new(handle), &Origin::default())?;
            ahci.move_tray(unit, true)
        })
    }

    /// Trays that have moved since the last call: (drive, open).
    pub fn moved_trays(&mut self) -> Vec<(String, bool)> {
        let Some(ahci) = &self.ahci else { return Vec::new() };
        let ahci = lock(ahci);
        let mut moved = Vec::new();
        for bay in &mut self.bays {
            if let Some(tray) = ahci.tray(bay.unit)
                && tray.open != bay.open
            {
                bay.open = tray.open;
                moved.push((bay.id.clone(), tray.open));
            }
        }
        moved
    }

    pub fn node(&self, name: &str) -> Option<&Handle> {
        self.nodes.get(name)
    }

    /// Gives the image behind a device another length.
    pub fn resize(&mut self, name: &str, length: u64) -> Result<(), Error> {
        let Some(handle) = self.nodes.get(name) else {
            return wrong(format!("Cannot find device='{name}' nor node-name='{name}'"));
        };
        lock(&handle.0).resize(length).map_err(Error::host(format!("resizing {name}")))?;
        for disk in self.disks.iter().filter(|disk| disk.node == name || disk.id == name) {
            self.bus.bays(disk.function, |bays| bays.resized(0, &Origin::default()));
        }
        Ok(())
    }

    /// When a disk has something to do.
    pub fn next_time(&self) -> Option<Instant> {
        self.nodes.values().filter_map(|node| lock(&node.0).next_time()).min()
    }

    /// Lets disks do what is due and devices take what has ended; whether a disk wants the machine
    /// to stop.
    pub fn run_disks(&mut self) -> bool {
        let origin = self.origin();
        let mut ready = false;
        for node in self.nodes.values() {
            ready |= lock(&node.0).run();
        }
        if ready {
            if let Some(ahci) = &self.ahci {
                for bay in &self.bays {
                    while lock(ahci).ready(bay.unit, &origin) {}
                }
            }
            for disk in &self.disks {
                while self.bus.bays(disk.function, |bays| bays.ready(0, &origin)) == Some(true) {}
            }
        }
        let mut stop = false;
        for node in self.nodes.values() {
            stop |= lock(&node.0).take_stop();
        }
        stop
    }
}
