//! Disks of a test: made before it, read after it. Formatting, copying in and looking at files is
//! done by a XINIM of our own (the one inside this program), so that no tools of the host are
//! needed, whatever kernel the test itself boots.
//!
//! Equal disks are made once and copied.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::case::Bench;
use super::file::{Content, FileCheck, MadeDisk};
use super::machine::{Left, Run, disk_option};

/// Of a machine that formats or reads a disk.
const LIMIT: Duration = Duration::from_secs(300);
const MOUNT: &str = "/mnt";

/// An image, made by whoever needs it first.
type Made = Arc<OnceLock<Result<PathBuf, String>>>;

/// What makes an image another: the disk, and the engine that makes it.
type Key = (MadeDisk, &'static str);

/// Images made so far, numbered.
#[derive(Debug, Default)]
pub struct Images(Mutex<HashMap<Key, (usize, Made)>>);

impl Images {
    /// A fresh copy of the disk at `to`.
    pub fn copy(
        &self,
        bench: &Bench,
        engine: &'static str,
        disk: &MadeDisk,
        to: &Path,
    ) -> Result<(), String> {
        // Neither name nor options are part of the image.
        let key = MadeDisk { name: None, options: String::new(), ..disk.clone() };
        let plain = disk.format.is_none() && disk.files.is_empty();
        if plain {
            return blank(disk, to);
        }
        let (number, made) = {
            let mut images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let number = images.len();
            images.entry((key, engine)).or_insert_with(|| (number, Made::default())).clone()
        };
        let path = bench.scratch().join(format!("image{number}"));
        let image = made.get_or_init(|| make(bench, engine, disk, &path).map(|()| path.clone()));
        let image = image.as_ref().map_err(Clone::clone)?;
        copy(image, to)
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map_err(|e| format!("cannot copy {}: {e}", from.display()))?;
    // A read-only original makes no read-only copy.
    let mut permissions = std::fs::metadata(to).map_err(|e| e.to_string())?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(to, permissions).map_err(|e| e.to_string())
}

/// Without format and files: a copy, or nothing but a length.
fn blank(disk: &MadeDisk, path: &Path) -> Result<(), String> {
    if let Some(from) = &disk.from {
        return copy(from, path);
    }
    let bytes = disk.bytes().ok_or("it has no size")?;
    let file = File::create(path).and_then(|file| file.set_len(bytes));
    file.map_err(|e| format!("cannot make {}: {e}", path.display()))
}

fn make(bench: &Bench, engine: &str, disk: &MadeDisk, path: &Path) -> Result<(), String> {
    blank(disk, path)?;
    let mut steps = Vec::new();
    if let Some(format) = &disk.format {
        steps.push(format!("mkfs.{format} {} /dev/vda > /dev/null", disk.format_options));
    }
    let mut archive = Vec::new();
    if !disk.files.is_empty() {
        archive = pack(disk)?;
        steps.push(format!("mount /dev/vda {MOUNT}"));
        steps.push(format!("tar -x -o -C {MOUNT}"));
        steps.push(format!("umount {MOUNT}"));
    }
    let left = ours(bench, engine, path, "", &steps.join(" && "), archive)?;
    match left.status {
        Some(0) => Ok(()),
        _ => Err(format!("the disk could not be made: {}", last_words(&left))),
    }
}

/// The files as a tar archive.
fn pack(disk: &MadeDisk) -> Result<Vec<u8>, String> {
    let mut archive = tar::Builder::new(Vec::new());
    let failed = |error: std::io::Error| format!("cannot pack the disk's files: {error}");
    for (path, content) in &disk.files {
        let data = match content {
            Content::Text(text) => text.as_bytes().to_vec(),
            Content::File(file) => std::fs::read(&file.from)
                .map_err(|error| format!("cannot read {}: {error}", file.from.display()))?,
        };
        let path = path.trim_start_matches('/');
        for directory in Path::new(path).ancestors().skip(1).collect::<Vec<_>>().iter().rev() {
            if !directory.as_os_str().is_empty() {
                let mut header = header(0, 0o755);
                header.set_entry_type(tar::EntryType::Directory);
                archive.append_data(&mut header, directory, &[][..]).map_err(failed)?;
            }
        }
        let mut header = header(data.len(), 0o644);
        archive.append_data(&mut header, path, &data[..]).map_err(failed)?;
    }
    archive.into_inner().map_err(failed)
}

fn header(size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(mode);
    header
}

/// What became of the files on one disk: `None` where there is none.
pub fn read(
    bench: &Bench,
    engine: &str,
    (image, options): (&Path, &str),
    checks: &[&FileCheck],
) -> Result<Vec<Option<Vec<u8>>>, String> {
    let device = if options.contains("bus=ahci") { "sda" } else { "vda" };
    let mut script = format!("mount -r /dev/{device} {MOUNT} || exit 99\n");
    for check in checks {
        // A path is plain: it has no quote (see `file.rs`).
        let path = format!("'{MOUNT}{}'", check.path);
        script.push_str(&format!(
            "if [ -f {path} ]; then wc -c < {path}; cat {path}; else echo none; fi\n"
        ));
    }
    let options = format!("{}{options}", if options.is_empty() { "ro" } else { "ro," });
    let left = ours(bench, engine, image, &options, &script, Vec::new())?;
    if left.status != Some(0) {
        return Err(format!("its disk could not be read afterwards: {}", last_words(&left)));
    }
    let mut rest = &left.stdout[..];
    let mut files = Vec::new();
    for check in checks {
        let cut = || format!("its disk was not read to the end ({})", check.path);
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(cut)?;
        let line = String::from_utf8_lossy(&rest[..end]).trim().to_owned();
        rest = &rest[end + 1..];
        if line == "none" {
            files.push(None);
            continue;
        }
        let length: usize = line.parse().map_err(|_| cut())?;
        files.push(Some(rest.get(..length).ok_or_else(cut)?.to_vec()));
        rest = &rest[length..];
    }
    Ok(files)
}

/// Runs commands in our own system with one disk.
fn ours(
    bench: &Bench,
    engine: &str,
    image: &Path,
    options: &str,
    commands: &str,
    stdin: Vec<u8>,
) -> Result<Left, String> {
    let mut args: Vec<OsString> = vec!["run".into(), "--engine".into(), engine.into()];
    args.push(format!("--timeout={}s", LIMIT.as_secs()).into());
    args.push(format!("--exec={commands}").into());
    args.push("--disk".into());
    args.push(disk_option(image, options));
    let run = Run { args, stdin, script: &[], waits: true, limit: LIMIT };
    bench.boot(run)
}

fn last_words(left: &Left) -> String {
    let text = String::from_utf8_lossy(&left.stderr).trim().to_owned();
    match (left.status, text.is_empty()) {
        (_, false) => text,
        (Some(status), true) => format!("status {status}"),
        (None, true) => "it was killed".into(),
    }
}
