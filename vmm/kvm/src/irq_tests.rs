use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuFd};

use super::*;

const LAPIC_SPURIOUS: usize = 0xF0;
const LAPIC_REQUESTS: usize = 0x200;

/// A machine that never runs: interrupts stay visible as requests of its local APIC.
struct Machine {
    vcpu: VcpuFd,
    interrupts: Arc<Interrupts>,
}

fn machine() -> Option<Machine> {
    let vm = Kvm::new().ok()?.create_vm().ok()?;
    vm.create_irq_chip().unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    let mut lapic = vcpu.get_lapic().unwrap();
    for (index, byte) in 0x1FFu32.to_le_bytes().into_iter().enumerate() {
        lapic.regs[LAPIC_SPURIOUS + index] = byte as _; // vector 255, APIC on
    }
    vcpu.set_lapic(&lapic).unwrap();
    Some(Machine { vcpu, interrupts: Arc::new(Interrupts::new(Arc::new(vm)).unwrap()) })
}

impl Machine {
    fn requested(&self, vector: usize) -> bool {
        let lapic = self.vcpu.get_lapic().unwrap();
        let byte = lapic.regs[LAPIC_REQUESTS + vector / 32 * 16 + vector % 32 / 8] as u8;
        byte >> (vector % 8) & 1 != 0
    }

    /// An irqfd may deliver from a kernel thread.
    fn arrives(&self, vector: usize) -> bool {
        let start = Instant::now();
        while !self.requested(vector) {
            if start.elapsed() > Duration::from_secs(5) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

fn message(vector: u32) -> MsiMessage {
    MsiMessage { address: 0xFEE0_0000, data: vector }
}

fn route(vector: u32, masked: bool) -> MsiRoute {
    MsiRoute { message: message(vector), masked }
}

#[test]
fn messages_arrive_by_irqfd_and_follow_their_route() {
    let Some(machine) = machine() else { return };
    let vectors = Vectors::new(machine.interrupts.clone());
    vectors.route(0, route(0x41, false));
    assert_eq!(lock(&vectors.routed).len(), usize::from(machine.interrupts.irqfd));
    assert!(!machine.requested(0x41));
    vectors.signal(0, message(0x41));
    assert!(machine.arrives(0x41));
    vectors.route(0, route(0x42, true));
    vectors.route(0, route(0x43, false));
    vectors.signal(0, message(0x43));
    assert!(machine.arrives(0x43));
    assert!(!machine.requested(0x42));
}

#[test]
fn messages_without_a_route_arrive_directly() {
    let Some(machine) = machine() else { return };
    let vectors = Vectors::new(machine.interrupts.clone());
    vectors.signal(5, message(0x51));
    assert!(machine.requested(0x51));
    // A message that its route does not carry is not sent by the route.
    vectors.route(5, route(0x52, false));
    vectors.signal(5, message(0x53));
    assert!(machine.requested(0x53) && !machine.requested(0x52));
    // Nowhere is nowhere.
    vectors.signal(6, MsiMessage { address: 0xFEEF_F000, data: 0xFFFF_FFFF });
}

#[test]
fn routes_are_kept_apart_and_bounded() {
    let Some(machine) = machine() else { return };
    let functions: Vec<Vectors> =
        (0..3).map(|_| Vectors::new(machine.interrupts.clone())).collect();
    for (function, vector) in functions.iter().zip(0x60u32..) {
        function.route(0, route(vector, false));
    }
    functions[1].signal(0, message(0x61));
    assert!(machine.arrives(0x61));
    assert!(!machine.requested(0x60) && !machine.requested(0x62));
    lock(&machine.interrupts.table).next = IOAPIC_PINS + MSI_ROUTES_MAX;
    functions[0].route(1, route(0x70, false));
    functions[0].signal(1, message(0x70));
    assert!(machine.requested(0x70), "out of routes, but delivered");
}

#[test]
fn the_interval_timer_is_on_pin_2() {
    let routes = controller_routes();
    let pins = |gsi: u32| {
        let of_ioapic = |entry: &&kvm_irq_routing_entry| {
            // SAFETY: all these entries are of the controller kind.
            let chip = unsafe { entry.u.irqchip };
            entry.gsi == gsi && chip.irqchip == KVM_IRQCHIP_IOAPIC
        };
        // SAFETY: as above.
        routes.iter().filter(of_ioapic).map(|entry| unsafe { entry.u.irqchip.pin }).collect()
    };
    let (timer, second, serial): (Vec<u32>, Vec<u32>, Vec<u32>) = (pins(0), pins(2), pins(4));
    assert_eq!((timer, second, serial), (vec![2], vec![], vec![4]));
}
