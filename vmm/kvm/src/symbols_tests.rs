use super::*;
use crate::testing::cpio_entry as entry;

#[test]
fn programs_are_found_by_the_name_of_their_process() {
    let mut archive = Vec::new();
    entry(&mut archive, "bin", 0o040_755, b"");
    entry(&mut archive, "bin/tools", 0o100_755, b"tools!");
    entry(&mut archive, "bin/ls", 0o120_777, b"tools");
    entry(&mut archive, "sbin/rs", 0o100_755, b"rs");
    entry(&mut archive, "TRAILER!!!", 0, b"");
    assert_eq!(program(&archive, "rs"), Some(&b"rs"[..]));
    assert_eq!(program(&archive, "ls"), Some(&b"tools!"[..]));
    assert_eq!(program(&archive, "/bin/ls"), Some(&b"tools!"[..]));
    assert_eq!(program(&archive, "none"), None);
}

#[test]
fn damaged_archives_end_early() {
    let mut archive = Vec::new();
    entry(&mut archive, "a", 0o100_755, b"data");
    for length in 0..archive.len() {
        assert!(members(&archive[..length]).count() <= 1);
    }
    for at in 6..CPIO_HEADER {
        let mut hostile = archive.clone();
        hostile[at] = b'F';
        assert!(members(&hostile).count() <= 1);
    }
}

#[test]
fn an_image_without_symbols_has_no_names() {
    let image = crate::testing::elf_image(0x10_0000, &[0x90; 16], None);
    let symbols = Symbols::parse(&image);
    assert!(symbols.is_code(0x10_000F) && !symbols.is_code(0x10_0010));
    assert_eq!(symbols.name(0x10_0000), None);
    assert!(!Symbols::parse(b"no ELF").is_code(0));
}
