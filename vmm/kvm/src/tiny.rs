//! Tiny PVH kernels made of machine code, for tests and measurements.

const EHDR: usize = 64;
const PHDR: usize = 56;

/// An ELF note of owner Xen and type 18 with a 32-bit entry point.
pub fn xen_note(entry: u32) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(entry.to_le_bytes());
    note
}

/// An ELF64 with one loadable segment at `physical` and, if given, one note segment.
pub fn elf_image(physical: u64, code: &[u8], note: Option<&[u8]>) -> Vec<u8> {
    let headers = EHDR + 2 * PHDR;
    let note_bytes = note.unwrap_or(&[]);
    let mut image = Vec::new();
    image.extend(b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image.extend(2u16.to_le_bytes()); // ET_EXEC
    image.extend(62u16.to_le_bytes()); // EM_X86_64
    image.extend(1u32.to_le_bytes());
    image.extend(physical.to_le_bytes());
    image.extend((EHDR as u64).to_le_bytes()); // program headers
    image.extend(0u64.to_le_bytes()); // no sections
    image.extend(0u32.to_le_bytes());
    for half in [EHDR, PHDR, 2, 0, 0, 0] {
        image.extend((half as u16).to_le_bytes());
    }
    let mut header = |kind: u32, offset: usize, physical: u64, size: usize| {
        image.extend(kind.to_le_bytes());
        image.extend(7u32.to_le_bytes());
        for word in [offset as u64, physical, physical, size as u64, size as u64, 4] {
            image.extend(word.to_le_bytes());
        }
    };
    header(4, headers, 0, note_bytes.len());
    header(1, headers + note_bytes.len(), physical, code.len());
    image.extend(note_bytes);
    image.extend(code);
    image
}
