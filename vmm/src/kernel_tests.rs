use super::*;
use proptest::prelude::*;

/// An ELF64 with one PT_LOAD of `code` at 1 MiB and one PT_NOTE holding `notes`.
fn elf(code: &[u8], notes: &[u8]) -> Vec<u8> {
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
        offset += data.len() as u64;
    }
    image.extend_from_slice(code);
    image.extend_from_slice(notes);
    image
}

fn note(owner: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
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

#[test]
fn finds_the_pvh_entry_behind_other_notes() {
    let mut notes = note(b"GNU\0", 3, b"a build id of odd length!");
    notes.extend(note(b"Xen\0", 6, b"linux\0"));
    notes.extend(note(b"Xen\0", 18, &0x10_0040u32.to_le_bytes()));
    let info = inspect(&elf(&[0xF4; 100], &notes));
    assert_eq!(info, Ok(KernelInfo { entry: 0x10_0040, end: 0x10_0064 }));
}

#[test]
fn says_what_is_wrong() {
    let good = elf(&[0xF4; 100], &note(b"Xen\0", 18, &[0; 8]));
    assert!(inspect(&good).is_ok());
    assert_eq!(inspect(b""), Err(KernelError::NotElf));
    assert_eq!(inspect(b"MZ bzImage"), Err(KernelError::NotElf));
    let changed = |at: usize, value: u8| {
        let mut image = good.clone();
        image[at] = value;
        inspect(&image)
    };
    assert_eq!(changed(4, 1), Err(KernelError::Not64Bit));
    assert_eq!(changed(18, 183), Err(KernelError::NotX86));
    assert_eq!(inspect(&elf(b"\xF4", &note(b"Xen\0", 17, &[0; 4]))), Err(KernelError::NoPvhNote));
    assert_eq!(inspect(&elf(b"\xF4", b"")), Err(KernelError::NoPvhNote));
    assert!(matches!(inspect(&good[..good.len() - 1]), Err(KernelError::Damaged(_))));
    assert!(matches!(inspect(&good[..32]), Err(KernelError::Damaged(_))));
}

#[test]
fn memory_need_counts_kernel_and_bundle() {
    let info = KernelInfo { entry: 0, end: 0x40_0000 };
    assert_eq!(memory_needed(&info, 0), 6 << 20);
    assert_eq!(memory_needed(&info, 1), 8 << 20);
    assert_eq!(memory_needed(&KernelInfo { entry: 0, end: u64::MAX }, 1), u64::MAX);
}

proptest! {
    #[test]
    fn damage_never_panics(at in 0usize..300, value: u8, cut in 0usize..400) {
        let mut image = elf(&[0xF4; 100], &note(b"Xen\0", 18, &[0; 4]));
        let len = image.len();
        image[at % len] = value;
        image.truncate(cut.max(1));
        let _ = inspect(&image);
    }

    #[test]
    fn random_notes_never_panic(notes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = pvh_entry(&notes);
    }
}
