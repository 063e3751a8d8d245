//! A guest's memory and registers as an ELF core file, which gdb, readelf and the like open.
//!
//! | part | what |
//! |---|---|
//! | `PT_NOTE` | `NT_PRSTATUS` and `NT_FPREGSET` of each vCPU, as of a thread; thread 1 is vCPU 0 |
//! | `PT_LOAD`s with `p_vaddr` | what the first vCPU's page tables map, so that gdb reads by virtual address |
//! | `PT_LOAD`s with `p_vaddr = p_paddr` | guest RAM |
//!
//! All parts of one kind point into the same bytes of the file: RAM is there once. Pages of zeros
//! are holes, so the file takes the space of what the guest has touched.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use kvm_bindings::{kvm_fpu, kvm_regs, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};
use xinim_abi::elf_core::{
    self, CORE, HEADER_SIZE, NT_FPREGSET, NT_PRSTATUS, PROGRAM_HEADER_SIZE, PT_LOAD, PT_NOTE,
    ProgramHeader, STATUS_SIZE,
};

use crate::memory::GuestRam;
use crate::walk::{self, Mapping, Paging};

const PAGE: usize = 4096;
/// Program headers: the field has 16 bits, and gdb is slow with many.
const LOADS_MAX: usize = 20_000;
/// `struct user_fpregs_struct`: an FXSAVE image.
const FPREGS_LEN: usize = 512;
const SIGTRAP: u32 = 5;
const PF_RWX: u32 = 7;

/// Registers of one vCPU.
#[derive(Clone, Copy)]
pub struct CpuState {
    pub general: kvm_regs,
    pub special: kvm_sregs,
    pub fpu: kvm_fpu,
}

impl CpuState {
    pub fn paging(&self) -> Paging {
        let special = &self.special;
        Paging { cr0: special.cr0, cr3: special.cr3, cr4: special.cr4, efer: special.efer }
    }
}

/// Writes the core. The vCPUs must stand still.
pub fn write(file: &mut File, ram: &GuestRam, cpus: &[CpuState]) -> io::Result<()> {
    let notes = notes(cpus);
    let mut loads: Vec<Mapping> = Vec::new();
    if let Some(cpu) = cpus.first() {
        walk::mappings(ram, cpu.paging(), LOADS_MAX, &mut |mapping| loads.push(mapping));
    }
    let parts = ram.parts();
    loads.extend(parts.iter().map(|part| Mapping {
        linear: part.base,
        physical: part.base,
        length: part.size,
    }));
    let count = loads.len() as u64 + 1;
    let notes_at = HEADER_SIZE as u64 + count * PROGRAM_HEADER_SIZE as u64;
    let data_at = (notes_at + notes.len() as u64).next_multiple_of(PAGE as u64);
    let offset_of = |physical: u64| -> Option<u64> {
        let mut offset = data_at;
        for part in parts {
            if (part.base..part.base + part.size).contains(&physical) {
                return Some(offset + physical - part.base);
            }
            offset += part.size;
        }
        None
    };

    let mut head = elf_core::header(count as u16).to_vec();
    program_header(&mut head, (PT_NOTE, 0), notes_at, (0, 0), notes.len() as u64);
    for load in &loads {
        let place = (load.linear, load.physical);
        // Every mapping is cut to RAM by the walk.
        let offset = offset_of(load.physical).unwrap_or(data_at);
        program_header(&mut head, (PT_LOAD, PF_RWX), offset, place, load.length);
    }
    head.extend(&notes);
    file.set_len(0)?;
    file.write_all(&head)?;
    let mut page = [0u8; PAGE];
    let mut at = data_at;
    for part in parts {
        for offset in (0..part.size).step_by(PAGE) {
            ram.map()
                .read_slice(&mut page, GuestAddress(part.base + offset))
                .map_err(io::Error::other)?;
            if page.iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start(at + offset))?;
                file.write_all(&page)?;
            }
        }
        at += part.size;
    }
    file.set_len(at)?;
    file.sync_data().or(Ok(()))
}

fn program_header(
    head: &mut Vec<u8>,
    (kind, flags): (u32, u32),
    offset: u64,
    (linear, physical): (u64, u64),
    length: u64,
) {
    let align = if kind == PT_LOAD { PAGE as u64 } else { 4 };
    let (file_size, memory_size) = (length, length);
    let header =
        ProgramHeader { kind, flags, offset, linear, physical, file_size, memory_size, align };
    head.extend(header.bytes());
}

fn notes(cpus: &[CpuState]) -> Vec<u8> {
    let mut notes = Vec::new();
    for (index, cpu) in (1u32..).zip(cpus) {
        elf_core::note(&mut notes, CORE, NT_PRSTATUS, &status(index, cpu));
        elf_core::note(&mut notes, CORE, NT_FPREGSET, &fpu(&cpu.fpu));
    }
    notes
}

fn status(thread: u32, cpu: &CpuState) -> [u8; STATUS_SIZE] {
    let (general, special) = (&cpu.general, &cpu.special);
    let registers = [
        general.r15,
        general.r14,
        general.r13,
        general.r12,
        general.rbp,
        general.rbx,
        general.r11,
        general.r10,
        general.r9,
        general.r8,
        general.rax,
        general.rcx,
        general.rdx,
        general.rsi,
        general.rdi,
        general.rax, // orig_rax
        general.rip,
        special.cs.selector.into(),
        general.rflags,
        general.rsp,
        special.ss.selector.into(),
        special.fs.base,
        special.gs.base,
        special.ds.selector.into(),
        special.es.selector.into(),
        special.fs.selector.into(),
        special.gs.selector.into(),
    ];
    elf_core::status(SIGTRAP, thread, registers)
}

fn fpu(fpu: &kvm_fpu) -> [u8; FPREGS_LEN] {
    let mut data = [0; FPREGS_LEN];
    data[0..2].copy_from_slice(&fpu.fcw.to_le_bytes());
    data[2..4].copy_from_slice(&fpu.fsw.to_le_bytes());
    data[4] = fpu.ftwx;
    data[6..8].copy_from_slice(&fpu.last_opcode.to_le_bytes());
    data[8..16].copy_from_slice(&fpu.last_ip.to_le_bytes());
    data[16..24].copy_from_slice(&fpu.last_dp.to_le_bytes());
    data[24..28].copy_from_slice(&fpu.mxcsr.to_le_bytes());
    for (index, register) in fpu.fpr.iter().enumerate() {
        data[32 + index * 16..][..16].copy_from_slice(register);
    }
    for (index, register) in fpu.xmm.iter().enumerate() {
        data[160 + index * 16..][..16].copy_from_slice(register);
    }
    data
}
