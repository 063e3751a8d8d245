//! ELF core files (System V ABI; notes of Linux on x86-64), as gdb reads them: the VMM writes them of
//! a machine, RS of a service, and the VMM reads RS's.
//!
//! ```text
//!   header | program headers | notes: CORE status, ... | memory
//! ```
//! What is in memory, and where, is the writer's.

use zerocopy::{Immutable, IntoBytes};

/// Bytes of the ELF header, and of a program header.
pub const HEADER_SIZE: usize = size_of::<Header>();
pub const PROGRAM_HEADER_SIZE: usize = size_of::<ProgramHeader>();
/// Types of program headers.
pub const PT_LOAD: u32 = 1;
pub const PT_NOTE: u32 = 4;
/// Names of notes, with their end, and types.
pub const CORE: &[u8] = b"CORE\0";
pub const NT_PRSTATUS: u32 = 1;
pub const NT_FPREGSET: u32 = 2;
pub const XINIM: &[u8] = b"XINIM\0";
/// Of the name [`XINIM`]: what a service was, text of `key: value` lines.
pub const NT_SERVICE: u32 = 1;
/// Bytes of `struct elf_prstatus`, and where its registers are.
pub const STATUS_SIZE: usize = 336;
pub const STATUS_REGISTERS: usize = 112;
const STATUS_SIGNAL: usize = 12;
const STATUS_PID: usize = 32;
/// Registers in `struct user_regs_struct`.
pub const REGISTERS: usize = 27;

#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    programs_at: u64,
    sections_at: u64,
    flags: u32,
    header_size: u16,
    program_header_size: u16,
    programs: u16,
    section_header_size: u16,
    sections: u16,
    names: u16,
}

/// A program header.
#[repr(C)]
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
pub struct ProgramHeader {
    /// [`PT_LOAD`] or [`PT_NOTE`]
    pub kind: u32,
    pub flags: u32,
    /// In the file.
    pub offset: u64,
    pub linear: u64,
    pub physical: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub align: u64,
}

impl ProgramHeader {
    pub fn bytes(self) -> [u8; PROGRAM_HEADER_SIZE] {
        zerocopy::transmute!(self)
    }
}

/// The ELF header of a core whose program headers follow it.
pub fn header(programs: u16) -> [u8; HEADER_SIZE] {
    const ET_CORE: u16 = 4;
    const EM_X86_64: u16 = 62;
    zerocopy::transmute!(Header {
        ident: *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        kind: ET_CORE,
        machine: EM_X86_64,
        version: 1,
        entry: 0,
        programs_at: HEADER_SIZE as u64,
        sections_at: 0,
        flags: 0,
        header_size: HEADER_SIZE as u16,
        program_header_size: PROGRAM_HEADER_SIZE as u16,
        programs,
        section_header_size: 0,
        sections: 0,
        names: 0,
    })
}

/// Appends a note; `name` with its end.
pub fn note(notes: &mut impl Extend<u8>, name: &[u8], kind: u32, data: &[u8]) {
    for word in [name.len() as u32, data.len() as u32, kind] {
        notes.extend(word.to_le_bytes());
    }
    for bytes in [name, data] {
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        notes.extend(bytes.iter().copied().chain(core::iter::repeat_n(0, padding)));
    }
}

/// `struct elf_prstatus`: a thread, the signal it stopped by, and its `struct user_regs_struct`.
pub fn status(signal: u32, thread: u32, registers: [u64; REGISTERS]) -> [u8; STATUS_SIZE] {
    let mut data = [0; STATUS_SIZE];
    data[..4].copy_from_slice(&signal.to_le_bytes());
    data[STATUS_SIGNAL..][..2].copy_from_slice(&(signal as u16).to_le_bytes());
    data[STATUS_PID..][..4].copy_from_slice(&thread.to_le_bytes());
    for (word, register) in data[STATUS_REGISTERS..].chunks_exact_mut(8).zip(registers) {
        word.copy_from_slice(&register.to_le_bytes());
    }
    data
}

const _: () = assert!(HEADER_SIZE == 64);
const _: () = assert!(PROGRAM_HEADER_SIZE == 56);
