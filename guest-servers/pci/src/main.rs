//! The pci service. It alone reaches configuration space, and hands each driver what its function
//! has: BARs as memory, interrupts as objects, a filtered view of the rest.
//!
//! ```text
//! start: find configuration space -> enumerate -> IOMMU, where there is one (confine.rs)
//!        -> RS AddFunction each (DMA domain, badged endpoint)
//!        -> FunctionsDone -> announce -> serve
//! ```
//! The badge of a driver's endpoint handle names its function; whoever looked the service up by
//! name has no function and may ask for nothing.
#![no_std]
#![no_main]

extern crate alloc;

mod access;
mod confine;
mod window;

use access::Access;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;
use confine::Confinement;
use window::Window;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::pci::{Bdf, msix};
use xinim_abi::interface::Reply;
use xinim_abi::ipc::Message;
use xinim_abi::object::{DeviceMemoryFlags, Handle, PAGE_SIZE, Rights};
use xinim_abi::services::pci::pci;
use xinim_abi::services::rs::rs;
use xinim_abi::start::role;
use xinim_abi::syscall::{IRQ_ACTIVE_LOW, IRQ_LEVEL};
use xinim_pci::bar::{Bar, Space};
use xinim_pci::enumerate::{Found, enumerate};
use xinim_pci::function::{Function, Messages};
use xinim_pci::interrupt::Msix;
use xinim_pci::{ConfigAccess, filter, interrupt};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::server::{Request, Server, answer};
use xinim_rt::{ipc, kip, log, server, start, sys};

xinim_rt::program!(main);

/// Badge of a driver's handle: this, and the function's requester id.
const BADGE_FUNCTION: u64 = 1 << 63;

struct Service {
    resource: Handle,
    config: Access,
    functions: BTreeMap<Bdf, Function>,
    found: Vec<Found>,
    /// `None`: there is no IOMMU.
    confinement: Option<Confinement>,
    /// Messages that were routed so far, by function and index: each has its interrupt for good, so that a
    /// driver that is started again costs no new one.
    routes: BTreeMap<(Bdf, u32), Route>,
    /// The handle in the last reply, kept until the receiver has its duplicate.
    sent: Option<OwnedHandle>,
}

/// A message of a function and the interrupt it leads to.
struct Route {
    interrupt: OwnedHandle,
    address: u32,
    data: u32,
    place: Place,
}

/// Where a message is programmed.
enum Place {
    /// In an entry of the MSI-X table.
    Table(Window, Msix),
    /// In the MSI capability at this offset.
    Capability(u8),
}

fn main() -> i32 {
    match start() {
        Ok(mut service) => server::run(&mut service),
        Err(error) => {
            log!("pci: {error}");
            1
        }
    }
}

fn start() -> Result<Service> {
    let resource = start::handle(role::RESOURCE).ok_or(Error::BadHandle)?;
    let config = Access::find(resource)?;
    let found = enumerate(&config);
    let endpoint = server::own_endpoint()?;
    let mut functions: BTreeMap<Bdf, Function> =
        found.iter().map(|&found| (found.bdf, Function::new(found))).collect();
    let confinement = Confinement::start(resource, &config, &mut functions, &found)?;
    for function in &found {
        announce_function(resource, endpoint, &config, function)?;
    }
    ipc::call(start::rs(), &rs::FunctionsDone {})?;
    Ok(Service {
        resource,
        config,
        functions,
        found,
        confinement,
        routes: BTreeMap::new(),
        sent: None,
    })
}

/// Makes the function's kernel object and tells RS, which starts a driver where one matches.
fn announce_function(
    resource: Handle,
    endpoint: Handle,
    config: &Access,
    function: &Found,
) -> Result<()> {
    let location = function.bdf.bits();
    let space = config.physical(function.bdf);
    let device = OwnedHandle::from_raw(sys::device_create(resource, location, space)?);
    let rights = Rights::SEND | Rights::TRANSFER;
    let badge = BADGE_FUNCTION | u64::from(location);
    let badged = OwnedHandle::from_raw(sys::handle_mint(endpoint, rights.bits(), badge)?);
    let request = rs::AddFunction {
        location: location.into(),
        id: function.id,
        class: function.class,
        device: device.raw(),
        pci: badged.raw(),
    };
    ipc::call(start::rs(), &request).map(drop)
}

impl Server for Service {
    fn call(&mut self, request: Request) -> Option<Message> {
        self.sent = None;
        let reply = self.serve(&request);
        match reply {
            Ok(message) => Some(message),
            Err(error) => answer::<pci::Enabled>(Err(error)),
        }
    }

    fn notified(&mut self, raised: u64) {
        if let Some(confinement) = &mut self.confinement {
            confinement.notified(raised);
        }
    }
}

impl Service {
    fn serve(&mut self, request: &Request) -> Result<Message> {
        let call = pci::Call::decode(&request.message)?;
        let own = request.badge & BADGE_FUNCTION != 0;
        let bdf = Bdf::from_bits(request.badge as u16);
        if let pci::Call::Sync(_) = call {
            let confined = match &mut self.confinement {
                Some(confinement) => confinement.sync(own.then_some(bdf)),
                None => false,
            };
            return Ok(pci::Synced { confined }.encode());
        }
        if !own {
            return Err(Error::Perm);
        }
        let function = self.functions.get_mut(&bdf).ok_or(Error::NoDev)?;
        let config = &self.config;
        let pin = function.pin_owner == Some(request.sender);
        match call {
            pci::Call::ConfigRead(read) => {
                let (offset, size) = filter::check_shape(read.offset, read.size)?;
                let value = config.read(bdf, offset, size);
                Ok(pci::ConfigValue { value }.encode())
            }
            pci::Call::ConfigWrite(write) => {
                let (offset, size) = filter::check_shape(write.offset, write.size)?;
                function.check_write(config, offset, size)?;
                config.write(bdf, offset, size, write.value);
                Ok(pci::ConfigWritten {}.encode())
            }
            pci::Call::Bar(pci::Bar { index, ahead }) => {
                if ahead && !function.knows_bar(index) {
                    return Err(Error::NotSup);
                }
                let bar = function.memory_bar(config, index, &self.found)?;
                interrupt::decode(config, bdf);
                let memory = device_memory(self.resource, &bar)?;
                let reply = pci::BarReply { len: bar.len, memory: memory.raw() }.encode();
                self.sent = Some(memory);
                Ok(reply)
            }
            pci::Call::PortBar(pci::PortBar { index }) => {
                let bar = function.bar(config, index, &self.found)?;
                if bar.space != Space::Ports || bar.address == 0 {
                    return Err(Error::NotSup);
                }
                let (base, count) = (bar.address as u16, bar.len as u32);
                let ports = OwnedHandle::from_raw(sys::ports_create(self.resource, base, count)?);
                let reply = pci::PortBarReply { len: bar.len, ports: ports.raw() }.encode();
                self.sent = Some(ports);
                Ok(reply)
            }
            pci::Call::Interrupt(pci::Interrupt { index, ahead }) => {
                if ahead {
                    // What is routed stays as it is.
                    let route = self.routes.get(&(bdf, index)).ok_or(Error::NotSup)?;
                    let interrupt = route.interrupt.raw();
                    return Ok(pci::InterruptReply { level: false, interrupt }.encode());
                }
                if let Messages::Pin(gsi) = interrupts(function, config) {
                    if index != 0 {
                        return Err(Error::NoEnt);
                    }
                    // PCI's pins are level-triggered, active-low and shared.
                    let flags = IRQ_LEVEL | IRQ_ACTIVE_LOW;
                    let irq = sys::irq_create_gsi(self.resource, gsi.into(), flags)?;
                    let irq = OwnedHandle::from_raw(irq);
                    function.pin_owner = Some(request.sender);
                    interrupt::enable(config, bdf, true, None);
                    let reply = pci::InterruptReply { level: true, interrupt: irq.raw() }.encode();
                    self.sent = Some(irq);
                    return Ok(reply);
                }
                let interrupt = self.message(bdf, index)?;
                Ok(pci::InterruptReply { level: false, interrupt }.encode())
            }
            pci::Call::Enable(pci::Enable { bus_master }) => {
                interrupt::enable(config, bdf, pin, Some(bus_master));
                Ok(pci::Enabled {}.encode())
            }
            // Answered above.
            pci::Call::Sync(_) => Err(Error::NoSys),
            pci::Call::InterruptCount(_) => {
                let count = match function.messages(config) {
                    Messages::None => 0,
                    Messages::Pin(_) | Messages::Msi(_) => 1,
                    Messages::Msix(msix) => msix.count,
                };
                Ok(pci::InterruptCountReply { count }.encode())
            }
            pci::Call::Capability(pci::Capability { id, index }) => {
                let capability = function.capability(config, id, index)?;
                let word = |i: usize| {
                    let bytes = capability.bytes.as_chunks::<8>().0;
                    bytes.get(i).map_or(0, |b| u64::from_le_bytes(*b))
                };
                let offset = capability.offset.into();
                let (bytes0, bytes8, bytes16) = (word(0), word(1), word(2));
                Ok(pci::CapabilityReply { offset, bytes0, bytes8, bytes16 }.encode())
            }
        }
    }

    /// The interrupt of message `index`, programmed and enabled.
    fn message(&mut self, bdf: Bdf, index: u32) -> Result<Handle> {
        let route = match self.routes.entry((bdf, index)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let function = self.functions.get_mut(&bdf).ok_or(Error::NoDev)?;
                free.insert(Route::new(
                    self.resource,
                    &self.config,
                    (function, &self.found),
                    index,
                )?)
            }
        };
        route.program(&self.config, bdf);
        Ok(route.interrupt.raw())
    }
}

impl Route {
    /// Makes the interrupt of a message.
    fn new(
        resource: Handle,
        config: &Access,
        (function, found): (&mut Function, &[Found]),
        index: u32,
    ) -> Result<Self> {
        let place = match interrupts(function, config) {
            Messages::Msix(msix) if index < msix.count => {
                let bar = function.bar(config, msix.table_bar.into(), found)?;
                let at = u64::from(msix.table_offset) + u64::from(index) * msix::ENTRY_SIZE as u64;
                let entry = msix::ENTRY_SIZE as u64;
                let crosses = (bar.address + at) % PAGE_SIZE as u64 + entry > PAGE_SIZE as u64;
                if bar.space == Space::Ports || at + entry > bar.len || crosses {
                    return Err(Error::Io);
                }
                let entry = Window::map(resource, bar.address + at, msix::ENTRY_SIZE)?;
                Place::Table(entry, msix)
            }
            Messages::Msi(at) if index == 0 => Place::Capability(at),
            _ => return Err(Error::NoEnt),
        };
        let (irq, address, data) = sys::irq_create_msi(resource)?;
        Ok(Self { interrupt: OwnedHandle::from_raw(irq), address, data, place })
    }

    /// Has the function use it.
    fn program(&self, config: &Access, bdf: Bdf) {
        // A table answers only while memory is decoded.
        interrupt::enable(config, bdf, false, None);
        match &self.place {
            Place::Table(entry, msix) => {
                interrupt::program_entry(entry, self.address, self.data);
                msix.enable(config, bdf);
            }
            Place::Capability(at) => {
                interrupt::program_msi(config, bdf, *at, self.address, self.data as u16);
            }
        }
    }
}

/// On the command line: functions that have a pin are to interrupt by it.
const PINS: &str = "pci=nomsi";

/// How a function interrupts: by its pin where the command line wants that.
fn interrupts(function: &mut Function, config: &impl ConfigAccess) -> Messages {
    let pin = kip::cmdline_has(PINS).then(|| interrupt::pin(config, function.found.bdf)).flatten();
    pin.map_or_else(|| function.messages(config), Messages::Pin)
}

/// A BAR's pages as device memory.
fn device_memory(resource: Handle, bar: &Bar) -> Result<OwnedHandle> {
    let len = bar.len.next_multiple_of(PAGE_SIZE as u64);
    let flags = DeviceMemoryFlags::empty();
    sys::memory_device(resource, bar.address, len, flags).map(OwnedHandle::from_raw)
}
