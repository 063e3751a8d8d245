//! From a bare port to a drive that takes requests (AHCI 10.1.2, 10.3.1, 10.4.2), and away again.

use core::mem::replace;
use xinim_abi::error::Error;
use xinim_abi::hw::ahci::{
    PX_CI, PX_CLB, PX_CLBU, PX_CMD, PX_FB, PX_FBU, PX_IE, PX_IS, PX_IS_CLEAR, PX_SCTL, PX_SERR,
    PX_SERR_MASK, PX_SIG, PX_SSTS, PX_TFD, PortCmd, PortInterrupt, cmd, link, signature,
};
use xinim_abi::hw::ata::Status;
use xinim_abi::services::block::info;
use xinim_block_service::Unit;
use xinim_driver_kit::memory::full_barrier;
use xinim_driver_kit::{Clock, Dma, Mmio, wait_until};

use super::{Port, Probe, RESETS_MAX, STEP_NS, State, enabled};
use crate::command;
use crate::drive::{self, Drive, Mode};
use crate::error::HbaError;
use crate::memory::{BLOCK, PRDS, PortMemory};

/// PxCMD.CR and FR clear within this after ST and FRE (10.1.2).
const HALT_NS: u64 = 500_000_000;
/// COMRESET is held for at least 1 ms (10.4.2).
const COMRESET_NS: u64 = 1_500_000;
/// A link comes up within this after a COMRESET or when a drive was plugged in.
const LINK_NS: u64 = 1_000_000_000;
/// After the HBA's reset: a drive that is there shows within this. One that takes longer is a
/// drive plugged in.
const FIRST_LINK_NS: u64 = 10_000_000;
const LAST_LOOKS: u32 = 4;
/// A drive may have to spin up.
const SETTLE_NS: u64 = 30_000_000_000;
const PROBE_NS: u64 = 10_000_000_000;
/// How often an idle CD-ROM is asked for its medium.
pub(super) const MEDIUM_NS: u64 = 2_000_000_000;
/// How often an empty port is looked at for a drive whose interrupt was lost.
pub(super) const PLUG_NS: u64 = 2_000_000_000;
/// Unit attentions in a row.
const MEDIUM_TRIES: u8 = 5;

impl<M: Mmio, D: Dma, C: Clock> Port<M, D, C> {
    /// Brings the port up after the HBA was reset. A port that was empty until then, and that somebody had
    /// brought up, is not waited for: a drive that shows later is one that was plugged in.
    pub fn start(&mut self, empty: bool, now: u64) -> Result<(), HbaError> {
        self.begin(false, now)?;
        if empty {
            self.state = State::Linking { until: now };
        }
        Ok(())
    }

    /// Stops the list and FIS reception for good.
    pub fn stop(&mut self) -> Result<(), HbaError> {
        self.write(PX_IE, 0);
        self.halt()
    }

    fn command(&self) -> PortCmd {
        PortCmd::from_bits_retain(self.read(PX_CMD))
    }

    /// Clears `run` (ST or FRE) and waits until the HBA says that `running` has ended.
    fn clear(&self, run: PortCmd, running: PortCmd) -> bool {
        let command = self.command();
        if !command.intersects(run | running) {
            return true;
        }
        self.write(PX_CMD, (command - run).bits());
        wait_until(&self.host.clock, HALT_NS, || !self.command().intersects(running))
    }

    /// Stops the command list: afterwards the HBA has no command and moves no data.
    pub(super) fn stop_list(&self) -> Result<(), HbaError> {
        if self.clear(PortCmd::ST, PortCmd::CR) {
            return Ok(());
        }
        // A COMRESET ends whatever the HBA waits for.
        self.comreset();
        let stopped = self.clear(PortCmd::ST, PortCmd::CR);
        stopped.then_some(()).ok_or(HbaError::PortStuck(self.number))
    }

    fn halt(&self) -> Result<(), HbaError> {
        self.stop_list()?;
        let stopped = self.clear(PortCmd::FRE, PortCmd::FR);
        stopped.then_some(()).ok_or(HbaError::PortStuck(self.number))
    }

    fn comreset(&self) {
        let control = self.read(PX_SCTL) & !0xF & !0xF00 | link::CONTROL_NO_POWER_MANAGEMENT;
        self.write(PX_SCTL, control | link::CONTROL_RESET);
        self.host.clock.pause(COMRESET_NS);
        self.write(PX_SCTL, control | link::CONTROL_NONE);
    }

    /// Stops everything, takes requests back that were sent, and looks for a drive; after a COMRESET
    /// if `reset`.
    pub(super) fn begin(&mut self, reset: bool, now: u64) -> Result<(), HbaError> {
        self.halt()?;
        self.requeue();
        self.clear_errors();
        self.write(PX_IE, enabled().bits());
        let wanted = PortCmd::SUD | PortCmd::POD;
        let command = (self.command() | wanted).bits() & !(0xF << cmd::ICC_SHIFT);
        self.write(PX_CMD, command | cmd::ICC_ACTIVE << cmd::ICC_SHIFT);
        if reset {
            self.comreset();
            self.statistics.resets += 1;
        }
        let until = now.saturating_add(if reset { LINK_NS } else { FIRST_LINK_NS });
        self.state = State::Linking { until };
        self.hurry();
        Ok(())
    }

    /// The link is up: FISes may come. Ports without a drive need no memory for them. The first D2H FIS,
    /// with the signature, is taken whether or not it came before this (3.3.7).
    fn listen(&mut self) -> Result<(), HbaError> {
        if self.memory.is_none() {
            let slots = self.host.slots as usize;
            self.memory = Some(PortMemory::new(&self.host.dma, slots, self.host.wide)?);
        }
        if let Some(memory) = &self.memory {
            let (list, received) = memory.addresses();
            memory.clear_fis();
            for (register, value) in
                [(PX_CLB, list), (PX_CLBU, list >> 32), (PX_FB, received), (PX_FBU, received >> 32)]
            {
                self.write(register, value as u32);
            }
        }
        self.clear_errors();
        self.write(PX_CMD, (self.command() | PortCmd::FRE).bits());
        Ok(())
    }

    pub(super) fn clear_errors(&mut self) {
        self.write(PX_SERR, PX_SERR_MASK);
        self.write(PX_IS, PX_IS_CLEAR);
        self.pending = PortInterrupt::empty();
    }

    /// Goes on through the states that end by themselves, as far as it gets.
    pub(super) fn step(&mut self, now: u64) -> Result<(), HbaError> {
        self.look_at = Some(now.saturating_add(STEP_NS));
        if let State::Linking { until } = self.state {
            // Before it is over, a few looks in a row: time may have passed while nobody looked.
            let looks = if now < until { 1 } else { LAST_LOOKS };
            let seen = (0..looks).map(|_| link::det(self.read(PX_SSTS)));
            let det = seen.fold(link::DET_NONE, |best, det| best.max(det & link::DET_READY));
            match det {
                link::DET_READY => {
                    self.listen()?;
                    self.state = State::Settling { until: now.saturating_add(SETTLE_NS) };
                }
                _ if now < until => return Ok(()),
                link::DET_NONE => return self.absent(),
                _ => return self.reset(now),
            }
        }
        if let State::Settling { until } = self.state {
            let status = Status::from_bits_retain(self.read(PX_TFD) as u8);
            let kind = self.read(PX_SIG);
            let busy = status.intersects(Status::BSY | Status::DRQ) || kind == signature::NONE;
            if busy && now < until {
                // The drive may go while it spins up.
                if link::det(self.read(PX_SSTS)) != link::DET_READY {
                    return self.begin(true, now);
                }
                return Ok(());
            }
            match kind {
                _ if busy => return self.reset(now),
                signature::ATA => return self.probe(Probe::Identify { packet: false }, now),
                signature::ATAPI => return self.probe(Probe::Identify { packet: true }, now),
                // Port multipliers and enclosure bridges.
                _ => return self.give_up(),
            }
        }
        if let State::Probing { probe, until } = self.state {
            return self.step_probe(probe, until, now);
        }
        Ok(())
    }

    /// Sends a command of the driver's own in slot 0; no request is at the HBA.
    pub(super) fn probe(&mut self, probe: Probe, now: u64) -> Result<(), HbaError> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let (command, len) = match (probe, self.drive) {
            (Probe::Identify { packet }, _) => (command::identify(packet), BLOCK as u32),
            (Probe::Capacity { .. }, Some(drive)) => (command::read_capacity(&drive), 8),
            (Probe::ErrorLog { .. }, _) => (command::read_error_log(), BLOCK as u32),
            (Probe::Capacity { .. }, None) => return self.give_up(),
        };
        memory.clear_answer();
        memory.clear_fis();
        memory.prepare(0, &command, &[memory.answer_segment(len)]);
        full_barrier();
        let command = self.command();
        if !command.contains(PortCmd::ST) {
            self.write(PX_CMD, (command | PortCmd::ST).bits());
        }
        self.write(PX_CI, 1);
        self.state = State::Probing { probe, until: now.saturating_add(PROBE_NS) };
        self.look_at = Some(now.saturating_add(STEP_NS));
        Ok(())
    }

    fn step_probe(&mut self, probe: Probe, until: u64, now: u64) -> Result<(), HbaError> {
        let pending = replace(&mut self.pending, PortInterrupt::empty());
        if let Some(memory) = &self.memory {
            memory.clear_fis();
        }
        if pending.intersects(PortInterrupt::PCS | PortInterrupt::PRCS) {
            return self.link_changed(pending, now);
        }
        let task = self.read(PX_TFD);
        let failed = pending.intersects(PortInterrupt::FATAL | PortInterrupt::OFS);
        if failed || self.read(PX_CI) & 1 == 0 && task as u8 & Status::ERR.bits() != 0 {
            self.stop_list()?;
            self.clear_errors();
            let taskfile = !failed || pending.contains(PortInterrupt::TFES);
            return self.probe_failed(probe, taskfile.then_some((task >> 8) as u8), now);
        }
        if self.read(PX_CI) & 1 == 0 {
            return self.probe_done(probe, now);
        }
        if now >= until {
            return self.reset(now);
        }
        Ok(())
    }

    fn probe_done(&mut self, probe: Probe, now: u64) -> Result<(), HbaError> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let answer = memory.answer();
        match probe {
            Probe::Identify { packet: false } => {
                match drive::disk(&answer, self.host.slots, self.queuing) {
                    Ok((drive, unit)) => self.ready(drive, unit),
                    Err(_) => self.reset(now),
                }
            }
            Probe::Identify { packet: true } => match drive::cd_rom(&answer) {
                Ok((drive, unit)) => {
                    self.drive = Some(drive);
                    self.found = unit;
                    self.probe(Probe::Capacity { tries: 0, reset: true }, now)
                }
                Err(_) => self.give_up(),
            },
            Probe::Capacity { .. } => {
                let [a, b, c, d, e, f, g, h, ..] = answer;
                let sectors = drive::capacity(&[a, b, c, d, e, f, g, h]).unwrap_or(0);
                self.medium(sectors)
            }
            Probe::ErrorLog { suspects } => {
                let tag = command::failed_tag(&answer).map(|tag| 1 << tag);
                self.blame(tag.filter(|tag| suspects & tag != 0).unwrap_or(suspects));
                self.resume();
                Ok(())
            }
        }
    }

    /// A drive answered. The unit stays what it was if it is the same drive.
    fn ready(&mut self, drive: Drive, mut unit: Unit) -> Result<(), HbaError> {
        unit.max_segments = PRDS as u32;
        unit.max_bytes = unit.max_bytes.min((PRDS as u32 - 1) * 4096);
        let same = self.unit.as_ref().is_some_and(|old| {
            let identity = |unit: &Unit| (unit.model, unit.serial, unit.flags & info::CD_ROM);
            identity(old) == identity(&unit)
        });
        if !same {
            self.replace(Some(unit));
            self.resets = 0;
        } else if self.unit.as_ref() != Some(&unit) {
            self.unit = Some(unit);
            self.changes += 1;
        }
        self.drive = Some(drive);
        self.resume();
        Ok(())
    }

    /// The CD-ROM drive told how long its medium is; 0: it has none.
    fn medium(&mut self, sectors: u64) -> Result<(), HbaError> {
        let Some(drive) = self.drive else { return Ok(()) };
        let changed = replace(&mut self.medium_changed, false);
        let known = self.unit.as_ref().is_some_and(|unit| unit.sectors == sectors);
        if self.unit.is_some() && (changed || !known) {
            // Another disc is another instance.
            let unit = self.unit.take().map(|unit| Unit { sectors, ..unit });
            self.replace(unit);
        }
        let unit = Unit { sectors, ..self.found.clone() };
        self.ready(drive, unit)
    }

    /// Asks for the medium again, as requests failed in a way that says it changed.
    pub(super) fn check_medium(&mut self, now: u64) -> Result<(), HbaError> {
        self.medium_changed = true;
        self.probe(Probe::Capacity { tries: 0, reset: false }, now)
    }

    /// Whether an idle drive is to be asked for its medium now and then.
    pub(super) fn has_medium_to_watch(&self) -> bool {
        self.drive.is_some_and(|drive| drive.mode == Mode::Packet)
    }

    fn probe_failed(&mut self, probe: Probe, error: Option<u8>, now: u64) -> Result<(), HbaError> {
        use xinim_abi::hw::atapi::sense;
        match (probe, error) {
            (Probe::Capacity { tries, reset }, Some(error)) if tries < MEDIUM_TRIES => {
                match error >> 4 {
                    sense::NOT_READY => self.medium(0),
                    key => {
                        self.medium_changed |= !reset && key == sense::UNIT_ATTENTION;
                        self.probe(Probe::Capacity { tries: tries + 1, reset }, now)
                    }
                }
            }
            (Probe::Capacity { .. }, Some(_)) => self.medium(0),
            (Probe::ErrorLog { suspects }, _) => {
                // A drive that queues but does not say what failed is not made to queue.
                self.queuing = false;
                self.blame(suspects);
                self.reset(now)
            }
            (Probe::Identify { .. } | Probe::Capacity { .. }, _) => self.reset(now),
        }
    }

    /// The drive takes requests (again).
    pub(super) fn resume(&mut self) {
        let command = self.command();
        if !command.contains(PortCmd::ST) {
            self.write(PX_CMD, (command | PortCmd::ST).bits());
        }
        self.state = State::Ready;
        self.look_again(self.host.clock.now_ns());
        self.kick();
    }

    /// PhyRdy changed, or a COMINIT came that nobody had asked for.
    pub(super) fn link_changed(
        &mut self,
        pending: PortInterrupt,
        now: u64,
    ) -> Result<(), HbaError> {
        match link::det(self.read(PX_SSTS)) {
            link::DET_NONE => {
                self.halt()?;
                self.requeue();
                self.absent()
            }
            _ => {
                // Taken out and put in again faster than we looked: what it had in its cache is
                // gone, or it is another one.
                let exchanged = pending.contains(PortInterrupt::PCS);
                self.begin(true, now)?;
                if exchanged {
                    self.replace(None);
                    self.resets = 0;
                }
                Ok(())
            }
        }
    }

    /// Nothing is attached.
    fn absent(&mut self) -> Result<(), HbaError> {
        self.halt()?;
        self.requeue();
        self.replace(None);
        self.drive = None;
        self.clear_errors();
        self.state = State::Empty;
        self.look_at = Some(self.host.clock.now_ns().saturating_add(PLUG_NS));
        Ok(())
    }

    /// COMRESET and a new beginning for what is attached; too often in vain, and it has failed.
    pub(super) fn reset(&mut self, now: u64) -> Result<(), HbaError> {
        let suspects = self.issued;
        if self.resets >= RESETS_MAX {
            return self.give_up();
        }
        self.resets += 1;
        self.begin(true, now)?;
        self.blame(suspects);
        Ok(())
    }

    /// The drive is of no use. Another one may be plugged in.
    fn give_up(&mut self) -> Result<(), HbaError> {
        self.halt()?;
        self.requeue();
        self.finish(self.busy, Error::Io);
        self.replace(None);
        self.drive = None;
        self.clear_errors();
        self.state = State::Failed;
        self.look_at = None;
        Ok(())
    }

    /// Something else is at the port now: nothing that was asked of the old concerns it.
    fn replace(&mut self, unit: Option<Unit>) {
        if self.unit.is_none() && unit.is_none() {
            return;
        }
        self.finish(self.busy, Error::NxIo);
        self.unit = unit;
        self.instance += 1;
        self.changes += 1;
        self.queuing = self.host.queuing;
    }
}
