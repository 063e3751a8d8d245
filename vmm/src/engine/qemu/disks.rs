//! Disk images before QEMU opens them: checked and locked as the KVM engine does it, with the
//! same sentences, so that no two machines of whichever engine write one image. QEMU takes locks
//! of its own kind as well, which keeps out other QEMUs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;

use rustix::fs::FlockOperation;
use xinim_machine::{DiskSpec, EngineError};

const SECTOR: u64 = 512;

/// Locks every image for as long as the result lives.
pub fn lock(disks: &[DiskSpec]) -> Result<Vec<File>, EngineError> {
    disks.iter().map(|disk| lock_one(disk).map_err(EngineError::Machine)).collect()
}

fn lock_one(spec: &DiskSpec) -> Result<File, String> {
    let name = spec.path.display();
    let mut file = OpenOptions::new()
        .read(true)
        .write(!spec.read_only)
        .open(&spec.path)
        .map_err(|error| explain_open(spec, &error))?;
    let kind = file
        .metadata()
        .map_err(|error| format!("disk image {name} cannot be examined: {error}"))?
        .file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(format!("disk image {name} is neither a regular file nor a block device"));
    }
    let operation = match spec.read_only {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    rustix::fs::flock(&file, operation).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => format!(
            "disk image {name} is in use by another machine{}",
            if spec.read_only { " that writes to it" } else { "" }
        ),
        _ => format!("disk image {name} cannot be locked: {error}"),
    })?;
    let length = file
        .seek(SeekFrom::End(0))
        .map_err(|error| format!("the size of disk image {name} is unknown: {error}"))?;
    if length == 0 {
        return Err(format!("disk image {name} is empty"));
    }
    if !length.is_multiple_of(SECTOR) {
        return Err(format!(
            "the size of disk image {name}, {length} bytes, is no multiple of {SECTOR}"
        ));
    }
    Ok(file)
}

fn explain_open(spec: &DiskSpec, error: &std::io::Error) -> String {
    let name = spec.path.display();
    let how = if spec.read_only { "reading" } else { "writing" };
    match error.kind() {
        ErrorKind::NotFound => format!("disk image {name} does not exist"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            let hint = if spec.read_only { "" } else { " (add ,ro to attach it read-only)" };
            format!("no permission to open disk image {name} for {how}{hint}")
        }
        ErrorKind::IsADirectory => format!("disk image {name} is a directory"),
        _ => format!("disk image {name} cannot be opened for {how}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &std::path::Path, read_only: bool) -> DiskSpec {
        DiskSpec { path: path.into(), bus: xinim_machine::DiskBus::Virtio, read_only }
    }

    #[test]
    fn writers_exclude_and_readers_share() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        std::fs::write(&path, [0; 1024]).unwrap();
        let writer = lock(&[disk(&path, false)]).unwrap();
        let error = lock(&[disk(&path, false)]).unwrap_err().to_string();
        assert!(error.contains("a.img is in use"), "{error}");
        assert!(lock(&[disk(&path, true)]).is_err());
        drop(writer);
        let _readers = (lock(&[disk(&path, true)]).unwrap(), lock(&[disk(&path, true)]).unwrap());
        assert!(lock(&[disk(&path, false)]).is_err());
    }

    #[test]
    fn what_is_no_image_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        let says = |read_only, why: &str| {
            let error = lock(&[disk(&path, read_only)]).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("a.img"), "{error}");
        };
        says(false, "does not exist");
        std::fs::write(&path, []).unwrap();
        says(false, "empty");
        std::fs::write(&path, [0; 513]).unwrap();
        says(true, "513");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        says(true, "neither");
        says(false, "directory");
    }
}
