//! Machines with several CPUs: the kernel's self-test, whose last third is about them; programs, file
//! systems and drivers that are killed; the end of the machine. Any other test that runs commands
//! does so with `XINIM_CPUS=4 cargo test …`.

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat};
use xinim_tests::machine::{engines, exec, run};

#[test]
fn self_test_passes_with_several() {
    for engine in engines("self_test_passes_with_several") {
        for (cpus, seed) in [("2", 1), ("4", 2), ("8", 3)] {
            let words = format!("first=sbin/kernel-test klog=debugcon seed={seed}");
            let command = ["run", "--engine", engine, "-v", "--cpus", cpus, "--console", "none"];
            let output = run(&[&command[..], &["--timeout", "200s", "--cmdline", &words]].concat());
            let log = output.output().err();
            assert!(log.contains("kernel-test: all passed"), "{engine}, {cpus} CPUs:\n{log}");
        }
    }
}

/// Commands beside each other, copies between two disks, and the disks' drivers killed meanwhile.
const WORK: &str = "mkdir /mnt/a /mnt/b; mount /dev/vda /mnt/a && mount /dev/sda /mnt/b || exit 9
    dd if=/dev/zero of=/mnt/a/f bs=64k count=32 2>/dev/null; echo tail >> /mnt/a/f
    for n in 1 2 3; do cat /mnt/a/f | sha256sum > /tmp/sum$n & done; wait
    cmp /tmp/sum1 /tmp/sum2 && cmp /tmp/sum2 /tmp/sum3 || exit 8
    for round in 1 2; do
        cp /mnt/a/f /mnt/b/f; sync; cmp /mnt/a/f /mnt/b/f || exit 7
        service kill virtio-blk; service kill ahci; service kill vfs
    done
    cmp /mnt/a/f /mnt/b/f && umount /mnt/a && umount /mnt/b && echo content";

#[test]
fn programs_disks_and_deaths() {
    for engine in engines("programs_disks_and_deaths") {
        let dir = tempdir().expect("directory");
        let (a, b) = (dir.path().join("a.img"), dir.path().join("b.img"));
        fat_image(&a, 32 << 20, 16);
        fat_image(&b, 32 << 20, 16);
        let second = format!("{},bus=ahci", arg(&b));
        let output = exec(engine, WORK, &["--cpus", "4", "--disk", arg(&a), "--disk", &second]);
        let output = output.output();
        let seen = (output.out(), output.err(), output.status);
        assert_eq!(seen, ("content\n".into(), String::new(), 0), "{engine}");
        [&a, &b].into_iter().for_each(|image| fsck_fat(image));
    }
}
