//! What the loader said: PVH start info (Xen `arch-x86/hvm/start_info.h`), read once.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use xinim_abi::platform::CMDLINE_RAM_ZEROED;

use crate::physical;

const MAGIC: u32 = 0x336E_C578;
/// Entries of the memory map that are looked at.
const MAX_MAP: usize = 64;
const MAX_CMDLINE: usize = 512;
const TYPE_RAM: u32 = 1;

#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    nr_modules: u32,
    modlist: u64,
    cmdline: u64,
    rsdp: u64,
    memmap: u64,
    memmap_entries: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout)]
struct Module {
    address: u64,
    size: u64,
    cmdline: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout)]
struct MapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Physical addresses, end exclusive.
#[derive(Clone, Copy)]
pub struct Range {
    pub start: u64,
    pub end: u64,
}

pub struct BootInfo {
    map: &'static [MapEntry],
    pub bundle: Option<Range>,
    pub cmdline: &'static [u8],
    /// Root pointer of the ACPI tables; 0 if the loader gave none.
    pub rsdp: u64,
    /// The machine promises that RAM was zero before the loader wrote to it.
    pub ram_zeroed: bool,
}

impl BootInfo {
    /// Reads what is at physical address `start_info`.
    pub fn read(start_info: u64) -> Self {
        let info = physical::bytes(start_info, size_of::<StartInfo>())
            .and_then(|bytes| StartInfo::ref_from_bytes(bytes).ok())
            .filter(|info| info.magic == MAGIC && info.version >= 1)
            .expect("the loader is not a PVH loader, or gave no memory map");
        let entries = (info.memmap_entries as usize).min(MAX_MAP);
        let map = physical::bytes(info.memmap, entries * size_of::<MapEntry>())
            .and_then(|bytes| <[MapEntry]>::ref_from_bytes(bytes).ok())
            .expect("the memory map is out of reach");
        let bundle = (info.nr_modules > 0)
            .then(|| physical::bytes(info.modlist, size_of::<Module>()))
            .flatten()
            .and_then(|bytes| Module::ref_from_bytes(bytes).ok())
            .and_then(|m| Some(Range { start: m.address, end: m.address.checked_add(m.size)? }));
        let cmdline = match info.cmdline {
            0 => &[],
            address => {
                let text = physical::bytes(address, MAX_CMDLINE).unwrap_or(&[]);
                &text[..text.iter().position(|&b| b == 0).unwrap_or(text.len())]
            }
        };
        let mut boot = Self { map, bundle, cmdline, rsdp: info.rsdp, ram_zeroed: false };
        boot.ram_zeroed = boot.has_word(CMDLINE_RAM_ZEROED.as_bytes());
        boot
    }

    /// Whether the command line has `word`.
    pub fn has_word(&self, word: &[u8]) -> bool {
        self.cmdline.split(|&b| b == b' ').any(|w| w == word)
    }

    /// The value of the word `key=value`.
    pub fn value(&self, key: &[u8]) -> Option<&'static [u8]> {
        self.cmdline
            .split(|&b| b == b' ')
            .find_map(|word| word.strip_prefix(key)?.strip_prefix(b"="))
    }

    /// RAM, in the order of the map.
    pub fn ram(&self) -> impl Iterator<Item = Range> {
        self.map
            .iter()
            .filter(|e| e.kind == TYPE_RAM)
            .filter_map(|e| Some(Range { start: e.address, end: e.address.checked_add(e.size)? }))
    }

    /// What in RAM must not be handed out besides the kernel: the bundle. (The rest of what the
    /// loader left is read before anything is allocated over it, or lies below 1 MiB.)
    pub fn reserved(&self) -> impl Iterator<Item = Range> {
        self.bundle.into_iter()
    }
}
