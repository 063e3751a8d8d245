//! The devfs service.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::bits;
use xinim_abi::object::Handle;
use xinim_abi::object::Rights;
use xinim_abi::services::block::{UNITS_BIT, block, identity, info};
use xinim_abi::services::rs::rs;
use xinim_block_client::disk::{Disk, block_drivers};
use xinim_devfs::{DevFs, Platform, Random, UnitInfo};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::{ipc, kip, server, start, sys};

xinim_rt::program!(main);

/// Data memory of a disk opened raw: several requests of the longest kind.
const DISK_DATA: usize = 512 * 1024;

/// Instances of a service asked for in a row when each is dead before it can be watched, or has answered.
const LOOKUPS: u32 = 3;

/// A service that answers for devices, as long as it lives.
struct Found {
    pid: u32,
    endpoint: OwnedHandle,
}

struct System {
    own: Handle,
    found: BTreeMap<String, Found>,
    /// Processes of block drivers that tell us of changes, by label.
    subscribed: BTreeMap<String, u32>,
}

impl Platform for System {
    type Disk = Disk;

    fn units(&mut self) -> Vec<UnitInfo> {
        let mut units = Vec::new();
        for label in block_drivers().unwrap_or_default() {
            for _ in 0..LOOKUPS {
                let mut own = Vec::new();
                let asked = self.units_of(&label, &mut own);
                if asked == Err(Error::ServerDied) {
                    // It died while it was asked, or before, and its obituary has not been read yet. Its
                    // devices are not gone: the next look-up waits for its successor.
                    self.found.remove(&label);
                    continue;
                }
                units.append(&mut own);
                break;
            }
        }
        units
    }

    fn open_disk(&mut self, label: &str, unit: u32) -> Result<Disk> {
        Disk::open(Name::new(label)?, unit, DISK_DATA)
    }

    fn endpoint(&mut self, label: &str) -> Result<Handle> {
        self.find(label).map(|(endpoint, _)| endpoint)
    }

    fn now(&mut self) -> u64 {
        kip::wall_clock_ns()
    }
}

impl System {
    /// Endpoint and process of a service, watched.
    fn find(&mut self, label: &str) -> Result<(Handle, u32)> {
        if let Some(found) = self.found.get(label) {
            return Ok((found.endpoint.raw(), found.pid));
        }
        for _ in 0..LOOKUPS {
            let request = rs::Lookup { name: Name::new(label)?, wait: true };
            let reply = ipc::call(start::rs(), &request).map_err(|_| Error::NxIo)?;
            let endpoint = OwnedHandle::from_raw(reply.endpoint);
            let handle = endpoint.raw();
            // Its death must be told, or a dead endpoint would be handed out for ever.
            if sys::watch(reply.pid, self.own, 0).is_ok() {
                let found = Found { pid: reply.pid, endpoint };
                self.found.insert(String::from(label), found);
                return Ok((handle, reply.pid));
            }
        }
        Err(Error::NxIo)
    }

    /// Adds the units of a driver, and has it tell of changes.
    fn units_of(&mut self, label: &str, units: &mut Vec<UnitInfo>) -> Result<()> {
        let (driver, pid) = self.find(label)?;
        if self.subscribed.get(label) != Some(&pid) {
            let rights = Rights::NOTIFY | Rights::TRANSFER;
            let notify = OwnedHandle::from_raw(sys::handle_mint(self.own, rights.bits(), 0)?);
            ipc::call(driver, &block::Subscribe { notify: notify.raw() })?;
            self.subscribed.insert(String::from(label), pid);
        }
        let present = ipc::call(driver, &block::Units {})?.present;
        for unit in (0..u32::BITS).filter(|unit| present & 1 << unit != 0) {
            let about = match ipc::call(driver, &block::Info { unit }) {
                Err(Error::ServerDied) => return Err(Error::ServerDied),
                Err(_) => continue,
                Ok(about) => about,
            };
            let text = |what| {
                let reply = ipc::call(driver, &block::Identity { unit, what });
                reply.map_or(String::new(), |reply| String::from(reply.text.as_str()))
            };
            units.push(UnitInfo {
                label: String::from(label),
                pid,
                unit,
                instance: about.instance,
                sectors: about.sectors,
                optical: about.flags & info::CD_ROM != 0,
                model: text(identity::MODEL),
                serial: text(identity::SERIAL),
            });
        }
        Ok(())
    }
}

fn notified(fs: &mut DevFs<System>, raised: u64) {
    if raised & (bits::OBITUARY | bits::PEER_UP | 1 << UNITS_BIT) != 0 {
        fs.units_changed();
    }
    let system = fs.platform();
    if raised & bits::OBITUARY != 0 {
        while let Ok(Some(obituary)) = sys::event_next(system.own) {
            system.found.retain(|_, found| found.pid != obituary.pid);
        }
    }
}

/// Seeds from the clocks and, where the processor has it, its random number generator.
fn seed() -> [u32; 8] {
    let mut seed = [0; 8];
    for (at, word) in seed.iter_mut().enumerate() {
        let time = kip::tsc() ^ kip::wall_clock_ns().rotate_left(at as u32 * 7);
        *word = (time ^ time >> 32) as u32 ^ kip::random_u64().map_or(0, |value| value as u32);
    }
    seed
}

fn main() -> i32 {
    let Ok(own) = server::own_endpoint() else { return 1 };
    let system = System { own, found: BTreeMap::new(), subscribed: BTreeMap::new() };
    let fs = DevFs::new(system, Random::new(seed()));
    xinim_fs_server::run_notified(fs, notified)
}
