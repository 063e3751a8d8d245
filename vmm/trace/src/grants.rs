//! Who owns the memory that a device moves data from or to: the process that the guest's kernel let
//! pin it, as its own events tell.

use std::collections::{BTreeMap, HashMap};

use xinim_abi::trace::kind;
use xinim_devices::trace::{Event, EventKind};

/// Grants and names remembered at most.
const KEPT: usize = 1 << 16;
const PAGE: u64 = 4096;

/// Grants seen so far.
#[derive(Default)]
pub struct Grants {
    /// By first address: end and pid.
    ranges: BTreeMap<u64, (u64, u32)>,
    names: HashMap<u32, String>,
}

impl Grants {
    /// Takes the next event; for a transfer, who owns its memory, if that is known.
    pub fn event(&mut self, event: &Event<'_>) -> Option<String> {
        if let Some(process) = event.origin.process
            && self.names.len() < KEPT
        {
            self.names.insert(process.pid, process.name().to_owned());
        }
        match event.kind {
            EventKind::Guest(guest) if guest.kind == u16::from(kind::DMA_GRANT) => {
                let (start, pages) = (guest.a, guest.b >> 32);
                let end = start.saturating_add(pages.saturating_mul(PAGE));
                // Memory that is granted anew belongs to the new one.
                let over: Vec<u64> = self.ranges.range(start..end).map(|(at, _)| *at).collect();
                for at in over {
                    self.ranges.remove(&at);
                }
                if self.ranges.len() < KEPT {
                    self.ranges.insert(start, (end, guest.b as u32));
                }
                None
            }
            EventKind::Guest(guest) if guest.kind == u16::from(kind::DMA_REVOKE) => {
                self.ranges.remove(&guest.a);
                None
            }
            EventKind::Guest(guest) if guest.kind == u16::from(kind::DEATH) => {
                let dead = guest.b as u32;
                self.ranges.retain(|_, (_, pid)| *pid != dead);
                None
            }
            EventKind::Dma { address, length, .. } => {
                let (_, (end, pid)) = self.ranges.range(..=address).next_back()?;
                if address.saturating_add(length) > *end {
                    return None;
                }
                let name = self.names.get(pid).map_or("?", String::as_str);
                Some(format!("{pid} {name}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
