//! Names of code addresses: the kernel's and those of the programs in the bundle.
//!
//! Images come with their symbol tables (`.symtab`); nothing is read before a report or a debugger
//! asks. A kernel without symbols gives addresses without names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use elf::ElfBytes;
use elf::abi::{PF_X, PT_LOAD, STT_FUNC, STT_NOTYPE, STT_OBJECT};
use elf::endian::LittleEndian;
use xinim_devices::bus::lock;

/// From here on upwards is the kernel's half of the address space.
pub const KERNEL_HALF: u64 = 0xFFFF_8000_0000_0000;
/// A symbol without a size names at most so much code.
const UNSIZED: u64 = 4096;
/// Bytes of a newc header (cpio(5)).
const CPIO_HEADER: usize = 110;
const S_IFMT: usize = 0o170_000;
const S_IFLNK: usize = 0o120_000;

/// Of one image.
#[derive(Debug, Default)]
pub struct Symbols {
    /// By address.
    functions: Vec<(u64, u64, String)>,
    /// Data, by name.
    objects: HashMap<String, u64>,
    code: Vec<(u64, u64)>,
}

impl Symbols {
    /// Whatever can be read; an image that is no ELF has no symbols.
    pub fn parse(image: &[u8]) -> Self {
        let mut symbols = Self::default();
        let Ok(file) = ElfBytes::<LittleEndian>::minimal_parse(image) else { return symbols };
        for segment in file.segments().iter().flat_map(|segments| segments.iter()) {
            if segment.p_type == PT_LOAD && segment.p_flags & PF_X != 0 {
                let end = segment.p_vaddr.saturating_add(segment.p_filesz);
                symbols.code.push((segment.p_vaddr, end));
            }
        }
        if let Ok(Some((table, names))) = file.symbol_table() {
            for symbol in table.iter() {
                let kind = symbol.st_symtype();
                if ![STT_FUNC, STT_NOTYPE, STT_OBJECT].contains(&kind) || symbol.is_undefined() {
                    continue;
                }
                let Ok(name) = names.get(symbol.st_name as usize) else { continue };
                if kind == STT_OBJECT {
                    symbols.objects.insert(name.to_owned(), symbol.st_value);
                    continue;
                }
                if name.is_empty() || !symbols.is_code(symbol.st_value) {
                    continue;
                }
                let name = format!("{:#}", rustc_demangle::demangle(name));
                symbols.functions.push((symbol.st_value, symbol.st_size, name));
            }
        }
        symbols.functions.sort();
        symbols
    }

    /// Whether there is code at this address.
    pub fn is_code(&self, address: u64) -> bool {
        self.code.iter().any(|(start, end)| (*start..*end).contains(&address))
    }

    /// Where the data of this name is, as the linker calls it.
    pub fn object(&self, name: &str) -> Option<u64> {
        self.objects.get(name).copied()
    }

    /// `function+0x12`.
    pub fn name(&self, address: u64) -> Option<String> {
        let after = self.functions.partition_point(|(start, ..)| *start <= address);
        let (start, size, name) = self.functions.get(after.checked_sub(1)?)?;
        let length = if *size == 0 { UNSIZED } else { *size };
        let offset = address - start;
        (offset < length && self.is_code(address)).then(|| format!("{name}+{offset:#x}"))
    }
}

/// The images of a machine.
#[derive(Debug)]
pub struct Images {
    kernel: Bytes,
    bundle: Option<Bytes>,
    /// The kernel under the empty name, programs under theirs.
    parsed: Mutex<HashMap<String, Arc<Symbols>>>,
}

impl Images {
    pub fn new(kernel: Bytes, bundle: Option<Bytes>) -> Self {
        Self { kernel, bundle, parsed: Mutex::default() }
    }

    pub fn kernel(&self) -> Arc<Symbols> {
        let mut parsed = lock(&self.parsed);
        parsed.entry(String::new()).or_insert_with(|| Symbols::parse(&self.kernel).into()).clone()
    }

    /// Of the program that a process of this name runs; without symbols if it is not in the
    /// bundle.
    pub fn program(&self, process: &str) -> Arc<Symbols> {
        let mut parsed = lock(&self.parsed);
        let parse = || {
            let image = self.bundle.as_ref().and_then(|bundle| program(bundle, process));
            Symbols::parse(image.unwrap_or_default()).into()
        };
        // Names are the guest's: only as many as there are programs are remembered.
        if !parsed.contains_key(process) && parsed.len() > 512 {
            parsed.clear();
        }
        parsed.entry(process.to_owned()).or_insert_with(parse).clone()
    }

    /// The symbols that belong to an address, where `process` runs.
    pub fn at(&self, address: u64, process: Option<&str>) -> Arc<Symbols> {
        if address >= KERNEL_HALF {
            return self.kernel();
        }
        process.map_or_else(Arc::default, |name| self.program(name))
    }
}

/// The file of this name anywhere in a bundle; a symbolic link leads to a file beside it.
pub fn program<'a>(bundle: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut wanted = base_of(name).to_owned();
    // A link to a link is not followed.
    for _ in 0..2 {
        let (_, mode, data) = members(bundle).find(|(path, ..)| base_of(path) == wanted)?;
        if mode & S_IFMT != S_IFLNK {
            return Some(data);
        }
        wanted = base_of(std::str::from_utf8(data).ok()?).to_owned();
    }
    None
}

fn base_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Names of all programs and of the links to them.
pub fn programs(bundle: &[u8]) -> Vec<&str> {
    let names = members(bundle).map(|(path, ..)| base_of(path));
    let is_program = |name: &&str| program(bundle, name).is_some_and(|d| d.starts_with(b"\x7fELF"));
    names.filter(is_program).collect()
}

/// Path, mode and data of everything in a cpio archive (newc), as far as it is one.
pub fn members(archive: &[u8]) -> impl Iterator<Item = (&str, usize, &[u8])> {
    let mut at = 0usize;
    std::iter::from_fn(move || {
        let header = archive.get(at..)?.get(..CPIO_HEADER)?;
        if !header.starts_with(b"070701") {
            return None;
        }
        let field = |index: usize| {
            let digits = std::str::from_utf8(&header[6 + index * 8..][..8]).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (mode, size, name_size) = (field(1)?, field(6)?, field(11)?);
        let name = archive.get(at + CPIO_HEADER..)?.get(..name_size)?;
        let name = std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()?;
        let start = (at + CPIO_HEADER).checked_add(name_size)?.checked_next_multiple_of(4)?;
        let data = archive.get(start..)?.get(..size)?;
        at = (start + size).next_multiple_of(4);
        (name != "TRAILER!!!").then_some((name, mode, data))
    })
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;
