use super::*;
use crate::testing::{elf, note};
use proptest::prelude::*;

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
