use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use proptest::prelude::*;

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    mode: u32,
    data: Vec<u8>,
    data_at: usize,
}

/// A reader written from cpio(5) alone.
fn read(archive: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    loop {
        assert_eq!(&archive[at..at + 6], b"070701");
        let field = |n: usize| {
            let text = std::str::from_utf8(&archive[at + 6 + n * 8..][..8]).unwrap();
            u32::from_str_radix(text, 16).unwrap() as usize
        };
        let (mode, size, name_size) = (field(1) as u32, field(6), field(11));
        assert!(name_size <= 4096);
        let name = &archive[at + 110..][..name_size];
        assert_eq!(name.last(), Some(&0));
        let name = name.split(|b| *b == 0).next().unwrap();
        let name = String::from_utf8(name.to_vec()).unwrap();
        let data_at = (at + 110 + name_size).next_multiple_of(4);
        if name == "TRAILER!!!" {
            assert!(archive[data_at..].iter().all(|b| *b == 0));
            return entries;
        }
        let data = archive[data_at..][..size].to_vec();
        at = (data_at + size).next_multiple_of(4);
        entries.push(Entry { name, mode, data, data_at });
    }
}

#[test]
fn writes_what_the_format_says() {
    let mut writer = CpioWriter::new();
    writer.file("sbin/rs", 0o755, b"\x7fELF...", Align::Page).unwrap();
    writer.file("etc/motd", 0o644, b"hello", Align::Word).unwrap();
    writer.symlink("bin/ls", "tools").unwrap();
    writer.directory("mnt").unwrap();
    let archive = writer.finish();
    assert_eq!(archive.len() % PAGE, 0);
    let entries = read(&archive);
    let shape: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.mode, e.data.len())).collect();
    assert_eq!(
        shape,
        [
            ("sbin", 0o040755, 0),
            ("sbin/rs", 0o100755, 7),
            ("etc", 0o040755, 0),
            ("etc/motd", 0o100644, 5),
            ("bin", 0o040755, 0),
            ("bin/ls", 0o120777, 5),
            ("mnt", 0o040755, 0),
        ]
    );
    assert_eq!(entries[1].data_at % PAGE, 0);
}

#[test]
fn refuses_what_cannot_be_unpacked() {
    let mut writer = CpioWriter::new();
    for path in ["", "/bin/ls", "a//b", "../x", "a/./b", "a/", "x\0y", "TRAILER!!!"] {
        let result = writer.file(path, 0o644, b"", Align::Word);
        assert_eq!(result, Err(CpioError::BadPath(path.into())), "{path:?}");
    }
    writer.file("a", 0o644, b"", Align::Word).unwrap();
    assert_eq!(writer.symlink("a", "b"), Err(CpioError::Duplicate("a".into())));
    assert_eq!(writer.directory("a"), Err(CpioError::Duplicate("a".into())));
    assert_eq!(writer.file("a/b", 0o644, b"", Align::Word), Err(CpioError::Duplicate("a".into())));
}

/// The system's own cpio unpacks it, padded names and all, without a word.
#[test]
fn cpio_unpacks_it() {
    if Command::new("cpio").arg("--version").output().is_err() {
        eprintln!("cpio is not installed: nothing compared");
        return;
    }
    let program: Vec<u8> = (0..20_000u32).map(|i| (i * 7) as u8).collect();
    let mut writer = CpioWriter::new();
    for i in 0..40 {
        // Names of growing length walk the padding through all its sizes.
        let path = format!("dir{}/{}", i % 3, "n".repeat(i * 5 + 1));
        writer.file(&path, 0o755, &program[i * 31..], Align::Page).unwrap();
    }
    writer.symlink("link", "dir0/n").unwrap();
    let archive = writer.finish();
    assert!(read(&archive).iter().all(|e| e.mode & S_IFREG != S_IFREG
        || e.data_at % PAGE == 0
        || e.mode & S_IFLNK == S_IFLNK));
    let dir = tempfile::tempdir().unwrap();
    let mut cpio = Command::new("cpio")
        .args(["-idm", "--quiet"])
        .current_dir(&dir)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    cpio.stdin.take().unwrap().write_all(&archive).unwrap();
    let output = cpio.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    for i in 0..40 {
        let path = format!("dir{}/{}", i % 3, "n".repeat(i * 5 + 1));
        assert_eq!(std::fs::read(dir.path().join(path)).unwrap(), program[i * 31..]);
    }
    assert_eq!(std::fs::read(dir.path().join("link")).unwrap(), program);
}

proptest! {
    #[test]
    fn any_set_of_files_reads_back(
        files in proptest::collection::btree_map(
            "[a-z]{1,9}(/[a-z]{1,200}){1,2}",
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..6000)),
            0..12,
        )
    ) {
        let mut writer = CpioWriter::new();
        let mut expected = Vec::new();
        for (path, (page, data)) in files {
            let align = if page { Align::Page } else { Align::Word };
            match writer.file(&path, 0o644, &data, align) {
                Ok(()) => expected.push((path, page, data)),
                Err(error) => prop_assert!(matches!(error, CpioError::Duplicate(_))),
            }
        }
        let entries = read(&writer.finish());
        let files: Vec<_> =
            entries.into_iter().filter(|entry| entry.mode & S_IFREG == S_IFREG).collect();
        prop_assert_eq!(files.len(), expected.len());
        for (entry, (path, page, data)) in files.iter().zip(&expected) {
            prop_assert_eq!(&entry.name, path);
            prop_assert_eq!(&entry.data, data);
            prop_assert!(!page || entry.data_at % PAGE == 0);
        }
    }
}
