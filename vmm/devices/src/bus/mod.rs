//! The one choke point: every port, memory and configuration access of a guest goes through
//! [`Bus::access`], which finds the device, splits what one device cannot take, and traces.
//!
//! ```text
//! Pio   0xCF8 (dword)       configuration address register
//!       0xCFC..0xD00        configuration data -> function
//!       added ranges        Device
//! Mmio  ECAM                configuration space -> function
//!       decoded BARs        PciDevice::bar_access
//! else                      reads all ones, traced as unclaimed
//! ```
//!
//! A machine is built with `&mut self` and then shared; devices sit in mutexes. Lock order:
//! configuration, then window map or device, never two devices. Only bus 0 exists.

mod routing;

use crate::backend::DriveBays;
use crate::device::{Access, Action, Device, GuestError, Origin};
use crate::fault::Faults;
use crate::pci::{DoorbellSink, PciDevice};
use crate::trace::Tracer;
use routing::Window;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use xinim_abi::hw::pci::{self, Bdf, Command};
use xinim_abi::platform;

pub use crate::trace::Space;

/// Devices on bus 0.
const MAX_DEVICES: u8 = 32;
/// BARs are assigned on page boundaries at least, so that a guest can map them apart.
const BAR_ALIGN: u64 = 4096;

/// What an access came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Response {
    /// Read value, right-aligned.
    pub value: u64,
    pub action: Option<Action>,
    /// The first mistake found, if any; already traced.
    pub error: Option<GuestError>,
}

/// A machine cannot be put together like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// Port ranges overlap, are empty, or run past 0xFFFF.
    BadRange,
    /// More functions than bus 0 has device numbers.
    TooManyFunctions,
    /// Two functions want one place, or one wants another bus.
    Taken,
    /// The 32-bit window is too small for all BARs.
    NoSpace,
}

impl std::fmt::Display for BusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BusError::BadRange => "port ranges of two devices overlap",
            BusError::TooManyFunctions => "more than 31 PCI devices",
            BusError::Taken => "two PCI functions at one address",
            BusError::NoSpace => "no address space left for PCI BARs",
        })
    }
}

impl std::error::Error for BusError {}

struct PortRange {
    base: u16,
    len: u16,
    /// Offset in the device of the first port.
    first: u64,
    /// Widest access the device takes, in bytes; wider ones are split.
    width: u8,
    device: Arc<Mutex<dyn Device>>,
}

struct Function {
    bdf: Bdf,
    device: Arc<Mutex<dyn PciDevice>>,
}

/// See the module's head.
pub struct Bus {
    // Fixed configuration
    ports: Vec<PortRange>,
    functions: Vec<Function>,
    // Glue
    tracer: Tracer,
    doorbells: Option<Arc<dyn DoorbellSink>>,
    faults: Option<Arc<Faults>>,
    // Volatile state
    /// Configuration address register; the lock also serialises changes of BARs.
    config_address: Mutex<u32>,
    windows: RwLock<Vec<Window>>,
}

/// A panic in another thread must not take this one along: device state is always valid data.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    pub fn new(tracer: Tracer) -> Self {
        Self {
            ports: Vec::new(),
            functions: Vec::new(),
            tracer,
            doorbells: None,
            faults: None,
            config_address: Mutex::new(0),
            windows: RwLock::new(Vec::new()),
        }
    }

    /// Puts a device at ports `base..base + len`; accesses wider than `width` bytes are split.
    pub fn add_ports(
        &mut self,
        base: u16,
        len: u16,
        width: u8,
        device: Arc<Mutex<dyn Device>>,
    ) -> Result<(), BusError> {
        self.add_ports_at(base, len, width, 0, device)
    }

    /// The same for a device whose ports are not in one run: offset `first` is at `base`.
    pub fn add_ports_at(
        &mut self,
        base: u16,
        len: u16,
        width: u8,
        first: u64,
        device: Arc<Mutex<dyn Device>>,
    ) -> Result<(), BusError> {
        let end = u32::from(base) + u32::from(len);
        let overlaps = |r: &PortRange| {
            u32::from(r.base) < end && u32::from(base) < u32::from(r.base) + u32::from(r.len)
        };
        if len == 0 || end > 0x1_0000 || self.ports.iter().any(overlaps) {
            return Err(BusError::BadRange);
        }
        self.ports.push(PortRange { base, len, first, width: width.clamp(1, 4), device });
        Ok(())
    }

    /// Puts a function at the lowest free device number of bus 0.
    pub fn add_pci(&mut self, device: Arc<Mutex<dyn PciDevice>>) -> Result<Bdf, BusError> {
        let place = self.free_place().ok_or(BusError::TooManyFunctions)?;
        self.add_pci_at(place, device)
    }

    /// Where [`add_pci`](Self::add_pci) would put the next function.
    pub fn free_place(&self) -> Option<Bdf> {
        let free = |number: &u8| self.functions.iter().all(|f| f.bdf.device() != *number);
        (0..MAX_DEVICES).find(free).map(|number| Bdf::new(0, number, 0))
    }

    /// Puts a function where it has to be on bus 0. Function 0 of a device that has others must be
    /// there, and say so in its header.
    pub fn add_pci_at(
        &mut self,
        bdf: Bdf,
        device: Arc<Mutex<dyn PciDevice>>,
    ) -> Result<Bdf, BusError> {
        if bdf.bus() != 0 || self.functions.iter().any(|f| f.bdf == bdf) {
            return Err(BusError::Taken);
        }
        self.functions.push(Function { bdf, device });
        Ok(bdf)
    }

    /// Takes a function off the bus; `false`: there is none. Its doorbells are gone.
    pub fn remove_pci(&mut self, bdf: Bdf) -> bool {
        let Some(index) = self.functions.iter().position(|f| f.bdf == bdf) else { return false };
        let function = self.functions.remove(index);
        let windows = self.windows.get_mut().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<Window> = windows.extract_if(.., |w| w.function == index).collect();
        windows.iter_mut().filter(|w| w.function > index).for_each(|w| w.function -= 1);
        let Some(sink) = &self.doorbells else { return true };
        for doorbell in lock(&function.device).doorbells() {
            if let Some(window) = gone.iter().find(|w| w.bar == doorbell.bar) {
                sink.moved(bdf, doorbell.queue, Some(window.place(doorbell.offset)), None);
            }
        }
        true
    }

    /// Wants to know where doorbells are; told of each when it becomes decoded. Set before
    /// [`assign_bars`](Self::assign_bars).
    pub fn set_doorbell_sink(&mut self, sink: Arc<dyn DoorbellSink>) {
        self.doorbells = Some(sink);
    }

    /// Lets the machine's fault rules at what passes here.
    pub fn set_faults(&mut self, faults: Arc<Faults>) {
        self.faults = Some(faults);
    }

    /// A doorbell was rung without an access (ioeventfd): whether the device hears it, so that
    /// [`notify`](Self::notify) is to follow.
    pub fn doorbell(&self, function: Bdf, queue: u16) -> bool {
        let Some(faults) = &self.faults else { return true };
        let found = self.functions.iter().find(|f| f.bdf == function);
        found.is_none_or(|found| {
            let device = lock(&found.device);
            faults.doorbell(device.name(), queue)
        })
    }

    /// Does what firmware does: gives every BAR an address in the 32-bit window and turns memory
    /// decoding on. Bus mastering stays off. Nothing of it is traced: no guest did it.
    pub fn assign_bars(&self) -> Result<(), BusError> {
        let _serial = lock(&self.config_address);
        let mut next = platform::MMIO32_BASE;
        for (number, function) in self.functions.iter().enumerate() {
            {
                let mut device = lock(&function.device);
                let bars: Vec<_> = device.config().bars().collect();
                for (index, spec) in &bars {
                    let start = next.next_multiple_of(spec.size.max(BAR_ALIGN));
                    next = start + spec.size;
                    if next > platform::MMIO32_END {
                        return Err(BusError::NoSpace);
                    }
                    let at = pci::BAR0 + 4 * usize::from(*index);
                    device.config_access(Access::write(at as u64, 4, start));
                }
                if !bars.is_empty() {
                    let command = u64::from(Command::MEMORY_SPACE.bits());
                    device.config_access(Access::write(pci::COMMAND as u64, 2, command));
                }
            }
            self.remap(number);
        }
        Ok(())
    }

    /// A doorbell was rung without an access (ioeventfd), or an access left work undone
    /// ([`Action::NotifyAgain`]). Returns whether to call again.
    pub fn notify(&self, function: Bdf, queue: u16, origin: &Origin) -> bool {
        match self.functions.iter().find(|f| f.bdf == function) {
            Some(found) => lock(&found.device).notify_queue(queue, origin),
            None => false,
        }
    }

    /// Lets `work` at the disks behind a function; `None` if it has none.
    pub fn bays<T>(&self, function: Bdf, work: impl FnOnce(&mut dyn DriveBays) -> T) -> Option<T> {
        let found = self.functions.iter().find(|f| f.bdf == function)?;
        lock(&found.device).bays().map(work)
    }

    /// Power-on state of every device; BARs have to be assigned again.
    pub fn reset(&self) {
        let mut config_address = lock(&self.config_address);
        *config_address = 0;
        for range in &self.ports {
            lock(&range.device).reset();
        }
        for (index, function) in self.functions.iter().enumerate() {
            lock(&function.device).reset();
            self.remap(index);
        }
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
