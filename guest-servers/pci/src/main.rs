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
    /// The handle in the last reply, kept until the receiver has its duplicate.
    sent: Option<OwnedHandle>,
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
    Ok(Service { resource, config, functions, found, confinement, sent: None })
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
            pci::Call::Bar(pci::Bar { index }) => {
                let bar = function.memory_bar(config, index, &self.found)?;
                interrupt::enable(config, bdf, pin, None);
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
            pci::Call::Interrupt(pci::Interrupt { index }) => {
                let level = matches!(interrupts(function, config), Messages::Pin(_));
                let irq = self.route(bdf, index, request.sender)?;
                let reply = pci::InterruptReply { level, interrupt: irq.raw() }.encode();
                self.sent = Some(irq);
                Ok(reply)
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

    /// A new interrupt object for message `index` of the function (or its pin), programmed and
    /// enabled, for the process `driver`.
    fn route(&mut self, bdf: Bdf, index: u32, driver: u32) -> Result<OwnedHandle> {
        let function = self.functions.get_mut(&bdf).ok_or(Error::NoDev)?;
        route(self.resource, &self.config, (function, &self.found), index, driver)
    }
}

/// See [`Service::route`].
fn route(
    resource: Handle,
    config: &Access,
    (function, found): (&mut Function, &[Found]),
    index: u32,
    driver: u32,
) -> Result<OwnedHandle> {
    let bdf = function.found.bdf;
    match interrupts(function, config) {
        Messages::Msix(msix) if index < msix.count => {
            let bar = function.bar(config, msix.table_bar.into(), found)?;
            let at = u64::from(msix.table_offset) + u64::from(index) * msix::ENTRY_SIZE as u64;
            let entry = msix::ENTRY_SIZE as u64;
            let crosses = (bar.address + at) % PAGE_SIZE as u64 + entry > PAGE_SIZE as u64;
            if bar.space == Space::Ports || at + entry > bar.len || crosses {
                return Err(Error::Io);
            }
            // The table answers only while memory is decoded.
            interrupt::enable(config, bdf, false, None);
            let (irq, address, data) = sys::irq_create_msi(resource)?;
            let irq = OwnedHandle::from_raw(irq);
            let entry = Window::map(resource, bar.address + at, msix::ENTRY_SIZE)?;
            interrupt::program_entry(&entry, address, data);
            msix.enable(config, bdf);
            Ok(irq)
        }
        Messages::Msi(at) if index == 0 => {
            let (irq, address, data) = sys::irq_create_msi(resource)?;
            let irq = OwnedHandle::from_raw(irq);
            interrupt::program_msi(config, bdf, at, address, data as u16);
            Ok(irq)
        }
        Messages::Pin(gsi) if index == 0 => {
            // PCI's pins are level-triggered, active-low and shared.
            let flags = IRQ_LEVEL | IRQ_ACTIVE_LOW;
            let irq = sys::irq_create_gsi(resource, gsi.into(), flags)?;
            function.pin_owner = Some(driver);
            interrupt::enable(config, bdf, true, None);
            Ok(OwnedHandle::from_raw(irq))
        }
        _ => Err(Error::NoEnt),
    }
}

/// On the command line: functions that have a pin are to interrupt by it.
const PINS: &str = "pci=nomsi";

/// How a function interrupts: by its pin where the command line wants that.
fn interrupts(function: &mut Function, config: &impl ConfigAccess) -> Messages {
    match interrupt::pin(config, function.found.bdf) {
        Some(gsi) if kip::cmdline_has(PINS) => Messages::Pin(gsi),
        _ => function.messages(config),
    }
}

/// A BAR's pages as device memory.
fn device_memory(resource: Handle, bar: &Bar) -> Result<OwnedHandle> {
    let len = bar.len.next_multiple_of(PAGE_SIZE as u64);
    let flags = DeviceMemoryFlags::empty();
    sys::memory_device(resource, bar.address, len, flags).map(OwnedHandle::from_raw)
}
