//! Spares: the process of a service's next instance, made while the present one runs.
//!
//! ```text
//!            is up             delay over            Standby
//!  None ------------> At(time) ----------> Warming ----------> Ready
//!   ^                   ^  ^                | |  |                | |
//!   |                   |  '-- memory short +-|--|----------------+ |
//!   |                   '----- it died, or ---'  |                  |
//!   |                          took too long     |                  |
//!   '---- a launch took it, or the service ended-+------------------'
//! ```
//! A spare is never worse than none. It runs behind everybody with work to do until it is the instance; a
//! launch that cannot use it makes a process as if there were none; one that dies or does not come to
//! `Standby` is made again later, and after [`LOSSES_MAX`] in a row only in the form that cannot go wrong:
//! made, and not started. Where memory is short there are no spares.

use crate::host::{Answer, Host};
use crate::slot::{SlotId, State};
use crate::system::{Caller, Core};
use crate::{SPARE_DELAY, SPARE_RETRY, SPARE_TIMEOUT};
use xinim_abi::error::Error;
use xinim_abi::event::Obituary;
use xinim_abi::ipc::{BADGE_LABEL_SHIFT, ReplyToken};

/// Spares of a service that were lost in a row, after which the next are not started.
pub(crate) const LOSSES_MAX: u32 = 3;

/// See the diagram in the module's head. Times are ns since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Spare {
    #[default]
    None,
    /// To be made then.
    At(u64),
    /// Started; given up when it is not ready by then (`u64::MAX`: it was not started).
    Warming { pid: u32, until: u64 },
    /// Waits for its turn.
    Ready { pid: u32 },
}

impl Spare {
    /// When there is something to do about it.
    pub fn due(self) -> u64 {
        match self {
            Spare::At(time) | Spare::Warming { until: time, .. } => time,
            Spare::None | Spare::Ready { .. } => u64::MAX,
        }
    }

    pub fn pid(self) -> Option<u32> {
        match self {
            Spare::Warming { pid, .. } | Spare::Ready { pid } => Some(pid),
            Spare::None | Spare::At(_) => None,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Spare::None => "none",
            Spare::At(_) => "to be made",
            Spare::Warming { until: u64::MAX, .. } => "made",
            Spare::Warming { .. } => "starting",
            Spare::Ready { .. } => "stands by",
        }
    }
}

impl Core {
    /// An instance is up: its successor may be made when those that waited for it have had their turn.
    pub(crate) fn want_spare(&mut self, id: SlotId, now: u64) {
        if self.catalog.get(self.slots[id].manifest).spare {
            self.slots[id].spare = Spare::At(now + SPARE_DELAY);
        }
    }

    /// The time has come to make a spare, or one has taken too long.
    pub(crate) fn tend_spare(&mut self, host: &mut impl Host, id: SlotId, now: u64) {
        match self.slots[id].spare {
            Spare::At(_) if host.memory_is_short() => {
                self.slots[id].spare = Spare::At(now + SPARE_RETRY);
            }
            Spare::At(_) => self.make_spare(host, id, now),
            Spare::Warming { .. } => {
                host.drop_spare(id);
                self.lost_spare(id, now);
            }
            Spare::None | Spare::Ready { .. } => {}
        }
    }

    fn make_spare(&mut self, host: &mut impl Host, id: SlotId, now: u64) {
        let standby = self.slots[id].spare_losses < LOSSES_MAX;
        let made = host.prepare(&self.launch_of(id, self.slots[id].launches), standby);
        self.slots[id].spare = match made {
            Some(pid) => {
                Spare::Warming { pid, until: if standby { now + SPARE_TIMEOUT } else { u64::MAX } }
            }
            None => Spare::At(now + SPARE_RETRY),
        };
    }

    /// It was of no use; the next one is made after longer and longer.
    fn lost_spare(&mut self, id: SlotId, now: u64) {
        let slot = &mut self.slots[id];
        slot.spare = Spare::At(now + (SPARE_RETRY << slot.spare_losses.min(LOSSES_MAX)));
        slot.spare_losses = slot.spare_losses.saturating_add(1);
    }

    /// The slot whose spare sent a request.
    pub(crate) fn spare_of(&self, badge: u64, sender: u32) -> Option<SlotId> {
        let id = usize::try_from((badge >> BADGE_LABEL_SHIFT).checked_sub(1)?).ok()?;
        (self.slots.get(id)?.spare.pid() == Some(sender)).then_some(id)
    }

    /// `Standby`: a spare is ready. `None`: answered when it is launched.
    pub fn stand_by(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        token: ReplyToken,
    ) -> Option<Answer> {
        if let Caller::Service(_) = self.caller(badge, sender) {
            // Launched while it was on its way.
            return Some(Answer::Started);
        }
        let Some(id) = self.spare_of(badge, sender) else {
            return Some(Answer::Error(Error::Perm));
        };
        let slot = &mut self.slots[id];
        slot.spare = Spare::Ready { pid: sender };
        slot.spare_losses = 0;
        host.stand_by(id, token);
        None
    }

    /// Whether an obituary is a spare's; then it is dealt with.
    pub(crate) fn spare_died(&mut self, host: &mut impl Host, obituary: &Obituary) -> bool {
        let id = obituary.cookie as u32 as usize;
        let spare = self.slots.get(id).and_then(|slot| slot.spare.pid());
        if spare != Some(obituary.pid) {
            return false;
        }
        host.log(format_args!("{}: its spare process died", self.slots[id].label));
        host.drop_spare(id);
        self.lost_spare(id, host.now());
        true
    }

    /// Gives all spares up for their memory; they are made again when there is more. Whether there were
    /// any.
    pub(crate) fn release_spares(&mut self, host: &mut impl Host) -> bool {
        let now = host.now();
        let mut released = false;
        for id in 0..self.slots.len() {
            if self.slots[id].spare.pid().is_some() {
                host.drop_spare(id);
                self.slots[id].spare = match self.slots[id].state {
                    State::Running => Spare::At(now + SPARE_RETRY),
                    _ => Spare::None,
                };
                released = true;
            }
        }
        released
    }
}
