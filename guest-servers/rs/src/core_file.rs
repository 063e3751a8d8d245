//! Core files of dead services: an ELF core as gdb reads it (System V ABI, `NT_PRSTATUS` of x86-64).
//!
//! ```text
//!   ELF header | program headers | notes: CORE status, XINIM what it was | writable memory
//! ```
//! Only what the service could write and RS made for it is in it: data and stack. Its text is the
//! program's, which is named. Memory it made itself (its heap) has gone with it.

use alloc::string::String;
use alloc::vec::Vec;
use xinim_abi::elf_core::{
    self, CORE, HEADER_SIZE, NT_PRSTATUS, NT_SERVICE, PROGRAM_HEADER_SIZE, PT_LOAD, PT_NOTE,
    ProgramHeader, STATUS_SIZE, XINIM,
};
use xinim_abi::event::{Obituary, cause};
use xinim_abi::interface::Name;

/// Selectors of user space on Linux, whose notes these are.
const USER_CODE: u64 = 0x33;
const USER_DATA: u64 = 0x2B;

/// A run of the service's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub address: u64,
    pub len: u64,
}

/// What died.
#[derive(Clone, Copy, Debug)]
pub struct Dead<'a> {
    pub label: Name,
    pub program: &'a str,
    pub obituary: &'a Obituary,
    /// Of what, in words.
    pub cause: &'a str,
}

/// Everything before the memory, which follows piece by piece.
pub fn head(dead: &Dead<'_>, pieces: &[Piece]) -> Vec<u8> {
    let mut notes = Vec::new();
    elf_core::note(&mut notes, CORE, NT_PRSTATUS, &status(dead.obituary));
    elf_core::note(&mut notes, XINIM, NT_SERVICE, words(dead).as_bytes());
    let headers = HEADER_SIZE + PROGRAM_HEADER_SIZE * (pieces.len() + 1);
    let mut out = Vec::with_capacity(headers + notes.len());
    out.extend_from_slice(&elf_core::header(pieces.len() as u16 + 1));
    program_header(&mut out, PT_NOTE, 4, headers as u64, 0, notes.len() as u64);
    let mut offset = (headers + notes.len()) as u64;
    for piece in pieces {
        program_header(&mut out, PT_LOAD, 6, offset, piece.address, piece.len);
        offset += piece.len;
    }
    out.extend_from_slice(&notes);
    out
}

fn program_header(out: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, address: u64, len: u64) {
    let (memory_size, align) = if kind == PT_LOAD { (len, 1) } else { (0, 4) };
    let (linear, physical, file_size) = (address, 0, len);
    let header =
        ProgramHeader { kind, flags, offset, linear, physical, file_size, memory_size, align };
    out.extend_from_slice(&header.bytes());
}

fn words(dead: &Dead<'_>) -> String {
    let Dead { label, program, obituary, cause } = dead;
    let Obituary { pid, time, vector, error_code, address, .. } = obituary;
    alloc::format!(
        "service: {label}\nprogram: {program}\npid: {pid}\ntime: {} us\ncause: {cause}\n\
         vector: {vector}\nerror: {error_code:#x}\naddress: {address:#x}\n",
        time / 1000
    )
}

/// The signal that a Unix would have sent.
fn signal(obituary: &Obituary) -> u32 {
    const KILL: u32 = 9;
    const TRAP: u32 = 5;
    const ILL: u32 = 4;
    const FPE: u32 = 8;
    const BUS: u32 = 7;
    const SEGV: u32 = 11;
    match (obituary.cause, obituary.vector) {
        (cause::FAULT, 0 | 16 | 19) => FPE,
        (cause::FAULT, 1 | 3) => TRAP,
        (cause::FAULT, 6) => ILL,
        (cause::FAULT, 17) => BUS,
        (cause::FAULT, _) => SEGV,
        _ => KILL,
    }
}

fn status(obituary: &Obituary) -> [u8; STATUS_SIZE] {
    let r = &obituary.registers;
    let registers = [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx,
        r.rsi, r.rdi, r.rax, r.rip, USER_CODE, r.rflags, r.rsp, USER_DATA, 0, 0, 0, 0, 0, 0,
    ];
    elf_core::status(signal(obituary), obituary.pid, registers)
}
