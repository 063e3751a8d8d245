//! Into the kernel and out of it.
//!
//! A thread's register frame lies in its own record, and the CPU pushes straight into it: the
//! task state's RSP0 is the frame's end. So entering from ring 3 saves the whole thread, the kernel
//! runs on the CPU's one stack, and leaving means loading the frame of whatever thread comes next.
//!
//! Three ways in: the vectors (exceptions, interrupts, and the gate's `int3`), `syscall`, and
//! interrupts that hit the idle loop, which is thrown away. An exception in kernel code is a
//! kernel bug and ends in the panic report.

use core::arch::global_asm;
use core::cell::Cell;
use core::mem::offset_of;

use super::cpu::Cpu;

/// Registers of a thread, as the entry code pushes them.
#[repr(C)]
#[derive(Default)]
pub struct Frame {
    /// `syscall` neither saves these two nor `sysret` restores them: they hold rip and rflags.
    pub r11: Cell<u64>,
    pub rcx: Cell<u64>,
    pub r15: Cell<u64>,
    pub r14: Cell<u64>,
    pub r13: Cell<u64>,
    pub r12: Cell<u64>,
    pub rbp: Cell<u64>,
    pub rbx: Cell<u64>,
    pub r10: Cell<u64>,
    pub r9: Cell<u64>,
    pub r8: Cell<u64>,
    pub rax: Cell<u64>,
    pub rdx: Cell<u64>,
    pub rsi: Cell<u64>,
    pub rdi: Cell<u64>,
    /// Vector of the entry, or [`VECTOR_SYSCALL`].
    pub vector: Cell<u64>,
    pub error: Cell<u64>,
    pub rip: Cell<u64>,
    pub cs: Cell<u64>,
    pub rflags: Cell<u64>,
    pub rsp: Cell<u64>,
    pub ss: Cell<u64>,
}

/// The frame was made by `syscall` and may be left by `sysret`.
pub const VECTOR_SYSCALL: u64 = 0x100;

/// Selectors; the order in the GDT is what `syscall` and `sysret` want.
pub const KERNEL_CODE: u64 = 0x08;
pub const USER_DATA: u64 = 0x23;
pub const USER_CODE: u64 = 0x2B;
pub const TASK_STATE: u16 = 0x30;

/// Where the vectors begin: built into the interrupt descriptor table, checked by the linker
/// script.
const VECTORS: u64 = 0xFFFF_FFFF_8020_0000;

global_asm!(
    // A [`Frame`] below what the CPU has pushed, with and without the two that `syscall` changes.
    ".macro save",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rax",
    "push r8",
    "push r9",
    "push r10",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    ".endm",
    ".macro restore",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rax",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    ".endm",
    ".macro save_all",
    "save",
    "push rcx",
    "push r11",
    ".endm",
    ".macro restore_all",
    "pop r11",
    "pop rcx",
    "restore",
    ".endm",
    // 256 stubs of 16 bytes: an error code where the CPU pushes none, and the vector.
    ".section .text.vectors, \"ax\", @progbits",
    ".global vectors",
    "vectors:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    ".if (vector == 8) || (vector == 10) || (vector == 11) || (vector == 12) || (vector == 13) || (vector == 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
    ".else",
    "push 0",
    ".endif",
    ".byte 0x68",
    ".long vector",
    "jmp trap_common",
    ".set vector, vector + 1",
    ".endr",
    ".balign 16",
    "trap_common:",
    "test byte ptr [rsp + 24], 3",
    "jz trap_kernel",
    "swapgs",
    "save_all",
    "cld",
    "mov rdi, rsp",
    "mov rsp, gs:[{stack}]",
    "call {trap}",
    // rax = the frame to go on with.
    ".global resume",
    "resume:",
    "mov rsp, rax",
    "restore_all",
    "cmp dword ptr [rsp], {vector_syscall}",
    "jne 2f",
    "mov rcx, [rsp + 16]",
    "mov r11, [rsp + 32]",
    "mov rsp, [rsp + 40]",
    "swapgs",
    "sysretq",
    "2:",
    "add rsp, 16",
    "swapgs",
    "iretq",
    ".global syscall_entry",
    ".balign 16",
    "syscall_entry:",
    "swapgs",
    "mov gs:[{scratch}], rsp",
    "mov rsp, gs:[{frame_end}]",
    "push {user_data}",
    "push gs:[{scratch}]",
    "push r11",
    "push {user_code}",
    "push rcx",
    "push 0",
    "push {vector_syscall}",
    "save",
    "mov rsp, gs:[{stack}]",
    "call {syscall}",
    "cmp dword ptr [rax + {vector}], {vector_syscall}",
    "jne resume",
    "lea rsp, [rax + 16]",
    "restore",
    "mov rcx, [rsp + 16]",
    "mov r11, [rsp + 32]",
    "mov rsp, [rsp + 40]",
    "swapgs",
    "sysretq",
    // The first system call of all comes here: `syscall` does enter ring 0.
    ".global syscall_probe",
    ".balign 16",
    "syscall_probe:",
    "swapgs",
    "mov rsp, gs:[{stack}]",
    "mov edi, 1",
    "call {probed}",
    "jmp resume",
    "trap_kernel:",
    "save_all",
    "cld",
    "mov rdi, [rsp + {vector}]",
    "cmp edi, 32",
    "jb 2f",
    "cmp dword ptr gs:[{halting}], 0",
    "jne 3f",
    // The frame is given up with the idle loop: only the vector is passed on.
    "mov rsp, gs:[{stack}]",
    "call {idle_interrupt}",
    "jmp resume",
    "2:",
    "mov rdi, rsp",
    "call {kernel_fault}",
    "ud2",
    // In `halt_for_attention`, which goes on behind the halt: emulated CPUs let interrupts in between
    // `sti` and `hlt`, too.
    "3:",
    "call {end_of_interrupt}",
    "lea rax, [rip + halted]",
    "mov [rsp + {rip}], rax",
    "restore_all",
    "add rsp, 16",
    "iretq",
    // Waits for an interrupt inside the kernel. The caller admits only those of other CPUs. (What
    // the compiler made below the stack pointer of callers has no red zone: they are the kernel's.)
    ".global halt_for_attention",
    "halt_for_attention:",
    "mov dword ptr gs:[{halting}], 1",
    "sti",
    "hlt",
    "halted:",
    "cli",
    "mov dword ptr gs:[{halting}], 0",
    "ret",
    // Nobody to run: wait for an interrupt, which does not come back here.
    ".global idle_wait",
    "idle_wait:",
    "sti",
    "hlt",
    "jmp idle_wait",
    // The interrupt descriptor table. Gate 3 may be called from ring 3; NMI, double fault and
    // machine check have stacks of their own.
    ".section .data.tables, \"aw\", @progbits",
    ".balign 16",
    ".global idt",
    "idt:",
    ".set vector, 0",
    ".rept 256",
    ".word vector * 16",
    ".word 8",
    ".if vector == 2",
    ".byte 1, 0x8E",
    ".elseif vector == 3",
    ".byte 0, 0xEE",
    ".elseif vector == 8",
    ".byte 2, 0x8E",
    ".elseif vector == 18",
    ".byte 3, 0x8E",
    ".else",
    ".byte 0, 0x8E",
    ".endif",
    ".word {vectors_middle}",
    ".long 0xFFFFFFFF, 0",
    ".set vector, vector + 1",
    ".endr",
    trap = sym crate::trap::trap_entry,
    syscall = sym crate::trap::syscall_entry_native,
    probed = sym crate::trap::syscall_probed,
    idle_interrupt = sym crate::trap::idle_interrupt,
    end_of_interrupt = sym crate::apic::end_of_attention,
    halting = const offset_of!(Cpu, halting),
    kernel_fault = sym crate::trap::kernel_fault,
    stack = const offset_of!(Cpu, kernel_stack),
    scratch = const offset_of!(Cpu, scratch),
    frame_end = const offset_of!(Cpu, frame_end),
    vector = const offset_of!(Frame, vector),
    rip = const offset_of!(Frame, rip),
    vector_syscall = const VECTOR_SYSCALL,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    vectors_middle = const (VECTORS >> 16) & 0xFFFF,
);

unsafe extern "C" {
    /// Loads the thread whose frame is in `rax`; jumped to, never called.
    pub safe fn resume() -> !;
    pub safe fn syscall_entry() -> !;
    pub safe fn syscall_probe() -> !;
    pub safe fn idle_wait() -> !;
    /// Halts until an interrupt has come.
    pub safe fn halt_for_attention();
}
