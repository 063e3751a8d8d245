//! Disk images before QEMU opens them: checked and locked as every engine does it. QEMU takes locks
//! of its own kind as well, which keeps out other QEMUs.

use std::fs::File;

use xinim_machine::{DiskSpec, EngineError, image};

/// Locks every image for as long as the result lives.
pub fn lock(disks: &[DiskSpec]) -> Result<Vec<File>, EngineError> {
    let open = |disk| image::open(disk).map(|(file, _)| file).map_err(EngineError::Machine);
    disks.iter().map(open).collect()
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
