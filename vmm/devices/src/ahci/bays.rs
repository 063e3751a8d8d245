//! Drives that come and go while the machine runs.

use super::Ahci;
use super::ata::{AtaConfig, AtaDisk};
use super::atapi::CdRom;
use super::port::{Port, Unit};
use crate::backend::{BayError, BlockBackend, Drive, DriveBays, Medium};
use crate::device::Origin;

/// Drives torn out of one port whose host requests have not ended; more is refused.
const MAX_LEAVING: usize = 8;

impl Port {
    /// `config` says what the drive is called, if its serial number alone does not do.
    pub fn install(&mut self, drive: Drive, config: Option<AtaConfig>) -> Result<(), BayError> {
        if self.unit.is_some() || self.leaving.len() >= MAX_LEAVING {
            return Err(BayError::Occupied);
        }
        let named = config.is_some();
        let mut config = config.unwrap_or_else(|| AtaConfig::new(&drive.serial));
        self.unit = Some(match (drive.medium, drive.backend) {
            (Medium::Disk, Some(backend)) => {
                Unit::Disk(AtaDisk::new(backend, config, self.dialect.wide_counts))
            }
            (Medium::Disk, None) => return Err(BayError::Vacant),
            (Medium::CdRom, disc) => {
                if !named {
                    config.model = String::from("XINIM CD-ROM");
                }
                Unit::CdRom(CdRom::new(disc, config))
            }
        });
        Ok(())
    }

    fn remove(&mut self) {
        let backend = match self.unit.take() {
            None => None,
            Some(Unit::Disk(disk)) => Some(disk.into_backend()),
            Some(Unit::CdRom(drive)) => drive.into_backend(),
        };
        self.part_with(backend);
    }

    /// Keeps a back end until it has let go of guest memory.
    fn part_with(&mut self, backend: Option<Box<dyn BlockBackend>>) {
        if let Some(mut backend) = backend {
            backend.cancel();
            self.leaving.push(backend);
        }
        self.rest();
    }

    fn cd_rom(&mut self) -> Result<&mut CdRom, BayError> {
        match &mut self.unit {
            Some(Unit::CdRom(drive)) => Ok(drive),
            Some(Unit::Disk(_)) => Err(BayError::NotRemovable),
            None => Err(BayError::Vacant),
        }
    }
}

impl Ahci {
    pub(super) fn bay(&mut self, unit: u16) -> Result<&mut Port, BayError> {
        self.ports.get_mut(usize::from(unit)).ok_or(BayError::NoUnit)
    }

    /// Opens or closes a CD-ROM drive's tray by hand, the disc staying on it.
    pub fn move_tray(&mut self, unit: u16, open: bool) -> Result<(), BayError> {
        self.bay(unit)?.cd_rom()?.move_tray(open);
        Ok(())
    }
}

impl DriveBays for Ahci {
    fn ready(&mut self, unit: u16, origin: &Origin) -> bool {
        self.serve(usize::from(unit), origin).unwrap_or(false)
    }

    /// A disk's size is asked for with each command; SATA has no way to announce a change.
    fn resized(&mut self, _unit: u16, _origin: &Origin) {}

    fn attach(&mut self, unit: u16, drive: Drive, origin: &Origin) -> Result<(), BayError> {
        let port = self.bay(unit)?;
        port.install(drive, None)?;
        port.link_start();
        // Frames may be due.
        let _ = self.serve(usize::from(unit), origin);
        Ok(())
    }

    fn detach(&mut self, unit: u16, origin: &Origin) -> Result<(), BayError> {
        let port = self.bay(unit)?;
        if port.unit.is_none() {
            return Err(BayError::Vacant);
        }
        port.link_stop();
        port.remove();
        self.settle(origin);
        Ok(())
    }

    fn insert(
        &mut self,
        unit: u16,
        disc: Box<dyn BlockBackend>,
        _origin: &Origin,
    ) -> Result<(), BayError> {
        self.bay(unit)?.cd_rom()?.insert(disc)
    }

    fn eject(&mut self, unit: u16, force: bool, origin: &Origin) -> Result<(), BayError> {
        let port = self.bay(unit)?;
        let disc = port.cd_rom()?.eject(force)?;
        // What is in flight still comes from it, and then ends as it does.
        port.part_with(disc);
        let _ = self.serve(usize::from(unit), origin);
        Ok(())
    }
}
