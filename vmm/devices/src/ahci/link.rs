//! The serial link between port and drive: power-on, COMRESET, spin-up, plugging and unplugging.
//!
//! ```text
//!            reset, power-on           LOOKS looks at PxSSTS or PxTFD,
//!                                      PxCMD written, GHC.IE set
//!   Down ---------------------> Coming ---------------------------> Up
//!    ^                             |                                 |
//!    |  drive gone, COMRESET held, off-line, not spun up             |
//!    +-----------------------------+---------------------------------+
//!   Down --- COMRESET released, spin-up, drive plugged in ---> Up at once
//! ```
//! Coming up sets PxSERR.DIAG.X and N (and so PxIS.PCS and PRCS), then the drive announces itself
//! with a D2H FIS: PxSIG and PxTFD. Losing the drive sets N.

use super::port::{Port, Touched, Unit};
use crate::virtio::Context;
use xinim_abi::hw::ahci::{self as hw, PortError, link};
use xinim_abi::hw::ata::Status;

/// Interface speed offered: 6 Gbit/s (CAP.ISS, PxSSTS.SPD).
pub const SPEED: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing there, or kept from communicating.
    Down,
    /// A drive will answer after so many looks.
    Coming(u8),
    Up,
}

impl Port {
    /// Whether nothing keeps a drive from communicating.
    pub(super) fn link_enabled(&self) -> bool {
        self.spun_up() && link::det(self.sctl) == link::CONTROL_NONE
    }

    /// PxSSTS
    pub(super) fn link_status(&self) -> u32 {
        if link::det(self.sctl) == link::CONTROL_OFFLINE {
            return link::DET_OFFLINE;
        }
        match self.link {
            Link::Up => {
                let limit = link::spd(self.sctl);
                let speed = if limit == 0 { SPEED } else { limit.min(SPEED) };
                link::IPM_ACTIVE << 8 | speed << 4 | link::DET_READY
            }
            Link::Down | Link::Coming(_) => link::DET_NONE,
        }
    }

    /// Time passes as somebody looks.
    pub(super) fn look(&mut self) {
        if let Link::Coming(left) = &mut self.link {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.link_start();
            }
        }
    }

    /// What takes time has happened by now.
    pub(super) fn hurry(&mut self) {
        if matches!(self.link, Link::Coming(_)) {
            self.link_start();
        }
    }

    /// COMRESET and COMINIT: the link is up if there is a drive.
    pub(super) fn link_start(&mut self) {
        self.link = Link::Down;
        if !self.link_enabled() {
            return;
        }
        let Some(unit) = &mut self.unit else { return };
        self.serr |= PortError::DIAG_X | PortError::DIAG_N;
        self.link = Link::Up;
        self.tfd = hw::tfd(Status::BSY.bits(), 0);
        self.unposted = Some(unit.hard_reset());
        self.accept_signature();
    }

    /// The link is lost: nothing of what was under way will be heard of again. PxCI and PxSACT stay;
    /// the port has to be restarted.
    pub(super) fn link_stop(&mut self) {
        self.forget();
        self.engine.halted = self.cmd.contains(hw::PortCmd::ST);
        if self.link == Link::Up {
            self.serr |= PortError::DIAG_N;
        }
        self.link = Link::Down;
        self.tfd = hw::tfd(0x7F, 0);
        self.sig = hw::signature::NONE;
        self.unposted = None;
    }

    /// The first D2H FIS is taken even with FRE clear (3.3.7), once the back end is free.
    pub(super) fn accept_signature(&mut self) {
        if let Some(ending) = &self.unposted
            && self.at_rest()
        {
            self.tfd = hw::tfd(ending.status, ending.error);
            self.sig = ending.signature();
        }
    }

    /// Posts the first D2H FIS when it can be.
    pub(super) fn announce(&mut self, context: &Context<'_>) {
        if self.at_rest() && self.unposted.is_some() {
            self.accept_signature();
            if self.can_post()
                && let Some(ending) = self.unposted.take()
            {
                self.post_register(&ending, false, context);
            }
        }
    }

    /// PxSCTL: COMRESET is sent while DET is 1; the link is off while it is 4 (3.3.11).
    pub(super) fn write_control(&mut self, new: u32) -> Touched {
        let old = std::mem::replace(&mut self.sctl, new);
        let (was, now) = (link::det(old), link::det(new));
        if was == now {
            return Touched::Nothing;
        }
        if now == link::CONTROL_NONE {
            self.link_start();
        } else {
            self.ci = 0;
            self.sact = 0;
            self.link_stop();
            // What the driver does itself is no news.
            self.serr.remove(PortError::DIAG_N);
        }
        Touched::Work
    }
}

impl Unit {
    /// Sets the SRST bit of the device control register; what it was.
    pub(super) fn set_srst(&mut self, on: bool) -> bool {
        let bit = match self {
            Unit::Disk(disk) => &mut disk.srst,
            Unit::CdRom(drive) => &mut drive.srst,
        };
        std::mem::replace(bit, on)
    }

    /// COMRESET or power-on: back to defaults; how the drive announces itself.
    pub(super) fn hard_reset(&mut self) -> super::frames::Ending {
        match self {
            Unit::Disk(disk) => disk.reset(true),
            Unit::CdRom(drive) => drive.reset(),
        }
    }

    /// Software reset (SRST).
    pub(super) fn soft_reset(&mut self) -> super::frames::Ending {
        match self {
            Unit::Disk(disk) => disk.reset(false),
            Unit::CdRom(drive) => drive.reset(),
        }
    }

    pub(super) fn backend_mut(
        &mut self,
    ) -> Option<&mut (dyn crate::backend::BlockBackend + 'static)> {
        match self {
            Unit::Disk(disk) => Some(disk.backend_mut()),
            Unit::CdRom(drive) => drive.backend_mut(),
        }
    }
}
