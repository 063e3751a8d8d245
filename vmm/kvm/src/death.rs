//! The report on a guest that died or ran out of time: where it was and how it came there, what it
//! was doing, which processes lived, what it did last.

use std::fmt::Write;

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};
use xinim_devices::device::Process;
use xinim_machine::Death;

use crate::backtrace::{self, Place};
use crate::exits::Ring;
use crate::memory::GuestRam;
use crate::symbols::Images;
use crate::walk::{Linear, Paging, translate};

/// Longest x86 instruction, and one more for the eye.
const CODE_BYTES: u64 = 16;
const CR0_PE: u64 = 1 << 0;
const EFER_LMA: u64 = 1 << 10;
const RFLAGS_VM: u64 = 1 << 17;

/// What is known of the vCPU the guest died on.
pub struct Scene<'a> {
    pub vcpu: u32,
    /// `None` where KVM would not tell.
    pub registers: Option<(kvm_regs, kvm_sregs)>,
    /// State of its local APIC in words.
    pub interrupts: Option<String>,
    pub process: Option<Process>,
    /// All that were alive.
    pub processes: Vec<Process>,
    pub ram: &'a GuestRam,
    pub ring: &'a Ring,
    pub images: &'a Images,
}

/// Puts the report together.
pub fn report(reason: impl Into<String>, scene: &Scene<'_>) -> Death {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut text, scene);
    Death { reason: reason.into(), report: text }
}

fn write_report(out: &mut String, scene: &Scene<'_>) -> std::fmt::Result {
    match &scene.registers {
        Some((general, special)) => {
            write_registers(out, scene.vcpu, general, special)?;
            write_code(out, scene.ram, general, special)?;
            write_backtrace(out, scene, general, special)?;
        }
        None => writeln!(out, "vCPU {}: KVM gives no registers", scene.vcpu)?,
    }
    if let Some(interrupts) = &scene.interrupts {
        writeln!(out, "interrupts: {interrupts}")?;
    }
    match scene.process {
        Some(process) => writeln!(out, "process {} ({})", process.pid, process.name())?,
        None => writeln!(out, "process unknown: the kernel has named none on this vCPU")?,
    }
    if !scene.processes.is_empty() {
        let list = scene.processes.iter().map(|p| format!("{} {}", p.pid, p.name()));
        writeln!(out, "alive: {}", list.collect::<Vec<_>>().join(", "))?;
    }
    writeln!(out, "last VM exits, newest last:")?;
    for record in scene.ring.iter() {
        writeln!(out, "  {record}")?;
    }
    Ok(())
}

fn write_registers(
    out: &mut String,
    vcpu: u32,
    general: &kvm_regs,
    special: &kvm_sregs,
) -> std::fmt::Result {
    let ring = if special.cr0 & CR0_PE == 0 { 0 } else { special.ss.dpl };
    writeln!(
        out,
        "vCPU {vcpu} in {}, ring {ring}, at rip {:04x}:{:016x}, rflags {:08x}",
        mode(general, special),
        special.cs.selector,
        general.rip,
        general.rflags
    )?;
    let rows = [
        [("rax", general.rax), ("rbx", general.rbx), ("rcx", general.rcx), ("rdx", general.rdx)],
        [("rsi", general.rsi), ("rdi", general.rdi), ("rbp", general.rbp), ("rsp", general.rsp)],
        [("r8 ", general.r8), ("r9 ", general.r9), ("r10", general.r10), ("r11", general.r11)],
        [("r12", general.r12), ("r13", general.r13), ("r14", general.r14), ("r15", general.r15)],
        [("cr0", special.cr0), ("cr2", special.cr2), ("cr3", special.cr3), ("cr4", special.cr4)],
    ];
    for row in rows {
        let cells: Vec<String> =
            row.iter().map(|(name, value)| format!("{name} {value:016x}")).collect();
        writeln!(out, "{}", cells.join("  "))?;
    }
    writeln!(
        out,
        "efer {:x}  gdt {:016x}+{:04x}  idt {:016x}+{:04x}",
        special.efer, special.gdt.base, special.gdt.limit, special.idt.base, special.idt.limit
    )?;
    let segments = [
        ("cs", special.cs),
        ("ds", special.ds),
        ("ss", special.ss),
        ("fs", special.fs),
        ("gs", special.gs),
        ("tr", special.tr),
    ];
    let cell = |(name, segment): &(&str, kvm_segment)| {
        format!("{name} {:04x}@{:x}", segment.selector, segment.base)
    };
    writeln!(out, "{}", segments.iter().map(cell).collect::<Vec<_>>().join("  "))
}

fn mode(general: &kvm_regs, special: &kvm_sregs) -> &'static str {
    if special.cr0 & CR0_PE == 0 {
        "real mode"
    } else if general.rflags & RFLAGS_VM != 0 {
        "virtual-8086 mode"
    } else if special.efer & EFER_LMA != 0 && special.cs.l != 0 {
        "64-bit mode"
    } else if special.cs.db != 0 {
        "32-bit mode"
    } else {
        "16-bit mode"
    }
}

/// Callers, where the code is what symbols are for: in 64-bit mode.
fn write_backtrace(
    out: &mut String,
    scene: &Scene<'_>,
    general: &kvm_regs,
    special: &kvm_sregs,
) -> std::fmt::Result {
    if special.efer & EFER_LMA == 0 || special.cs.l == 0 {
        return Ok(());
    }
    let paging =
        Paging { cr0: special.cr0, cr3: special.cr3, cr4: special.cr4, efer: special.efer };
    let process = scene.process;
    let place = Place {
        memory: &Linear { ram: scene.ram, paging },
        rip: general.rip,
        rsp: general.rsp,
        images: scene.images,
        process: process.as_ref().map(Process::name),
    };
    backtrace::write(out, &place)
}

fn write_code(
    out: &mut String,
    ram: &GuestRam,
    general: &kvm_regs,
    special: &kvm_sregs,
) -> std::fmt::Result {
    let paging =
        Paging { cr0: special.cr0, cr3: special.cr3, cr4: special.cr4, efer: special.efer };
    // In 64-bit mode the base of CS is taken as 0.
    let base = if special.cs.l != 0 { 0 } else { special.cs.base };
    let start = base.wrapping_add(general.rip);
    let bytes: Vec<String> = (0..CODE_BYTES)
        .map_while(|offset| {
            // Byte by byte: the instruction may cross into a page that is not mapped.
            let physical = translate(ram, paging, start.wrapping_add(offset))?;
            let byte: u8 = ram.map().read_obj(GuestAddress(physical)).ok()?;
            Some(format!("{byte:02x}"))
        })
        .collect();
    if bytes.is_empty() {
        writeln!(out, "code at rip: not mapped")
    } else {
        writeln!(out, "code at rip: {}", bytes.join(" "))
    }
}
