//! Every bad input gives one clear sentence and the right exit status.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::guests::{HANG, elf, guest, note, out32};
use common::*;

#[test]
fn usage_errors_are_125_and_help_is_0() {
    for args in [
        &["--nonsense"][..],
        &["--memory", "3M"],
        &["--cpus", "0"],
        &["--disk", ""],
        &["--console", "tcp:1"],
        &["--timeout", "soon"],
        &["--cpuid", "cx16"],
        &["--engine", "bochs"],
        &["nonsense"],
        &["image"],
        &["bench", "--runs", "0"],
    ] {
        let (status, stdout, stderr) = outcome(xinim_vmm().args(args));
        assert_eq!((status, stdout.as_str()), (125, ""), "{args:?}");
        assert!(stderr.starts_with("error:") || stderr.contains("Usage:"), "{stderr}");
    }
    for args in
        [&["--help"][..], &["-h"], &["run", "--help"], &["doctor", "--help"], &["--version"]]
    {
        let (status, stdout, stderr) = outcome(xinim_vmm().args(args));
        assert_eq!((status, stderr.as_str()), (0, ""), "{args:?}");
        assert!(stdout.contains("xinim-vmm"));
    }
}

#[test]
fn help_tells_statuses_and_examples() {
    let (_, stdout, _) = outcome(xinim_vmm().arg("--help"));
    for word in ["124", "125", "126", "130", "134", "--exec", "Ctrl-A x", "--cpuid", "Examples"] {
        assert!(stdout.contains(word), "{word}");
    }
}

#[test]
fn values_may_begin_with_a_hyphen() {
    let files = Files::new();
    let kernel = files.path("missing");
    refused(
        xinim_vmm().args(["--cpuid", "-cx16,-xsave", "--exec", "-c", "--kernel"]).arg(&kernel),
        125,
        &["missing"],
    );
}

#[test]
fn configuration_errors_name_file_line_and_key() {
    let files = Files::new();
    let config = |text: &str| files.file("machine.toml", text);
    let with = |text: &str| {
        let mut command = xinim_vmm();
        command.arg("--config").arg(config(text));
        command
    };
    refused(&mut with("cpus = 1\nmemroy = '1G'\n"), 125, &["machine.toml:2:", "memroy"]);
    refused(&mut with("memory = '3M'\n"), 125, &["machine.toml:1:", "memory", "multiple"]);
    refused(&mut with("memory =\n"), 125, &["machine.toml:1:"]);
    refused(
        xinim_vmm().arg("--config").arg(files.path("none.toml")),
        125,
        &["none.toml", "No such file"],
    );
}

#[test]
fn kernels_that_cannot_boot() {
    let files = Files::new();
    let with = |name: &str, data: Vec<u8>| {
        let path = files.file(name, data);
        let mut command = xinim_vmm();
        command.arg("--kernel").arg(path);
        command
    };
    refused(xinim_vmm().arg("--kernel").arg(files.path("gone")), 125, &["gone", "No such file"]);
    refused(&mut with("text", b"#!/bin/sh\n".to_vec()), 125, &["text", "not an ELF"]);
    refused(&mut with("empty", vec![]), 125, &["empty", "not an ELF"]);
    let good = guest(&HANG);
    let mut narrow = good.clone();
    narrow[4] = 1;
    refused(&mut with("narrow", narrow), 125, &["narrow", "32-bit"]);
    refused(&mut with("cut", good[..good.len() - 4].to_vec()), 125, &["cut", "damaged"]);
    refused(&mut with("plain", elf(&HANG, &note(b"Xen\0", 1, &[]))), 125, &["plain", "PVH"]);
}

#[test]
fn too_little_memory_says_how_much_it_takes() {
    let files = Files::new();
    let kernel = files.kernel(&[HANG.into()]);
    let bundle = files.file("bundle", vec![0; 5 << 20]);
    let mut command = xinim_vmm();
    command.args(["--memory", "4M", "--kernel"]).arg(kernel).arg("--bundle").arg(bundle);
    refused(&mut command, 125, &["4M", "too little", "10M"]);
}

#[test]
fn disk_images_that_cannot_be_used() {
    let files = Files::new();
    let kernel = files.kernel(&[out32(EXIT_DEVICE, POWER_OFF)]);
    for engine in engines() {
        let with = |name: &str, options: &str| {
            let mut command = boot(engine, &kernel);
            command.arg("--disk").arg(format!("{}{options}", files.path(name).display()));
            command
        };
        refused(&mut with("gone.img", ""), 125, &["gone.img", "does not exist"]);
        files.file("odd.img", [0; 1000]);
        refused(&mut with("odd.img", ",ro"), 125, &["odd.img", "1000", "512"]);
        files.file("empty.img", []);
        refused(&mut with("empty.img", ""), 125, &["empty.img", "empty"]);
        refused(&mut with("", ""), 125, &["directory"]);
        // Root may write everything.
        if !rustix::process::geteuid().is_root() {
            let path = files.file("fixed.img", [0; 1024]);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
            refused(&mut with("fixed.img", ""), 125, &["fixed.img", "permission", ",ro"]);
            assert_eq!(outcome(&mut with("fixed.img", ",ro")).0, 0);
        }
    }
}

#[test]
fn no_engine_is_126() {
    let files = Files::new();
    let kernel = files.kernel(&[HANG.into()]);
    let nowhere = files.path("nowhere");
    let mut command = boot("qemu", &kernel);
    command.env("PATH", &nowhere);
    refused(&mut command, 126, &["QEMU is not installed"]);
}

#[test]
fn unknown_cpu_features_are_named() {
    let files = Files::new();
    let kernel = files.kernel(&[out32(EXIT_DEVICE, POWER_OFF)]);
    for engine in engines() {
        refused(boot(engine, &kernel).args(["--cpuid", "-nosuchthing"]), 125, &["nosuchthing"]);
        let (status, _, stderr) = outcome(boot(engine, &kernel).args(["--cpuid", "-cx16,-xsave"]));
        // A KVM that shows a feature nevertheless is told of.
        let told = |line: &str| line.contains("shows the guest") && line.ends_with("all the same");
        assert!(status == 0 && stderr.lines().all(told), "{engine}: {status} {stderr}");
    }
}

#[test]
fn files_that_cannot_be_written_are_named() {
    let files = Files::new();
    let kernel = files.kernel(&[out32(EXIT_DEVICE, POWER_OFF)]);
    for engine in engines() {
        for option in ["--trace", "--console=file:", "--console=unix:"] {
            let path = files.path("no/such/dir/out");
            let mut command = boot(engine, &kernel);
            match option.strip_prefix("--console=") {
                Some(kind) => command.args(["--console", &format!("{kind}{}", path.display())]),
                None => command.arg(option).arg(&path),
            };
            refused(&mut command, 125, &["no/such/dir/out"]);
        }
    }
}

#[test]
fn combinations_that_contradict() {
    refused(xinim_vmm().arg("--dry-run"), 125, &["--engine qemu"]);
    refused(xinim_vmm().args(["--exec", "x", "--console", "stdio"]), 125, &["--console stdio"]);
}
