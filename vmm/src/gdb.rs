//! `xinim-vmm gdb ADDRESS`: gdb on a running machine (or on a core), with the symbols of the kernel
//! and of whichever service runs.
//!
//! Kernel and programs are extracted to a directory that lives as long as gdb. Every program of the
//! bundle is linked at the same address, so only one program's symbols can be loaded at a time:
//! a script makes them those of the process that is picked, or else that runs, at each stop.

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use xinim_kvm::bundle;

use crate::cli::GdbArgs;
use crate::cores::Core;
use crate::error::Error;
use crate::image;
use crate::spec::Gdb;

/// Defines the commands `process`, `running` and `processes` in gdb, and follows the guest.
const SCRIPT: &str = include_str!("gdb.py");

/// Runs gdb to its end; its exit status.
pub fn gdb(args: &GdbArgs) -> Result<u8, Error> {
    let directory = tempfile::Builder::new().prefix("xinim-gdb-").tempdir();
    let directory =
        directory.map_err(|e| Error::file("create a directory in", &std::env::temp_dir(), e))?;
    extract(args, directory.path())?;
    let script = directory.path().join("xinim.gdb");
    let text = commands(args, directory.path())?;
    std::fs::write(&script, text).map_err(|e| Error::file("write", &script, e))?;
    let status = Command::new(&args.gdb)
        .arg("-q")
        .arg("-iex")
        .arg("set debuginfod enabled off")
        .arg("-x")
        .arg(&script)
        .args(&args.arguments)
        .status()
        .map_err(|e| Error::file("start", &args.gdb, e))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

fn extract(args: &GdbArgs, directory: &Path) -> Result<(), Error> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| Error::file("read", path, e));
    let kernel = match &args.kernel {
        Some(path) => read(path)?,
        None => image::kernel()?.to_vec(),
    };
    let archive = match (&args.bundle, &args.kernel) {
        (Some(path), _) => read(path)?,
        (None, Some(_)) => Vec::new(),
        (None, None) => image::bundle()?.to_vec(),
    };
    let write = |path: &Path, data: &[u8]| {
        std::fs::write(path, data).map_err(|e| Error::file("write", path, e))
    };
    write(&directory.join("xinim-kernel"), &with_plain_names(kernel))?;
    let programs = directory.join("programs");
    std::fs::create_dir(&programs).map_err(|e| Error::file("create", &programs, e))?;
    for name in bundle::programs(&archive) {
        if let Some(data) = bundle::program(&archive, name) {
            write(&programs.join(name), &with_plain_names(data.to_vec()))?;
        }
    }
    Ok(())
}

/// The image with the names of its symbols as people write them, without the hash that ends a
/// mangled one: gdb without line tables knows no other. Whatever is no such image stays as it is.
fn with_plain_names(image: Vec<u8>) -> Vec<u8> {
    plain_names(&image).unwrap_or(image)
}

fn plain_names(image: &[u8]) -> Option<Vec<u8>> {
    /// Bytes of a section header and of a symbol (ELF-64).
    const SECTION: usize = 64;
    const SYMBOL: usize = 24;
    let file = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(image).ok()?;
    let sections = file.section_headers()?;
    let (table, names) = file.symbol_table().ok()??;
    let header = sections.iter().find(|s| s.sh_type == elf::abi::SHT_SYMTAB)?;
    let mut out = image.to_vec();
    let strings_at = out.len();
    out.push(0);
    for (index, symbol) in table.iter().enumerate() {
        let name = names.get(symbol.st_name as usize).ok()?;
        let plain = format!("{:#}", rustc_demangle::demangle(name));
        let offset = u32::try_from(out.len() - strings_at).ok()?;
        let at = usize::try_from(header.sh_offset).ok()? + index * SYMBOL;
        out.get_mut(at..at + 4)?.copy_from_slice(&offset.to_le_bytes());
        out.extend(plain.bytes());
        out.push(0);
    }
    let length = (out.len() - strings_at) as u64;
    let strings = usize::try_from(file.ehdr.e_shoff).ok()? + header.sh_link as usize * SECTION;
    // sh_offset and sh_size.
    out.get_mut(strings + 24..strings + 32)?.copy_from_slice(&(strings_at as u64).to_le_bytes());
    out.get_mut(strings + 32..strings + 40)?.copy_from_slice(&length.to_le_bytes());
    Some(out)
}

fn commands(args: &GdbArgs, directory: &Path) -> Result<String, Error> {
    let mut text =
        String::from("set confirm off\nset pagination off\nset architecture i386:x86-64\n");
    let kernel = directory.join("xinim-kernel");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "file {}", kernel.display());
    let _ = writeln!(text, "python\nPROGRAMS = {:?}", directory.join("programs"));
    text.push_str(SCRIPT);
    text.push_str("end\n");
    let target = Path::new(&args.target);
    if target.is_file() {
        let file = std::fs::read(target).map_err(|e| Error::file("read", target, e))?;
        if let Some(core) = Core::parse(&file) {
            // Of a service: its program, alone.
            let name = core.word("program").rsplit('/').next().unwrap_or_default().to_owned();
            let program = directory.join("programs").join(name);
            text = String::from("set confirm off\nset pagination off\n");
            let _ = writeln!(text, "file {}", program.display());
        }
        let _ = writeln!(text, "core-file {}", args.target);
        return Ok(text);
    }
    let address = args.target.parse::<Gdb>().map_err(|why| Error::Value {
        what: "address",
        text: args.target.clone(),
        why: format!("{why}, and no core file"),
    })?;
    let _ = writeln!(text, "target remote {}", address.0.address);
    Ok(text)
}
