//! The system image as files: what `image extract` writes, any PVH loader boots.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::tempdir;
use xinim_tests::host::{arg, tool};
use xinim_tests::machine::{engines, exec, run};

fn extract(dir: &Path) {
    run(&["image", "extract", arg(dir)]).output().expect(0);
}

/// Boots with QEMU's defaults and nothing of ours, types into the terminal, gives what came.
fn plain_qemu(dir: &Path, more: &[&str]) -> String {
    let (kernel, bundle) = (dir.join("xinim-kernel"), dir.join("xinim.cpio"));
    let mut qemu = Command::new("timeout")
        .args(["100", "qemu-system-x86_64", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-kernel", arg(&kernel), "-initrd", arg(&bundle)])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu-system-x86_64");
    let mut keyboard = qemu.stdin.take().expect("piped");
    let mut screen = qemu.stdout.take().expect("piped");
    let mut text = Vec::new();
    // What is typed before the terminal's service runs is the UART's to keep: one byte, at most.
    while !text.ends_with(b"# ") {
        let mut byte = [0];
        assert_eq!(screen.read(&mut byte).expect("screen"), 1, "no prompt");
        text.push(byte[0]);
    }
    keyboard.write_all(b"echo sum $((6 * 7))\npoweroff\n").expect("typed");
    screen.read_to_end(&mut text).expect("screen");
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = qemu.wait().expect("qemu");
    assert!(status.success(), "{status}: {text}");
    text
}

#[test]
fn a_plain_qemu_boots_it() {
    let dir = tempdir().expect("directory");
    extract(dir.path());
    for more in [&["-machine", "pc"][..], &["-machine", "q35", "-cpu", "max", "-m", "64M"]] {
        let text = plain_qemu(dir.path(), more);
        assert!(text.contains("\nsum 42"), "{more:?}: {text}");
    }
}

#[test]
fn the_bundle_is_an_archive_that_people_can_add_to() {
    let dir = tempdir().expect("directory");
    extract(dir.path());
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("directory");
    let bundle = dir.path().join("xinim.cpio");
    let shell = |command: &str| {
        tool("sh", &["-c", &format!("cd {} && {command}", arg(&root))]);
    };
    shell(&format!("cpio -idm --quiet < {}", arg(&bundle)));
    assert!(root.join("sbin/rs").is_file() && root.join("bin/sh").is_file());
    fs::write(root.join("etc/added"), "from outside\n").expect("file");
    let mine = dir.path().join("mine.cpio");
    shell(&format!("find . | cpio -o --quiet -H newc > {}", arg(&mine)));
    for engine in engines("the_bundle_is_an_archive_that_people_can_add_to") {
        let kernel = dir.path().join("xinim-kernel");
        let args = ["--bundle", arg(&mine), "--kernel", arg(&kernel)];
        let output = exec(engine, "cat /etc/added; ls -d /bin/sh", &args).output().expect(0);
        assert_eq!(output.out(), "from outside\n/bin/sh\n", "{engine}");
    }
}
