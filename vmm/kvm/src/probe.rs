//! What kind of KVM this host has, found out with two tiny guests.
//!
//! One counts the price of a ring-0 instruction and of an exit: a KVM nested without hardware
//! support emulates ring 0, some hundred times slower than the processor. The other executes
//! `syscall` in ring 3 and reports the ring it arrives in: such a KVM may stay in ring 3. Both
//! together take a few milliseconds.

use std::time::{Duration, Instant};

use kvm_bindings::{
    Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};
use xinim_machine::EngineError;

use crate::host::{self, host, host_io};
use crate::memory::{GuestRam, HUGE_PAGE};
use crate::vcpu::exit::{Exit, Runner};

/// What [`probe`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// Version of the KVM interface (12 everywhere).
    pub kvm_version: i32,
    /// `syscall` arrives in ring 0, as the architecture says.
    pub syscall_enters_ring0: bool,
    /// Ring-0 code is interpreted, not executed.
    pub ring0_emulated: bool,
    /// Nanoseconds per simple ring-0 instruction.
    pub ring0_instruction_ns: f64,
    /// Nanoseconds for a port write that the VMM handles, the way back included.
    pub pio_exit_ns: u64,
    /// Largest number of vCPUs.
    pub max_vcpus: usize,
    /// Optional capabilities this engine uses, by name.
    pub capabilities: Vec<(&'static str, bool)>,
}

/// Above this, in nanoseconds, no processor executes a `dec`: it is interpreted.
const EMULATED_ABOVE: f64 = 30.0;
/// Exits timed; the first is a warm-up.
const EXITS: u32 = 40;
/// Iterations of the two-instruction loop.
const LOOPS: u32 = 4_000;
/// A guest that has not answered by then is broken.
const PATIENCE: Duration = Duration::from_millis(500);

const PORT: u16 = 0x80;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const GDT: u64 = 0x4000;
const CODE: u64 = 0x8000;

const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
const USER_DATA: u16 = 0x1B;
const USER_CODE: u16 = 0x23;

#[rustfmt::skip]
const TIMING_GUEST: [u8; 19] = [
    0xB9, EXITS as u8, 0, 0, 0,                            // mov ecx, EXITS
    0xE6, PORT as u8,                                      // 1: out PORT, al
    0xFF, 0xC9,                                            //    dec ecx
    0x75, 0xFA,                                            //    jnz 1b
    0xFF, 0xCB,                                            // 2: dec ebx
    0x75, 0xFC,                                            //    jnz 2b
    0xE6, PORT as u8,                                      //    out PORT, al
    0xEB, 0xFE,                                            //    jmp .
];

/// `syscall` goes to the byte after itself.
#[rustfmt::skip]
const SYSCALL_GUEST: [u8; 8] = [
    0x0F, 0x05,                                            // syscall
    0x8C, 0xC8,                                            // mov eax, cs
    0xE7, PORT as u8,                                      // out PORT, eax
    0xEB, 0xFE,                                            // jmp .
];

/// Opens `/dev/kvm` and measures. Takes well under 200 ms.
pub fn probe() -> Result<ProbeReport, EngineError> {
    let kvm = host::open(host::DEVICE)?;
    let vm = host::create_vm(&kvm)?;
    let mut guest = Guest::new(&vm)?;
    let (pio_exit_ns, ring0_instruction_ns) = guest.time_ring0()?;
    let mut guest = Guest { runner: Runner::new(create_vcpu(&vm, 1)?, false), ram: guest.ram };
    let syscall_enters_ring0 = guest.syscall_ring(&kvm)? == Some(0);
    Ok(ProbeReport {
        kvm_version: kvm.get_api_version(),
        syscall_enters_ring0,
        ring0_emulated: ring0_instruction_ns > EMULATED_ABOVE,
        ring0_instruction_ns,
        pio_exit_ns,
        max_vcpus: kvm.get_max_vcpus(),
        capabilities: [
            ("irqfd", Cap::Irqfd),
            ("ioeventfd", Cap::Ioeventfd),
            ("gsi-routing", Cap::IrqRouting),
            ("tsc-deadline-timer", Cap::TscDeadlineTimer),
            ("pit", Cap::Pit2),
            ("sync-regs", Cap::SyncRegs),
            ("tsc-frequency", Cap::GetTscKhz),
        ]
        .into_iter()
        .map(|(name, capability)| (name, kvm.check_extension_int(capability) > 0))
        .collect(),
    })
}

fn create_vcpu(vm: &VmFd, id: u64) -> Result<VcpuFd, EngineError> {
    vm.create_vcpu(id).map_err(host("creating a vCPU"))
}

struct Guest {
    runner: Runner,
    ram: GuestRam,
}

impl Guest {
    /// Two mebibytes with one identity-mapped large page that ring 3 may use, too.
    fn new(vm: &VmFd) -> Result<Self, EngineError> {
        let ram = GuestRam::new(HUGE_PAGE).map_err(host_io("reserving guest memory"))?;
        let part = &ram.parts()[0];
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: part.base,
            memory_size: part.size,
            userspace_addr: part.host_address(),
        };
        // SAFETY: the mapping is owned by `ram`; should the machine outlive it, KVM answers an
        // access with an error.
        unsafe { vm.set_user_memory_region(region) }.map_err(host("mapping guest memory"))?;
        // Present, writable, user; the last level also large.
        for (at, entry) in [(PML4, PDPT | 7), (PDPT, PD | 7), (PD, 0x87)] {
            put(&ram, at, entry)?;
        }
        // Null, ring-0 code and data, ring-3 data and code, all flat and 64-bit.
        let descriptors = [
            0,
            0x00AF_9B00_0000_FFFF,
            0x00CF_9300_0000_FFFF,
            0x00CF_F300_0000_FFFF,
            0x00AF_FB00_0000_FFFF,
        ];
        for (index, descriptor) in (0u64..).zip(descriptors) {
            put(&ram, GDT + index * 8, descriptor)?;
        }
        Ok(Self { runner: Runner::new(create_vcpu(vm, 0)?, false), ram })
    }

    fn start(&mut self, code: &[u8], user: bool, rbx: u64) -> Result<(), EngineError> {
        self.ram
            .map()
            .write_slice(code, GuestAddress(CODE))
            .map_err(|error| host_io("writing guest memory")(std::io::Error::other(error)))?;
        let fd = self.runner.fd();
        let mut special = fd.get_sregs().map_err(host("reading special registers"))?;
        long_mode(&mut special, user);
        fd.set_sregs(&special).map_err(host("setting special registers"))?;
        // I/O privilege level 3, so that ring 3 may write the port.
        let registers = kvm_regs { rip: CODE, rbx, rflags: 0x3002, ..Default::default() };
        fd.set_regs(&registers).map_err(host("setting registers"))
    }

    /// Runs to the next port write; its value, or `None` where the guest did anything else.
    fn next_write(&mut self) -> Result<Option<u64>, EngineError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.runner.run().map_err(host_io("running a vCPU"))? {
                Exit::Port { port: PORT, write: true, .. } => {
                    return Ok(Some(self.runner.port_value(0)));
                }
                Exit::Interrupted => {}
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Nanoseconds per exit and per instruction.
    fn time_ring0(&mut self) -> Result<(u64, f64), EngineError> {
        self.start(&TIMING_GUEST, false, u64::from(LOOPS))?;
        let broken = || EngineError::Unavailable("this host's KVM cannot run a loop".into());
        self.next_write()?.ok_or_else(broken)?;
        let start = Instant::now();
        for _ in 1..EXITS {
            self.next_write()?.ok_or_else(broken)?;
        }
        let exit = start.elapsed() / (EXITS - 1);
        let start = Instant::now();
        self.next_write()?.ok_or_else(broken)?;
        let looped = start.elapsed().saturating_sub(exit);
        let instruction = looped.as_nanos() as f64 / f64::from(2 * LOOPS);
        Ok((exit.as_nanos() as u64, instruction))
    }

    /// The ring in which `syscall` arrives; `None` where it does not arrive.
    fn syscall_ring(&mut self, kvm: &Kvm) -> Result<Option<u64>, EngineError> {
        let fd = self.runner.fd();
        let cpuid = kvm
            .get_supported_cpuid(crate::cpuid::ENTRIES_MAX)
            .map_err(host("asking for the supported CPUID"))?;
        fd.set_cpuid2(&cpuid).map_err(host("setting CPUID"))?;
        self.start(&SYSCALL_GUEST, true, 0)?;
        let fd = self.runner.fd();
        let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
        let msrs = Msrs::from_entries(&[
            entry(0xC000_0081, u64::from(KERNEL_CODE) << 32), // STAR
            entry(0xC000_0082, CODE + 2),                     // LSTAR
            entry(0xC000_0084, 0),                            // SFMASK: keep the I/O privilege
        ])
        .map_err(|_| EngineError::Unavailable("too many MSRs".into()))?;
        fd.set_msrs(&msrs).map_err(host("setting MSRs"))?;
        Ok(self.next_write()?.map(|cs| cs & 3))
    }
}

fn put(ram: &GuestRam, at: u64, value: u64) -> Result<(), EngineError> {
    ram.map()
        .write_obj(value, GuestAddress(at))
        .map_err(|error| host_io("writing guest memory")(std::io::Error::other(error)))
}

fn long_mode(special: &mut kvm_sregs, user: bool) {
    let dpl = if user { 3 } else { 0 };
    let code = kvm_segment {
        limit: 0xFFFF_FFFF,
        selector: if user { USER_CODE } else { KERNEL_CODE },
        type_: 0xB,
        present: 1,
        dpl,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    let selector = if user { USER_DATA } else { KERNEL_DATA };
    let data = kvm_segment { selector, type_: 3, db: 1, l: 0, ..code };
    special.cs = code;
    (special.ds, special.es, special.ss) = (data, data, data);
    (special.fs, special.gs) = (data, data);
    special.gdt.base = GDT;
    special.gdt.limit = 5 * 8 - 1;
    special.cr0 = 0x8000_0011; // paging, extension type, protection
    special.cr3 = PML4;
    special.cr4 = 1 << 5; // physical address extension
    special.efer = 0x501; // long mode active and enabled, syscall enabled
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
