//! The registers in the ABAR: splitting accesses, generic host control.
//!
//! Registers are dwords. A quadword is two of them, a narrower read a part of one. A narrower write
//! reaches the bits it covers only (the others keep their value, and are not taken as ones to
//! clear).

use super::port::{Port, Touched};
use super::{Ahci, LOOKS, again};
use crate::device::{Access, GuestError, Op, Outcome};
use xinim_abi::hw::ahci::{self as hw, Bohc, Ghc};
use xinim_abi::hw::register::{Direction, find, ones};

const PORT_BASE: u64 = hw::PORT_BASE as u64;
const PORT_SIZE: u64 = hw::PORT_SIZE as u64;

impl Ahci {
    pub(super) fn register_access(&mut self, access: Access) -> Outcome {
        if !access.offset.is_multiple_of(u64::from(access.size)) {
            return Outcome::error(GuestError::Unaligned, access.size);
        }
        if access.size == 8 {
            return self.quadword(access);
        }
        let shift = 8 * (access.offset % 4) as u32;
        let at = access.offset & !3;
        match access.op {
            Op::Read => {
                let outcome = self.read(at, &access);
                let value = outcome.value >> shift & ones(8 * access.size);
                self.decode(access, Outcome { value, ..outcome })
            }
            Op::Write(value) => {
                let old = self.peek(at).map(|old| u64::from(old) >> shift & ones(8 * access.size));
                let mask = (ones(8 * access.size) as u32) << shift;
                let outcome = self.write(at, (value as u32) << shift, mask, &access);
                self.decode(access, Outcome { old, ..outcome })
            }
        }
    }

    /// What a register holds, without what a look may bring about; for the trace.
    fn peek(&self, at: u64) -> Option<u32> {
        match at.checked_sub(PORT_BASE) {
            Some(inside) => {
                let port = self.ports.get((inside / PORT_SIZE) as usize)?;
                Some(port.peek((inside % PORT_SIZE) as usize))
            }
            None => match at as usize {
                hw::GHC => {
                    let mut ghc = Ghc::AE;
                    ghc.set(Ghc::IE, self.interrupts_enabled);
                    ghc.set(Ghc::HR, self.resetting);
                    Some(ghc.bits())
                }
                hw::IS => Some(self.pending),
                hw::BOHC => Some(self.bohc.bits()),
                _ => None,
            },
        }
    }

    fn quadword(&mut self, access: Access) -> Outcome {
        let half = |offset, op| Access { offset, size: 4, op, origin: access.origin };
        let (low_op, high_op) = match access.op {
            Op::Read => (Op::Read, Op::Read),
            Op::Write(value) => (Op::Write(value & 0xFFFF_FFFF), Op::Write(value >> 32)),
        };
        let low = self.register_access(half(access.offset, low_op));
        let high = self.register_access(half(access.offset + 4, high_op));
        Outcome {
            value: low.value | high.value << 32,
            decode: low.decode,
            error: low.error.or(high.error),
            action: low.action.or(high.action),
            old: low.old.zip(high.old).map(|(low, high)| low | high << 32),
        }
    }

    /// Adds where in which table the access fell, and what is wrong with it by the table.
    fn decode(&self, access: Access, outcome: Outcome) -> Outcome {
        let (table, offset) = match access.offset.checked_sub(PORT_BASE) {
            None => (hw::HBA, access.offset),
            Some(inside) => (hw::PORT, inside % PORT_SIZE),
        };
        let offset = offset as u32;
        let mut outcome = outcome.at(table, offset);
        if let (Some(inside), Some(decode)) =
            (access.offset.checked_sub(PORT_BASE), &mut outcome.decode)
        {
            decode.index = Some((inside / PORT_SIZE) as u16);
        }
        let fault = match find(table, offset, access.is_write()) {
            None => Some(GuestError::NoRegister),
            Some(r) if access.is_write() && r.direction == Direction::ReadOnly => {
                Some(GuestError::ReadOnly)
            }
            Some(_) => None,
        };
        // Reserved registers read as zero, and are read by whoever prints them all.
        let fault = fault.filter(|_| access.is_write());
        Outcome { error: outcome.error.or(fault), ..outcome }
    }

    fn read(&mut self, at: u64, access: &Access) -> Outcome {
        if let Some(inside) = at.checked_sub(PORT_BASE) {
            let Some(port) = self.ports.get_mut((inside / PORT_SIZE) as usize) else {
                return Outcome::value(0);
            };
            let value = port.read((inside % PORT_SIZE) as usize);
            // Looking may have let a link come up.
            self.settle(&access.origin);
            return Outcome::value(u64::from(value));
        }
        let value = match at as usize {
            hw::CAP => self.cap.bits(),
            hw::GHC => {
                let mut ghc = Ghc::AE;
                ghc.set(Ghc::IE, self.interrupts_enabled);
                ghc.set(Ghc::HR, self.resetting);
                ghc.bits()
            }
            hw::IS => self.pending,
            hw::PI => ones(self.ports.len() as u8) as u32,
            hw::VS => self.version,
            hw::CAP2 => self.cap2.bits(),
            hw::BOHC => self.look_at_bohc(),
            _ => 0,
        };
        Outcome::value(u64::from(value))
    }

    /// A BIOS that was asked to let go is busy for a while (10.6.3).
    fn look_at_bohc(&mut self) -> u32 {
        let now = self.bohc;
        if self.bios_looks > 0 {
            self.bios_looks -= 1;
            if self.bios_looks == 0 {
                self.bohc.remove(Bohc::BOS | Bohc::BB);
            }
        }
        now.bits()
    }

    fn write(&mut self, at: u64, value: u32, mask: u32, access: &Access) -> Outcome {
        if let Some(inside) = at.checked_sub(PORT_BASE) {
            let index = (inside / PORT_SIZE) as usize;
            return self.write_port(index, (inside % PORT_SIZE) as usize, value, mask, access);
        }
        let value = value & mask;
        match at as usize {
            hw::GHC => return self.write_ghc(value, mask, access),
            hw::IS => {
                self.pending &= !value;
                self.update_interrupts(&access.origin, true);
            }
            hw::BOHC => self.write_bohc(value, mask),
            _ => {}
        }
        Outcome::done()
    }

    fn write_ghc(&mut self, value: u32, mask: u32, access: &Access) -> Outcome {
        if value & Ghc::HR.bits() != 0 {
            self.hba_reset();
            self.settle(&access.origin);
            return Outcome::done();
        }
        if mask & Ghc::IE.bits() != 0 {
            let enabled = value & Ghc::IE.bits() != 0;
            let rising = enabled && !self.interrupts_enabled;
            self.interrupts_enabled = enabled;
            if rising {
                // A driver that waits for an interrupt does not look.
                self.ports.iter_mut().for_each(Port::hurry);
            }
            self.update_interrupts(&access.origin, rising);
        }
        Outcome::done()
    }

    /// HBA reset (10.4.3): everything but the base addresses and BOHC.
    fn hba_reset(&mut self) {
        self.interrupts_enabled = false;
        self.pending = 0;
        self.resetting = true;
        for port in &mut self.ports {
            port.reset();
        }
    }

    fn write_bohc(&mut self, value: u32, mask: u32) {
        let written = Bohc::from_bits_truncate(value);
        let asked = written.contains(Bohc::OOS) && !self.bohc.contains(Bohc::OOS);
        let settable = Bohc::from_bits_truncate(mask) & !Bohc::OOC;
        self.bohc = (self.bohc & !settable) | (written & settable);
        if written.contains(Bohc::OOC) {
            self.bohc.remove(Bohc::OOC);
        }
        if asked {
            self.bohc |= Bohc::OOC;
            if self.bios_owned && self.bohc.contains(Bohc::BOS) {
                self.bohc |= Bohc::BB;
                self.bios_looks = LOOKS;
            }
        }
    }

    fn write_port(
        &mut self,
        index: usize,
        register: usize,
        value: u32,
        mask: u32,
        access: &Access,
    ) -> Outcome {
        let Some(port) = self.ports.get_mut(index) else { return Outcome::done() };
        let touched = port.write(register, value, mask);
        let mut outcome = Outcome::done();
        match touched {
            Touched::Nothing => self.settle(&access.origin),
            Touched::Refused(error) => outcome = outcome.with_error(error),
            Touched::Work => match self.serve(index, &access.origin) {
                Ok(true) => outcome = outcome.with_action(again(index)),
                Ok(false) => {}
                Err(error) => outcome = outcome.with_error(error),
            },
        }
        outcome
    }
}
