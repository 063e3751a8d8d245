//! One function as the service keeps it: what was read once, read no more.

use crate::bar::{self, Bar, Space};
use crate::enumerate::Found;
use crate::interrupt::{self, Msix};
use crate::{ConfigAccess, filter};
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::pci::{BAR_COUNT, CAP_MSI, CAP_MSIX};
use xinim_driver_kit::pci::{Capability, read_capability, walk_capabilities};

/// How a function interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    None,
    /// The pin, at this I/O APIC input.
    Pin(u8),
    /// One message, of the MSI capability at this offset.
    Msi(u8),
    Msix(Msix),
}

/// A function and what is known of it.
pub struct Function {
    pub found: Found,
    /// Offset and first dword of each capability, once read.
    capabilities: Option<Vec<(u8, u32)>>,
    messages: Option<Messages>,
    /// The process that has the pin's interrupt; only its start opens the pin.
    pub pin_owner: Option<u32>,
    bars: [Option<Bar>; BAR_COUNT],
}

impl Function {
    pub fn new(found: Found) -> Self {
        let bars = [None; BAR_COUNT];
        Self { found, capabilities: None, messages: None, pin_owner: None, bars }
    }

    /// All capabilities; read at the first call.
    pub fn capabilities(&mut self, config: &impl ConfigAccess) -> &[(u8, u32)] {
        let bdf = self.found.bdf;
        self.capabilities.get_or_insert_with(|| {
            let mut list = Vec::new();
            walk_capabilities(
                |at| config.read32(bdf, at.into()),
                |at, head| {
                    list.push((at, head));
                    true
                },
            );
            list
        })
    }

    /// The `index`th capability with `id`. `NoEnt` past the last.
    pub fn capability(
        &mut self,
        config: &impl ConfigAccess,
        id: u32,
        index: u32,
    ) -> Result<Capability> {
        let id = u8::try_from(id).map_err(|_| Error::NoEnt)?;
        let mut matching = self.capabilities(config).iter().filter(|(_, head)| *head as u8 == id);
        let &(at, head) = matching.nth(index as usize).ok_or(Error::NoEnt)?;
        let bdf = self.found.bdf;
        Ok(read_capability(at, head, |at| config.read32(bdf, at.into())))
    }

    /// How it interrupts: MSI-X before MSI before its pin.
    pub fn messages(&mut self, config: &impl ConfigAccess) -> Messages {
        if let Some(messages) = self.messages {
            return messages;
        }
        let bdf = self.found.bdf;
        let list = self.capabilities(config);
        let find = |id| list.iter().find(|(_, head)| *head as u8 == id).copied();
        let messages = match (find(CAP_MSIX), find(CAP_MSI)) {
            (Some((at, head)), _) => Messages::Msix(Msix::read(config, bdf, at, head)),
            (None, Some((at, _))) => Messages::Msi(at),
            (None, None) => interrupt::pin(config, bdf).map_or(Messages::None, Messages::Pin),
        };
        self.messages = Some(messages);
        messages
    }

    /// BAR `index`, placed where firmware did not, or not in pages of its own. `NoEnt`, `NoMem`.
    pub fn bar(&mut self, config: &impl ConfigAccess, index: u32, all: &[Found]) -> Result<Bar> {
        let slot = usize::try_from(index).ok().filter(|&i| i < BAR_COUNT).ok_or(Error::NoEnt)?;
        if let Some(bar) = self.bars[slot] {
            return Ok(bar);
        }
        let mut bar = bar::size(config, &self.found, slot as u8)?;
        let small = bar.space != Space::Ports && bar.len < 4096;
        let packed = small && bar::shares_page(config, &self.found, slot as u8, bar, all);
        if bar.address == 0 || packed {
            bar = bar::assign(config, &self.found, slot as u8, bar, all)?;
        }
        self.bars[slot] = Some(bar);
        Ok(bar)
    }

    /// Whether [`Function::bar`] has been asked for it.
    pub fn knows_bar(&self, index: u32) -> bool {
        self.bars.get(index as usize).is_some_and(Option::is_some)
    }

    /// The part of memory BAR `index` a driver may have. `NotSup` for ports, for a BAR that shares
    /// its page with others', or where nothing is left.
    pub fn memory_bar(
        &mut self,
        config: &impl ConfigAccess,
        index: u32,
        all: &[Found],
    ) -> Result<Bar> {
        let bar = self.bar(config, index, all)?;
        if bar.space == Space::Ports || !bar.address.is_multiple_of(4096) {
            return Err(Error::NotSup);
        }
        let len = match self.messages(config) {
            Messages::Msix(msix) => bar::visible(bar.len, &msix.hidden(index as u8)),
            Messages::Pin(_) | Messages::Msi(_) | Messages::None => Some(bar.len),
        };
        len.map(|len| Bar { len, ..bar }).ok_or(Error::NotSup)
    }

    /// Checks a driver's write to configuration space; the shape was checked before.
    pub fn check_write(&mut self, config: &impl ConfigAccess, offset: u8, size: u8) -> Result<()> {
        let vendor = self.found.id as u16;
        filter::check_write(offset, size, self.capabilities(config), vendor)
    }
}

#[cfg(test)]
#[path = "function_tests.rs"]
mod tests;
