//! Tiny guests for tests: PVH kernels of a few bytes of machine code.

/// Where [`elf`] loads the code, physically.
pub const LOAD: u32 = 0x10_0000;

/// A kernel whose first instruction is `code`'s, in 32-bit protected mode.
pub fn guest(code: &[u8]) -> Vec<u8> {
    elf(code, &note(b"Xen\0", 18, &LOAD.to_le_bytes()))
}

/// `mov dx, port; mov eax, value; out dx, eax`
pub fn out32(port: u16, value: u32) -> Vec<u8> {
    let mut code = vec![0x66, 0xBA];
    code.extend(port.to_le_bytes());
    code.push(0xB8);
    code.extend(value.to_le_bytes());
    code.push(0xEF);
    code
}

/// `mov dx, port; mov al, value; out dx, al`
pub fn out8(port: u16, value: u8) -> Vec<u8> {
    let mut code = vec![0x66, 0xBA];
    code.extend(port.to_le_bytes());
    code.extend([0xB0, value, 0xEE]);
    code
}

/// Writes every byte of `text` to a port.
pub fn print(port: u16, text: &[u8]) -> Vec<u8> {
    text.iter().flat_map(|byte| out8(port, *byte)).collect()
}

/// Writes every byte of `text` to COM1, each when the transmitter is empty, as one has to.
pub fn serial(text: &[u8]) -> Vec<u8> {
    let byte = |byte: &u8| {
        #[rustfmt::skip]
        let code = [
            0x66, 0xBA, 0xFD, 0x03,       // mov dx, 0x3FD (line status)
            0xEC, 0xA8, 0x40, 0x74, 0xFB, // 1: in al, dx; test al, 0x40; jz 1b
            0x66, 0xBA, 0xF8, 0x03,       // mov dx, 0x3F8
            0xB0, *byte, 0xEE,            // mov al, byte; out dx, al
        ];
        code
    };
    let last = [0x66, 0xBA, 0xFD, 0x03, 0xEC, 0xA8, 0x40, 0x74, 0xFB];
    text.iter().flat_map(byte).chain(last).collect()
}

/// `jmp .`
pub const HANG: [u8; 2] = [0xEB, 0xFE];

/// An ELF64 with one PT_LOAD of `code` at 1 MiB and one PT_NOTE holding `notes`.
pub fn elf(code: &[u8], notes: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 64 + 2 * 56];
    image[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image[16..20].copy_from_slice(&[2, 0, 62, 0]);
    image[20] = 1;
    image[32] = 64; // e_phoff
    image[52] = 64; // e_ehsize
    image[54] = 56; // e_phentsize
    image[56] = 2; // e_phnum
    image[58] = 64; // e_shentsize
    let mut offset = image.len() as u64;
    for (i, (kind, data)) in [(1u32, code), (4, notes)].into_iter().enumerate() {
        let address = 0x10_0000u64 * (i as u64 + 1);
        let header = &mut image[64 + i * 56..][..56];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..16].copy_from_slice(&offset.to_le_bytes());
        header[16..24].copy_from_slice(&address.to_le_bytes());
        header[24..32].copy_from_slice(&address.to_le_bytes());
        header[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
        header[40..48].copy_from_slice(&(data.len() as u64).to_le_bytes());
        // QEMU divides by the alignment of notes.
        header[48] = 4;
        offset += data.len() as u64;
    }
    image.extend_from_slice(code);
    image.extend_from_slice(notes);
    image
}

pub fn note(owner: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    note.extend((owner.len() as u32).to_le_bytes());
    note.extend((desc.len() as u32).to_le_bytes());
    note.extend(kind.to_le_bytes());
    for part in [owner, desc] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}
