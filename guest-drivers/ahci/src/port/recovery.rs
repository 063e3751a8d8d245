//! After an error (AHCI 6.2.2): find out what is to blame, restart the list, send the rest again.

use xinim_abi::hw::ahci::{PX_CMD, PX_TFD, PortCmd, PortInterrupt, cmd};
use xinim_abi::hw::ata::Status;
use xinim_abi::hw::atapi::sense;
use xinim_driver_kit::{Clock, Dma, Mmio, wait_until};

use super::{Port, Probe};
use crate::command::Class;
use crate::drive::Mode;
use crate::error::HbaError;

/// PxCMD.CLO reads 0 within this.
const OVERRIDE_NS: u64 = 10_000_000;

impl<M: Mmio, D: Dma, C: Clock> Port<M, D, C> {
    /// The HBA stopped at `pending`. What had ended before was fetched.
    pub(super) fn recover(&mut self, pending: PortInterrupt, now: u64) -> Result<(), HbaError> {
        self.statistics.restarts += 1;
        let task = self.read(PX_TFD);
        let current = cmd::ccs(self.read(PX_CMD));
        self.stop_list()?;
        self.clear_errors();
        // Anything but an error that the drive reported: link, bus, or more data than asked for. And a
        // drive that hangs in a command wants a COMRESET, too.
        let reported = pending.contains(PortInterrupt::TFES) && self.clear_busy();
        if !reported {
            return self.reset(now);
        }
        let suspects = self.issued;
        self.requeue();
        match self.class {
            Class::Queued => self.probe(Probe::ErrorLog { suspects }, now),
            Class::Plain | Class::Solo => {
                let only = suspects.count_ones() == 1;
                let failed = if only { suspects } else { suspects & 1 << current };
                self.blame(if failed == 0 { suspects } else { failed });
                let packet = self.drive.is_some_and(|drive| drive.mode == Mode::Packet);
                let key = (task >> 12) as u8 & 0xF;
                if packet && matches!(key, sense::UNIT_ATTENTION | sense::NOT_READY) {
                    return self.check_medium(now);
                }
                self.resume();
                Ok(())
            }
        }
    }

    /// Has BSY and DRQ clear in PxTFD, by command list override if need be; without that the list
    /// cannot be started (10.3.1).
    fn clear_busy(&self) -> bool {
        let busy = || {
            let status = Status::from_bits_retain(self.read(PX_TFD) as u8);
            status.intersects(Status::BSY | Status::DRQ)
        };
        if !busy() {
            return true;
        }
        if !self.host.override_busy {
            return false;
        }
        let command = PortCmd::from_bits_retain(self.read(PX_CMD));
        self.write(PX_CMD, (command | PortCmd::CLO).bits());
        let cleared = wait_until(&self.host.clock, OVERRIDE_NS, || {
            !PortCmd::from_bits_retain(self.read(PX_CMD)).contains(PortCmd::CLO)
        });
        cleared && !busy()
    }
}
