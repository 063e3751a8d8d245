//! Configuration space of one function: 256 bytes with masks, BARs with the sizing protocol,
//! a capability list.
//!
//! Extended configuration space (PCI Express) is empty and reads as zero.

use crate::device::{Access, GuestError, Op, Outcome};
use xinim_abi::hw::pci::{self, Command};
use xinim_abi::hw::register::{Direction, Register, find, ones};

/// Highest guest-physical address (exclusive) at which a BAR answers; a 64-bit BAR that is being
/// sized points far above it.
const ADDRESS_LIMIT: u64 = 1 << 46;

/// What the function says it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    pub revision: u8,
    /// Base class, subclass, programming interface.
    pub class: [u8; 3],
    pub subsystem_vendor: u16,
    pub subsystem: u16,
    /// 0: no INTx; 1 to 4: INTA to INTD.
    pub interrupt_pin: u8,
}

/// A memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarSpec {
    /// Bytes, a power of two of at least 16.
    pub size: u64,
    /// Takes this BAR and the next.
    pub is_64: bool,
    pub prefetchable: bool,
}

/// A mistake in building a device, not of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    BadBar,
    /// No room for another capability.
    Full,
}

/// The registers of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    // Fixed configuration
    writable: [u8; pci::CONFIG_SIZE],
    clear: [u8; pci::CONFIG_SIZE],
    initial: [u8; pci::CONFIG_SIZE],
    bars: [Option<BarSpec>; pci::BAR_COUNT],
    capabilities: Vec<(usize, usize, &'static [Register])>,
    last_capability: Option<usize>,
    next_free: usize,
    // Volatile state
    bytes: [u8; pci::CONFIG_SIZE],
}

impl ConfigSpace {
    pub fn new(identity: &Identity) -> Self {
        let mut space = Self {
            writable: [0; pci::CONFIG_SIZE],
            clear: [0; pci::CONFIG_SIZE],
            initial: [0; pci::CONFIG_SIZE],
            bars: [None; pci::BAR_COUNT],
            capabilities: Vec::new(),
            last_capability: None,
            next_free: pci::HEADER_SIZE,
            bytes: [0; pci::CONFIG_SIZE],
        };
        space.load_table(0, pci::HEADER);
        space.init(pci::VENDOR_ID, &identity.vendor.to_le_bytes());
        space.init(pci::DEVICE_ID, &identity.device.to_le_bytes());
        let [base, sub, prog_if] = identity.class;
        space.init(pci::REVISION_ID, &[identity.revision, prog_if, sub, base]);
        space.init(pci::SUBSYSTEM_VENDOR_ID, &identity.subsystem_vendor.to_le_bytes());
        space.init(pci::SUBSYSTEM_ID, &identity.subsystem.to_le_bytes());
        space.init(pci::INTERRUPT_PIN, &[identity.interrupt_pin]);
        space.reset();
        space
    }

    /// Masks and reset values of a table placed at `base`.
    fn load_table(&mut self, base: usize, table: &[Register]) {
        for register in table {
            let at = base + register.offset as usize;
            for i in 0..usize::from(register.width) {
                let shift = 8 * i;
                self.initial[at + i] = (register.reset >> shift) as u8;
                self.writable[at + i] = (register.writable >> shift) as u8;
                self.clear[at + i] = (register.write_one_to_clear >> shift) as u8;
            }
        }
    }

    fn init(&mut self, offset: usize, value: &[u8]) {
        self.initial[offset..offset + value.len()].copy_from_slice(value);
    }

    /// Sets read-only bytes that depend on the device, power-on value and present one.
    pub fn preset(&mut self, offset: usize, value: &[u8]) {
        self.init(offset, value);
        self.reset();
    }

    /// Adds a memory BAR (and its upper half).
    pub fn add_bar(&mut self, index: usize, spec: BarSpec) -> Result<(), ConfigError> {
        let last = index + usize::from(spec.is_64);
        let fits = spec.size >= 16
            && spec.size.is_power_of_two()
            && (spec.is_64 || spec.size <= 1 << 31)
            && spec.size <= ADDRESS_LIMIT;
        if last >= pci::BAR_COUNT || !fits || self.taken(index) || (spec.is_64 && self.taken(last))
        {
            return Err(ConfigError::BadBar);
        }
        let mut kind = 0;
        if spec.is_64 {
            kind |= pci::BAR_TYPE_64;
        }
        if spec.prefetchable {
            kind |= pci::BAR_PREFETCHABLE;
        }
        let at = pci::BAR0 + 4 * index;
        let mask = !(spec.size - 1);
        self.init(at, &kind.to_le_bytes());
        self.writable[at..at + 4].copy_from_slice(&(mask as u32).to_le_bytes());
        if spec.is_64 {
            self.writable[at + 4..at + 8].copy_from_slice(&((mask >> 32) as u32).to_le_bytes());
        }
        self.bars[index] = Some(spec);
        self.reset();
        Ok(())
    }

    fn taken(&self, index: usize) -> bool {
        let below = index.checked_sub(1).and_then(|i| self.bars[i]);
        self.bars[index].is_some() || below.is_some_and(|spec| spec.is_64)
    }

    /// Appends a capability: `body` begins with the id; the next pointer is filled in. `table`
    /// gives names and masks. Returns its offset.
    pub fn add_capability(
        &mut self,
        body: &[u8],
        table: &'static [Register],
    ) -> Result<usize, ConfigError> {
        let at = self.next_free;
        let end = at + body.len();
        if body.len() < 2 || end > pci::CONFIG_SIZE {
            return Err(ConfigError::Full);
        }
        for register in table.iter().filter(|r| r.end() as usize <= body.len()) {
            self.load_table(at, std::slice::from_ref(register));
        }
        self.init(at, body);
        self.initial[at + 1] = 0;
        let link = self.last_capability.map_or(pci::CAPABILITIES, |last| last + 1);
        self.initial[link] = at as u8;
        self.initial[pci::STATUS] |= pci::Status::CAPABILITIES_LIST.bits() as u8;
        self.capabilities.push((at, body.len(), table));
        self.last_capability = Some(at);
        self.next_free = end.next_multiple_of(4);
        self.reset();
        Ok(at)
    }

    /// The same at `offset`, for functions whose capabilities have their places. Later ones without
    /// a place follow behind it.
    pub fn add_capability_at(
        &mut self,
        offset: usize,
        body: &[u8],
        table: &'static [Register],
    ) -> Result<usize, ConfigError> {
        if offset < self.next_free || !offset.is_multiple_of(4) {
            return Err(ConfigError::Full);
        }
        self.next_free = offset;
        self.add_capability(body, table)
    }

    /// Makes more bits writable, for capabilities whose tables say read-only in general.
    pub fn make_writable(&mut self, offset: usize, length: usize) {
        for mask in self.writable.iter_mut().skip(offset).take(length) {
            *mask = 0xFF;
        }
    }

    /// Sets what the device itself reports (status bits, say), bypassing the masks.
    pub fn set_u8(&mut self, offset: usize, value: u8) {
        if let Some(byte) = self.bytes.get_mut(offset) {
            *byte = value;
        }
    }

    /// `size` (1, 2, 4) bytes; zero beyond 256.
    pub fn get(&self, offset: usize, size: u8) -> u32 {
        (0..usize::from(size.min(4))).fold(0, |value, i| {
            let byte = self.bytes.get(offset + i).copied().unwrap_or(0);
            value | u32::from(byte) << (8 * i)
        })
    }

    pub fn command(&self) -> Command {
        Command::from_bits_retain(self.get(pci::COMMAND, 2) as u16)
    }

    /// BARs that exist, with their index.
    pub fn bars(&self) -> impl Iterator<Item = (u8, BarSpec)> + '_ {
        self.bars.iter().enumerate().filter_map(|(i, bar)| bar.map(|bar| (i as u8, bar)))
    }

    /// Address programmed into a BAR, whether or not it is decoded.
    pub fn bar_address(&self, index: u8) -> Option<u64> {
        let spec = (*self.bars.get(usize::from(index))?)?;
        let at = pci::BAR0 + 4 * usize::from(index);
        let low = u64::from(self.get(at, 4) & pci::BAR_MEMORY_MASK);
        Some(if spec.is_64 { low | u64::from(self.get(at + 4, 4)) << 32 } else { low })
    }

    /// Guest-physical range at which a BAR answers now, if memory decoding is on and the
    /// address makes sense: (start, length).
    pub fn decoded(&self, index: u8) -> Option<(u64, u64)> {
        let spec = (*self.bars.get(usize::from(index))?)?;
        let start = self.bar_address(index)?;
        let end = start.checked_add(spec.size)?;
        let on = self.command().contains(Command::MEMORY_SPACE);
        (on && start != 0 && end <= ADDRESS_LIMIT).then_some((start, spec.size))
    }

    /// Carries out an access; masks are obeyed, side effects of device-specific registers are
    /// the caller's.
    pub fn access(&mut self, access: Access) -> Outcome {
        let offset = access.offset as usize;
        let size = usize::from(access.size);
        if !matches!(size, 1 | 2 | 4) {
            return Outcome::error(GuestError::BadSize, access.size);
        }
        let outcome = match access.op {
            Op::Read => Outcome::value(u64::from(self.get(offset, access.size))),
            Op::Write(value) => self.write(offset, size, value & ones(access.size * 8)),
        };
        match self.table_at(offset) {
            Some((base, table)) => outcome.at(table, (offset - base) as u32),
            None => outcome,
        }
    }

    fn write(&mut self, offset: usize, size: usize, value: u64) -> Outcome {
        for i in 0..size {
            let Some(byte) = self.bytes.get_mut(offset + i) else { break };
            let new = (value >> (8 * i)) as u8;
            let (writable, clear) = (self.writable[offset + i], self.clear[offset + i]);
            *byte = (*byte & !writable & !(new & clear)) | (new & writable);
        }
        let read_only = self.table_at(offset).and_then(|(base, table)| {
            let register = find(table, (offset - base) as u32, true)?;
            (register.direction == Direction::ReadOnly).then_some(())
        });
        // Only a whole access to a read-only register is a mistake: dword writes over mixed
        // ones are how configuration space is used.
        let nothing =
            (offset..offset + size).all(|at| self.writable.get(at).copied().unwrap_or(0) == 0);
        match read_only {
            Some(()) if nothing => Outcome::done().with_error(GuestError::ReadOnly),
            _ => Outcome::done(),
        }
    }

    fn table_at(&self, offset: usize) -> Option<(usize, &'static [Register])> {
        if offset < pci::HEADER_SIZE {
            return Some((0, pci::HEADER));
        }
        let mut capabilities = self.capabilities.iter();
        capabilities
            .find(|(at, length, _)| (*at..at + length).contains(&offset))
            .map(|(at, _, table)| (*at, *table))
    }

    /// Back to power-on values.
    pub fn reset(&mut self) {
        self.bytes = self.initial;
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
