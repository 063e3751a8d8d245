//! blkid and fdisk beside the host's, on image files.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, fs};

use tempfile::tempdir;
use xinim_fs_testing::require;
use xinim_os::Os;
use xinim_os_host::Linux;

use crate::blkid;

fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn image(path: &Path, len: u64) {
    let _ = fs::remove_file(path);
    fs::File::create(path).expect("image").set_len(len).expect("length");
}

/// Runs a program of the host: its output. Panics where it fails.
fn host(program: &str, args: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect(program);
    let mut stdin = child.stdin.take().expect("stdin");
    std::io::Write::write_all(&mut stdin, input.as_bytes()).expect("input");
    drop(stdin);
    let output = child.wait_with_output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Our tags of an image.
fn tags(path: &Path) -> BTreeMap<String, String> {
    let os = Linux::default();
    let context = xinim_tools::Context::new(&os as &dyn Os, "blkid", &[], &[]);
    let tags = blkid::tags(&context, arg(path)).expect("tags");
    tags.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// The host's, of the kinds that we know.
fn host_tags(path: &Path) -> BTreeMap<String, String> {
    let text = host("blkid", &["-p", "-o", "export", arg(path)], "");
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let known = ["LABEL", "UUID", "TYPE", "PTUUID", "PTTYPE"];
    let pairs = pairs.filter(|(name, _)| known.contains(name));
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn blkid_says_what_the_hosts_says() {
    let needed = ["blkid", "mkfs.fat", "mkfs.ext4", "mkfs.minix", "xorriso", "sfdisk"];
    if !require("blkid_says_what_the_hosts_says", &needed) {
        return;
    }
    let dir = tempdir().expect("directory");
    let path = dir.path().join("image");
    for (program, options) in [
        ("mkfs.fat", "-F 12 -n TWELVE"),
        ("mkfs.fat", "-F 16 -i 12ab34cd"),
        ("mkfs.fat", "-F 32 -n LONGERNAME"),
        ("mkfs.fat", "-F 32"),
        ("mkfs.ext2", "-q -L two"),
        ("mkfs.ext3", "-q -L three"),
        ("mkfs.ext4", "-q -L four -b 4096"),
        ("mkfs.ext4", "-q -O ^has_journal"),
        ("mkfs.minix", "-1"),
        ("mkfs.minix", "-2"),
        ("mkfs.minix", "-3"),
    ] {
        image(&path, 40 << 20);
        let args: Vec<&str> = options.split(' ').chain([arg(&path)]).collect();
        host(program, &args, "");
        let (ours, theirs) = (tags(&path), host_tags(&path));
        assert!(theirs.contains_key("TYPE"), "{program} {options}: {theirs:?}");
        assert_eq!(ours, theirs, "{program} {options}");
    }
    let (tree, iso) = (dir.path().join("tree"), dir.path().join("iso"));
    fs::create_dir(&tree).expect("tree");
    let args = ["-as", "mkisofs", "-quiet", "-V", "A_DISC", "-o", arg(&iso), arg(&tree)];
    host("xorriso", &args, "");
    assert_eq!(tags(&iso), host_tags(&iso));
    for label in ["gpt", "dos"] {
        image(&path, 40 << 20);
        host("sfdisk", &["-q", arg(&path)], &format!("label: {label}\n,10M\n,\n"));
        assert_eq!(tags(&path), host_tags(&path), "{label}");
    }
    image(&path, 1 << 20);
    assert!(tags(&path).is_empty());
}

/// `start size type` of each partition, by its number.
type Rows = BTreeMap<u32, (u64, u64, String)>;

/// From `sfdisk --dump`.
fn host_rows(path: &Path) -> Rows {
    let dump = host("sfdisk", &["--dump", arg(path)], "");
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix(arg(path))?.split_once(" : ")?;
        let field = |key: &str| {
            let of = |pair: &str| Some(pair.trim().strip_prefix(key)?.trim().to_string());
            rest.split(',').find_map(of)
        };
        let number = |key| field(key)?.parse().ok();
        Some((
            name.trim().parse().ok()?,
            (number("start=")?, number("size=")?, field("type=")?.to_lowercase()),
        ))
    };
    dump.lines().filter_map(row).collect()
}

#[test]
fn tables_are_read_as_sfdisk_made_them() {
    if !require("tables_are_read_as_sfdisk_made_them", &["sfdisk"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let path = dir.path().join("image");
    for script in [
        "label: gpt\n,5M,U\n,3M,S,\nstart=30M,size=1M,type=L,name=\"a name\"\n",
        "label: gpt\n",
        "label: dos\n,5M,c,*\n,3M,82\n",
        "label: dos\n,5M,83\n,20M,E\n,4M,b\n,5M,83\n,6M,7\n",
    ] {
        image(&path, 40 << 20);
        host("sfdisk", &["-q", arg(&path)], script);
        let mut disk = fs::read(&path).expect("image");
        let read = |at: u64, out: &mut [u8]| {
            out.copy_from_slice(&disk[at as usize * 512..][..out.len()]);
            Ok(())
        };
        let table = xinim_block_client::partition::table(40 << 11, 512, read);
        let table = table.expect("readable").expect("a table");
        let rows = table.entries.iter().map(|entry| {
            let part = entry.partition;
            (part.number, (part.start, part.sectors, entry.kind.clone()))
        });
        assert_eq!(rows.collect::<Rows>(), host_rows(&path), "{script}");
        // A damaged table ends in no table or fewer partitions, not in a panic.
        for at in (0..34 * 512).step_by(97) {
            disk[at] ^= 0x5A;
            let read = |at: u64, out: &mut [u8]| {
                out.copy_from_slice(&disk[at as usize * 512..][..out.len()]);
                Ok(())
            };
            let _ = xinim_block_client::partition::table(40 << 11, 512, read);
        }
    }
}

#[test]
fn fdisk_lists_as_the_hosts_does() {
    if !require("fdisk_lists_as_the_hosts_does", &["fdisk", "sfdisk"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let path = dir.path().join("image");
    for script in ["label: gpt\n,5M,U\n,,L\n", "label: dos\n,5M,c,*\n,20M,E\n,4M,b\n,,83\n"] {
        image(&path, 40 << 20);
        host("sfdisk", &["-q", arg(&path)], script);
        // What depends on the device and not on the table is left out.
        let shown = |text: &str| -> Vec<String> {
            let lines = text
                .lines()
                .filter(|line| !line.starts_with("Sector size") && !line.starts_with("I/O size"));
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            lines.map(words).filter(|line| !line.is_empty()).collect()
        };
        let os = Linux::default();
        let context = xinim_tools::Context::new(&os as &dyn Os, "fdisk", &[], &[]);
        let ours = crate::fdisk::text(&context, arg(&path)).expect("listed");
        assert_eq!(shown(&ours), shown(&host("fdisk", &["-l", arg(&path)], "")));
    }
}
