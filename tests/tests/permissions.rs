//! What the host does not permit is said in a sentence, with the right status. As root the tests
//! put on another user (setpriv); that user runs a copy of the binary that it can reach.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::{TempDir, tempdir};
use xinim_tests::host::{arg, tool};
use xinim_tests::machine::{skip, vmm};

const NOBODY: &str = "65534";

fn is_root() -> bool {
    tool("id", &["-u"]).trim() == "0"
}

/// A directory that everybody may enter, with the binary in it.
fn open_directory() -> TempDir {
    let dir = tempdir().expect("directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let binary = dir.path().join("xinim-vmm");
    fs::copy(vmm(), &binary).expect("copy");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("mode");
    dir
}

fn run_unprivileged(dir: &Path, args: &[&str]) -> Output {
    let binary = dir.join("xinim-vmm");
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(binary);
        command
    } else {
        Command::new(binary)
    };
    command.args(args).output().expect("xinim-vmm starts")
}

#[track_caller]
fn refused(output: &Output, status: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert_eq!(text.lines().count(), 1, "one sentence: {text}");
    for word in words {
        assert!(text.contains(word), "{word} in: {text}");
    }
}

#[test]
fn kvm_without_permission() {
    let mode = match fs::metadata("/dev/kvm") {
        Ok(kvm) => kvm.permissions().mode(),
        Err(error) => return skip("kvm_without_permission", &format!("/dev/kvm: {error}")),
    };
    let dir = open_directory();
    if !is_root() && fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok() {
        return skip("kvm_without_permission", "a user who may not open /dev/kvm");
    }
    // Where everybody may open it, it is closed to them for the moment, by root.
    let everybody = is_root() && mode & 0o006 != 0;
    if everybody {
        fs::set_permissions("/dev/kvm", fs::Permissions::from_mode(mode & 0o770)).expect("mode");
    }
    let output = run_unprivileged(dir.path(), &["run", "--engine", "kvm", "--exec", "true"]);
    if everybody {
        fs::set_permissions("/dev/kvm", fs::Permissions::from_mode(mode)).expect("mode");
    }
    refused(&output, 126, &["permission", "/dev/kvm"]);
}

#[test]
fn an_image_that_may_not_be_written() {
    let dir = open_directory();
    let image = dir.path().join("fixed.img");
    fs::write(&image, vec![0; 1 << 20]).expect("image");
    fs::set_permissions(&image, fs::Permissions::from_mode(0o444)).expect("mode");
    let disk = arg(&image).to_owned();
    let run = |disk: &str| {
        run_unprivileged(
            dir.path(),
            &["run", "--engine", "qemu", "--timeout", "100s", "--disk", disk, "--exec", "true"],
        )
    };
    refused(&run(&disk), 125, &["fixed.img", "permission", ",ro"]);
    let output = run(&format!("{disk},ro"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
