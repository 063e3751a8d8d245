//! The guest's accesses, done to the other device: configuration space by what a register is, BARs by
//! what is there; what reads give compared.

use super::peer::PeerError;
use super::place::{Target, address, place_bars};
use super::report::Difference;
use super::session::{Session, base, call};
use super::steps::Step;
use crate::entry::Touch;
use xinim_abi::hw::e1000::{Ctrl, reg};
use xinim_abi::hw::pci::{CAP_MSI, CAP_MSIX, CAP_VENDOR};
use xinim_abi::hw::virtio::common;

/// Registers that tell of work which ends by itself.
const VOLATILE: [&str; 6] = ["PxCI", "PxSACT", "PxIS", "IS", "PxTFD", "isr"];
/// Registers whose bits the driver clears by writing back what it has read.
const WRITTEN_BACK: [&str; 3] = ["PxIS", "IS", "PxSERR"];
/// Of the command register.
const INTX_DISABLE: u64 = 1 << 10;

impl Session {
    pub(super) fn config(
        &mut self,
        step: &Step,
        touch: Touch,
        register: Option<&str>,
    ) -> Result<(), PeerError> {
        let Touch { mut offset, size, write } = touch;
        let mut ignored = 0;
        if offset < 0x40 {
            // BARs and the ROM's are where we put them; the list of capabilities is compared as such.
            let placed = (0x10..0x28).contains(&offset) || (0x30..0x35).contains(&offset);
            if placed || (write.is_some() && !matches!(offset, 4..8 | 0x3C)) {
                return Ok(());
            }
        } else if offset < 0x100 {
            let Some(ours) = self.ours.capability(offset) else { return Ok(()) };
            let Some(theirs) = self.theirs.same(ours) else { return Ok(()) };
            let inside = offset - ours.at;
            offset = theirs.at + inside;
            // Where the next is, and in which BAR something lies, is a device's own choice.
            if inside == 0 && size > 1 {
                ignored = 0xFF00;
            }
            let choice = match ours.id {
                CAP_VENDOR => inside > 1,
                CAP_MSIX => inside >= 4,
                _ => inside == 1,
            };
            if choice {
                return Ok(());
            }
            if ours.id == CAP_MSI
                && write.is_some()
                && let Some(word) = self.msi_write(theirs.at, inside)?
            {
                return self.peer.config_write(offset, size, word);
            }
            if ours.id == CAP_MSI && write.is_none() && inside >= 4 {
                return Ok(());
            }
        }
        match write {
            // Where there are only wires, they are not switched off in favour of messages.
            Some(value) if offset == 4 && !self.has_messages => {
                self.peer.config_write(offset, size, value & !INTX_DISABLE)
            }
            Some(value) => self.peer.config_write(offset, size, value),
            None => {
                let value = self.peer.config_read(offset, size)?;
                let name = register.map_or(format!("config {:#x}", touch.offset), str::to_owned);
                self.compare_read(step, &name, step.result.value & !ignored, value & !ignored);
                Ok(())
            }
        }
    }

    /// The address of a message is our place for vector 0.
    fn msi_write(&mut self, at: u64, inside: u64) -> Result<Option<u64>, PeerError> {
        let is_64 = self.peer.config_read(at + 2, 2)? & 0x80 != 0;
        Ok(match inside {
            4 => Some(self.slot(0)),
            8 if is_64 => Some(0),
            _ => None,
        })
    }

    pub(super) fn bar(
        &mut self,
        step: &Step,
        bar: u8,
        touch: Touch,
        register: Option<&str>,
    ) -> Result<(), PeerError> {
        let target = self.ours.target(bar, touch.offset);
        let name = register.map_or(format!("BAR{bar} {:#x}", touch.offset), str::to_owned);
        let Some((their_bar, offset)) = self.theirs.find(target, bar, touch.offset) else {
            let text = "has no such place".to_owned();
            self.report
                .differ(&call(step), Difference::new(format!("place {name}"), String::new(), text));
            return Ok(());
        };
        let at = address(their_bar, offset);
        let Some(mut value) = touch.write else {
            let theirs = self.peer.mmio_read(at, touch.size)?;
            if matches!(target, Target::Vector { byte: 0..8, .. }) {
                return Ok(());
            }
            if let Target::Common(inside) = target {
                self.queues.common_read(inside, step.result.value);
            }
            self.compare_read(step, &name, step.result.value, theirs);
            return Ok(());
        };
        match target {
            Target::Common(inside) => {
                self.queues.common_write(inside, touch.size, value);
                match inside as usize {
                    common::DRIVER_FEATURE_SELECT => self.feature_select = value,
                    common::DRIVER_FEATURE => {
                        value &= self.offered.get(self.feature_select as usize).unwrap_or(&0);
                    }
                    common::QUEUE_ENABLE => self.enable()?,
                    _ => {}
                }
            }
            Target::Vector { vector, byte: 0 } => value = self.slot(vector),
            Target::Vector { byte: 4, .. } => value = 0,
            _ => {}
        }
        if target == Target::Plain {
            self.structures.write(touch.offset, value, self.is_net);
        }
        if let Some((ours, theirs)) = self.read.get(&name)
            && *ours == value
        {
            // Of this device the driver would have read that.
            value = *theirs;
        }
        if self.busy() && VOLATILE.contains(&base(&name)) {
            *self.cleared.entry(name.clone()).or_default() |= value;
        }
        self.peer.mmio_write(at, touch.size, value)?;
        if name == "CTRL" && value & u64::from(Ctrl::RST.bits()) != 0 {
            self.reset_card(step)?;
        }
        Ok(())
    }

    /// A card that was told to reset itself and did not is reset from outside, so that the rest can
    /// be compared. What the guest had configured for the bus is kept.
    fn reset_card(&mut self, step: &Step) -> Result<(), PeerError> {
        if self.peer.mmio_read(address(0, reg::RDLEN.into()), 4)? == 0 {
            return Ok(());
        }
        let (done, kept) = ("all registers".to_owned(), "not".to_owned());
        self.report.differ(&call(step), Difference::new("reset by CTRL.RST".into(), done, kept));
        let command = self.peer.config_read(4, 2)?;
        let msix = self.theirs.capabilities.iter().find(|capability| capability.id == CAP_MSIX);
        let control = msix.map(|capability| capability.at + 2);
        let on = control.map(|at| self.peer.config_read(at, 2)).transpose()?;
        let entries: Vec<_> = (0..self.theirs.vectors)
            .flat_map(|vector| (0..16).step_by(4).map(move |byte| Target::Vector { vector, byte }))
            .filter_map(|target| self.theirs.find(target, 0, 0))
            .collect();
        let mut words = Vec::new();
        for (bar, offset) in &entries {
            words.push(self.peer.mmio_read(address(*bar, *offset), 4)?);
        }
        self.peer.reset()?;
        place_bars(&mut self.peer)?;
        self.peer.config_write(4, 2, command)?;
        for ((bar, offset), word) in entries.iter().zip(words) {
            self.peer.mmio_write(address(*bar, *offset), 4, word)?;
        }
        if let (Some(at), Some(on)) = (control, on) {
            self.peer.config_write(at, 2, on)?;
        }
        self.listen()
    }

    /// Before a queue is enabled: its size is ours, and its rings are empty, as the driver has made
    /// them in memory that it alone has seen.
    fn enable(&mut self) -> Result<(), PeerError> {
        let target = Target::Common(common::QUEUE_SIZE as u64);
        if let (Some((bar, offset)), Some(size)) =
            (self.theirs.find(target, 0, 0), self.queues.clear_rings(&self.peer)?)
        {
            self.peer.mmio_write(address(bar, offset), 2, size.into())?;
        }
        Ok(())
    }

    fn compare_read(&mut self, step: &Step, name: &str, ours: u64, theirs: u64) {
        self.report.compared += 1;
        if WRITTEN_BACK.contains(&base(name)) {
            self.read.insert(name.to_owned(), (ours, theirs));
        }
        if ours == theirs {
            return;
        }
        let mut bits = ours ^ theirs;
        if VOLATILE.contains(&base(name)) {
            if self.busy() || !self.queues.is_even() {
                self.report.ahead += 1;
                return;
            }
            let cleared = self.cleared.remove(name).unwrap_or(0);
            bits &= !(cleared & ours);
        }
        if bits != 0 {
            let what = match base(name) {
                // Which word of the EEPROM: the address is above START and DONE.
                "EERD" if ours & 2 == 0 => format!("read EERD word {}", (ours >> 8) & 0xFF),
                "EERD" => format!("read EERD word {}", (ours >> 2) & 0x3FFF),
                _ => format!("read {name}"),
            };
            let difference = Difference::new(what, format!("{ours:#x}"), format!("{theirs:#x}"));
            self.report.differ(&call(step), difference.bits(bits));
        }
    }
}
