//! Local ports: who has which, and random free ones (RFC 6056).

use alloc::collections::BTreeMap;

/// The range of ports nobody asked for by number (RFC 6335).
const FIRST: u16 = 49152;
const COUNT: u16 = 16384;

/// Ports of one protocol with how many sockets use each.
#[derive(Debug, Default)]
pub struct Ports {
    used: BTreeMap<u16, u32>,
}

impl Ports {
    pub fn take(&mut self, port: u16) {
        *self.used.entry(port).or_default() += 1;
    }

    pub fn give_back(&mut self, port: u16) {
        if let Some(count) = self.used.get_mut(&port) {
            *count -= 1;
            if *count == 0 {
                self.used.remove(&port);
            }
        }
    }

    pub fn is_used(&self, port: u16) -> bool {
        self.used.contains_key(&port)
    }

    /// A free port, beginning the search at a random one. `None`: all are in use.
    pub fn free(&self, random: u64) -> Option<u16> {
        let start = (random % u64::from(COUNT)) as u16;
        (0..COUNT).map(|i| FIRST + (start + i) % COUNT).find(|port| !self.is_used(*port))
    }
}
