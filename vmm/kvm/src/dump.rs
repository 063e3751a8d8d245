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

use crate::memory::GuestRam;
use crate::walk::{self, Mapping, Paging};

const PAGE: usize = 4096;
const EHDR: u64 = 64;
const PHDR: u64 = 56;
/// Program headers: the field has 16 bits, and gdb is slow with many.
const LOADS_MAX: usize = 20_000;
const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
/// Length of Linux's `struct elf_prstatus` for x86-64.
const PRSTATUS_LEN: usize = 336;
const PRSTATUS_PID: usize = 32;
const PRSTATUS_REGISTERS: usize = 112;
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
    let notes_at = EHDR + count * PHDR;
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

    let mut head = header(count as u16);
    program_header(&mut head, (4, 0), notes_at, (0, 0), notes.len() as u64);
    for load in &loads {
        let place = (load.linear, load.physical);
        // Every mapping is cut to RAM by the walk.
        let offset = offset_of(load.physical).unwrap_or(data_at);
        program_header(&mut head, (1, PF_RWX), offset, place, load.length);
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

fn header(programs: u16) -> Vec<u8> {
    let mut head = Vec::new();
    head.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    head.extend(4u16.to_le_bytes()); // ET_CORE
    head.extend(62u16.to_le_bytes()); // EM_X86_64
    head.extend(1u32.to_le_bytes());
    head.extend(0u64.to_le_bytes()); // no entry
    head.extend(EHDR.to_le_bytes());
    head.extend(0u64.to_le_bytes()); // no sections
    head.extend(0u32.to_le_bytes());
    for half in [EHDR as u16, PHDR as u16, programs, 0, 0, 0] {
        head.extend(half.to_le_bytes());
    }
    head
}

fn program_header(
    head: &mut Vec<u8>,
    (kind, flags): (u32, u32),
    offset: u64,
    (linear, physical): (u64, u64),
    length: u64,
) {
    head.extend(kind.to_le_bytes());
    head.extend(flags.to_le_bytes());
    let align = if kind == 1 { PAGE as u64 } else { 4 };
    for word in [offset, linear, physical, length, length, align] {
        head.extend(word.to_le_bytes());
    }
}

fn notes(cpus: &[CpuState]) -> Vec<u8> {
    let mut notes = Vec::new();
    for (index, cpu) in (1u32..).zip(cpus) {
        note(&mut notes, NT_PRSTATUS, &status(index, cpu));
        note(&mut notes, NT_FPREGSET, &fpu(&cpu.fpu));
    }
    notes
}

fn note(notes: &mut Vec<u8>, kind: u32, data: &[u8]) {
    for word in [5, data.len() as u32, kind] {
        notes.extend(word.to_le_bytes());
    }
    notes.extend(b"CORE\0\0\0\0");
    notes.extend(data);
    notes.resize(notes.len().next_multiple_of(4), 0);
}

/// `struct elf_prstatus`: signal, thread, and `struct user_regs_struct`.
fn status(thread: u32, cpu: &CpuState) -> [u8; PRSTATUS_LEN] {
    let (general, special) = (&cpu.general, &cpu.special);
    let mut data = [0; PRSTATUS_LEN];
    data[..4].copy_from_slice(&SIGTRAP.to_le_bytes());
    data[12..14].copy_from_slice(&(SIGTRAP as u16).to_le_bytes());
    data[PRSTATUS_PID..PRSTATUS_PID + 4].copy_from_slice(&thread.to_le_bytes());
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
    for (index, register) in registers.into_iter().enumerate() {
        let at = PRSTATUS_REGISTERS + index * 8;
        data[at..at + 8].copy_from_slice(&register.to_le_bytes());
    }
    data
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
