//! Whether services still work: heartbeats, processor budgets, complaints.
//!
//! ```text
//!              waits at its endpoint                 fetched
//!          +------------------------+      +------------------------+
//!          v                        |      v                        |
//!        well --- busy: PING ----> asked --+-- not fetched ----> missed (1 .. MISSES) --> hung
//!       (every heartbeat / 2)     (every heartbeat / 8)
//! ```
//! A heartbeat disturbs nobody who is idle: a service that waits at its endpoint is alive by
//! definition. Who is busy gets the bit `PING` and answers by coming to fetch it. A miss counts only
//! against a service that could have come: not while one it needs is down; not while it did not get
//! the processor; and one that waits for somebody, or makes system calls meanwhile, has [`PATIENCE`],
//! which does not run out while one that it relies on is itself down or late. The misses of a hung
//! service lie apart in time, so that a machine that stood still for a while does not look like one.
//! A service of several threads comes as long as one of them does; that another spins is seen by the time
//! it runs without a system call.

use crate::history::Cause;
use crate::host::{Answer, Host};
use crate::slot::{Doom, Slot, SlotId, State};
use crate::system::{Caller, Core};
use crate::{COMPLAINT_INTERVAL, PATIENCE};
use xinim_abi::error::{Error, Result};
use xinim_abi::info::{Pulse, pulse, state};
use xinim_abi::interface::Name;

const MS: u64 = 1_000_000;
/// Misses in a row of a service that is hung.
const MISSES: u32 = 3;

/// What RS knows about how a running instance fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// When it is examined next, ns since boot; `u64::MAX`: never.
    pub next: u64,
    /// When it was last known to be well.
    pub beat: u64,
    /// When PING was raised that it has not fetched so far.
    asked: Option<u64>,
    misses: u32,
    /// As it was at the last miss.
    last: Option<Pulse>,
    /// Looks in a row at which one of its threads had run on without a system call, and how long it had by
    /// then.
    spins: (u32, u64),
    /// Begin of the span its processor time is measured over, and what it had used then.
    window: (u64, u64),
    /// When it was last killed for a complaint.
    accused: u64,
}

impl Health {
    /// It has been asked and has not answered.
    pub fn is_late(&self) -> bool {
        self.misses > 0
    }

    /// Notes how long one of its threads has spun; `true`: at [`MISSES`] looks it had run on.
    fn spins(&mut self, pulse: &Pulse) -> bool {
        let (looks, before) = self.spins;
        self.spins = match pulse.spinning_ns {
            0 => (0, 0),
            now if now > before => (looks + 1, now),
            // It did not get the processor.
            _ => (looks, before),
        };
        self.spins.0 >= MISSES
    }
}

impl Core {
    /// An instance is up: its heartbeats begin.
    pub(crate) fn watch(&mut self, id: SlotId, now: u64) {
        let heartbeat = self.catalog.get(self.slots[id].manifest).heartbeat;
        let accused = self.slots[id].health.accused;
        let next = if heartbeat == 0 { u64::MAX } else { after(now, heartbeat) };
        let window = (now, 0);
        self.slots[id].health = Health { next, beat: now, accused, window, ..Health::default() };
    }

    /// The time of a running service's heartbeat has come.
    pub(crate) fn examine(&mut self, host: &mut impl Host, id: SlotId, now: u64) {
        let manifest = self.catalog.get(self.slots[id].manifest);
        let (heartbeat, budget) = (manifest.heartbeat, manifest.cpu);
        let Some((answer, pulse)) = host.probe(id) else {
            self.slots[id].health.next = u64::MAX;
            return;
        };
        let quick = now + u64::from(heartbeat) * MS / 8;
        let health = &mut self.slots[id].health;
        if health.spins(&pulse) && pulse.spinning_ns >= u64::from(heartbeat) * MS / 2 {
            return self.doom(host, id, Doom::Hung);
        }
        match answer {
            pulse::PENDING => {
                health.next = quick;
                if self.is_hung(id, now, &pulse) {
                    return self.doom(host, id, Doom::Hung);
                }
            }
            answer => {
                let asked = (answer == pulse::RAISED).then_some(now);
                let soon = asked.is_some() || health.spins.0 > 0;
                let next = if soon { quick } else { after(now, heartbeat) };
                let Health { window, accused, spins, .. } = *health;
                *health =
                    Health { next, beat: now, asked, window, accused, spins, ..Health::default() };
            }
        }
        let Some(budget) = budget else { return };
        let (begin, used) = self.slots[id].health.window;
        let (cpu, length) = (host.usage(id).cpu, u64::from(budget.window) * MS);
        let (span, used) = (now - begin, cpu.saturating_sub(used));
        // Who has used up the window's share is not waited for until its end.
        if used * 100 > span.max(length) * u64::from(budget.percent) {
            let percent = (used * 100).checked_div(span).unwrap_or(0) as u32;
            self.doom(host, id, Doom::CpuHog { percent });
        } else if span >= length {
            self.slots[id].health.window = (now, cpu);
        }
    }

    /// A miss: counts it where it counts, and says whether it was the last.
    fn is_hung(&mut self, id: SlotId, now: u64, pulse: &Pulse) -> bool {
        let excused = !self.needs_are_up(id);
        let manifest = self.slots[id].manifest;
        let ails = |slot: &Slot| slot.state.is_coming() || slot.health.is_late();
        let others_ail = self.slots().any(|(other, slot)| {
            other != id && ails(slot) && self.catalog.relies_on(manifest, |on| on == slot.manifest)
        });
        let health = &mut self.slots[id].health;
        let Some(last) = health.last.replace(*pulse) else { return false };
        let waits =
            matches!(pulse.doing, state::SENDING | state::AWAITING_REPLY | state::RECEIVING);
        let starved = matches!(pulse.doing, state::RUNNING | state::READY);
        if excused {
            (health.asked, health.misses) = (Some(now), 0);
        } else if waits || pulse.system_calls != last.system_calls {
            health.misses = 0;
            let asked = *health.asked.get_or_insert(now);
            if now - asked >= PATIENCE {
                if !others_ail {
                    return true;
                }
                health.asked = Some(now);
            }
        } else if !(starved && pulse.cpu_ns == last.cpu_ns) {
            health.misses += 1;
        }
        health.misses >= MISSES
    }

    /// Kills a running instance for a reason; the rest follows from its obituary.
    fn doom(&mut self, host: &mut impl Host, id: SlotId, doom: Doom) {
        let slot = &mut self.slots[id];
        slot.doom = Some(doom);
        slot.health.next = u64::MAX;
        let cause = Cause::from(doom);
        host.log(format_args!("{} is killed: {}, {cause}", slot.label, cause.name()));
        host.kill(id);
    }

    /// `Complain`: a service says that another breaks their protocol.
    pub fn complain(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        accused: &Name,
        code: u32,
    ) -> Answer {
        let judged = self
            .accused(self.caller(badge, sender), accused)
            .and_then(|(by, id)| self.judge_complaint(host, by, id, code));
        match judged {
            Ok(()) => Answer::Complained,
            Err(error) => Answer::Error(error),
        }
    }

    /// Who complains about whom, if its manifest lets it.
    fn accused(&self, caller: Caller, accused: &Name) -> Result<(SlotId, SlotId)> {
        let Caller::Service(by) = caller else { return Err(Error::Access) };
        let id = self.find(accused).ok_or(Error::NoEnt)?;
        let may = self.catalog.complains(self.slots[by].manifest);
        match by != id && may.contains(&self.slots[id].manifest) {
            true => Ok((by, id)),
            false => Err(Error::Access),
        }
    }

    fn judge_complaint(
        &mut self,
        host: &mut impl Host,
        by: SlotId,
        id: SlotId,
        code: u32,
    ) -> Result<()> {
        let now = host.now();
        let by = self.slots[by].label;
        let slot = &mut self.slots[id];
        // It is being dealt with already.
        if slot.state != State::Running || slot.doom.is_some() {
            return Ok(());
        }
        if slot.health.accused != 0 && now - slot.health.accused < COMPLAINT_INTERVAL {
            return Err(Error::Again);
        }
        slot.health.accused = now;
        self.doom(host, id, Doom::Complaint { by, code });
        Ok(())
    }
}

/// When a service that is well is examined again: at multiples of half its heartbeat, so that those
/// with equal ones share the timer.
fn after(now: u64, heartbeat: u32) -> u64 {
    let step = u64::from(heartbeat) * MS / 2;
    (now / step + 1) * step
}
