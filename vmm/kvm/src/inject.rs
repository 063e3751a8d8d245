//! Damage to one running process of the guest, from outside: what a defect in a driver or a server does to
//! it, without the defect (the method of MINIX's fault injection, DSN 2007 and 2009).
//!
//! ```text
//!   control socket --> Injector::run: wanted, then kick vCPUs until it is done or time is up
//!   vCPU thread, after each exit: runs that process now? --> damage it through its page tables
//! ```
//! The guest's trace page says which process runs; its page tables (CR3) say where its text, data and stack
//! are. Everything comes from the seed but the moment. With `text=private` on the kernel's command line
//! (RS then copies text instead of mapping the bundle's) damaged text dies with its process; otherwise all
//! processes of that program share it.
//!
//! Limits: KVM engine; 64-bit guests with four levels of page tables that keep XINIM's trace page.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::signal::SIGRTMIN;
use xinim_devices::bus::lock;
use xinim_devices::random::draw;
use xinim_machine::control::{Injection, InjectionKind};

use crate::memory::GuestRam;
use crate::mutate;
use crate::shared::Shared;
use crate::walk::{self, UserPage};

/// Between two kicks of the vCPUs.
const KICK: Duration = Duration::from_micros(500);
/// Images are linked low, buffers that are shared with others mapped high.
const IMAGE_END: u64 = 1 << 28;
/// Bytes above the stack pointer that count as the stack in use.
const STACK: u64 = 2048;
const PAGE: u64 = 4096;
const CPUS: usize = xinim_abi::platform::TRACE_CPUS;

/// One injection at a time.
pub struct Injector {
    wanted: AtomicBool,
    injection: Mutex<Option<Injection>>,
    result: Mutex<Option<String>>,
    done: Condvar,
    /// Thread ids of the vCPUs; 0: none.
    threads: [AtomicI32; CPUS],
    one: Mutex<()>,
}

impl Default for Injector {
    fn default() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            injection: Mutex::default(),
            result: Mutex::default(),
            done: Condvar::new(),
            threads: [const { AtomicI32::new(0) }; CPUS],
            one: Mutex::default(),
        }
    }
}

impl Injector {
    /// The calling thread runs this vCPU from now on.
    pub fn enlist(&self, vcpu: u32) {
        // SAFETY: gettid has no arguments and cannot fail.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
        if let Some(place) = self.threads.get(vcpu as usize) {
            place.store(thread, Ordering::Relaxed);
        }
    }

    /// Waits until the process has run and was damaged; what was done to it.
    pub fn run(&self, injection: Injection, patience: Duration) -> Result<String, String> {
        let _one = lock(&self.one);
        let name = injection.process.clone();
        *lock(&self.result) = None;
        *lock(&self.injection) = Some(injection);
        self.wanted.store(true, Ordering::SeqCst);
        let end = Instant::now() + patience;
        let mut result = lock(&self.result);
        while result.is_none() && Instant::now() < end {
            self.kick();
            let waited = self.done.wait_timeout(result, KICK);
            result = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.wanted.store(false, Ordering::SeqCst);
        *lock(&self.injection) = None;
        result.take().ok_or_else(|| format!("no process {name} ran within the time"))
    }

    fn kick(&self) {
        for thread in self.threads.iter().map(|thread| thread.load(Ordering::Relaxed)) {
            if thread != 0 {
                // SAFETY: a thread id that is none of ours any more is refused (ESRCH); the signal's
                // handler does nothing.
                unsafe {
                    libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGRTMIN());
                }
            }
        }
    }

    /// A vCPU has left the guest; `resting`: not in the middle of an access.
    pub fn look(&self, vcpu: u32, fd: &VcpuFd, shared: &Shared, resting: bool) {
        if !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        let Some(process) = shared.page.process(&shared.ram, vcpu) else { return };
        let Ok(mut slot) = self.injection.try_lock() else { return };
        let fits = slot.as_ref().is_some_and(|wanted| wanted.process == process.name());
        let Some(injection) = slot.clone().filter(|_| fits) else { return };
        let Some((registers, special)) = fd.get_regs().ok().zip(fd.get_sregs().ok()) else {
            return;
        };
        let user = special.cs.dpl == 3;
        if injection.kind.needs_registers() && !(user && resting) {
            return;
        }
        let mut victim = Victim {
            ram: &shared.ram,
            pages: walk::user_pages(&shared.ram, special.cr3),
            rip: user.then_some(registers.rip),
            registers,
            random: injection.seed,
        };
        let Some(done) = victim.damage(injection.kind) else { return };
        if victim.registers != registers && fd.set_regs(&victim.registers).is_err() {
            return;
        }
        self.wanted.store(false, Ordering::SeqCst);
        *slot = None;
        drop(slot);
        *lock(&self.result) = Some(format!("{} (pid {}): {done}", process.name(), process.pid));
        self.done.notify_all();
    }
}

/// A process at a moment at which it does not run.
struct Victim<'a> {
    ram: &'a GuestRam,
    pages: Vec<UserPage>,
    /// `None`: the kernel works on its behalf.
    rip: Option<u64>,
    registers: kvm_regs,
    random: u64,
}

impl Victim<'_> {
    fn draw(&mut self) -> u64 {
        draw(&mut self.random)
    }

    fn damage(&mut self, kind: InjectionKind) -> Option<String> {
        match kind {
            InjectionKind::Text => self.text_bit(),
            InjectionKind::Instruction => self.instruction(),
            InjectionKind::Data => self.data_bit(),
            InjectionKind::Pointer => self.pointer(),
            InjectionKind::Jump => self.jump(),
            InjectionKind::Spin => self.spin(),
        }
    }

    /// A page of text that was executed: the one it is in, or any.
    fn text(&mut self) -> Option<UserPage> {
        let (near, random) = (self.draw().is_multiple_of(2), self.draw());
        let text = |page: &&UserPage| {
            page.executable && !page.writable && page.accessed && page.linear < IMAGE_END
        };
        let here = self.rip.map(|rip| rip & !(PAGE - 1));
        let found = self.pages.iter().filter(text).find(|page| near && Some(page.linear) == here);
        let all: Vec<_> = self.pages.iter().filter(text).collect();
        let any = all.get(random as usize % all.len().max(1)).copied();
        found.or(any).copied()
    }

    fn flip(&self, physical: u64, bit: u64) -> Option<()> {
        let at = GuestAddress(physical);
        let byte: u8 = self.ram.map().read_obj(at).ok()?;
        self.ram.map().write_obj(byte ^ 1 << (bit % 8), at).ok()
    }

    fn text_bit(&mut self) -> Option<String> {
        let page = self.text()?;
        let (mut offset, bit) = (self.draw() % PAGE, self.draw());
        if let Some(rip) = self.rip.filter(|rip| rip & !(PAGE - 1) == page.linear) {
            // Soon to be executed, likely.
            offset = (rip % PAGE + offset % 64).min(PAGE - 1);
        }
        self.flip(page.physical + offset, bit)?;
        Some(format!("bit {} of its text at {:#x} flipped", bit % 8, page.linear + offset))
    }

    fn instruction(&mut self) -> Option<String> {
        let page = self.text()?;
        let mut bytes = vec![0; PAGE as usize];
        self.ram.map().read_slice(&mut bytes, GuestAddress(page.physical)).ok()?;
        let near = self.rip.filter(|rip| rip & !(PAGE - 1) == page.linear);
        let start = near.map_or_else(|| self.draw() % PAGE, |rip| rip % PAGE) as usize;
        let (at, new, what) = mutate::mutate(&bytes, start, &mut self.random)?;
        self.ram.map().write_slice(&new, GuestAddress(page.physical + at as u64)).ok()?;
        Some(format!("instruction at {:#x} mutated: {what}", page.linear + at as u64))
    }

    fn data_bit(&mut self) -> Option<String> {
        let (choice, bit, random) = (self.draw(), self.draw(), self.draw());
        let stack = self.registers.rsp;
        if choice.is_multiple_of(2) && self.rip.is_some() {
            let at = stack + random % STACK;
            let page = self.pages.iter().find(|page| page.linear == at & !(PAGE - 1))?;
            self.flip(page.physical + at % PAGE, bit)?;
            return Some(format!("bit {} of its stack at {at:#x} flipped", bit % 8));
        }
        let data = |page: &&UserPage| page.writable && page.accessed && page.linear < IMAGE_END;
        let all: Vec<_> = self.pages.iter().filter(data).collect();
        let page = all.get(random as usize % all.len().max(1))?;
        let offset = (random >> 32) % PAGE;
        self.flip(page.physical + offset, bit)?;
        Some(format!("bit {} of its data at {:#x} flipped", bit % 8, page.linear + offset))
    }

    fn pointer(&mut self) -> Option<String> {
        let (random, bit) = (self.draw(), self.draw());
        let r = &mut self.registers;
        let all = [
            ("rax", &mut r.rax),
            ("rbx", &mut r.rbx),
            ("rcx", &mut r.rcx),
            ("rdx", &mut r.rdx),
            ("rsi", &mut r.rsi),
            ("rdi", &mut r.rdi),
            ("rbp", &mut r.rbp),
            ("rsp", &mut r.rsp),
            ("r8", &mut r.r8),
            ("r12", &mut r.r12),
            ("r13", &mut r.r13),
            ("r14", &mut r.r14),
        ];
        let user = |value: u64| (PAGE..xinim_abi::object::USER_END).contains(&value);
        let mut pointers: Vec<_> = all.into_iter().filter(|(_, value)| user(**value)).collect();
        let count = pointers.len().max(1);
        let (name, value) = pointers.get_mut(random as usize % count)?;
        let bit = 3 + bit % 44;
        **value ^= 1 << bit;
        Some(format!("bit {bit} of the pointer in {name} flipped, now {:#x}", **value))
    }

    fn jump(&mut self) -> Option<String> {
        let (random, choice) = (self.draw(), self.draw());
        let old = self.rip?;
        self.registers.rip = match choice % 3 {
            0 => old.wrapping_add(1 + random % 32),
            1 => 0x40_0000 + random % 0x4_0000,
            _ => random >> 17,
        };
        Some(format!("jumped from {old:#x} to {:#x}", self.registers.rip))
    }

    fn spin(&mut self) -> Option<String> {
        let rip = self.rip?;
        let page = self.pages.iter().find(|page| page.linear == rip & !(PAGE - 1))?;
        if rip % PAGE == PAGE - 1 || page.writable {
            return None;
        }
        let at = GuestAddress(page.physical + rip % PAGE);
        self.ram.map().write_slice(&mutate::SPIN, at).ok()?;
        Some(format!("made to spin at {rip:#x}"))
    }
}
