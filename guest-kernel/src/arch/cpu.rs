//! Per-CPU data, reached through GS, and what a CPU needs set up once: descriptor tables, task
//! state, `syscall` registers, protection bits.

use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use xinim_kernel_logic::refs::Ref;

use super::entry::{KERNEL_CODE, TASK_STATE, syscall_probe};
use super::instructions::{cpuid, msr, rdtsc, read_cr4, write_cr4, wrmsr};
use super::{KERNEL_STACK, Stack};
use crate::global::Global;
use crate::thread::Thread;

/// What one CPU knows. `tss_reserved` begins the task state segment (SDM vol. 3, 8.7).
#[repr(C, align(256))]
pub struct Cpu {
    me: Cell<u64>,
    /// Top of the stack the kernel runs on.
    pub kernel_stack: Cell<u64>,
    /// User stack pointer while `syscall` finds a place for it.
    pub scratch: Cell<u64>,
    padding: u32,
    tss_reserved: u32,
    /// RSP0: end of the running thread's frame.
    pub frame_end: Cell<u64>,
    tss_rsp: [u64; 2],
    tss_reserved_2: u64,
    ist: [Cell<u64>; 7],
    tss_reserved_3: u64,
    tss_reserved_4: u16,
    tss_io_map: Cell<u16>,

    /// The running thread; none when idle.
    pub current: Cell<Option<Ref<Thread>>>,
    /// Whose FPU state the registers hold.
    pub fpu_owner: Cell<Option<Ref<Thread>>>,
    /// A better thread than the current one may be ready.
    pub reschedule: Cell<bool>,
    pub index: Cell<u32>,
    pub apic_id: Cell<u32>,
    /// Top-level page table in CR3.
    pub pml4: Cell<u64>,
    pub fs_base: Cell<u64>,
    /// TSC when the current thread (or idling) began.
    pub since: Cell<u64>,
    /// TSC at which the current thread gives way to others of its priority.
    pub quantum_end: Cell<u64>,
    /// TSC for which the timer interrupt is set; `u64::MAX` for not at all.
    pub armed: Cell<u64>,
    /// TSC ticks spent idle.
    pub idle: Cell<u64>,
    pub switches: Cell<u64>,
    /// It is in `halt_for_attention`.
    pub halting: Cell<u32>,
    /// What other CPUs ask of it, see `smp`.
    pub request: AtomicU32,
    /// Whether it halts until it gets the kernel lock, see `lock`.
    pub waiting: AtomicU32,
    /// How often others got the lock before it.
    pub passed: AtomicU32,
    /// How far it has come up.
    pub phase: AtomicU32,
    /// It was sent an interrupt to look for work and has not looked yet.
    pub kicked: Cell<bool>,
    /// Its descriptor table (the first CPU uses the image's).
    gdt: [Cell<u64>; 8],
}

static CPU0: Global<Cpu> = Global::new(Cpu::new(0));

impl Cpu {
    const fn new(index: u32) -> Self {
        Self {
            me: Cell::new(0),
            kernel_stack: Cell::new(0),
            scratch: Cell::new(0),
            padding: 0,
            tss_reserved: 0,
            frame_end: Cell::new(0),
            tss_rsp: [0; 2],
            tss_reserved_2: 0,
            ist: [const { Cell::new(0) }; 7],
            tss_reserved_3: 0,
            tss_reserved_4: 0,
            tss_io_map: Cell::new(104),
            current: Cell::new(None),
            fpu_owner: Cell::new(None),
            reschedule: Cell::new(true),
            index: Cell::new(index),
            apic_id: Cell::new(0),
            pml4: Cell::new(0),
            fs_base: Cell::new(0),
            since: Cell::new(0),
            quantum_end: Cell::new(0),
            armed: Cell::new(u64::MAX),
            idle: Cell::new(0),
            switches: Cell::new(0),
            halting: Cell::new(0),
            request: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            passed: AtomicU32::new(0),
            phase: AtomicU32::new(0),
            kicked: Cell::new(false),
            gdt: [const { Cell::new(0) }; 8],
        }
    }
}

impl Cpu {
    /// TSC ticks since the current thread (or idling) began.
    pub fn turn(&self) -> u64 {
        // Another CPU may have begun it a moment ago.
        rdtsc().saturating_sub(self.since.get())
    }
}

const EMERGENCY_STACK: usize = 8 * 1024;

/// Stacks of NMI, double fault and machine check.
static EMERGENCY_STACKS: [Stack<EMERGENCY_STACK>; 3] = [const { Stack::new() }; 3];

const _: () = assert!(offset_of!(Cpu, frame_end) == offset_of!(Cpu, tss_reserved) + 4);
const _: () = assert!(offset_of!(Cpu, tss_io_map) == offset_of!(Cpu, tss_reserved) + 102);

/// The CPU this runs on.
#[inline(always)]
pub fn cpu() -> &'static Cpu {
    let address: *const Cpu;
    // SAFETY: GS points to this CPU's record from `start` on, and `me` is its address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) address, options(pure, nomem, nostack, preserves_flags));
        &*address
    }
}

unsafe extern "C" {
    #[link_name = "gdt"]
    static image_gdt: [Cell<u64>; 8];
    static idt: [u64; 512];
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// CPUID.7.0:EBX.SMEP and ECX.UMIP with their CR4 bits.
const SMEP: (u32, u64) = (7, 1 << 20);
const UMIP: (u32, u64) = (2, 1 << 11);

/// Sets up the first CPU. From here on [`cpu`] works and exceptions are reported.
pub fn start() {
    let cpu = first();
    cpu.kernel_stack.set(KERNEL_STACK.top());
    for (slot, stack) in cpu.ist.iter().zip(&EMERGENCY_STACKS) {
        slot.set(stack.top());
    }
    // SAFETY: part of the image.
    load(cpu, unsafe { &image_gdt });
}

/// The CPU the machine began with.
pub fn first() -> &'static Cpu {
    &CPU0
}

/// What [`prepare`] wants for a CPU: its record, its emergency stacks, its stack.
pub const AREA: usize = 4096 + 3 * EMERGENCY_STACK + super::KERNEL_STACK_SIZE;
const _: () = assert!(size_of::<Cpu>() <= 4096);

/// Makes the record of another CPU in an area of [`AREA`] bytes.
///
/// # Safety
/// The area is page-aligned RAM that is the CPU's for good.
pub unsafe fn prepare(area: NonNull<u8>, index: u32, apic_id: u32) -> &'static Cpu {
    // SAFETY: the caller's; the record fits the first page.
    let cpu: &'static Cpu = unsafe {
        area.cast::<Cpu>().write(Cpu::new(index));
        area.cast::<Cpu>().as_ref()
    };
    let base = area.as_ptr() as u64;
    cpu.apic_id.set(apic_id);
    cpu.kernel_stack.set(base + AREA as u64);
    for (slot, top) in cpu.ist.iter().zip((1..=3).map(|n| 4096 + n * EMERGENCY_STACK)) {
        slot.set(base + top as u64);
    }
    cpu
}

/// Sets up another CPU, which runs this.
pub fn start_other(cpu: &'static Cpu) {
    // SAFETY: part of the image.
    for (own, image) in cpu.gdt.iter().zip(unsafe { &image_gdt }) {
        own.set(image.get());
    }
    let pointer = TablePointer { limit: 63, base: cpu.gdt.as_ptr() as u64 };
    // SAFETY: the same descriptors as in the table the CPU came with.
    unsafe { asm!("lgdt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) }
    load(cpu, &cpu.gdt);
    set_syscall_entry(super::entry::syscall_entry as *const () as u64);
}

fn load(cpu: &'static Cpu, gdt: &[Cell<u64>; 8]) {
    let address = core::ptr::from_ref(cpu) as u64;
    cpu.me.set(address);
    let tss = address + offset_of!(Cpu, tss_reserved) as u64;
    // SAFETY: the tables are this image's; the descriptor describes the task state inside the
    // CPU's record; the registers are written as SDM vol. 3, 5.8.8 and 8.7 say. Nothing relies on
    // the segments and registers replaced.
    unsafe {
        // Available 64-bit TSS, 104 bytes.
        gdt[6].set(103 | (tss & 0xFF_FFFF) << 16 | 0x89 << 40 | (tss >> 24 & 0xFF) << 56);
        gdt[7].set(tss >> 32);
        let pointer = TablePointer { limit: 4095, base: idt.as_ptr() as u64 };
        asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags));
        asm!("ltr {:x}", in(reg) TASK_STATE, options(nostack, preserves_flags));
        wrmsr(msr::GS_BASE, address);
        wrmsr(msr::STAR, KERNEL_CODE << 32 | 0x1B << 48);
        wrmsr(msr::LSTAR, syscall_probe as *const () as u64);
        // Cleared on entry: TF, IF, DF, NT, AC.
        wrmsr(msr::SFMASK, 0x4_4700);
        // Page attributes: entry 1 write-combining instead of write-through.
        wrmsr(0x277, 0x0007_0406_0007_0106);
        let [_, ebx, ecx, _] = if cpuid(0, 0)[0] >= 7 { cpuid(7, 0) } else { [0; 4] };
        let smep = if ebx & 1 << SMEP.0 != 0 { SMEP.1 } else { 0 };
        let umip = if ecx & 1 << UMIP.0 != 0 { UMIP.1 } else { 0 };
        if smep | umip != 0 {
            write_cr4(read_cr4() | smep | umip);
        }
    }
}

/// Takes `syscall` to its real entry, the probe being over.
pub fn set_syscall_entry(address: u64) {
    // SAFETY: the address is that of an entry point (or, where `syscall` stays in ring 3, of a
    // page ring 3 may not execute).
    unsafe { wrmsr(msr::LSTAR, address) }
}

/// Saves the FPU and SSE state.
#[inline(always)]
pub fn fxsave(area: *mut u8) {
    // SAFETY: `area` is a thread's 512 bytes, 16-aligned.
    unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)) }
}

#[inline(always)]
pub fn fxrstor(area: *const u8) {
    // SAFETY: `area` is a thread's 512 bytes, 16-aligned, written by `fxsave64` or made from the
    // initial state; MXCSR's reserved bits are zero in both.
    unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags)) }
}

/// Goes on with the thread whose frame this is.
pub fn resume_at(frame: u64) -> ! {
    // SAFETY: `frame` is the saved frame of a thread whose address space is loaded.
    unsafe { asm!("jmp {}", sym super::entry::resume, in("rax") frame, options(noreturn)) }
}

/// Waits for an interrupt, on an empty stack.
pub fn idle() -> ! {
    // SAFETY: the kernel stack's contents are not needed any more: an interrupt begins anew at its
    // top.
    unsafe {
        asm!("mov rsp, {}", "jmp {}", in(reg) cpu().kernel_stack.get(),
            sym super::entry::idle_wait, options(noreturn))
    }
}
