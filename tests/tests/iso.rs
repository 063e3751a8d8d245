//! ISO 9660 images of the host, read by the guest as a disk.

use std::fs;

use tempfile::tempdir;
use xinim_tests::host::{arg, noise, tool};
use xinim_tests::machine::{engines, exec};

#[test]
fn what_the_host_makes_the_guest_reads() {
    let dir = tempdir().expect("directory");
    let tree = dir.path().join("tree");
    let files =
        [("empty", 0), ("dir/one", 1), ("dir/A long name, naïve.bin", 70_000), ("big", 3 << 20)];
    for (seed, (name, len)) in files.iter().enumerate() {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directories");
        fs::write(path, noise(seed as u64, *len)).expect("file");
    }
    std::os::unix::fs::symlink("dir/one", tree.join("link")).expect("link");
    for (program, args) in [
        ("xorriso", &["-as", "mkisofs", "-quiet", "-R"][..]),
        ("xorriso", &["-as", "mkisofs", "-quiet", "-J", "-joliet-long", "--norock"]),
        ("genisoimage", &["-quiet", "-R", "-J", "-input-charset", "utf-8"]),
    ] {
        let image = dir.path().join("image.iso");
        tool(program, &[args, &["-o", arg(&image), arg(&tree)]].concat());
        let mut script = "mount /dev/vda /mnt".to_owned();
        let mut expected = String::new();
        for (name, _) in files {
            script += &format!(" && sha256sum '/mnt/{name}'");
            let line = tool("sha256sum", &[arg(&tree.join(name))]);
            let sum = line.split_once(' ').expect("sum and name").0;
            expected += &format!("{sum}  /mnt/{name}\n");
        }
        script += " && mount | grep /mnt && echo x > /mnt/new";
        for engine in engines("what_the_host_makes_the_guest_reads") {
            let mut script = script.clone();
            if args.contains(&"-R") {
                script += "; readlink /mnt/link";
            }
            let disk = format!("{},ro", arg(&image));
            let output = exec(engine, &script, &["--disk", &disk]).output();
            let text = output.out();
            let rest = text.strip_prefix(&expected);
            let rest = rest.unwrap_or_else(|| panic!("{engine}: {text}{}", output.err()));
            assert!(rest.contains("iso") && rest.contains("ro"), "{engine}: {rest}");
            assert!(output.err().contains("read-only"), "{engine}: {}", output.err());
            assert_eq!(rest.contains("dir/one"), args.contains(&"-R"), "{engine}: {rest}");
        }
    }
}
