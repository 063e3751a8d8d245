//! Looks at a kernel image before any engine does, so that a wrong file gives one clear sentence:
//! it must be an ELF64 for x86-64 with a PVH entry note (`XEN_ELFNOTE_PHYS32_ENTRY`, type 18 of
//! owner `Xen`; see the x86/HVM direct boot ABI in the Xen documentation).
//!
//! Only checked here, never loaded: that is the engine's part.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the 32-bit physical entry point.
const PVH_NOTE: u64 = 18;
/// Firmware tables, boot structures and stacks the machine places beside kernel and bundle.
const MACHINE_NEEDS: u64 = 2 << 20;

/// What a kernel image says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// Physical entry point, from the PVH note.
    pub entry: u64,
    /// First physical address after the last loaded byte.
    pub end: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    #[error("is not an ELF file (a bzImage will not do; take the vmlinux it was made from)")]
    NotElf,
    #[error("is a 32-bit ELF, and only 64-bit kernels can be booted")]
    Not64Bit,
    #[error("is built for another processor than x86-64")]
    NotX86,
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("has no PVH entry note (Xen ELF note 18), so it cannot be booted directly")]
    NoPvhNote,
}

/// Checks `image` and finds its entry and extent.
pub fn inspect(image: &[u8]) -> Result<KernelInfo, KernelError> {
    if !image.starts_with(b"\x7fELF") {
        return Err(KernelError::NotElf);
    }
    if image.get(4) == Some(&1) {
        return Err(KernelError::Not64Bit);
    }
    let file = ElfBytes::<LittleEndian>::minimal_parse(image)
        .map_err(|_| KernelError::Damaged("its headers do not fit the file"))?;
    if file.ehdr.class != Class::ELF64 || file.ehdr.e_machine != EM_X86_64 {
        return Err(KernelError::NotX86);
    }
    let segments = file.segments().ok_or(KernelError::Damaged("it has no segments"))?;
    let mut end = 0;
    let mut entry = None;
    for segment in segments.iter() {
        let file_end = segment.p_offset.checked_add(segment.p_filesz);
        if file_end.is_none_or(|end| end > image.len() as u64) {
            return Err(KernelError::Damaged("a segment lies beyond the end of the file"));
        }
        match segment.p_type {
            PT_LOAD => {
                let top = segment.p_paddr.checked_add(segment.p_memsz);
                end = end.max(top.ok_or(KernelError::Damaged("a segment wraps around"))?);
            }
            PT_NOTE => {
                let notes = file.segment_data(&segment).unwrap_or_default();
                entry = entry.or_else(|| pvh_entry(notes));
            }
            _ => {}
        }
    }
    let entry = entry.ok_or(KernelError::NoPvhNote)?;
    if end == 0 {
        return Err(KernelError::Damaged("it has nothing to load"));
    }
    Ok(KernelInfo { entry, end })
}

/// Guest memory below which neither engine can place this kernel and bundle.
pub fn memory_needed(kernel: &KernelInfo, bundle_len: u64) -> u64 {
    let needed = kernel.end.saturating_add(bundle_len).saturating_add(MACHINE_NEEDS);
    needed.checked_next_multiple_of(crate::spec::MEMORY_STEP).unwrap_or(u64::MAX)
}

/// The descriptor of note 18 of owner `Xen` in a PT_NOTE segment; entries are padded to 4 bytes.
fn pvh_entry(mut notes: &[u8]) -> Option<u64> {
    loop {
        let word = |at: usize| {
            let bytes = notes.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let (name_len, desc_len, kind) = (word(0)?, word(4)?, word(8)?);
        let desc_at = name_len.checked_next_multiple_of(4)?.checked_add(12)?;
        let desc = notes.get(desc_at..)?.get(..desc_len)?;
        let name = notes.get(12..)?.get(..name_len)?;
        if name == b"Xen\0" && kind as u64 == PVH_NOTE {
            return match desc.len() {
                4 => Some(u32::from_le_bytes(desc.try_into().ok()?).into()),
                8 => Some(u64::from_le_bytes(desc.try_into().ok()?)),
                _ => None,
            };
        }
        notes = notes.get(desc_at + desc_len.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
