//! `xinim-vmm core FILE`: what a core of a guest's service tells: what it was and died of, registers,
//! backtrace with names, memory.
//!
//! A core is what the guest's `service core NAME` writes: an ELF file with the writable memory of the
//! process, which is a stranger's like any other. Text and names come from the bundle.

use std::fmt::Write;
use std::path::Path;

use elf::ElfBytes;
use elf::abi::{ET_CORE, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use serde_json::json;
use xinim_abi::elf_core::{CORE, NT_PRSTATUS, NT_SERVICE, STATUS_REGISTERS, XINIM};
use xinim_kvm::bundle::{self, Images, Place, View};

use crate::cli::CoreArgs;
use crate::error::Error;
use crate::image;
use crate::output;

/// Names of `struct user_regs_struct`, in order; the segment registers are the same for all.
const REGISTERS: [&str; 20] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "", "rip", "", "rflags", "rsp",
];
const RIP: usize = 16;
const RSP: usize = 19;

/// A core, taken apart.
#[derive(Debug)]
pub struct Core {
    /// What RS says of it, `key`, `value`.
    pub words: Vec<(String, String)>,
    registers: Vec<u64>,
    /// Address and bytes.
    pub memory: Vec<(u64, Vec<u8>)>,
}

impl Core {
    /// `None`: it is no core of a service.
    pub fn parse(file: &[u8]) -> Option<Self> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).ok()?;
        if elf.ehdr.e_type != ET_CORE {
            return None;
        }
        let mut core = Self { words: Vec::new(), registers: Vec::new(), memory: Vec::new() };
        for segment in elf.segments()?.iter() {
            match segment.p_type {
                PT_LOAD => {
                    let data = elf.segment_data(&segment).ok()?;
                    core.memory.push((segment.p_vaddr, data.to_vec()));
                }
                PT_NOTE => {
                    for note in elf.segment_data_as_notes(&segment).ok()? {
                        core.note(&note);
                    }
                }
                _ => {}
            }
        }
        let whole = !core.words.is_empty() && core.registers.len() == REGISTERS.len();
        whole.then_some(core)
    }

    fn note(&mut self, note: &Note<'_>) {
        let Note::Unknown(note) = note else { return };
        let name = note.name.split(|byte| *byte == 0).next().unwrap_or_default();
        let named = |wanted: &[u8]| wanted.strip_suffix(b"\0") == Some(name);
        match u32::try_from(note.n_type) {
            Ok(NT_PRSTATUS) if named(CORE) => {
                let registers = note.desc.get(STATUS_REGISTERS..).unwrap_or_default();
                let words =
                    registers.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
                self.registers = words.take(REGISTERS.len()).collect();
            }
            Ok(NT_SERVICE) if named(XINIM) => {
                let text = String::from_utf8_lossy(note.desc);
                let words = text.lines().filter_map(|line| line.split_once(": "));
                self.words = words.map(|(key, value)| (key.into(), value.into())).collect();
            }
            _ => {}
        }
    }

    /// What RS says under a key.
    pub fn word(&self, key: &str) -> &str {
        let found = self.words.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value.as_str())
    }

    fn register(&self, index: usize) -> u64 {
        self.registers.get(index).copied().unwrap_or(0)
    }
}

/// A core's memory, and the text of its program behind it.
struct Memory<'a> {
    core: &'a Core,
    text: Vec<(u64, &'a [u8])>,
}

impl<'a> Memory<'a> {
    fn new(core: &'a Core, program: &'a [u8]) -> Self {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(program).ok();
        let segments = elf.iter().flat_map(|elf| {
            let all = elf.segments().into_iter().flat_map(|segments| segments.iter());
            let load = all.filter(|segment| segment.p_type == PT_LOAD);
            load.filter_map(|segment| Some((segment.p_vaddr, elf.segment_data(&segment).ok()?)))
        });
        Self { core, text: segments.collect() }
    }
}

impl View for Memory<'_> {
    fn read(&self, linear: u64, data: &mut [u8]) -> bool {
        let own = self.core.memory.iter().map(|(at, bytes)| (*at, bytes.as_slice()));
        let found = own.chain(self.text.iter().copied()).find_map(|(at, bytes)| {
            let from = usize::try_from(linear.checked_sub(at)?).ok()?;
            bytes.get(from..from.checked_add(data.len())?)
        });
        found.map(|bytes| data.copy_from_slice(bytes)).is_some()
    }
}

pub fn core(args: &CoreArgs) -> Result<u8, Error> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| Error::file("read", path, e));
    let file = read(&args.file)?;
    let core = Core::parse(&file)
        .ok_or_else(|| Error::Usage(format!("{} is no core of a service", args.file.display())))?;
    let archive = match &args.bundle {
        Some(path) => read(path)?,
        None => image::bundle()?.to_vec(),
    };
    output::either(args.json, || report_json(&core, &archive), || report(&core, &archive))?;
    Ok(0)
}

/// The text of a core.
pub fn report(core: &Core, archive: &[u8]) -> String {
    let mut text = String::new();
    for (key, value) in &core.words {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}: {value}");
    }
    let named = REGISTERS.iter().enumerate().filter(|(_, name)| !name.is_empty());
    for (column, (index, name)) in named.enumerate() {
        let end = if column % 4 == 3 { "\n" } else { "  " };
        let _ = write!(text, "{name:<6} {:016x}{end}", core.register(index));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&backtrace(core, archive));
    text.push_str("memory:\n");
    for (address, bytes) in &core.memory {
        let end = address.saturating_add(bytes.len() as u64);
        let _ = writeln!(text, "  {address:016x}-{end:016x} {:>6} KiB", bytes.len() / 1024);
    }
    text
}

fn backtrace(core: &Core, archive: &[u8]) -> String {
    let name = core.word("program");
    let program = bundle::program(archive, name).unwrap_or_default();
    let images = Images::new(Vec::new().into(), Some(archive.to_vec().into()));
    let mut text = String::new();
    let place = Place {
        memory: &Memory::new(core, program),
        rip: core.register(RIP),
        rsp: core.register(RSP),
        images: &images,
        process: Some(name),
    };
    // As above.
    let _ = bundle::backtrace(&mut text, &place);
    text
}

fn report_json(core: &Core, archive: &[u8]) -> serde_json::Value {
    let named = REGISTERS.iter().enumerate().filter(|(_, name)| !name.is_empty());
    let registers: serde_json::Map<_, _> =
        named.map(|(index, name)| ((*name).to_owned(), json!(core.register(index)))).collect();
    let words: serde_json::Map<_, _> =
        core.words.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let frames = backtrace(core, archive);
    let frames: Vec<_> =
        frames.lines().skip(1).filter_map(|line| line.trim().split_once(' ')).collect();
    json!({
        "service": words,
        "registers": registers,
        "backtrace": frames.iter().map(|(_, place)| place.trim()).collect::<Vec<_>>(),
        "memory": core.memory.iter().map(|(address, bytes)| json!({
            "address": address,
            "length": bytes.len(),
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_core_is_told_from_one() {
        assert!(Core::parse(b"").is_none());
        assert!(Core::parse(b"\x7fELF and no more").is_none());
        // An ELF core, but of nobody RS knows.
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([4, 0, 62, 0, 1, 0, 0, 0]);
        file.resize(64, 0);
        assert!(Core::parse(&file).is_none());
    }

    #[test]
    fn memory_behind_its_end_is_not_read() {
        let memory = vec![(0x1000, vec![1; 16])];
        let core = Core { words: Vec::new(), registers: vec![0; 20], memory };
        let view = Memory::new(&core, b"no program");
        let mut word = [0; 8];
        assert!(view.read(0x1008, &mut word) && word == [1; 8]);
        for at in [0x1009, 0xFFF, 0x2000, u64::MAX] {
            assert!(!view.read(at, &mut word), "{at:#x}");
        }
        assert!(report(&core, b"").contains("0000000000001000-0000000000001010"));
    }
}
