//! Interrupts into KVM: wires to the in-kernel controllers, and MSI-X messages.
//!
//! A wire is `KVM_IRQ_LINE`; those of PCI pins lead to inputs 16 to 23 ([`pci_input`]). An MSI-X vector gets, when the guest programs it, an interrupt route
//! of its own and an irqfd; delivering it is then one write to an eventfd, which a later back end
//! in another thread or process can do as well. Where KVM has no irqfd, or is out of routes,
//! the message goes by `KVM_SIGNAL_MSI`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry, kvm_msi,
};
use kvm_ioctls::{Cap, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use xinim_devices::bus::lock;
use xinim_devices::irq::{IrqLine, MsiMessage, MsiRoute, MsiSink};

use crate::layout::IOAPIC_PINS;

/// Inputs of each 8259.
const PIC_PINS: u32 = 8;
/// The pin of the I/O APIC that the PIT is wired to, instead of 0.
const PIT_PIN: u32 = 2;
/// Inputs of the I/O APIC for PCI pins, beyond those of the ISA bus.
const PCI_INPUTS: std::ops::Range<u8> = 16..IOAPIC_PINS as u8;
/// Vectors beyond these go by `KVM_SIGNAL_MSI`: Linux allows 4096 routes.
const MSI_ROUTES_MAX: u32 = 1024;

/// All interrupt routes of a machine.
pub struct Interrupts {
    vm: Arc<VmFd>,
    irqfd: bool,
    table: Mutex<Table>,
    raised: Arc<Mutex<[u32; PCI_INPUTS.end as usize]>>,
}

#[derive(Default)]
struct Table {
    next: u32,
    /// By global interrupt number.
    messages: BTreeMap<u32, MsiMessage>,
}

impl Interrupts {
    /// For a machine whose interrupt controllers KVM has made.
    pub fn new(vm: Arc<VmFd>) -> Result<Self, kvm_ioctls::Error> {
        let irqfd = vm.check_extension(Cap::Irqfd) && vm.check_extension(Cap::IrqRouting);
        let interrupts = Self {
            vm,
            irqfd,
            table: Mutex::new(Table { next: IOAPIC_PINS, messages: BTreeMap::new() }),
            raised: Arc::default(),
        };
        if interrupts.vm.check_extension(Cap::IrqRouting) {
            interrupts.install(&BTreeMap::new())?;
        }
        Ok(interrupts)
    }

    /// A wire to input `irq` of the interrupt controllers.
    pub fn line(&self, irq: u8) -> Wire {
        Wire { vm: self.vm.clone(), irq }
    }

    /// A wire from the pin of the PCI device with this number.
    pub fn pci_line(&self, device: u8) -> PciWire {
        let (vm, raised) = (self.vm.clone(), self.raised.clone());
        PciWire { vm, input: pci_input(device), raised }
    }

    fn install(&self, messages: &BTreeMap<u32, MsiMessage>) -> Result<(), kvm_ioctls::Error> {
        let mut entries = controller_routes();
        entries.extend(messages.iter().map(|(gsi, message)| msi_route(*gsi, *message)));
        let routing = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| kvm_ioctls::Error::new(libc::ENOSPC))?;
        self.vm.set_gsi_routing(&routing)
    }

    /// A number of its own with a route for `message`.
    fn allocate(&self, message: MsiMessage) -> Option<u32> {
        let mut table = lock(&self.table);
        let gsi = table.next;
        if gsi >= IOAPIC_PINS + MSI_ROUTES_MAX {
            return None;
        }
        table.messages.insert(gsi, message);
        if self.install(&table.messages).is_err() {
            table.messages.remove(&gsi);
            return None;
        }
        table.next += 1;
        Some(gsi)
    }

    fn reroute(&self, gsi: u32, message: MsiMessage) -> Result<(), kvm_ioctls::Error> {
        let mut table = lock(&self.table);
        table.messages.insert(gsi, message);
        self.install(&table.messages)
    }
}

/// What KVM starts with, but for the PIT, which is on pin 2 as the MADT says.
fn controller_routes() -> Vec<kvm_irq_routing_entry> {
    let route = |gsi, irqchip, pin| {
        let mut entry =
            kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
        entry.u.irqchip.irqchip = irqchip;
        entry.u.irqchip.pin = pin;
        entry
    };
    let mut routes = Vec::new();
    for gsi in 0..2 * PIC_PINS {
        let chip = if gsi < PIC_PINS { KVM_IRQCHIP_PIC_MASTER } else { KVM_IRQCHIP_PIC_SLAVE };
        routes.push(route(gsi, chip, gsi % PIC_PINS));
    }
    for gsi in (0..IOAPIC_PINS).filter(|gsi| *gsi != PIT_PIN) {
        routes.push(route(gsi, KVM_IRQCHIP_IOAPIC, if gsi == 0 { PIT_PIN } else { gsi }));
    }
    routes
}

fn msi_route(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi.address_lo = message.address as u32;
    entry.u.msi.address_hi = (message.address >> 32) as u32;
    entry.u.msi.data = message.data;
    entry
}

/// The I/O APIC input that the interrupt pins of a PCI device are wired to, as the DSDT says.
pub fn pci_input(device: u8) -> u8 {
    PCI_INPUTS.start + device % (PCI_INPUTS.end - PCI_INPUTS.start)
}

/// A PCI interrupt wire, level-triggered: devices that share an input hold it together.
pub struct PciWire {
    vm: Arc<VmFd>,
    input: u8,
    /// How many devices raise each of [`PCI_INPUTS`].
    raised: Arc<Mutex<[u32; PCI_INPUTS.end as usize]>>,
}

impl IrqLine for PciWire {
    fn set(&self, level: bool) {
        // Held until KVM knows, so that changes arrive in their order.
        let mut raised = lock(&self.raised);
        let count = &mut raised[usize::from(self.input)];
        *count = if level { *count + 1 } else { count.saturating_sub(1) };
        // Fails only without interrupt controllers, which the engine has made.
        let _ = self.vm.set_irq_line(u32::from(self.input), *count > 0);
    }
}

/// An interrupt wire of an ISA device.
pub struct Wire {
    vm: Arc<VmFd>,
    irq: u8,
}

impl IrqLine for Wire {
    fn set(&self, level: bool) {
        // Fails only without interrupt controllers, which the engine has made.
        let _ = self.vm.set_irq_line(u32::from(self.irq), level);
    }
}

/// The MSI-X vectors of one PCI function.
pub struct Vectors {
    interrupts: Arc<Interrupts>,
    routed: Mutex<BTreeMap<u16, Routed>>,
}

struct Routed {
    gsi: u32,
    event: EventFd,
    message: MsiMessage,
}

impl Vectors {
    pub fn new(interrupts: Arc<Interrupts>) -> Self {
        Self { interrupts, routed: Mutex::new(BTreeMap::new()) }
    }

    fn connect(&self, message: MsiMessage) -> Option<Routed> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).ok()?;
        let gsi = self.interrupts.allocate(message)?;
        self.interrupts.vm.register_irqfd(&event, gsi).ok()?;
        Some(Routed { gsi, event, message })
    }

    fn direct(&self, message: MsiMessage) {
        let msi = kvm_msi {
            address_lo: message.address as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            ..Default::default()
        };
        // A message to nowhere is the guest's mistake and gets lost, as on real hardware.
        let _ = self.interrupts.vm.signal_msi(msi);
    }
}

impl MsiSink for Vectors {
    fn route(&self, vector: u16, route: MsiRoute) {
        if route.masked || !self.interrupts.irqfd {
            return;
        }
        let mut routed = lock(&self.routed);
        match routed.get_mut(&vector) {
            Some(known) if known.message == route.message => {}
            Some(known) => {
                if self.interrupts.reroute(known.gsi, route.message).is_ok() {
                    known.message = route.message;
                }
            }
            None => {
                if let Some(new) = self.connect(route.message) {
                    routed.insert(vector, new);
                }
            }
        }
    }

    fn signal(&self, vector: u16, message: MsiMessage) {
        let routed = lock(&self.routed);
        match routed.get(&vector) {
            Some(known) if known.message == message && known.event.write(1).is_ok() => {}
            _ => self.direct(message),
        }
    }
}

#[cfg(test)]
#[path = "irq_tests.rs"]
mod tests;
