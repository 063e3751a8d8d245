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
use xinim_abi::services::rs::{query, rs};
use xinim_block_client::disk::Disk;
use xinim_devfs::{DevFs, Platform, Random};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::{ipc, kip, server, start, sys};

xinim_rt::program!(main);

/// Data memory of a disk opened raw: several requests of the longest kind.
const DISK_DATA: usize = 512 * 1024;

/// Instances of a service asked for in a row when each is dead before it can be watched.
const LOOKUPS: u32 = 3;

/// A service that answers for devices, as long as it lives.
struct Found {
    pid: u32,
    endpoint: OwnedHandle,
}

struct System {
    own: Handle,
    found: BTreeMap<String, Found>,
}

impl Platform for System {
    type Disk = Disk;

    fn block_drivers(&mut self) -> Result<Vec<String>> {
        let text = xinim_rt::rs::query(query::CLASSES, "")?;
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines.filter(|line| line.0 == "block").map(|line| String::from(line.1)).collect())
    }

    fn open_disk(&mut self, label: &str) -> Result<Disk> {
        Disk::open(Name::new(label)?, DISK_DATA)
    }

    fn endpoint(&mut self, label: &str) -> Result<Handle> {
        if let Some(found) = self.found.get(label) {
            return Ok(found.endpoint.raw());
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
                return Ok(handle);
            }
        }
        Err(Error::NxIo)
    }

    fn now(&mut self) -> u64 {
        kip::wall_clock_ns()
    }
}

fn notified(fs: &mut DevFs<System>, raised: u64) {
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
    let system = System { own, found: BTreeMap::new() };
    let fs = DevFs::new(system, Random::new(seed()));
    xinim_fs_server::run_notified(fs, notified)
}
