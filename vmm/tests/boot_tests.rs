//! `xinim-vmm test`: our own boot tests through the built program, and the report that a broken
//! kernel, driver and test each give.

mod common;

use std::path::{Path, PathBuf};

use common::guests::{HANG, out32, serial};
use common::*;
use serde_json::Value;

/// `xinim-vmm test` with a report; its status, the report and what it printed.
fn test(files: &Files, paths: &[PathBuf], more: &[&str]) -> (i32, Value, String) {
    let report = files.path("report.json");
    let mut command = xinim_vmm();
    command.timeout(std::time::Duration::from_secs(900));
    command.arg("test").args(paths).args(more).arg("--report").arg(&report);
    let (status, stdout, stderr) = outcome(&mut command);
    let json = std::fs::read(&report).unwrap_or_default();
    (status, serde_json::from_slice(&json).unwrap_or_default(), stdout + &stderr)
}

/// A host without one of the engines runs the other's cases only, and says so (`engines`).
fn filter() -> Vec<&'static str> {
    match engines()[..] {
        [engine] => vec!["--filter", if engine == "kvm" { "[kvm]" } else { "[qemu]" }],
        _ => vec![],
    }
}

#[test]
fn our_own_boot_tests_pass_in_parallel() {
    let files = Files::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/boot");
    let junit = files.path("junit.xml");
    let more = [&["--jobs", "2", "--junit", junit.to_str().unwrap()][..], &filter()].concat();
    let (status, report, text) = test(&files, &[path], &more);
    assert_eq!(status, 0, "{text}");
    assert!(report["machines"].as_u64().unwrap() >= report["passed"].as_u64().unwrap());
    assert!(text.contains("a minute"), "{text}");
    let xml = std::fs::read_to_string(junit).unwrap();
    let cases = report["cases"].as_array().unwrap().len();
    assert_eq!(xml.matches("<testcase ").count(), cases);
    assert!(xml.contains(&format!("tests=\"{cases}\" failures=\"0\" errors=\"0\"")), "{xml}");
}

/// The kernel and the bundle inside the program under test.
fn image(files: &Files) -> (PathBuf, PathBuf) {
    let directory = files.path("image");
    xinim_vmm().args(["image", "extract"]).arg(&directory).assert().success();
    (directory.join("xinim-kernel"), directory.join("xinim.cpio"))
}

/// Offset in the file of the byte at this virtual address.
fn offset(elf: &[u8], address: u64) -> usize {
    let elf = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(elf).unwrap();
    let segments = elf.segments().unwrap();
    let holds = |s: &elf::segment::ProgramHeader| {
        s.p_type == elf::abi::PT_LOAD && (s.p_vaddr..s.p_vaddr + s.p_filesz).contains(&address)
    };
    let segment = segments.iter().find(holds).unwrap();
    (address - segment.p_vaddr + segment.p_offset) as usize
}

#[test]
fn a_broken_kernel_fails_with_its_report() {
    let files = Files::new();
    let (kernel, bundle) = image(&files);
    let mut broken = std::fs::read(&kernel).unwrap();
    // What every trap ends in begins with an undefined instruction.
    let at = {
        let elf = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(&broken).unwrap();
        let (symbols, names) = elf.symbol_table().unwrap().expect("the kernel has symbols");
        let named = |s: &elf::symbol::Symbol| {
            names.get(s.st_name as usize).is_ok_and(|name| name.contains("trap_entry"))
        };
        symbols.iter().find(named).map(|s| s.st_value)
    };
    let at = offset(&broken, at.expect("trap_entry"));
    broken[at..at + 2].copy_from_slice(&[0x0F, 0x0B]);
    let broken = files.file("broken-kernel", broken);
    let text = format!(
        "engines = ['{}']\nexec = 'true'\n[machine]\nkernel = '{}'\nbundle = '{}'\n",
        engines()[0],
        broken.display(),
        bundle.display()
    );
    let path = files.file("kernel.toml", text);
    let keep = files.path("kept");
    let (status, report, text) = test(&files, &[path], &["--keep", keep.to_str().unwrap()]);
    assert_eq!(status, 1, "{text}");
    let case = &report["cases"][0];
    assert_eq!((&case["result"], &case["status"]), (&"failed".into(), &134.into()), "{text}");
    assert!(text.contains("the guest died"), "{text}");
    let kept = Path::new(case["kept"].as_str().expect("kept"));
    let stderr = std::fs::read_to_string(kept.join("stderr.txt")).unwrap();
    assert!(stderr.contains("the guest died: "), "{stderr}");
    // A file that is no kernel says nothing of the kernel's code: it is skipped by a bisection.
    let path = files.file("none.toml", "[machine]\nkernel = 'none.toml'\n");
    let (status, report, text) = test(&files, &[path], &[]);
    assert_eq!((status, &report["not_run"]), (125, &1.into()), "{text}");
    assert!(text.contains("is not an ELF file"), "{text}");
}

/// Where a file's data begins in a cpio archive (newc), and its length.
fn member(archive: &[u8], wanted: &str) -> (usize, usize) {
    let mut at = 0;
    loop {
        let field = |index: usize| {
            let digits = std::str::from_utf8(&archive[at + 6 + index * 8..][..8]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let (size, name_size) = (field(6), field(11));
        let name = &archive[at + 110..][..name_size];
        let name = &name[..name.iter().position(|b| *b == 0).unwrap()];
        let data = (at + 110 + name_size).next_multiple_of(4);
        if name == wanted.as_bytes() {
            return (data, size);
        }
        assert_ne!(name, b"TRAILER!!!", "{wanted} is in the bundle");
        at = (data + size).next_multiple_of(4);
    }
}

#[test]
fn a_broken_driver_fails_with_its_report() {
    let files = Files::new();
    let (_, bundle) = image(&files);
    let mut bytes = std::fs::read(&bundle).unwrap();
    let (start, length) = member(&bytes, "sbin/virtio-blk");
    let driver = &mut bytes[start..start + length];
    let entry = u64::from_le_bytes(driver[24..32].try_into().unwrap());
    let at = offset(driver, entry);
    driver[at..at + 2].copy_from_slice(&[0x0F, 0x0B]);
    files.file("broken.cpio", bytes);
    let path = files.file(
        "driver.toml",
        format!(
            "engines = ['{}']\nexec = '''
             sleep 3; service history >&2; mount /dev/vda /mnt && echo mounted'''
             [expect]\nstdout = 'mounted\\n'\n[[disk]]\nsize = '4M'\nformat = 'fat'\n
             [machine]\nbundle = 'broken.cpio'\nkernel = 'image/xinim-kernel'\n",
            engines()[0]
        ),
    );
    let (status, report, text) = test(&files, &[path], &[]);
    assert_eq!(status, 1, "{text}");
    assert_eq!(report["cases"][0]["result"], "failed", "{text}");
    // The report has what the guest itself says of it.
    assert!(text.contains("/dev/vda") && text.contains("virtio-blk"), "{text}");
}

#[test]
fn a_broken_test_is_told_with_its_line() {
    let files = Files::new();
    let path = files.file("typo.toml", "exec = 'true'\nexpct = 1\n");
    let (status, _, text) = test(&files, &[path], &[]);
    assert_eq!(status, 125, "{text}");
    assert!(text.contains("typo.toml:2: unknown key `expct`"), "{text}");
    // One that expects the wrong thing fails, and shows the difference.
    let kernel = files.kernel(&[serial(b"PASS\n"), out32(EXIT_DEVICE, POWER_OFF)]);
    let engine = engines()[0];
    let text = format!(
        "engines = ['{engine}']\nexpect = {{ console = 'FAIL' }}\n[machine]\nmemory = '32M'\n\
         kernel = '{}'\n",
        kernel.display()
    );
    let path = files.file("wrong.toml", text);
    let (status, report, text) = test(&files, &[path], &[]);
    assert_eq!(status, 1, "{text}");
    let reason = report["cases"][0]["reasons"][0].as_str().unwrap();
    assert!(reason.contains(r#"expected "FAIL", got "PASS"#), "{reason}");
    let (status, _, text) = test(&files, &[files.path("missing.toml")], &[]);
    assert_eq!(status, 125, "{text}");
}

#[test]
fn any_kernel_can_be_tested() {
    let files = Files::new();
    for engine in engines() {
        let kernel = files.kernel(&[serial(b"self-test: PASS\n"), HANG.into()]);
        let hung = files.file("hung", std::fs::read(&kernel).unwrap());
        let test_file = |name: &str, step: &str| {
            let text = format!(
                "engines = ['{engine}']\ntimeout = '3s'\nconsole = [{{ expect = '{step}' }}]\n\
                 [machine]\nmemory = '32M'\nkernel = '{}'\n",
                hung.display()
            );
            files.file(name, text)
        };
        // It never ends by itself; the script's end is enough.
        let (status, _, text) = test(&files, &[test_file("good.toml", "PASS")], &[]);
        assert_eq!(status, 0, "{text}");
        let paths = [test_file("never.toml", "it never says this")];
        let (status, report, text) = test(&files, &paths, &["--repeat", "2"]);
        assert_eq!((status, &report["failed"]), (1, &2.into()), "{text}");
        assert!(text.contains("did not come before the machine ended"), "{text}");
        assert!(text.contains("self-test: PASS"), "what it did say: {text}");
    }
}
