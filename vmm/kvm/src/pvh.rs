//! The PVH boot protocol: a kernel ELF with a Xen note, placed, and told about its machine.
//!
//! `Kernel::parse` checks the image before anything is placed: an ELF64 for x86-64 whose notes
//! hold `XEN_ELFNOTE_PHYS32_ENTRY`. [`load`] copies its segments to their physical addresses, the
//! first module (bundle or initrd) to the top of low RAM, and writes `hvm_start_info`. The vCPU
//! then starts at the note's address in 32-bit protected mode with EBX pointing to that structure
//! (Xen `docs/misc/pvh.pandoc`, `arch-x86/hvm/start_info.h`).

use std::ops::Range;

use elf::ElfBytes;
use elf::abi::{EI_CLASS, ELFCLASS32, EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::note::{Note, NoteIterator};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress};
use xinim_abi::platform::ECAM_BASE;

use crate::layout;
use crate::memory::{GuestRam, HUGE_PAGE};

const PAGE: u64 = 4096;
const XEN_ELFNOTE_PHYS32_ENTRY: u64 = 18;
const START_MAGIC: u32 = 0x336E_C578;
/// Version 1 has the memory map.
const START_VERSION: u32 = 1;
const MEMMAP_RAM: u32 = 1;
const MEMMAP_RESERVED: u32 = 2;

/// A kernel image found fit to boot.
#[derive(Debug)]
pub struct Kernel<'a> {
    /// 32-bit physical entry point.
    pub entry: u32,
    segments: Vec<Segment<'a>>,
}

#[derive(Debug)]
struct Segment<'a> {
    data: &'a [u8],
    physical: Range<u64>,
}

impl<'a> Kernel<'a> {
    /// Checks the image. The error is a sentence for the user.
    pub fn parse(image: &'a [u8]) -> Result<Self, String> {
        if !image.starts_with(b"\x7FELF") {
            return Err("the kernel is not an ELF file".into());
        }
        let damaged = |what: &str| format!("the kernel's ELF file is damaged: {what}");
        // Before anything of that size is parsed.
        if image.get(EI_CLASS) == Some(&ELFCLASS32) {
            return Err("the kernel is a 32-bit ELF file; a 64-bit one is needed".into());
        }
        let file = ElfBytes::<LittleEndian>::minimal_parse(image)
            .map_err(|error| damaged(&error.to_string()))?;
        if file.ehdr.e_machine != EM_X86_64 {
            return Err("the kernel is not for x86-64".into());
        }
        let headers = file.segments().ok_or_else(|| damaged("it has no program headers"))?;
        let mut segments = Vec::new();
        let mut entry = None;
        for header in headers.iter() {
            if header.p_type != PT_LOAD && header.p_type != PT_NOTE {
                continue;
            }
            let data = file
                .segment_data(&header)
                .map_err(|_| damaged("a segment lies outside the file"))?;
            if header.p_type == PT_NOTE {
                // The alignment is 4 in practice whatever the header says, but for 8.
                let align = if header.p_align == 8 { 8 } else { 4 };
                entry = entry.or_else(|| xen_entry(data, align));
            } else if header.p_memsz != 0 {
                if header.p_memsz < header.p_filesz {
                    return Err(damaged("a segment is larger in the file than in memory"));
                }
                let end = header
                    .p_paddr
                    .checked_add(header.p_memsz)
                    .ok_or_else(|| damaged("a segment ends beyond the address space"))?;
                segments.push(Segment { data, physical: header.p_paddr..end });
            }
        }
        if segments.is_empty() {
            return Err(damaged("it has nothing to load"));
        }
        let entry = entry.ok_or(
            "the kernel has no PVH entry point (an ELF note of owner Xen and type 18); \
             for Linux, build it with CONFIG_PVH and pass vmlinux",
        )?;
        Ok(Self { entry, segments })
    }

    /// The physical addresses the image covers, from its lowest to its highest segment.
    pub fn extent(&self) -> Range<u64> {
        let start = self.segments.iter().map(|segment| segment.physical.start).min();
        let end = self.segments.iter().map(|segment| segment.physical.end).max();
        start.unwrap_or(0)..end.unwrap_or(0)
    }
}

fn xen_entry(notes: &[u8], align: usize) -> Option<u32> {
    NoteIterator::new(LittleEndian, Class::ELF64, align, notes).find_map(|note| match note {
        Note::Unknown(note)
            if note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.name.starts_with(b"Xen") =>
        {
            let bytes = note.desc.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        }
        _ => None,
    })
}

/// What the first vCPU needs to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// RIP at the start.
    pub rip: u64,
    /// EBX at the start: the physical address of `hvm_start_info`.
    pub start_info: u64,
}

/// Places kernel, module, command line and start information. The error is a sentence.
pub fn load(
    ram: &GuestRam,
    kernel: &Kernel<'_>,
    bundle: Option<&[u8]>,
    cmdline: &str,
    rsdp: u64,
) -> Result<Entry, String> {
    let extent = kernel.extent();
    let bundle_at = match bundle {
        Some(bundle) => Some(place_bundle(ram.low_end(), extent.end, bundle.len() as u64)?),
        None => None,
    };
    for segment in &kernel.segments {
        check_segment(&segment.physical, ram.low_end())?;
        put(ram, segment.data, segment.physical.start)?;
    }
    let mut modules = 0;
    if let (Some(bundle), Some(at)) = (bundle, bundle_at) {
        put(ram, bundle, at)?;
        let entry =
            hvm_modlist_entry { paddr: at, size: bundle.len() as u64, ..Default::default() };
        put_object(ram, entry, layout::MODLIST)?;
        modules = 1;
    }
    if cmdline.len() > layout::CMDLINE_MAX || cmdline.contains('\0') {
        return Err(format!(
            "the kernel command line must have at most {} bytes and none of them zero",
            layout::CMDLINE_MAX
        ));
    }
    put(ram, cmdline.as_bytes(), layout::CMDLINE)?;
    put(ram, &[0], layout::CMDLINE + cmdline.len() as u64)?;
    let map = memory_map(ram);
    for (index, entry) in map.iter().enumerate() {
        let size = size_of::<hvm_memmap_table_entry>() as u64;
        put_object(ram, *entry, layout::MEMMAP + index as u64 * size)?;
    }
    let info = hvm_start_info {
        magic: START_MAGIC,
        version: START_VERSION,
        nr_modules: modules,
        modlist_paddr: if modules == 0 { 0 } else { layout::MODLIST },
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: rsdp,
        memmap_paddr: layout::MEMMAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    put_object(ram, info, layout::START_INFO)?;
    Ok(Entry { rip: u64::from(kernel.entry), start_info: layout::START_INFO })
}

/// As high as it goes in low RAM and aligned to 2 MiB, or to a page where that does not fit.
fn place_bundle(low_end: u64, kernel_end: u64, size: u64) -> Result<u64, String> {
    let floor = kernel_end.max(layout::LOW_MEGABYTE);
    let top = low_end.checked_sub(size);
    let fits = |at: &u64| *at >= floor;
    top.map(|top| top & !(HUGE_PAGE - 1))
        .filter(fits)
        .or(top.map(|top| top & !(PAGE - 1)).filter(fits))
        .ok_or_else(|| {
            format!(
                "{} of memory are too little for this kernel and its bundle: they need {}",
                mebibytes(low_end),
                mebibytes(floor + size)
            )
        })
}

fn check_segment(physical: &Range<u64>, low_end: u64) -> Result<(), String> {
    if physical.start >= layout::LOW_MEGABYTE {
        if physical.end > low_end {
            return Err(format!(
                "{} of memory are too little for this kernel: it ends at {}",
                mebibytes(low_end),
                mebibytes(physical.end)
            ));
        }
    } else if physical.end > layout::CONVENTIONAL_END {
        return Err(format!(
            "the kernel's segment at {:#x}..{:#x} covers the firmware area below 1 MiB",
            physical.start, physical.end
        ));
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn put(ram: &GuestRam, bytes: &[u8], at: u64) -> Result<(), String> {
    ram.map()
        .write_slice(bytes, GuestAddress(at))
        .map_err(|_| format!("{} bytes at {at:#x} lie outside the guest's memory", bytes.len()))
}

fn put_object<T: vm_memory::ByteValued>(ram: &GuestRam, object: T, at: u64) -> Result<(), String> {
    put(ram, object.as_slice(), at)
}

/// The map a kernel gets: RAM, and what is reserved inside or between.
fn memory_map(ram: &GuestRam) -> Vec<hvm_memmap_table_entry> {
    let entry = |range: Range<u64>, type_| hvm_memmap_table_entry {
        addr: range.start,
        size: range.end - range.start,
        type_,
        reserved: 0,
    };
    let mut map = vec![
        entry(0..layout::CONVENTIONAL_END, MEMMAP_RAM),
        entry(layout::FIRMWARE_BASE..layout::LOW_MEGABYTE, MEMMAP_RESERVED),
        entry(layout::LOW_MEGABYTE..ram.low_end(), MEMMAP_RAM),
        // Linux believes an MCFG table only if the memory map reserves its window.
        entry(ECAM_BASE..ECAM_BASE + layout::ECAM_SIZE, MEMMAP_RESERVED),
    ];
    if let Some((base, size)) = ram.high() {
        map.push(entry(base..base + size, MEMMAP_RAM));
    }
    map
}

#[cfg(test)]
#[path = "pvh_tests.rs"]
mod tests;
