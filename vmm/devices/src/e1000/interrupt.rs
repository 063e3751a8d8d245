//! Interrupts: causes, masks, moderation, and the three ways out (INTx, MSI, MSI-X).
//!
//! ```text
//!   raise --> ICR --& IMS--> due? --(ITR/EITR interval over)--> line, message or vectors
//!                             `----(not yet)--> timer
//! ```
//! A cause is announced once: again only after ICR or IMS took it back in between. The line is
//! level-triggered: down as soon as no unmasked cause is left.

use super::E1000;
use crate::device::Origin;
use crate::trace::EventKind;
use std::time::Duration;
use xinim_abi::hw::e1000::{Cause, CtrlExt, ITR_UNIT_NS, MSIX_VECTORS, ivar, reg};
use xinim_abi::hw::pci::{self as hw, Command};

/// MSI-X causes and where IVAR has their vectors.
const VECTORED: [(Cause, u32); 5] = [
    (Cause::RXQ0, ivar::RXQ0_SHIFT),
    (Cause::RXQ1, ivar::RXQ1_SHIFT),
    (Cause::TXQ0, ivar::TXQ0_SHIFT),
    (Cause::TXQ1, ivar::TXQ1_SHIFT),
    (Cause::OTHER, ivar::OTHER_SHIFT),
];

#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    /// Causes announced and still set and unmasked.
    announced: u32,
    line: bool,
    /// Before these times nothing is announced: by vector; 0 also without MSI-X.
    not_before: [Duration; MSIX_VECTORS as usize],
    /// When one of them matters.
    pub deadline: Option<Duration>,
}

impl E1000 {
    fn msix_on(&self) -> bool {
        self.msix.as_ref().is_some_and(|msix| msix.enabled())
    }

    /// Sets causes; delivery follows in [`Self::update_interrupt`].
    pub(super) fn raise(&mut self, mut causes: Cause) {
        if self.model.is_82574() && causes.intersects(Cause::OTHERS) {
            causes |= Cause::OTHER;
        }
        self.regs[reg::ICR] |= causes.bits();
    }

    /// ICR as read, with what reading does (8254x 13.4; 82574 10.2.4: without MSI-X masks and
    /// clears only when the interrupt was the device's, or no cause is enabled).
    pub(super) fn read_icr(&mut self) -> u32 {
        let value = self.regs[reg::ICR];
        if !self.model.is_82574() {
            self.regs[reg::ICR] = 0;
            return value;
        }
        let asserted = value & Cause::ASSERTED.bits() != 0;
        if self.regs[reg::IMS] == 0 || asserted {
            self.regs[reg::ICR] = 0;
            if asserted && self.regs[reg::CTRL_EXT] & CtrlExt::IAME.bits() != 0 {
                self.regs[reg::IMS] &= !self.regs[reg::IAM];
            }
        }
        value
    }

    /// Brings the outputs in line with causes, masks and the clock.
    pub(super) fn update_interrupt(&mut self, origin: &Origin) {
        let now = self.clock.monotonic();
        self.interrupt.deadline = None;
        let causes = !Cause::ASSERTED.bits();
        let active = self.regs[reg::ICR] & self.regs[reg::IMS] & causes;
        self.interrupt.announced &= active;
        if active == 0 {
            self.regs[reg::ICR] &= causes;
        } else if self.model.is_82574() {
            self.regs[reg::ICR] |= Cause::ASSERTED.bits();
        }
        if self.msix_on() {
            self.set_line(false, origin);
            self.announce_vectors(now, origin);
            return;
        }
        let new = active & !self.interrupt.announced != 0;
        if new && self.throttled(0, now) {
            // A line that is up stays so: its interrupt has not been taken yet.
            self.set_line(self.interrupt.line && active != 0, origin);
            return;
        }
        if new {
            self.interrupt.announced = active;
            self.interrupt.not_before[0] = now + interval(self.regs[reg::ITR]);
            self.count_interrupt();
            if let Some(msi) = &mut self.msi {
                msi.signal(&self.config, origin);
            }
        }
        let msi = self.msi.as_ref().is_some_and(|msi| msi.enabled(&self.config));
        self.set_line(active != 0 && !msi, origin);
    }

    /// Whether vector `index` may not interrupt yet; then asks for the time when it may.
    fn throttled(&mut self, index: usize, now: Duration) -> bool {
        let at = self.interrupt.not_before[index];
        if at <= now {
            return false;
        }
        let deadline = self.interrupt.deadline.map_or(at, |deadline| deadline.min(at));
        self.interrupt.deadline = Some(deadline);
        true
    }

    fn announce_vectors(&mut self, now: Duration, origin: &Origin) {
        for (cause, shift) in VECTORED {
            let entry = self.regs[reg::IVAR] >> shift;
            let bit = cause.bits();
            let active = self.regs[reg::ICR] & self.regs[reg::IMS] & bit != 0;
            let vector = entry & ivar::VECTOR_MASK;
            let valid = entry & ivar::VALID != 0 && vector < u32::from(MSIX_VECTORS);
            if !active || !valid || self.interrupt.announced & bit != 0 {
                continue;
            }
            let index = vector as usize;
            if self.throttled(index, now) {
                continue;
            }
            self.interrupt.announced |= bit;
            self.interrupt.not_before[index] = now + interval(self.regs[reg::EITR + 4 * vector]);
            self.count_interrupt();
            if let Some(msix) = &mut self.msix {
                msix.signal(vector as u16, origin);
            }
            // The cause and its mask both (82574 7.4.3).
            if self.regs[reg::EIAC] & bit != 0 {
                self.regs[reg::ICR] &= !bit;
                self.regs[reg::IMS] &= !bit;
                self.interrupt.announced &= !bit;
            }
            // Only what belongs to this message (82574 10.2.2.5): other vectors' handlers would
            // not unmask theirs.
            if self.regs[reg::CTRL_EXT] & CtrlExt::EIAME.bits() != 0 {
                self.regs[reg::IMS] &= !(self.regs[reg::IAM] & bit);
            }
        }
    }

    fn count_interrupt(&mut self) {
        if self.model.is_82574() {
            super::stats::count(&mut self.regs, reg::IAC);
        }
    }

    fn set_line(&mut self, level: bool, origin: &Origin) {
        let status = self.config.get(hw::STATUS, 1) as u8;
        let bit = hw::Status::INTERRUPT.bits() as u8;
        self.config.set_u8(hw::STATUS, if level { status | bit } else { status & !bit });
        let level = level && !self.config.command().contains(Command::INTX_DISABLE);
        if level != self.interrupt.line {
            self.interrupt.line = level;
            if let Some(line) = &self.intx {
                self.tracer.emit(origin, || EventKind::Line { level });
                line.set(level);
            }
        }
    }

    /// After a reset: nothing announced, no throttle.
    pub(super) fn reset_interrupt(&mut self, origin: &Origin) {
        self.set_line(false, origin);
        self.interrupt = Interrupt::default();
    }
}

/// Shortest time between interrupts that an ITR value asks for.
fn interval(value: u32) -> Duration {
    Duration::from_nanos(u64::from(value & 0xFFFF) * ITR_UNIT_NS)
}
