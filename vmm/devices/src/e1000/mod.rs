//! Intel gigabit Ethernet: 82540EM, 82545EM and 82574L, one model with the differences where the
//! chips have them (8254x SDM, 82574 datasheet; see `xinim_abi::hw::e1000`).
//!
//! ```text
//!            guest                                        host
//!   TDT --> tx.rs: descriptors --> packet --> tso.rs --> net::Port --> back end
//!   RDT <-- rx.rs: FIFO (PBA) <-- filter.rs <----------- net::Port <-- back end
//!            interrupt.rs: ICR/IMS, ITR, timers     phy.rs, nvm.rs: MDIC, EEPROM
//! ```
//! * Interrupts: every model has an MSI capability, as the real parts do, and INTx where the
//!   machine wires it; the 82574L has MSI-X as well.
//! * A frame that finds no descriptor waits in the packet buffer (RNBC counts it), whose size PBA
//!   sets. A full buffer loses frames (MPC, RXO), unless the driver has turned on sending of pause
//!   frames: then they stay with the host (XOFFTXC).
//! * Without a link nothing is sent: descriptors wait, as on the real parts.
//!
//! Not modelled: I/O port access to the registers, flash, management firmware, SerDes, transmit
//! FIFO tests, time stamps, ACK interrupts, descriptor prefetch thresholds (each descriptor is
//! written back at once). The machine has no wire for PME: a wake event shows in WUS and WUC only.

mod filter;
mod interrupt;
mod nvm;
mod phy;
mod power;
mod registers;
mod regs;
mod rss;
mod rx;
mod stats;
mod tso;
mod tx;

pub use phy::AUTONEG_TIME;

use crate::backend::Clock;
use crate::device::{Access, Action, GuestError, Op, Origin, Outcome};
use crate::dma::Dma;
use crate::irq::{IrqLine, MsiSink};
use crate::net::{NetBackend, NetDevice, Port, Timer};
use crate::pci::config::ConfigError;
use crate::pci::{BarSpec, ConfigSpace, Identity, Msix, PciDevice, msi::Msi, msix};
use crate::trace::Tracer;
use interrupt::Interrupt;
use nvm::Nvm;
use phy::Phy;
use regs::Regs;
use rx::Receiver;
use std::sync::Arc;
use std::time::Duration;
use tx::Transmitter;
use xinim_abi::hw::e1000::{
    BAR_SIZE, Cause, Ctrl, MSIX_BAR, MSIX_VECTORS, Model, RAH_AV, REGISTER_BAR, Status, VENDOR, reg,
};
use xinim_abi::hw::pci::{self as hw, Bdf, Command};
use xinim_abi::hw::register::find;

/// Subsystem id: ours, not one of Intel's boards.
const SUBSYSTEM: u16 = 0x5849;
/// `notify_queue` of a card: continue everything.
const WORK: u16 = 0;

/// What the machine gives a card.
pub struct E1000Config {
    /// Name in the trace: `e1000.0`.
    pub name: String,
    pub model: Model,
    /// Station address in the EEPROM.
    pub mac: [u8; 6],
    /// Whether the cable is in.
    pub link: bool,
    pub dma: Arc<dyn Dma>,
    pub msi: Arc<dyn MsiSink>,
    /// INTx wire; without one the function has no interrupt pin.
    pub intx: Option<Arc<dyn IrqLine>>,
    pub clock: Arc<dyn Clock>,
    pub timer: Arc<dyn Timer>,
    pub tracer: Tracer,
}

/// The card.
pub struct E1000 {
    // Fixed configuration
    name: String,
    model: Model,
    msix_capability: usize,
    power_capability: usize,
    qemu_dialect: bool,
    // Glue
    dma: Arc<dyn Dma>,
    intx: Option<Arc<dyn IrqLine>>,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    tracer: Tracer,
    net: Port,
    // Volatile state
    config: ConfigSpace,
    msi: Option<Msi>,
    msix: Option<Msix>,
    regs: Regs,
    nvm: Nvm,
    phy: Phy,
    interrupt: Interrupt,
    receiver: Receiver,
    transmitter: Transmitter,
    /// STATUS.LU as last told to the driver.
    link: bool,
    armed: Option<Duration>,
}

impl E1000 {
    pub fn new(setup: E1000Config, backend: Box<dyn NetBackend>) -> Result<Self, ConfigError> {
        let model = setup.model;
        let tracer = setup.tracer.named(&setup.name);
        let mut config = ConfigSpace::new(&Identity {
            vendor: VENDOR,
            device: model.device_id(),
            revision: if model.is_82574() { 0 } else { 2 },
            class: [0x02, 0x00, 0x00],
            subsystem_vendor: VENDOR,
            subsystem: SUBSYSTEM,
            interrupt_pin: u8::from(setup.intx.is_some()),
        });
        let registers = BarSpec { size: BAR_SIZE, is_64: false, prefetchable: false };
        config.add_bar(usize::from(REGISTER_BAR), registers)?;
        // Capabilities are where the chips have them.
        let (mut msix, mut msix_capability) = (None, 0);
        if model.is_82574() {
            let table = BarSpec { size: msix::BAR_SIZE, is_64: false, prefetchable: false };
            config.add_bar(usize::from(MSIX_BAR), table)?;
            let vectors = Msix::new(MSIX_VECTORS, setup.msi.clone(), tracer.clone());
            let body = vectors.capability(MSIX_BAR);
            msix_capability = config.add_capability_at(0xA0, &body, hw::MSIX_CAPABILITY)?;
            msix = Some(vectors);
        }
        let (power_at, msi_at) = if model.is_82574() { (0xC8, 0xD0) } else { (0xDC, 0xF0) };
        let power_capability = power::add_capability(&mut config, power_at)?;
        let msi = Msi::new(&mut config, msi_at, setup.msi, tracer.clone())?;
        let now = setup.clock.monotonic();
        let mut card = Self {
            name: setup.name,
            model,
            msix_capability,
            power_capability,
            qemu_dialect: false,
            dma: setup.dma,
            intx: setup.intx,
            clock: setup.clock,
            timer: setup.timer,
            tracer,
            net: Port::new(backend),
            config,
            msi: Some(msi),
            msix,
            regs: Regs::new(model),
            nvm: Nvm::new(model, setup.mac),
            phy: Phy::new(model, setup.link, now),
            interrupt: Interrupt::default(),
            receiver: Receiver::default(),
            transmitter: Transmitter::default(),
            link: false,
            armed: None,
        };
        card.load_address();
        card.arm();
        Ok(card)
    }

    /// The same card as QEMU's own tests know it: the link needs no CTRL.SLU, which a reset clears.
    pub fn in_qemu_dialect(self) -> Self {
        Self { qemu_dialect: true, ..self }
    }

    fn bus_master(&self) -> bool {
        self.config.command().contains(Command::BUS_MASTER) && !self.asleep()
    }

    fn ctrl(&self) -> Ctrl {
        Ctrl::from_bits_retain(self.regs[reg::CTRL])
    }

    /// Whether frames go over the wire: the driver wants the link and the PHY has one.
    fn link_up(&self) -> bool {
        let wanted = self.qemu_dialect || self.ctrl().contains(Ctrl::SLU);
        wanted && self.phy.link().is_some()
    }

    /// STATUS, from what it reports.
    fn status(&self) -> u32 {
        let mut status = match self.phy.link() {
            Some(link) => match link.speed {
                1000 => Status::SPEED_1000 | Status::ASDV_1000,
                100 => Status::SPEED_100 | Status::ASDV_100,
                _ => Status::empty(),
            },
            None => Status::SPEED_1000 | Status::ASDV_1000,
        };
        status.set(Status::FD, self.phy.link().is_none_or(|link| link.full_duplex));
        status.set(Status::LU, self.link_up());
        status.set(Status::TXOFF, self.transmitter.paused.is_some());
        if self.model.is_82574() {
            status |= Status::PHYRA;
            status.set(Status::GIO_MASTER_ENABLE, !self.ctrl().contains(Ctrl::GIO_MASTER_DISABLE));
        } else {
            status |= Status::PCI66;
        }
        status.bits() | self.regs[reg::STATUS]
    }

    /// The station address from the EEPROM into the first receive address (8254x 5.6).
    fn load_address(&mut self) {
        let [a, b, c, d, e, f] = self.nvm.mac();
        self.regs[reg::RAL] = u32::from_le_bytes([a, b, c, d]);
        self.regs[reg::RAH] = u32::from(u16::from_le_bytes([e, f])) | RAH_AV;
    }

    /// Software reset (CTRL.RST): everything but configuration space, PHY, EEPROM, the size of
    /// the packet buffer, which takes effect with it, and wake-up state.
    fn software_reset(&mut self, origin: &Origin) {
        let kept = [reg::PBA, reg::WUC, reg::WUS].map(|offset| (offset, self.regs[offset]));
        self.regs = Regs::new(self.model);
        for (offset, value) in kept {
            self.regs[offset] = value;
        }
        self.load_address();
        self.receiver = Receiver::default();
        self.transmitter = Transmitter::default();
        self.net.reset();
        // A link that comes up again is announced again.
        self.link = false;
        self.reset_interrupt(origin);
    }

    /// Tells the driver of a change of STATUS.LU.
    fn update_link(&mut self) {
        if self.phy.interrupt() {
            self.raise(Cause::PHYINT);
        }
        let up = self.link_up();
        if up != self.link {
            self.link = up;
            self.raise(Cause::LSC);
            self.wake_link();
        }
    }

    /// What a read may have changed: causes that are gone, and time.
    fn refresh(&mut self, origin: &Origin) {
        self.phy.expire(self.clock.monotonic());
        self.update_link();
        self.update_interrupt(origin);
        self.arm();
    }

    /// Everything that may have become possible or due; returns whether work is left.
    fn settle(&mut self, origin: &Origin) -> bool {
        let now = self.clock.monotonic();
        self.phy.expire(now);
        self.update_link();
        self.expire_receive(now);
        self.expire_transmit(now);
        let more = self.transmit(origin) | self.receive(origin);
        self.update_interrupt(origin);
        self.arm();
        more
    }

    /// Asks for the next time that matters.
    fn arm(&mut self) {
        let deadlines = [
            self.phy.deadline(),
            self.interrupt.deadline,
            self.receiver.deadline(),
            self.transmitter.deadline(),
        ];
        let next = deadlines.into_iter().flatten().min();
        if next != self.armed {
            self.armed = next;
            self.timer.arm(next);
        }
    }

    fn register_access(&mut self, access: Access) -> Outcome {
        let offset = access.offset as u32;
        if access.size == 8 {
            // A bridge splits it.
            let half = |at: u64, op| Access { offset: access.offset + at, size: 4, op, ..access };
            let (low_op, high_op) = match access.op {
                Op::Read => (Op::Read, Op::Read),
                Op::Write(value) => (Op::Write(value & 0xFFFF_FFFF), Op::Write(value >> 32)),
            };
            let low = self.register_access(half(0, low_op));
            let high = self.register_access(half(4, high_op));
            let error = low.error.or(high.error);
            return Outcome {
                value: low.value | high.value << 32,
                error,
                action: low.action.or(high.action),
                ..low
            };
        }
        let Some((table, at, index)) =
            xinim_abi::hw::e1000::registers::locate(self.model, offset & !3)
        else {
            return Outcome::value(0).with_error(GuestError::NoRegister);
        };
        let Some(register) = find(table, at, access.is_write()) else {
            return Outcome::value(0).with_error(GuestError::NoRegister);
        };
        let whole = access.size == 4 && offset.is_multiple_of(4);
        let old = u64::from(self.regs[offset & !3]);
        let mut outcome = match access.op {
            Op::Read => {
                let shift = 8 * (offset & 3);
                let value = self.read_register(offset & !3);
                let outcome = Outcome::value(u64::from(value) >> shift);
                if whole { outcome } else { outcome.with_error(GuestError::BadSize) }
            }
            Op::Write(_) if !whole => Outcome::done().with_error(GuestError::BadSize),
            Op::Write(value) => {
                let result = self.write_register(register, offset, value as u32, &access.origin);
                match result {
                    Ok(()) => Outcome::done().over(old),
                    Err(error) => Outcome::done().over(old).with_error(error),
                }
            }
        }
        .at(table, at);
        if let Some(decode) = &mut outcome.decode {
            decode.index = index;
        }
        if !access.is_write() {
            self.refresh(&access.origin);
            return outcome;
        }
        if self.settle(&access.origin) {
            // The bus fills in which function it is.
            let function = Bdf::new(0, 0, 0);
            return outcome.with_action(Action::NotifyAgain { function, queue: WORK });
        }
        outcome
    }
}

impl PciDevice for E1000 {
    fn name(&self) -> &str {
        &self.name
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_access(&mut self, access: Access) -> Outcome {
        let was_asleep = self.asleep();
        let outcome = self.config.access(access);
        if !access.is_write() {
            return outcome;
        }
        self.power_written(access.offset as usize, was_asleep, &access.origin);
        if let Some(msi) = &mut self.msi {
            msi.update(&self.config);
        }
        let bus_master = self.bus_master();
        if let Some(msix) = &mut self.msix {
            let at = self.msix_capability + hw::msix::MESSAGE_CONTROL;
            msix.control(self.config.get(at, 2) as u16, bus_master, &access.origin);
        }
        // Bus mastering may have come: what waited for it goes on.
        if self.settle(&access.origin) {
            let function = Bdf::new(0, 0, 0);
            return outcome.with_action(Action::NotifyAgain { function, queue: WORK });
        }
        outcome
    }

    fn bar_access(&mut self, bar: u8, access: Access) -> Outcome {
        match (bar, &mut self.msix) {
            (REGISTER_BAR, _) => self.register_access(access),
            (MSIX_BAR, Some(msix)) => msix.access(access),
            _ => Outcome::error(GuestError::Unclaimed, access.size),
        }
    }

    fn notify_queue(&mut self, _queue: u16, origin: &Origin) -> bool {
        self.settle(origin)
    }

    fn reset(&mut self) {
        let origin = Origin::default();
        self.config.reset();
        // What a software reset keeps, too.
        self.regs = Regs::new(self.model);
        self.software_reset(&origin);
        self.phy.reset(self.clock.monotonic());
        if let Some(msix) = &mut self.msix {
            msix.reset();
        }
        if let Some(msi) = &mut self.msi {
            msi.update(&self.config);
        }
        self.arm();
    }
}

impl NetDevice for E1000 {
    fn input_ready(&mut self, origin: &Origin) -> bool {
        self.settle(origin)
    }

    fn output_ready(&mut self, origin: &Origin) -> bool {
        self.settle(origin)
    }

    fn timer(&mut self, origin: &Origin) -> bool {
        self.armed = None;
        self.settle(origin)
    }

    fn set_link(&mut self, up: bool, origin: &Origin) {
        self.phy.set_cable(up, self.clock.monotonic());
        self.settle(origin);
    }

    fn link(&self) -> bool {
        self.phy.cable()
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
