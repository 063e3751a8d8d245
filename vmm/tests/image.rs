//! The image inside the program, as `image extract` writes it.

mod common;

use std::process::{Command, Stdio};

use common::*;

#[test]
fn the_image_can_be_extracted_and_opened_with_cpio() {
    let files = Files::new();
    let dir = files.path("image");
    let (status, stdout, stderr) = outcome(xinim_vmm().args(["image", "extract"]).arg(&dir));
    if stderr.contains("XINIM_NO_GUEST") {
        // Built for work on the VMM alone: says so, and that is all.
        assert_eq!(status, 125);
        return;
    }
    assert_eq!((status, stdout.as_str(), stderr.as_str()), (0, "", ""));
    let kernel = std::fs::read(dir.join("xinim-kernel")).unwrap();
    assert!(xinim_vmm::kernel::inspect(&kernel).is_ok());

    let bundle = std::fs::File::open(dir.join("xinim.cpio")).unwrap();
    let output = Command::new("cpio").args(["-it", "--quiet"]).stdin(Stdio::from(bundle)).output();
    let Ok(output) = output else {
        eprintln!("cpio is not installed: the bundle is not listed");
        return;
    };
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let names = String::from_utf8(output.stdout).unwrap();
    for name in ["dev", "tmp", "sbin/rs", "etc/services"] {
        assert!(names.lines().any(|line| line == name), "{name} is not in:\n{names}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let files = Files::new();
    let path = files.file("file", "").join("dir");
    let (status, _, stderr) = outcome(xinim_vmm().args(["image", "extract"]).arg(path));
    assert_eq!(status, 125);
    assert!(stderr.contains("file/dir") || stderr.contains("XINIM_NO_GUEST"), "{stderr}");
}
