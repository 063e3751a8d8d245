//! Packs the bundle: programs, service manifests, the files of `configs/root`.

use std::path::{Path, PathBuf};

use crate::cpio::{Align, CpioWriter};
use crate::list::List;

pub fn bundle(root: &Path, list: &List, programs: &[PathBuf]) -> Result<Vec<u8>, String> {
    let mut writer = CpioWriter::new();
    for directory in &list.directories {
        // Everybody's, but nobody removes what is others'.
        let permissions = if directory == "tmp" { 0o1777 } else { 0o755 };
        writer.directory_with(directory, permissions).map_err(|e| e.to_string())?;
    }
    for (program, file) in list.program.iter().zip(programs) {
        let data = crate::read(file)?;
        // Page-aligned: the kernel maps program text where it lies in the bundle.
        writer.file(&program.path, 0o755, &data, Align::Page).map_err(|e| e.to_string())?;
        let (directory, name) = program.path.rsplit_once('/').unwrap_or(("", &program.path));
        for link in &program.names {
            let path = format!("{directory}/{link}");
            writer.symlink(path.trim_start_matches('/'), name).map_err(|e| e.to_string())?;
        }
    }
    tree(&mut writer, &root.join("configs/services"), "etc/services")?;
    tree(&mut writer, &root.join("configs/root"), "")?;
    Ok(writer.finish())
}

/// Adds the files below `from` as `to/…`, in the order of their names. A missing tree is empty.
fn tree(writer: &mut CpioWriter, from: &Path, to: &str) -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir(from) else { return Ok(()) };
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.sort();
    for name in names {
        let name =
            name.to_str().ok_or_else(|| format!("{}: a name is not UTF-8", from.display()))?;
        if name == ".gitkeep" {
            continue;
        }
        let (source, path) = (from.join(name), format!("{to}/{name}"));
        let path = path.trim_start_matches('/');
        let error = |e: std::io::Error| format!("{}: {e}", source.display());
        let metadata = std::fs::symlink_metadata(&source).map_err(error)?;
        let added = if metadata.is_symlink() {
            let target = std::fs::read_link(&source).map_err(error)?;
            writer.symlink(path, &target.to_string_lossy())
        } else if metadata.is_dir() {
            writer.directory(path).map_err(|e| e.to_string())?;
            tree(writer, &source, path)?;
            Ok(())
        } else {
            use std::os::unix::fs::PermissionsExt;
            // Owners and umask differ from checkout to checkout; only the x bit means something.
            let executable = metadata.permissions().mode() & 0o100 != 0;
            let data = crate::read(&source)?;
            writer.file(path, if executable { 0o755 } else { 0o644 }, &data, Align::Word)
        };
        added.map_err(|e| e.to_string())?;
    }
    Ok(())
}
