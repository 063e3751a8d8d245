//! MSI (PCI 6.8.1) with one message, for functions that have no MSI-X.
//!
//! There are no masks and no pending bits: what is raised while MSI is off, or the function is not
//! bus master, is lost. The capability's registers live in the function's [`ConfigSpace`].

use super::config::{ConfigError, ConfigSpace};
use crate::device::Origin;
use crate::irq::{MsiMessage, MsiRoute, MsiSink};
use crate::trace::{EventKind, Tracer};
use std::sync::Arc;
use xinim_abi::hw::pci::{self, Command, msi};

/// The MSI state of a function.
pub struct Msi {
    // Fixed configuration
    capability: usize,
    // Glue
    sink: Arc<dyn MsiSink>,
    tracer: Tracer,
    // Volatile state
    told: Option<MsiRoute>,
}

impl Msi {
    /// Adds the capability to `config` at `offset`.
    pub fn new(
        config: &mut ConfigSpace,
        offset: usize,
        sink: Arc<dyn MsiSink>,
        tracer: Tracer,
    ) -> Result<Self, ConfigError> {
        let mut body = [0; msi::CAPABILITY_SIZE];
        body[0] = pci::CAP_MSI;
        body[msi::MESSAGE_CONTROL..][..2].copy_from_slice(&msi::CONTROL_64.to_le_bytes());
        let capability = config.add_capability_at(offset, &body, pci::MSI_CAPABILITY)?;
        Ok(Self { capability, sink, tracer, told: None })
    }

    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        let control = config.get(self.capability + msi::MESSAGE_CONTROL, 2) as u16;
        control & msi::CONTROL_ENABLE != 0
    }

    /// Configuration space was written: tells the sink of a changed route.
    pub fn update(&mut self, config: &ConfigSpace) {
        let route = MsiRoute { message: self.message(config), masked: !self.enabled(config) };
        let was = self.told.is_none_or(|told| told.masked);
        if was != route.masked {
            let masked = route.masked;
            self.tracer.emit(&Origin::default(), || EventKind::MsiMask { vector: 0, masked });
        }
        if self.told != Some(route) {
            self.told = Some(route);
            self.sink.route(0, route);
        }
    }

    /// Sends the message, if MSI is on and the function may.
    pub fn signal(&mut self, config: &ConfigSpace, origin: &Origin) {
        if !self.enabled(config) || !config.command().contains(Command::BUS_MASTER) {
            return;
        }
        let message = self.message(config);
        self.tracer.emit(origin, || EventKind::Msi { vector: 0, message, pending: false });
        self.sink.signal(0, message);
    }

    fn message(&self, config: &ConfigSpace) -> MsiMessage {
        let low = config.get(self.capability + msi::ADDRESS_LOW, 4);
        let high = config.get(self.capability + msi::ADDRESS_HIGH, 4);
        let data = config.get(self.capability + msi::DATA, 2);
        MsiMessage { address: u64::from(high) << 32 | u64::from(low), data }
    }
}

#[cfg(test)]
#[path = "msi_tests.rs"]
mod tests;
