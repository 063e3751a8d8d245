//! Core files of dead services: an ELF core as gdb reads it (System V ABI, `NT_PRSTATUS` of x86-64).
//!
//! ```text
//!   ELF header | program headers | notes: CORE status, XINIM what it was | writable memory
//! ```
//! Only what the service could write and RS made for it is in it: data and stack. Its text is the
//! program's, which is named. Memory it made itself (its heap) has gone with it.

use alloc::string::String;
use alloc::vec::Vec;
use xinim_abi::event::{Obituary, cause};
use xinim_abi::interface::Name;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_PRSTATUS: u32 = 1;
/// Of the name `XINIM`: text, `key: value` lines.
pub const NT_SERVICE: u32 = 1;
/// Bytes of `struct elf_prstatus`, and where thread and registers are in it.
const STATUS_LEN: usize = 336;
const STATUS_PID: usize = 32;
const STATUS_REGISTERS: usize = 112;
/// Selectors of user space, as the kernel has them.
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
    note(&mut notes, b"CORE\0", NT_PRSTATUS, &status(dead.obituary));
    note(&mut notes, b"XINIM\0", NT_SERVICE, words(dead).as_bytes());
    let headers = HEADER + PROGRAM_HEADER * (pieces.len() + 1);
    let mut out = Vec::with_capacity(headers + notes.len());
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_CORE, EM_X86_64.
    out.extend_from_slice(&4u16.to_le_bytes());
    out.extend_from_slice(&62u16.to_le_bytes());
    out.extend_from_slice(&1u32.to_le_bytes());
    for word in [0, HEADER as u64, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    let count = pieces.len() as u16 + 1;
    for half in [HEADER as u16, PROGRAM_HEADER as u16, count, 0, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
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
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    let (in_memory, align) = if kind == PT_LOAD { (len, 1) } else { (0, 4) };
    for word in [offset, address, 0, len, in_memory, align] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn note(notes: &mut Vec<u8>, name: &[u8], kind: u32, data: &[u8]) {
    for word in [name.len() as u32, data.len() as u32, kind] {
        notes.extend_from_slice(&word.to_le_bytes());
    }
    for bytes in [name, data] {
        notes.extend_from_slice(bytes);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
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

/// `struct elf_prstatus`: signal, thread, and `struct user_regs_struct`.
fn status(obituary: &Obituary) -> [u8; STATUS_LEN] {
    let mut data = [0; STATUS_LEN];
    let signal = signal(obituary);
    data[..4].copy_from_slice(&signal.to_le_bytes());
    data[12..14].copy_from_slice(&(signal as u16).to_le_bytes());
    data[STATUS_PID..STATUS_PID + 4].copy_from_slice(&obituary.pid.to_le_bytes());
    let r = &obituary.registers;
    let registers = [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx,
        r.rsi, r.rdi, r.rax, r.rip, USER_CODE, r.rflags, r.rsp, USER_DATA, 0, 0, 0, 0, 0, 0,
    ];
    for (word, register) in data[STATUS_REGISTERS..].chunks_exact_mut(8).zip(registers) {
        word.copy_from_slice(&register.to_le_bytes());
    }
    data
}
