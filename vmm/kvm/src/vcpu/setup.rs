//! Registers of the first vCPU at the start: 32-bit protected mode, flat segments, no paging, as
//! the PVH boot protocol demands.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

use crate::layout::BOOT_GDT;
use crate::memory::GuestRam;
use crate::pvh::Entry;

const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const TASK: u16 = 0x18;
/// Null; flat 32-bit code and data; a busy task state segment (SDM volume 3, 3.4.5).
const GDT: [u64; 4] = [0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x0000_8B00_0000_0067];
const CR0_PE: u64 = 1 << 0;
/// Extension type: always set on a processor with an x87 unit of its own.
const CR0_ET: u64 = 1 << 4;
/// RFLAGS bit 1 is always set.
const RFLAGS_RESERVED: u64 = 1 << 1;
const MSR_MTRR_DEF_TYPE: u32 = 0x2FF;
/// MTRRs on, memory write-back by default: Linux distrusts its page attributes otherwise.
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

/// Puts `vcpu` at the kernel's entry point. The error names what KVM refused.
pub fn boot_state(
    vcpu: &VcpuFd,
    ram: &GuestRam,
    entry: Entry,
) -> Result<(), (&'static str, kvm_ioctls::Error)> {
    for (index, descriptor) in GDT.iter().enumerate() {
        let at = GuestAddress(BOOT_GDT + index as u64 * 8);
        // The GDT lies in RAM by construction (the smallest machine has 2 MiB).
        let _ = ram.map().write_obj(*descriptor, at);
    }
    let mut special = vcpu.get_sregs().map_err(|error| ("reading special registers", error))?;
    let segment = |selector: u16, kind: u8| kvm_segment {
        base: 0,
        limit: 0xFFFF_FFFF,
        selector,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    special.cs = segment(CODE, 0xB);
    let data = segment(DATA, 3);
    (special.ds, special.es, special.ss) = (data, data, data);
    (special.fs, special.gs) = (data, data);
    special.tr =
        kvm_segment { limit: 0x67, selector: TASK, type_: 0xB, present: 1, ..Default::default() };
    special.gdt.base = BOOT_GDT;
    special.gdt.limit = (size_of_val(&GDT) - 1) as u16;
    special.idt.base = 0;
    special.idt.limit = 0;
    special.cr0 = CR0_PE | CR0_ET;
    special.cr3 = 0;
    special.cr4 = 0;
    special.efer = 0;
    vcpu.set_sregs(&special).map_err(|error| ("setting special registers", error))?;
    let general = kvm_regs {
        rip: entry.rip,
        rbx: entry.start_info,
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    };
    vcpu.set_regs(&general).map_err(|error| ("setting registers", error))?;
    let entry = kvm_msr_entry {
        index: MSR_MTRR_DEF_TYPE,
        data: MTRR_ENABLED_WRITE_BACK,
        ..Default::default()
    };
    // A host without this register has no use for the setting either.
    if let Ok(msrs) = Msrs::from_entries(&[entry]) {
        let _ = vcpu.set_msrs(&msrs);
    }
    Ok(())
}
