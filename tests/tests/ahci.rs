//! SATA disks and CD-ROMs in the guest, on our controller and on QEMU's: file systems, a driver that
//! dies, disks that are plugged in and torn away.
//!
//! `XINIM_REMOVALS=100` makes the loop of removals that long (some minutes); 5 otherwise.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, noise, tool};
use xinim_tests::machine::{engines, exec, skip, vmm};

fn on_ahci(image: &Path) -> String {
    format!("{},bus=ahci", arg(image))
}

fn sum(file: &Path) -> String {
    let sum = tool("sha256sum", &[arg(file)]);
    sum.split_once(' ').expect("sum and name").0.to_owned()
}

/// An image with a file of noise in it, and that file's sum.
fn filled(dir: &Path, name: &str, len: usize) -> (std::path::PathBuf, String) {
    let image = dir.join(name);
    fat_image(&image, 32 << 20, 16);
    let file = dir.join("file");
    fs::write(&file, noise(7, len)).expect("file");
    tool("mcopy", &["-i", arg(&image), arg(&file), "::/file"]);
    let sum = sum(&file);
    (image, sum)
}

#[test]
fn a_sata_disk_survives_its_driver() {
    for engine in engines("a_sata_disk_survives_its_driver") {
        let dir = tempdir().unwrap();
        let (image, sum) = filled(dir.path(), "disk.img", 4 << 20);
        let script = "mount -t fat /dev/sda /mnt || exit 9
            (sleep 0.05; service kill ahci; sleep 0.1; service kill --wild ahci) &
            cp /mnt/file /mnt/copy; sync; wait
            sha256sum /mnt/copy; umount /mnt; dmesg | grep 'ahci: port 0'
            service status ahci | grep restarts";
        let output = exec(engine, script, &["--disk", &on_ahci(&image)]).output().expect(0);
        let text = output.out();
        assert!(text.contains(&format!("{sum}  /mnt/copy")), "{engine}: {text}{}", output.err());
        assert!(text.contains("65536 sectors, 32 at once"), "{engine}: {text}");
        assert!(text.contains("restarts: 2"), "{engine}: {text}");
        fsck_fat(&image);
        let back = dir.path().join("back");
        tool("mcopy", &["-n", "-i", arg(&image), "::/copy", arg(&back)]);
        assert_eq!(self::sum(&back), sum, "{engine}");
    }
}

#[test]
fn a_cd_rom_reads_as_on_the_host() {
    for engine in engines("a_cd_rom_reads_as_on_the_host") {
        let dir = tempdir().unwrap();
        let disc = dir.path().join("disc.iso");
        fs::write(&disc, noise(11, 3 << 20)).unwrap();
        let script = "sha256sum /dev/sr0; dd if=/dev/zero of=/dev/sr0 bs=2048 count=1 || echo ro";
        let output = exec(engine, script, &["--cdrom", arg(&disc)]).output().expect(0);
        let text = output.out();
        assert!(text.contains(&sum(&disc)), "{engine}: {text}{}", output.err());
        assert!(text.contains("ro\n"), "{engine}: {text}");
    }
}

fn ctl(socket: &Path, words: &[&str]) -> String {
    let output = Command::new(vmm()).arg("ctl").arg(socket).args(words).output().unwrap();
    let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "ctl {words:?}: {err}");
    String::from_utf8_lossy(&out).trim().to_owned()
}

/// One disk is copied on without a pause while another is plugged in, read and torn away.
#[test]
fn survivors_of_removals_are_whole() {
    let test = "survivors_of_removals_are_whole";
    if !engines(test).contains(&"kvm") {
        return skip(test, "QEMU's AHCI controller has no hot-plug");
    }
    let removals: u32 = std::env::var("XINIM_REMOVALS").map_or(5, |n| n.parse().unwrap());
    let dir = tempdir().unwrap();
    let (image, sum) = filled(dir.path(), "disk.img", 1 << 20);
    let (guest, socket) = (dir.path().join("guest.img"), dir.path().join("vm.socket"));
    fs::write(&guest, noise(5, 4 << 20)).unwrap();
    // The disk at port 5 says that it is over.
    let script = "mount -t fat /dev/sda /mnt || exit 9; echo mounted
        (while [ ! -e /dev/sdf ]; do cat /dev/sdb > /dev/null; done) 2> /dev/null &
        i=0
        while [ ! -e /dev/sdf ]; do cp /mnt/file /mnt/copy$((i%3)) || exit 8; i=$((i+1)); done
        wait; sync; echo copies $i; sha256sum /mnt/copy0; umount /mnt
        service status ahci | grep restarts";
    let disk = on_ahci(&image);
    let mut child = exec("kvm", script, &["--disk", &disk, "--control", arg(&socket)]).spawn();
    drop(child.stdin.take());
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "mounted");
    for _ in 0..removals {
        let name = ctl(&socket, &["attach", &on_ahci(&guest), "--port", "1"]);
        sleep(Duration::from_millis(250));
        ctl(&socket, &["detach", &name]);
        sleep(Duration::from_millis(50));
    }
    ctl(&socket, &["attach", "new:1M,bus=ahci", "--port", "5"]);
    let text: Vec<String> = lines.map(|line| line.expect("text")).collect();
    let text = text.join("\n");
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{err}");
    assert!(!text.contains("copies 0\n"), "{text}");
    assert!(text.contains(&format!("{sum}  /mnt/copy0")), "{text}{err}");
    assert!(text.contains("restarts: 0"), "{text}");
    fsck_fat(&image);
    assert_eq!(fs::read(&guest).unwrap(), noise(5, 4 << 20));
}
