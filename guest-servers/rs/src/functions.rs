//! PCI functions and the drivers that are started for them.

use crate::host::{Answer, Host};
use crate::system::{Caller, Core};
use crate::{FUNCTIONS_MAX, SlotId};
use xinim_abi::error::{Error, Result};
use xinim_abi::object::Handle;
use xinim_abi::services::rs::rs::AddFunction;

/// A function as pci announced it.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// bus << 8 | device << 3 | function
    pub location: u32,
    /// device << 16 | vendor
    pub id: u32,
    /// class << 16 | subclass << 8 | interface
    pub class: u32,
    /// The kernel's device object.
    pub device: Handle,
    /// The pci service's endpoint, badged for this function.
    pub pci: Handle,
    /// The handles are of the pci instance that runs now.
    pub(crate) fresh: bool,
    pub(crate) slot: Option<SlotId>,
}

impl Core {
    /// `AddFunction`. The two handles belong to the core from here on, whatever is answered.
    pub fn add_function(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        call: &AddFunction,
    ) -> Answer {
        match self.try_add_function(host, badge, sender, call) {
            Ok(()) => Answer::FunctionAdded,
            Err(error) => {
                host.close(call.device);
                host.close(call.pci);
                Answer::Error(error)
            }
        }
    }

    fn try_add_function(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        call: &AddFunction,
    ) -> Result<()> {
        self.check_pci(badge, sender)?;
        if call.location > 0xFFFF {
            return Err(Error::Inval);
        }
        let known = self.functions.iter().position(|f| f.location == call.location);
        if let Some(at) = known {
            let function = &mut self.functions[at];
            if (function.id, function.class) != (call.id, call.class) {
                return Err(Error::Exist);
            }
            host.close(function.device);
            host.close(function.pci);
            (function.device, function.pci, function.fresh) = (call.device, call.pci, true);
            self.settle(host);
            return Ok(());
        }
        if self.functions.len() == FUNCTIONS_MAX {
            return Err(Error::Limit);
        }
        let at = self.functions.len();
        self.functions.push(Function {
            location: call.location,
            id: call.id,
            class: call.class,
            device: call.device,
            pci: call.pci,
            fresh: true,
            slot: None,
        });
        if self.shutdown.is_none()
            && let Some(driver) = self.catalog.driver(call.id, call.class)
            && self.may_start(driver)
        {
            match self.add_slot(driver, host.now()) {
                Ok(slot) => {
                    self.slots[slot].function = Some(at);
                    self.functions[at].slot = Some(slot);
                    self.settle(host);
                }
                Err(error) => {
                    host.log(format_args!("no driver for {}: {error}", Location(call.location)))
                }
            }
        }
        Ok(())
    }

    /// `FunctionsDone`: look-ups of drivers that no function was found for are answered.
    pub fn functions_done(&mut self, host: &mut impl Host, badge: u64, sender: u32) -> Answer {
        if let Err(error) = self.check_pci(badge, sender) {
            return Answer::Error(error);
        }
        self.functions_known(host);
        self.settle(host);
        Answer::FunctionsDone
    }

    /// No function will be found any more.
    pub(crate) fn functions_known(&mut self, host: &mut impl Host) {
        self.functions_done = true;
        self.answer_early_lookups(host);
    }

    /// Only the live pci service may speak of functions.
    fn check_pci(&self, badge: u64, sender: u32) -> Result<()> {
        match self.caller(badge, sender) {
            Caller::Service(slot)
                if self.catalog.get(self.slots[slot].manifest).label == PCI_LABEL =>
            {
                Ok(())
            }
            _ => Err(Error::Perm),
        }
    }

    /// The pci service died: its functions' endpoints did too.
    pub(crate) fn forget_pci(&mut self) {
        for function in &mut self.functions {
            function.fresh = false;
        }
    }

    /// Functions, in the order pci found them.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }
}

/// The service that finds functions.
pub(crate) const PCI_LABEL: &str = "pci";

/// A location as people write it: `bb:dd.f`.
pub(crate) struct Location(pub u32);

impl core::fmt::Display for Location {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.0 >> 8, self.0 >> 3 & 0x1F, self.0 & 7)
    }
}
