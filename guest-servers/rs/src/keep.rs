//! What outlives an instance: memory it asked RS to keep, and the services it spawned.
//!
//! A service whose manifest says `keep` means to go on where its last instance was. So what it spawned
//! is not ended with it: the next instance *adopts* (looks up) what it knows of, and what it has not
//! adopted when it announces itself is ended then.

use crate::KEEP_CRASHES;
use crate::host::Host;
use crate::slot::SlotId;
use crate::spare::Spare;
use crate::system::{Caller, Core};
use xinim_abi::error::{Error, Result};

/// Bytes in a MiB of a manifest's `keep`.
const MIB: u64 = 1 << 20;

impl Core {
    /// Whose memory a `Keep` or `Unkeep` is about, and how many bytes it may have. A spare may look at what
    /// it will take up, and has no room for anything new.
    pub fn keeper(&self, badge: u64, sender: u32) -> Result<(SlotId, u64)> {
        let id = match self.caller(badge, sender) {
            Caller::Service(id) => id,
            _ => return self.spare_of(badge, sender).map(|id| (id, 0)).ok_or(Error::Perm),
        };
        let limit = u64::from(self.catalog.get(self.slots[id].manifest).keep) * MIB;
        if limit == 0 { Err(Error::Limit) } else { Ok((id, limit)) }
    }

    /// The next instance of this service goes on where this one ended.
    fn goes_on(&self, id: SlotId) -> bool {
        let slot = &self.slots[id];
        let comes = slot.state.is_coming() && self.shutdown.is_none();
        comes && self.catalog.get(slot.manifest).keep > 0
    }

    /// A spawner has died. File-system servers end with the VFS that started them, when nobody is
    /// going to know their mounts.
    pub(crate) fn orphan_spawned(&mut self, host: &mut impl Host, spawner: SlotId) {
        let goes_on = self.goes_on(spawner);
        for id in self.spawned_by(spawner) {
            match goes_on {
                true => self.slots[id].adopted = false,
                false => self.stop(host, id, false),
            }
        }
    }

    /// A spawner is up: ends what it does not know of.
    pub(crate) fn end_unadopted(&mut self, host: &mut impl Host, spawner: SlotId) {
        for id in self.spawned_by(spawner) {
            if !self.slots[id].adopted {
                self.stop(host, id, false);
            }
        }
    }

    fn spawned_by(&self, spawner: SlotId) -> alloc::vec::Vec<SlotId> {
        let spawner = Some(spawner as u64 + 1);
        self.slots().filter(|(_, slot)| slot.spawner == spawner).map(|(id, _)| id).collect()
    }

    /// After a crash: state that kills whoever takes it up must not do so for ever.
    pub(crate) fn judge_kept(&mut self, host: &mut impl Host, id: SlotId) {
        let slot = &self.slots[id];
        if slot.state.is_coming() && slot.failures >= KEEP_CRASHES {
            host.discard(id);
            self.slots[id].spare = Spare::None;
        }
    }
}
