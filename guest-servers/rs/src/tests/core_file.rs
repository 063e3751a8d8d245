//! Core files, read by an ELF library.

use crate::core_file::{Dead, Piece, head};
use alloc::vec::Vec;
use elf::ElfBytes;
use elf::endian::LittleEndian;
use elf::note::Note;
use xinim_abi::event::{Obituary, Registers, cause};
use xinim_abi::interface::Name;

#[test]
fn a_core_is_what_an_elf_reader_expects() {
    let registers =
        Registers { rip: 0x40_1234, rsp: 0x7FFD_FFFF_F000, r15: 15, ..Default::default() };
    let (time, vector) = (5_000_000, 14);
    let obituary =
        Obituary { pid: 7, cause: cause::FAULT, vector, time, registers, ..Default::default() };
    let dead = Dead {
        label: Name::new("virtio-blk").unwrap(),
        program: "sbin/virtio-blk",
        obituary: &obituary,
        cause: "fault",
    };
    let pieces =
        [Piece { address: 0x50_0000, len: 4096 }, Piece { address: 0x7000_0000, len: 8192 }];
    let mut file = head(&dead, &pieces);
    let start = file.len() as u64;
    file.resize(file.len() + 4096, 1);
    file.resize(file.len() + 8192, 2);
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&file).unwrap();
    assert_eq!((elf.ehdr.e_type, elf.ehdr.e_machine), (elf::abi::ET_CORE, elf::abi::EM_X86_64));
    let segments: Vec<_> = elf.segments().unwrap().iter().collect();
    assert_eq!(segments.len(), 3);
    assert_eq!((segments[1].p_vaddr, segments[1].p_offset), (0x50_0000, start));
    assert!(elf.segment_data(&segments[2]).unwrap().iter().all(|byte| *byte == 2));
    let mut notes = elf.segment_data_as_notes(&segments[0]).unwrap();
    let Some(Note::Unknown(status)) = notes.next() else { panic!("no status") };
    let word = |at: usize| u64::from_le_bytes(status.desc[at..at + 8].try_into().unwrap());
    assert_eq!((status.desc[0], word(112), word(112 + 16 * 8)), (11, 15, 0x40_1234));
    let Some(Note::Unknown(words)) = notes.next() else { panic!("no words") };
    let text = std::str::from_utf8(words.desc).unwrap();
    assert!(text.starts_with("service: virtio-blk\nprogram: sbin/virtio-blk\npid: 7\n"), "{text}");
}
