//! The KVM engine, as the front sees it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use xinim_machine::Engine;

const DEVICE: &str = "/dev/kvm";

/// Why KVM cannot be used here, found out by opening it; `None` if it can. This is what `auto`
/// goes by: cheap, and right on all but odd hosts, on which the engine says the rest.
pub fn obstacle() -> Option<String> {
    obstacle_at(Path::new(DEVICE))
}

fn obstacle_at(device: &Path) -> Option<String> {
    let name = device.display();
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(file) => match file.metadata() {
            Ok(metadata) if metadata.file_type().is_char_device() => None,
            _ => Some(format!("{name} is not a device")),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Some(format!("there is no {name}")),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            Some(format!("no permission to open {name}"))
        }
        Err(e) => Some(format!("{name} does not open ({e})")),
    }
}

pub fn engine() -> Box<dyn Engine> {
    Box::new(xinim_kvm::KvmEngine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvm");
        assert!(obstacle_at(&path).unwrap().contains("there is no"));
        std::fs::write(&path, "").unwrap();
        assert!(obstacle_at(&path).unwrap().contains("not a device"));
        assert_eq!(obstacle_at(Path::new("/dev/null")), None);
    }
}
