//! What tests make of machine code and files.

pub use crate::tiny::{elf_image, xen_note};

/// One entry of a newc archive.
pub fn cpio_entry(archive: &mut Vec<u8>, name: &str, mode: usize, data: &[u8]) {
    let mut fields = [0usize; 13];
    (fields[1], fields[6], fields[11]) = (mode, data.len(), name.len() + 1);
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08X}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
