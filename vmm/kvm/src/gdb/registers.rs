//! KVM's registers as gdb's, and back.

use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs};
use kvm_bindings::{kvm_fpu, kvm_regs};

use crate::dump::CpuState;

pub fn to_gdb(cpu: &CpuState) -> X86_64CoreRegs {
    let (general, special, fpu) = (&cpu.general, &cpu.special, &cpu.fpu);
    let mut registers = X86_64CoreRegs {
        regs: [
            general.rax,
            general.rbx,
            general.rcx,
            general.rdx,
            general.rsi,
            general.rdi,
            general.rbp,
            general.rsp,
            general.r8,
            general.r9,
            general.r10,
            general.r11,
            general.r12,
            general.r13,
            general.r14,
            general.r15,
        ],
        eflags: general.rflags as u32,
        rip: general.rip,
        segments: X86SegmentRegs {
            cs: special.cs.selector.into(),
            ss: special.ss.selector.into(),
            ds: special.ds.selector.into(),
            es: special.es.selector.into(),
            fs: special.fs.selector.into(),
            gs: special.gs.selector.into(),
        },
        fpu: X87FpuInternalRegs {
            fctrl: fpu.fcw.into(),
            fstat: fpu.fsw.into(),
            ftag: fpu.ftwx.into(),
            fop: fpu.last_opcode.into(),
            ..Default::default()
        },
        mxcsr: fpu.mxcsr,
        ..Default::default()
    };
    for (to, from) in registers.st.iter_mut().zip(&fpu.fpr) {
        to.copy_from_slice(&from[..10]);
    }
    for (to, from) in registers.xmm.iter_mut().zip(&fpu.xmm) {
        *to = u128::from_le_bytes(*from);
    }
    registers
}

/// What a debugger may change: general registers, instruction pointer, flags, SSE.
pub fn from_gdb(registers: &X86_64CoreRegs, general: &mut kvm_regs, fpu: &mut kvm_fpu) {
    let r = &registers.regs;
    *general = kvm_regs {
        rax: r[0],
        rbx: r[1],
        rcx: r[2],
        rdx: r[3],
        rsi: r[4],
        rdi: r[5],
        rbp: r[6],
        rsp: r[7],
        r8: r[8],
        r9: r[9],
        r10: r[10],
        r11: r[11],
        r12: r[12],
        r13: r[13],
        r14: r[14],
        r15: r[15],
        rip: registers.rip,
        rflags: registers.eflags.into(),
    };
    for (to, from) in fpu.xmm.iter_mut().zip(&registers.xmm) {
        *to = from.to_le_bytes();
    }
    fpu.mxcsr = registers.mxcsr;
}
