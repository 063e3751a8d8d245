//! What reading and writing registers does besides moving their bits.

use super::{E1000, stats};
use crate::device::{GuestError, Origin};
use xinim_abi::hw::e1000::{Cause, Ctrl, CtrlExt, RDTR_FPD, Tctl, mdic, reg};
use xinim_abi::hw::register::{Direction, Register};

/// EXTCNF_CTRL: software has the MDIO bus.
const MDIO_SOFTWARE: u32 = 1 << 5;
/// SWSM: the semaphore between drivers.
const SMBI: u32 = 1;

impl E1000 {
    pub(super) fn read_register(&mut self, offset: u32) -> u32 {
        match offset {
            reg::STATUS => self.status(),
            reg::EECD => self.nvm.eecd(),
            reg::ICR => self.read_icr(),
            reg::ICS | reg::IMC => 0,
            reg::RDTR => self.regs[offset] & !RDTR_FPD,
            // Whoever reads 0 has taken the semaphore (82574 4.6.12).
            reg::SWSM => {
                let value = self.regs[offset];
                self.regs[offset] |= SMBI;
                value
            }
            reg::STATISTICS..reg::STATISTICS_END => stats::read(&mut self.regs, offset),
            _ => self.regs[offset],
        }
    }

    pub(super) fn write_register(
        &mut self,
        register: &Register,
        offset: u32,
        value: u32,
        origin: &Origin,
    ) -> Result<(), GuestError> {
        if register.direction == Direction::ReadOnly {
            return Err(GuestError::ReadOnly);
        }
        let old = self.regs[offset];
        let new = register.written(u64::from(old), u64::from(value)) as u32;
        let now = self.clock.monotonic();
        match offset {
            reg::CTRL => {
                let ctrl = Ctrl::from_bits_retain(new);
                if ctrl.contains(Ctrl::RST) {
                    self.software_reset(origin);
                    return Ok(());
                }
                if ctrl.contains(Ctrl::PHY_RST) {
                    self.phy.reset(now);
                }
                self.regs[offset] = (ctrl - Ctrl::PHY_RST).bits();
            }
            reg::CTRL_EXT => {
                if new & CtrlExt::EE_RST.bits() != 0 {
                    self.load_address();
                }
                self.regs[offset] = new & !CtrlExt::EE_RST.bits();
            }
            reg::EECD => self.nvm.set_eecd(value),
            reg::EERD => self.regs[offset] = self.nvm.eerd(new),
            reg::EEWR => self.regs[offset] = self.nvm.eewr(new),
            reg::MDIC => self.mdic(new),
            reg::ICR => self.regs[offset] = new,
            reg::ICS => self.raise(Cause::from_bits_retain(value)),
            reg::IMS => self.regs[reg::IMS] |= value & !Cause::ASSERTED.bits(),
            reg::IMC => self.regs[reg::IMS] &= !value,
            reg::TCTL => {
                let tctl = Tctl::from_bits_retain(new);
                if tctl.contains(Tctl::SWXOFF) && self.link_up() {
                    stats::count(&mut self.regs, reg::XOFFTXC);
                }
                self.regs[offset] = (tctl - Tctl::SWXOFF).bits();
            }
            reg::PBA => {
                // What is not for reception is for transmission.
                let total = if self.model.is_82574() { 40 } else { 64 };
                let receive = (value & 0xFFFF).min(total);
                self.regs[offset] = receive | (total - receive) << 16;
            }
            reg::RDTR => {
                self.regs[offset] = new & !RDTR_FPD;
                if new & RDTR_FPD != 0 {
                    self.flush_receive();
                }
            }
            reg::SWSM => self.regs[offset] = value & 3,
            reg::EXTCNF_CTRL => {
                // Nobody else wants the MDIO bus: a request is granted.
                self.regs[offset] = new & MDIO_SOFTWARE | old & !MDIO_SOFTWARE;
            }
            _ => self.regs[offset] = new,
        }
        Ok(())
    }

    /// A PHY access. It is done at once; a driver still has to look for READY.
    fn mdic(&mut self, value: u32) {
        let number = value >> mdic::REGISTER_SHIFT & mdic::REGISTER_MASK;
        let here = value >> mdic::PHY_SHIFT & mdic::PHY_MASK == mdic::PHY_ADDRESS;
        let kept = value & !mdic::ERROR | mdic::READY;
        let now = self.clock.monotonic();
        self.regs[reg::MDIC] = match value & (mdic::READ | mdic::WRITE) {
            mdic::READ if here => kept & !mdic::DATA_MASK | u32::from(self.phy.read(number)),
            mdic::WRITE if here => {
                self.phy.write(number, value as u16, now);
                kept
            }
            _ => kept | mdic::ERROR,
        };
        if value & mdic::INTERRUPT != 0 {
            self.raise(Cause::MDAC);
        }
    }
}
