//! Finding who answers an access, splitting accesses, and keeping the map of decoded BARs.

use super::{Bus, Function, PortRange, Response, Space, lock};
use crate::device::{Access, Action, GuestError, Op, Origin, Outcome, all_ones};
use std::sync::PoisonError;
use xinim_abi::hw::{chipset, pci, register::ones};
use xinim_abi::platform::ECAM_BASE;

const ECAM_END: u64 = ECAM_BASE + (256 << 20);
const ADDRESS_PORT: u64 = pci::CONFIG_ADDRESS as u64;
const DATA_PORT: u64 = pci::CONFIG_DATA as u64;

/// A decoded BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    start: u64,
    len: u64,
    pub(super) function: usize,
    pub(super) bar: u8,
}

impl Window {
    /// The address of an offset in the BAR.
    pub(super) fn place(&self, offset: u64) -> u64 {
        self.start + offset
    }
}

/// Who answers.
enum Target<'a> {
    Ports(&'a PortRange),
    ConfigAddress,
    /// Requester id and offset in its space.
    Config(u16, u64),
    Bar(Window),
    /// Nobody, for any byte.
    Nobody,
    /// Not one target for all bytes, or wider than the target takes.
    Split,
}

impl Bus {
    /// Carries out a guest access of 1 to 8 bytes.
    pub fn access(&self, origin: Origin, space: Space, address: u64, size: u8, op: Op) -> Response {
        if !(1..=8).contains(&size) || address.checked_add(u64::from(size)).is_none() {
            let access = Access { offset: address, size, op, origin };
            return self.finish("bus", space, address, &access, nobody(&access));
        }
        let op = match op {
            Op::Write(value) => Op::Write(value & ones(size * 8)),
            Op::Read => Op::Read,
        };
        match self.target(space, address, size) {
            Target::Split => self.split(origin, space, address, size, op),
            target => {
                self.deliver(target, space, address, Access { offset: address, size, op, origin })
            }
        }
    }

    /// Two halves, the lower a power of two; what each comes to is put together.
    fn split(&self, origin: Origin, space: Space, address: u64, size: u8, op: Op) -> Response {
        let low_size = if size.is_power_of_two() { size / 2 } else { 1 << size.ilog2() };
        let shift = 8 * u32::from(low_size);
        let high_op = match op {
            Op::Write(value) => Op::Write(value >> shift),
            Op::Read => Op::Read,
        };
        let low = self.access(origin, space, address, low_size, op);
        let high_at = address + u64::from(low_size);
        let high = self.access(origin, space, high_at, size - low_size, high_op);
        Response {
            value: low.value | high.value << shift,
            action: low.action.or(high.action),
            error: low.error.or(high.error),
        }
    }

    fn target(&self, space: Space, address: u64, size: u8) -> Target<'_> {
        match space {
            Space::Pio => self.port_target(address, size),
            Space::Mmio => self.memory_target(address, size),
            Space::Config => match config_shape(address, size) {
                true => Target::Config((address >> 12) as u16, address & 0xFFF),
                false => Target::Split,
            },
        }
    }

    fn port_target(&self, port: u64, size: u8) -> Target<'_> {
        let end = port + u64::from(size);
        if port == ADDRESS_PORT && size == 4 {
            return Target::ConfigAddress;
        }
        if port < DATA_PORT + 4 && end > DATA_PORT {
            if port < DATA_PORT || end > DATA_PORT + 4 || !config_shape(port, size) {
                return Target::Split;
            }
            let selected = *lock(&self.config_address);
            if selected & pci::CONFIG_ENABLE == 0 {
                return Target::Nobody;
            }
            let offset = u64::from(selected & 0xFC) + (port - DATA_PORT);
            return Target::Config((selected >> 8) as u16, offset);
        }
        let overlapping = self
            .ports
            .iter()
            .find(|r| u64::from(r.base) < end && port < u64::from(r.base) + u64::from(r.len));
        let Some(range) = overlapping else { return Target::Nobody };
        let inside =
            port >= u64::from(range.base) && end <= u64::from(range.base) + u64::from(range.len);
        if inside && size.is_power_of_two() && size <= range.width {
            Target::Ports(range)
        } else if size == 1 {
            Target::Nobody
        } else {
            Target::Split
        }
    }

    fn memory_target(&self, address: u64, size: u8) -> Target<'_> {
        let end = address + u64::from(size);
        if address < ECAM_END && end > ECAM_BASE {
            if address < ECAM_BASE || end > ECAM_END || !config_shape(address, size) {
                return Target::Split;
            }
            let offset = address - ECAM_BASE;
            return Target::Config((offset >> 12) as u16, offset & 0xFFF);
        }
        let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
        let overlapping = windows.iter().find(|w| w.start < end && address < w.start + w.len);
        let Some(&window) = overlapping else { return Target::Nobody };
        let inside = address >= window.start && end <= window.start + window.len;
        if inside && size.is_power_of_two() {
            Target::Bar(window)
        } else if size == 1 {
            Target::Nobody
        } else {
            Target::Split
        }
    }

    fn deliver(&self, target: Target<'_>, space: Space, address: u64, access: Access) -> Response {
        match target {
            Target::Ports(range) => {
                let mut device = lock(&range.device);
                let offset = access.offset - u64::from(range.base) + range.first;
                let outcome = device.access(Access { offset, ..access });
                self.finish(device.name(), space, address, &access, outcome)
            }
            Target::ConfigAddress => {
                let outcome = self.config_address_access(&access);
                self.finish("pci", space, address, &access, outcome)
            }
            Target::Config(id, offset) => self.config_access(id, Access { offset, ..access }),
            Target::Bar(window) => self.bar_access(window, space, address, access),
            Target::Nobody | Target::Split => {
                self.finish("bus", space, address, &access, nobody(&access))
            }
        }
    }

    fn bar_access(&self, window: Window, space: Space, address: u64, access: Access) -> Response {
        let Some(function) = self.functions.get(window.function) else {
            return self.finish("bus", space, address, &access, nobody(&access));
        };
        let mut device = lock(&function.device);
        let inside = access.rebased(window.start);
        let outcome = match &self.faults {
            Some(faults) => faults.bar_access(&mut *device, window.bar, inside),
            None => device.bar_access(window.bar, inside),
        };
        let response = self.finish(device.name(), space, address, &access, outcome);
        match response.action {
            Some(Action::NotifyAgain { queue, .. }) => Response {
                action: Some(Action::NotifyAgain { function: function.bdf, queue }),
                ..response
            },
            _ => response,
        }
    }

    fn config_address_access(&self, access: &Access) -> Outcome {
        let mut address = lock(&self.config_address);
        let outcome = match access.op {
            Op::Read => Outcome::value(u64::from(*address)),
            Op::Write(value) => {
                let old = u64::from(*address);
                *address = chipset::PCI_CONFIG_PORTS[0].written(old, value) as u32;
                Outcome::done().over(old)
            }
        };
        outcome.at(chipset::PCI_CONFIG_PORTS, 0)
    }

    fn config_access(&self, id: u16, access: Access) -> Response {
        let address = u64::from(id) << 12 | access.offset;
        let found = self.functions.iter().enumerate().find(|(_, f)| f.bdf.bits() == id);
        let Some((index, function)) = found else {
            // Looking for functions that are not there is how a bus is enumerated: no mistake.
            let outcome = Outcome::value(all_ones(access.size));
            return self.finish("pci", Space::Config, address, &access, outcome);
        };
        // Held over the whole of a write: two CPUs moving BARs must not mix up the map.
        let serial = access.is_write().then(|| lock(&self.config_address));
        let response = {
            let mut device = lock(&function.device);
            let old = device.config().get(access.offset as usize, access.size);
            let outcome = match &self.faults {
                Some(faults) => faults.config_access(&mut *device, access),
                None => device.config_access(access),
            };
            let outcome = outcome.over(old.into());
            self.finish(device.name(), Space::Config, address, &access, outcome)
        };
        if serial.is_some() {
            self.remap(index);
        }
        response
    }

    /// Brings the map of decoded BARs up to date for one function and reports moved doorbells.
    /// The caller holds the configuration lock.
    pub(super) fn remap(&self, index: usize) {
        let Some(Function { bdf, device }) = self.functions.get(index) else { return };
        let (new, doorbells) = {
            let device = lock(device);
            let config = device.config();
            let decoded = config.bars().filter_map(|(bar, _)| {
                let (start, len) = config.decoded(bar)?;
                Some(Window { start, len, function: index, bar })
            });
            (decoded.collect::<Vec<_>>(), device.doorbells().to_vec())
        };
        let old: Vec<Window> = {
            let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
            let old = windows.iter().copied().filter(|w| w.function == index).collect();
            if old == new {
                return;
            }
            windows.retain(|w| w.function != index);
            windows.extend_from_slice(&new);
            old
        };
        let Some(sink) = &self.doorbells else { return };
        for doorbell in doorbells {
            let place = |windows: &[Window]| {
                let window = windows.iter().find(|w| w.bar == doorbell.bar)?;
                Some(window.place(doorbell.offset))
            };
            let (from, to) = (place(&old), place(&new));
            if from != to {
                sink.moved(*bdf, doorbell.queue, from, to);
            }
        }
    }

    fn finish(
        &self,
        device: &str,
        space: Space,
        address: u64,
        access: &Access,
        outcome: Outcome,
    ) -> Response {
        let old = outcome.old.filter(|_| access.is_write());
        self.tracer.access(device, space, address, access, old, &outcome);
        let value =
            if access.is_write() { 0 } else { outcome.value & ones(access.size.min(8) * 8) };
        Response { value, action: outcome.action, error: outcome.error }
    }
}

/// Configuration space takes aligned accesses of up to four bytes.
fn config_shape(address: u64, size: u8) -> bool {
    matches!(size, 1 | 2 | 4) && address.is_multiple_of(u64::from(size))
}

fn nobody(access: &Access) -> Outcome {
    Outcome::error(GuestError::Unclaimed, access.size)
}
