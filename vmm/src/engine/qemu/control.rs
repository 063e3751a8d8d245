//! [`MachineControl`] over a second monitor of QEMU's (QMP).
//!
//! | ours | QMP |
//! |---|---|
//! | resize | `block_resize` |
//! | link | `set_link` |
//! | insert, eject | `blockdev-change-medium`, `eject` |
//! | dump | `dump-guest-memory` |
//! | attach, detach | none: QEMU's AHCI controller has no hot-plug |

use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use xinim_machine::net::NetSpec;
use xinim_machine::{
    DiskBus, DiskFormat, DiskSource, DiskSpec, DiskStatus, MachineControl, NetStatus,
};

use super::qmp::Qmp;

/// QEMU answers at once, unless it is emulating something slow.
const PATIENCE: Duration = Duration::from_secs(10);
const NO_HOTPLUG: &str =
    "QEMU's AHCI controller takes no disks while it runs (the kvm engine does)";

pub struct QemuControl {
    state: Mutex<State>,
}

struct State {
    qmp: Qmp,
    disks: Vec<DiskStatus>,
    nets: Vec<NetStatus>,
}

impl QemuControl {
    pub fn new(monitor: UnixStream, disks: &[DiskSpec], nets: &[NetSpec]) -> std::io::Result<Self> {
        let mut ports = 0..;
        let status = |(index, spec): (usize, &DiskSpec)| DiskStatus {
            name: format!("disk{index}"),
            port: (spec.bus == DiskBus::Ahci).then(|| ports.next().unwrap_or_default()),
            bytes: None,
            spec: spec.clone(),
        };
        let disks = disks.iter().enumerate().map(status).collect();
        Ok(Self {
            state: Mutex::new(State { qmp: Qmp::new(monitor)?, disks, nets: NetStatus::all(nets) }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn disk(&mut self, name: &str) -> Result<&mut DiskStatus, String> {
        let found = self.disks.iter_mut().find(|disk| disk.name == name);
        found.ok_or_else(|| format!("there is no {name}"))
    }

    fn drive(&mut self, name: &str) -> Result<String, String> {
        if self.disk(name)?.spec.cd_rom {
            // The device is named after the disk's number.
            Ok(name.replace("disk", "drive"))
        } else {
            Err(format!("{name}: the drive has no medium that can be changed"))
        }
    }

    fn run(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        self.qmp.request(command, arguments, PATIENCE)
    }
}

impl MachineControl for QemuControl {
    fn nets(&self) -> Result<Vec<NetStatus>, String> {
        Ok(self.state().nets.clone())
    }

    fn set_link(&self, name: &str, up: bool) -> Result<(), String> {
        let mut state = self.state();
        let index = state.nets.iter().position(|net| net.name == name);
        let index = index.ok_or_else(|| format!("there is no {name}"))?;
        state.run("set_link", json!({ "name": format!("nic{index}"), "up": up }))?;
        state.nets[index].link = up;
        Ok(())
    }

    fn disks(&self) -> Result<Vec<DiskStatus>, String> {
        let mut state = self.state();
        let blocks = state.run("query-block", json!({}))?;
        let mut disks = state.disks.clone();
        for (index, disk) in disks.iter_mut().enumerate() {
            let (node, drive) = (disk.name.clone(), format!("drive{index}"));
            let of_disk = |block: &&Value| {
                block["inserted"]["node-name"] == node.as_str()
                    || block["device"] == node.as_str()
                    || block["qdev"] == drive.as_str()
            };
            let block = blocks.as_array().into_iter().flatten().find(of_disk);
            disk.bytes = block.and_then(|b| b["inserted"]["image"]["virtual-size"].as_u64());
        }
        Ok(disks)
    }

    fn attach(&self, _disk: &DiskSpec, _port: Option<u16>) -> Result<String, String> {
        Err(NO_HOTPLUG.into())
    }

    fn detach(&self, _name: &str) -> Result<(), String> {
        Err(NO_HOTPLUG.into())
    }

    fn insert(&self, name: &str, disc: &DiskSpec) -> Result<(), String> {
        let mut state = self.state();
        let id = state.drive(name)?;
        let DiskSource::File(path) = &disc.source else {
            return Err("a blank disk is no disc".into());
        };
        let format = if disc.format() == DiskFormat::Qcow2 { "qcow2" } else { "raw" };
        let arguments = json!({
            "id": id,
            "filename": path.to_string_lossy(),
            "format": format,
            "read-only-mode": "read-only",
        });
        state.run("blockdev-change-medium", arguments)?;
        state.disk(name)?.spec.source = disc.source.clone();
        Ok(())
    }

    fn eject(&self, name: &str, force: bool) -> Result<(), String> {
        let mut state = self.state();
        let id = state.drive(name)?;
        state.run("eject", json!({ "id": id, "force": force })).map(drop)
    }

    fn dump(&self, file: &std::path::Path) -> Result<(), String> {
        let protocol = format!("file:{}", file.to_string_lossy());
        let arguments = json!({ "paging": true, "protocol": protocol });
        self.state().run("dump-guest-memory", arguments).map(drop)
    }

    fn resize(&self, name: &str, bytes: u64) -> Result<(), String> {
        let mut state = self.state();
        let spec = state.disk(name)?.spec.clone();
        let plain = matches!(spec.source, DiskSource::File(_)) && !spec.snapshot;
        let key = if plain { "node-name" } else { "device" };
        state.run("block_resize", json!({ key: name, "size": bytes })).map(drop)
    }
}
