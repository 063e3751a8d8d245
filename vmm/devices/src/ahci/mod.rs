//! AHCI 1.3.1 host bus adapter as a PCI function, with the identity of q35's (Intel ICH9, 8086:2922).
//!
//! ```text
//!   config space  MSI at 0x80, port control 0x92, INTx          pci_access
//!   ABAR (BAR5)   CAP GHC IS PI VS CAP2 BOHC                    registers.rs
//!                 ports at 0x100 + n * 0x80                     port.rs (registers, link)
//!
//!   PxCI written --> engine.rs: header, CFIS, PRDT (prdt.rs) --> drive (ata/, atapi/)
//!                       |                                           |
//!   PxIS, IS, MSI <-- frames.rs: D2H, PIO, DMA setup, SDB <---- back end's completions
//! ```
//! Offered: NCQ of depth 32, 64-bit addresses, command list override, hot-plug on every port,
//! staggered spin-up if asked for, BIOS hand-off. Not offered: port multipliers, FIS-based
//! switching, command completion coalescing, enclosure management, link power management.
//!
//! The device has no clock. What takes time on hardware (a link coming up after power-on or HBA
//! reset, a BIOS letting go) takes a few looks at the register that shows it.
//!
//! A reset, a stopped port and a removed drive are over when the back end has let go of the
//! guest's memory: until then GHC.HR, PxCMD.CR and PxTFD.STS.BSY stay set.

pub mod ata;
pub mod atapi;
mod bays;
mod engine;
mod frames;
mod link;
mod port;
mod prdt;
mod registers;

pub use ata::AtaConfig;
pub use atapi::Tray;

use crate::backend::{BayError, BlockBackend, Drive, DriveBays};
use crate::device::{Access, Action, GuestError, Origin, Outcome};
use crate::dma::Dma;
use crate::irq::{IrqLine, MsiSink};
use crate::pci::config::ConfigError;
use crate::pci::{BarSpec, ConfigSpace, Identity, Msi, PciDevice};
use crate::trace::{EventKind, Owner, Tracer};
use crate::virtio::Context;
use port::Port;
use std::sync::Arc;
use xinim_abi::hw::ahci::{self as hw, Bohc, Cap, Cap2};
use xinim_abi::hw::pci::{self, Bdf, Command};

/// Where the controller is in every machine.
pub const PLACE: Bdf = Bdf::new(0, 0x1F, 2);
/// Ports of the controller of a machine that does not need more, as many as an ICH9 has.
pub const DEFAULT_PORTS: u8 = 6;
/// MSI capability, where an ICH9 has it.
const MSI_OFFSET: usize = 0x80;
/// Port control and status of an ICH9 (its data sheet's PCS): a bit per port, set by firmware. It
/// has no effect here.
const PORT_CONTROL: usize = 0x92;
/// Looks at a register until what takes time has happened.
const LOOKS: u8 = 3;

/// What the machine gives the controller.
pub struct AhciConfig {
    /// Name in the trace.
    pub name: String,
    /// Ports implemented, 1 to 32.
    pub ports: u8,
    /// CAP.SSS: links wait for PxCMD.SUD.
    pub staggered_spin_up: bool,
    /// A BIOS owns the controller at first (BOHC.BOS).
    pub bios_owned: bool,
    /// Where QEMU's controller differs from the specification and its tests insist on it: VS is
    /// 1.3, PxIS.DPS is never set, PIO reads end with a D2H FIS, and 28-bit commands count in 16
    /// bits.
    pub qemu_dialect: bool,
    pub dma: Arc<dyn Dma>,
    pub msi: Arc<dyn MsiSink>,
    /// INTA wire; without one the function has no interrupt pin.
    pub intx: Option<Arc<dyn IrqLine>>,
    /// The bus's tracer; renamed for the device.
    pub tracer: Tracer,
}

impl AhciConfig {
    /// [`DEFAULT_PORTS`], no INTx, no trace, everything else off.
    pub fn new(name: &str, dma: Arc<dyn Dma>, msi: Arc<dyn MsiSink>) -> Self {
        Self {
            name: name.to_owned(),
            ports: DEFAULT_PORTS,
            staggered_spin_up: false,
            bios_owned: false,
            qemu_dialect: false,
            dma,
            msi,
            intx: None,
            tracer: Tracer::off(),
        }
    }
}

/// The controller.
pub struct Ahci {
    // Fixed configuration
    name: String,
    cap: Cap,
    cap2: Cap2,
    version: u32,
    bios_owned: bool,
    // Glue
    dma: Arc<dyn Dma>,
    intx: Option<Arc<dyn IrqLine>>,
    tracer: Tracer,
    // Volatile state
    config: ConfigSpace,
    msi: Msi,
    ports: Vec<Port>,
    interrupts_enabled: bool,
    /// GHC.IS
    pending: u32,
    bohc: Bohc,
    /// Looks at BOHC until the BIOS has let go; 0: it has, or was never asked.
    bios_looks: u8,
    /// GHC.HR: ports have requests in flight that the reset waits for.
    resetting: bool,
    line: bool,
}

impl Ahci {
    pub fn new(setup: AhciConfig) -> Result<Self, ConfigError> {
        let tracer = setup.tracer.named(&setup.name);
        let count = setup.ports.clamp(1, hw::MAX_PORTS as u8);
        let mut config = ConfigSpace::new(&Identity {
            vendor: 0x8086,
            device: 0x2922,
            revision: 2,
            class: hw::PCI_CLASS,
            subsystem_vendor: 0,
            subsystem: 0,
            interrupt_pin: u8::from(setup.intx.is_some()),
        });
        let size = hw::abar_size(usize::from(count)).next_power_of_two().max(0x1000) as u64;
        config
            .add_bar(usize::from(hw::ABAR), BarSpec { size, is_64: false, prefetchable: false })?;
        let msi = Msi::new(&mut config, MSI_OFFSET, setup.msi, tracer.clone())?;
        config.make_writable(PORT_CONTROL, 1);
        let mut cap = Cap::SAM | Cap::SCLO | Cap::SNCQ | Cap::S64A | Cap::PMD;
        cap.set(Cap::SSS, setup.staggered_spin_up);
        let numbers = u32::from(count - 1) | (hw::MAX_SLOTS as u32 - 1) << 8 | link::SPEED << 20;
        let dialect = port::Dialect {
            descriptor_interrupts: !setup.qemu_dialect,
            register_after_pio_in: setup.qemu_dialect,
            wide_counts: setup.qemu_dialect,
        };
        let port = |number| Port::new(number, setup.staggered_spin_up, dialect);
        let mut hba = Self {
            name: setup.name,
            cap: cap | Cap::from_bits_retain(numbers),
            cap2: Cap2::BOH,
            version: if setup.qemu_dialect { 0x0001_0300 } else { hw::VERSION_1_3_1 },
            bios_owned: setup.bios_owned,
            dma: setup.dma,
            intx: setup.intx,
            tracer,
            config,
            msi,
            ports: (0..count).map(port).collect(),
            interrupts_enabled: false,
            pending: 0,
            bohc: Bohc::empty(),
            bios_looks: 0,
            resetting: false,
            line: false,
        };
        hba.power_on();
        Ok(hba)
    }

    /// Puts a drive where there is none, before the machine runs: its link comes up as after
    /// power-on. `config` says more of what it is called than its serial number.
    pub fn install(
        &mut self,
        unit: u16,
        drive: Drive,
        config: Option<AtaConfig>,
    ) -> Result<(), BayError> {
        self.bay(unit)?.install(drive, config)
    }

    /// The tray of the CD-ROM drive at a port.
    pub fn tray(&self, unit: u16) -> Option<Tray> {
        self.ports.get(usize::from(unit))?.tray()
    }

    /// The back end of the drive at a port, for tests.
    pub fn backend_mut(&mut self, unit: u16) -> Option<&mut (dyn BlockBackend + 'static)> {
        self.ports.get_mut(usize::from(unit))?.backend_mut()
    }

    fn bus_master(&self) -> bool {
        self.config.command().contains(Command::BUS_MASTER)
    }

    /// Lets a port work, then raises what is due. Whether work is left.
    fn serve(&mut self, index: usize, origin: &Origin) -> Result<bool, GuestError> {
        let master = self.bus_master();
        let Some(port) = self.ports.get_mut(index) else { return Ok(false) };
        let context =
            Context { dma: &*self.dma, tracer: &self.tracer, origin, owner: Owner::Unknown };
        let more = port.serve(&context, master);
        let idle = port.wants_dma() && !master;
        self.settle(origin);
        if idle { Err(GuestError::BusMasterOff) } else { Ok(more) }
    }

    /// Ends an HBA reset whose ports have come to rest, and brings interrupts up to date.
    fn settle(&mut self, origin: &Origin) {
        if self.resetting && self.ports.iter().all(Port::at_rest) {
            self.resetting = false;
        }
        self.update_interrupts(origin, false);
    }

    /// GHC.IS follows the ports (it is sticky); messages go out for bits that are new, and again
    /// if `again` and any bit is set.
    fn update_interrupts(&mut self, origin: &Origin, again: bool) {
        let raised = (0u32..)
            .zip(&self.ports)
            .fold(0, |bits, (number, port)| bits | u32::from(port.wants_interrupt()) << number);
        let new = raised & !self.pending;
        self.pending |= raised;
        let active = self.pending != 0 && self.interrupts_enabled;
        if active && (new != 0 || again) {
            self.msi.signal(&self.config, origin);
        }
        self.update_line(active, origin);
    }

    /// INTx, unless the command register or MSI forbids it.
    fn update_line(&mut self, active: bool, origin: &Origin) {
        let disabled = self.config.command().contains(Command::INTX_DISABLE);
        let level = active && !disabled && !self.msi.enabled(&self.config);
        let status = self.config.get(pci::STATUS, 1) as u8;
        let bit = pci::Status::INTERRUPT.bits() as u8;
        self.config.set_u8(pci::STATUS, if active { status | bit } else { status & !bit });
        if level != self.line {
            self.line = level;
            if let Some(line) = &self.intx {
                self.tracer.emit(origin, || EventKind::Line { level });
                line.set(level);
            }
        }
    }

    fn power_on(&mut self) {
        self.interrupts_enabled = false;
        self.pending = 0;
        self.bohc = if self.bios_owned { Bohc::BOS } else { Bohc::empty() };
        self.bios_looks = 0;
        self.resetting = false;
        self.ports.iter_mut().for_each(Port::power_on);
    }
}

impl PciDevice for Ahci {
    fn name(&self) -> &str {
        &self.name
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_access(&mut self, access: Access) -> Outcome {
        let outcome = self.config.access(access);
        if !access.is_write() {
            return outcome;
        }
        self.msi.update(&self.config);
        self.update_interrupts(&access.origin, false);
        // Commands may have waited for bus mastering.
        let mut more = None;
        for index in 0..self.ports.len() {
            if self.ports[index].wants_dma() && self.serve(index, &access.origin) == Ok(true) {
                more = Some(index);
            }
        }
        more.map_or(outcome, |port| outcome.with_action(again(port)))
    }

    fn bar_access(&mut self, bar: u8, access: Access) -> Outcome {
        if bar == hw::ABAR {
            self.register_access(access)
        } else {
            Outcome::error(GuestError::Unclaimed, access.size)
        }
    }

    fn notify_queue(&mut self, queue: u16, origin: &Origin) -> bool {
        self.serve(usize::from(queue), origin).unwrap_or(false)
    }

    fn bays(&mut self) -> Option<&mut dyn DriveBays> {
        Some(self)
    }

    fn reset(&mut self) {
        self.config.reset();
        self.msi.update(&self.config);
        self.power_on();
        self.settle(&Origin::default());
    }
}

/// More to do at a port; the bus fills in which function it is.
fn again(port: usize) -> Action {
    Action::NotifyAgain { function: PLACE, queue: port as u16 }
}

#[cfg(test)]
mod tests;
