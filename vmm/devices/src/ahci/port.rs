//! One port: its registers (3.3) and what they do. The link is in `link.rs`, commands in
//! `engine.rs`.
//!
//! ```text
//!               ST=1                    error (TFES, HBFS, HBDS, IFS)
//!   stopped ------------> running ------------------------------> halted
//!      ^                    |  ST=0                                 | ST=0
//!      |                    v                                       |
//!      +---- at rest --- stopping (CR=1 while the back end still <--+
//!                                  has the guest's memory)
//! ```
//! A reset (HBA, COMRESET) and the loss of the drive stop the port the same way, except that ST stays
//! as it is after the latter two; commands are taken up again only with a link and a drive.

use super::engine::Engine;
use super::frames::Ending;
use super::link::Link;
use super::prdt::Regions;
use super::{LOOKS, ata, atapi};
use crate::backend::{BlockBackend, Completion};
use crate::device::GuestError;
use crate::virtio::Context;
use xinim_abi::hw::ahci::{self as hw, PortCmd, PortError, PortInterrupt};
use xinim_abi::hw::ata::Status;
use xinim_abi::hw::register::find;

/// What is attached.
pub(super) enum Unit {
    Disk(ata::AtaDisk),
    CdRom(atapi::CdRom),
}

/// See [`super::AhciConfig::qemu_dialect`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub descriptor_interrupts: bool,
    pub register_after_pio_in: bool,
    pub wide_counts: bool,
}

/// What a register write calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// Interrupts may have changed.
    Nothing,
    /// There may be commands to carry out, or frames to post.
    Work,
    Refused(GuestError),
}

/// A port. Fields are shared with `link.rs`, `engine.rs` and `frames.rs`.
pub(super) struct Port {
    // Fixed configuration
    pub number: u8,
    pub staggered: bool,
    pub dialect: Dialect,
    // Glue
    pub unit: Option<Unit>,
    /// Back ends of drives that are gone, with requests in flight.
    pub leaving: Vec<Box<dyn BlockBackend>>,
    // Volatile state
    pub clb: u64,
    pub fb: u64,
    pub is: PortInterrupt,
    pub ie: PortInterrupt,
    /// The bits software controls, as it wrote them.
    pub cmd: PortCmd,
    pub tfd: u32,
    pub sig: u32,
    pub sctl: u32,
    pub serr: PortError,
    pub sact: u32,
    pub ci: u32,
    pub link: Link,
    /// The D2H FIS that announces the drive has been taken but not posted (FRE was clear).
    pub unposted: Option<Ending>,
    pub engine: Engine,
}

/// PxCMD bits that are kept; ST, SUD and FRE have meaning, the others are only remembered.
const CMD_KEPT: PortCmd =
    PortCmd::ST.union(PortCmd::SUD).union(PortCmd::FRE).union(PortCmd::ATAPI).union(PortCmd::DLAE);

impl Port {
    pub fn new(number: u8, staggered: bool, dialect: Dialect) -> Self {
        Self {
            number,
            staggered,
            dialect,
            unit: None,
            leaving: Vec::new(),
            clb: 0,
            fb: 0,
            is: PortInterrupt::empty(),
            ie: PortInterrupt::empty(),
            cmd: PortCmd::empty(),
            tfd: hw::tfd(0x7F, 0),
            sig: hw::signature::NONE,
            sctl: 0,
            serr: PortError::empty(),
            sact: 0,
            ci: 0,
            link: Link::Down,
            unposted: None,
            engine: Engine::default(),
        }
    }

    pub fn power_on(&mut self) {
        self.clb = 0;
        self.fb = 0;
        self.reset();
    }

    /// HBA reset: all but the base addresses. The link then comes up by itself, unless it waits
    /// for spin-up.
    pub fn reset(&mut self) {
        self.abort();
        self.is = PortInterrupt::empty();
        self.ie = PortInterrupt::empty();
        self.cmd = PortCmd::empty();
        self.sctl = 0;
        self.serr = PortError::empty();
        self.tfd = hw::tfd(0x7F, 0);
        self.sig = hw::signature::NONE;
        self.unposted = None;
        if let Some(unit) = &mut self.unit {
            unit.hard_reset();
        }
        self.link = if self.link_enabled() { Link::Coming(LOOKS) } else { Link::Down };
    }

    pub fn spun_up(&self) -> bool {
        !self.staggered || self.cmd.contains(PortCmd::SUD)
    }

    pub fn backend_mut(&mut self) -> Option<&mut (dyn BlockBackend + 'static)> {
        self.unit.as_mut()?.backend_mut()
    }

    pub fn tray(&self) -> Option<atapi::Tray> {
        match &self.unit {
            Some(Unit::CdRom(drive)) => Some(drive.tray()),
            _ => None,
        }
    }

    /// PxIS with the bits that follow PxSERR.
    pub fn status(&self) -> PortInterrupt {
        let mut is = self.is;
        is.set(PortInterrupt::UFS, self.serr.contains(PortError::DIAG_F));
        is.set(PortInterrupt::PCS, self.serr.contains(PortError::DIAG_X));
        is.set(PortInterrupt::PRCS, self.serr.contains(PortError::DIAG_N));
        is
    }

    pub fn wants_interrupt(&self) -> bool {
        self.status().intersects(self.ie)
    }

    pub fn wants_dma(&self) -> bool {
        self.cmd.contains(PortCmd::ST) && self.ci != 0 && !self.engine.halted
    }

    fn command_and_status(&self) -> u32 {
        let mut cmd = self.cmd | PortCmd::HPCP | PortCmd::POD;
        cmd.set(PortCmd::SUD, self.spun_up());
        cmd.set(PortCmd::FR, self.cmd.contains(PortCmd::FRE));
        cmd.set(PortCmd::CR, self.cmd.contains(PortCmd::ST) || !self.at_rest());
        cmd.bits() | u32::from(self.engine.last_slot) << hw::cmd::CCS_SHIFT
    }

    pub fn read(&mut self, register: usize) -> u32 {
        let value = self.peek(register);
        if matches!(register, hw::PX_TFD | hw::PX_SSTS) {
            self.look();
        }
        value
    }

    /// The same without what a look brings about.
    pub fn peek(&self, register: usize) -> u32 {
        match register {
            hw::PX_CLB => self.clb as u32,
            hw::PX_CLBU => (self.clb >> 32) as u32,
            hw::PX_FB => self.fb as u32,
            hw::PX_FBU => (self.fb >> 32) as u32,
            hw::PX_IS => self.status().bits(),
            hw::PX_IE => self.ie.bits(),
            hw::PX_CMD => self.command_and_status(),
            hw::PX_TFD => self.tfd,
            hw::PX_SIG => self.sig,
            hw::PX_SSTS => self.link_status(),
            hw::PX_SCTL => self.sctl,
            hw::PX_SERR => self.serr.bits(),
            hw::PX_SACT => self.sact,
            hw::PX_CI => self.ci,
            _ => 0,
        }
    }

    /// Writes the bits in `mask`.
    pub fn write(&mut self, register: usize, value: u32, mask: u32) -> Touched {
        let table = |old: u32| {
            let Some(known) = find(hw::PORT, register as u32, true) else { return old };
            let merged = (old & !mask & !(known.write_one_to_clear as u32)) | (value & mask);
            known.written(u64::from(old), u64::from(merged)) as u32
        };
        let low = |old: u64, new: u32| (old & !0xFFFF_FFFF) | u64::from(new);
        let high = |old: u64, new: u32| (old & 0xFFFF_FFFF) | u64::from(new) << 32;
        match register {
            hw::PX_CLB => self.clb = low(self.clb, table(self.clb as u32)),
            hw::PX_CLBU => self.clb = high(self.clb, table((self.clb >> 32) as u32)),
            hw::PX_FB => self.fb = low(self.fb, table(self.fb as u32)),
            hw::PX_FBU => self.fb = high(self.fb, table((self.fb >> 32) as u32)),
            hw::PX_IS => self.is &= !PortInterrupt::from_bits_truncate(value & mask),
            hw::PX_IE => {
                self.ie = PortInterrupt::from_bits_truncate(table(self.ie.bits()));
            }
            hw::PX_CMD => {
                let kept = self.cmd.bits();
                return self
                    .write_command(PortCmd::from_bits_retain((kept & !mask) | (value & mask)));
            }
            hw::PX_SCTL => {
                let new = table(self.sctl);
                return self.write_control(new);
            }
            hw::PX_SERR => self.serr &= !PortError::from_bits_truncate(value & mask),
            hw::PX_SACT | hw::PX_CI if !self.cmd.contains(PortCmd::ST) => {
                // Only taken while the port is started (3.3.13, 3.3.14).
                return Touched::Refused(GuestError::BadState);
            }
            hw::PX_SACT => self.sact |= value & mask,
            hw::PX_CI => {
                self.ci |= value & mask;
                return Touched::Work;
            }
            _ => {}
        }
        Touched::Nothing
    }

    fn write_command(&mut self, new: PortCmd) -> Touched {
        let old = self.cmd;
        self.cmd = new & CMD_KEPT;
        if !self.staggered {
            self.cmd.remove(PortCmd::SUD);
        }
        if old.contains(PortCmd::ST) && !new.contains(PortCmd::ST) {
            // Nothing is issued any more, and nobody waits for what was (10.3.2).
            self.abort();
        }
        if new.contains(PortCmd::CLO) && !new.contains(PortCmd::ST) {
            let cleared = (Status::BSY | Status::DRQ).bits();
            self.tfd &= !u32::from(cleared);
        }
        let spin_up = new.contains(PortCmd::SUD) && !old.contains(PortCmd::SUD);
        if self.staggered && spin_up {
            self.link_start();
        }
        // The driver is setting the port up: whatever the link was busy with has happened.
        self.hurry();
        if new.contains(PortCmd::ST) && !old.contains(PortCmd::ST) && !new.contains(PortCmd::FRE) {
            // Tolerated, but frames go nowhere (10.3.1).
            return Touched::Refused(GuestError::BadState);
        }
        Touched::Work
    }

    /// Forgets every command. What the back end works on is taken back or waited for.
    pub fn abort(&mut self) {
        self.ci = 0;
        self.sact = 0;
        self.forget();
    }

    /// Commands are gone for the port, though not yet for the back end.
    pub fn forget(&mut self) {
        self.engine.forget();
        if let Some(backend) = self.backend_mut() {
            backend.cancel();
        }
        self.leaving.iter_mut().for_each(|backend| backend.cancel());
        while self.next_completion().is_some() {}
        self.rest();
    }

    /// Whether no back end has the guest's memory on behalf of forgotten commands.
    pub fn at_rest(&self) -> bool {
        !self.engine.draining
    }

    /// Of the drive, or of one that was there before.
    pub fn next_completion(&mut self) -> Option<Completion> {
        let gone = self.leaving.iter_mut().find_map(|backend| backend.poll());
        gone.or_else(|| self.backend_mut()?.poll())
    }

    /// Looks whether back ends have let go of forgotten commands.
    pub fn rest(&mut self) {
        self.leaving.retain(|backend| backend.in_flight() > 0);
        let wanted = self.engine.pieces_in_flight() as usize;
        let present = self.backend_mut().map_or(0, |backend| backend.in_flight());
        self.engine.draining = !self.leaving.is_empty() || present > wanted;
    }

    /// An error after which nothing is issued until ST is cleared.
    pub fn fatal(&mut self, cause: PortInterrupt) {
        self.is |= cause;
        self.engine.halted = true;
    }

    /// PxIS.DPS for a transfer that used up regions with I set.
    pub fn descriptors_done(&mut self, regions: &Regions) {
        if regions.interrupt && self.dialect.descriptor_interrupts {
            self.is |= PortInterrupt::DPS;
        }
    }

    /// Lets the drive work and takes up new commands; whether work is left. Frames go to memory, so
    /// without bus mastering nothing ends that a driver could know of.
    pub fn serve(&mut self, context: &Context<'_>, bus_master: bool) -> bool {
        if self.engine.draining && self.engine.pieces_in_flight() == 0 {
            while self.next_completion().is_some() {}
            self.rest();
        }
        if !bus_master {
            return false;
        }
        self.announce(context);
        self.run(context)
    }
}
