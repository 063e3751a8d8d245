//! XINIM's own drivers under the strict checker: clean on every device, also when they are killed.

use tempfile::tempdir;
use xinim_tests::host::disk_on_each_bus;
use xinim_tests::machine::{engines, exec, run};

/// Data written, read back and compared on both kinds of disk, with both drivers killed in between.
const DISKS: &str = "mkdir /tmp/a; mount /dev/vda /mnt && mount /dev/sda /tmp/a || exit 9
    dd if=/dev/zero of=/mnt/f bs=64k count=64 2>/dev/null; echo tail >> /mnt/f
    for round in 1 2; do
        cp /mnt/f /tmp/a/f; sync; cmp /mnt/f /tmp/a/f || exit 8
        service kill virtio-blk; service kill ahci
    done
    sum=$(sha256sum < /mnt/f); [ \"$sum\" = \"$(sha256sum < /tmp/a/f)\" ] || exit 7
    umount /mnt && umount /tmp/a && echo disks";

#[test]
fn disk_drivers_are_clean_under_load() {
    if !engines("disk_drivers_are_clean_under_load").contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let [a, b] = disk_on_each_bus(dir.path());
    let output = exec("kvm", DISKS, &["--strict=stop", "--disk", &a, "--disk", &b]).output();
    let seen = (output.out(), output.err(), output.status);
    assert_eq!(seen, ("disks\n".into(), String::new(), 0));
}

#[test]
fn network_drivers_are_clean_under_load() {
    if !engines("network_drivers_are_clean_under_load").contains(&"kvm") {
        return;
    }
    for (model, driver) in [
        ("virtio", "virtio-net"),
        ("e1000", "e1000"),
        ("e1000-82545em", "e1000"),
        ("e1000e", "e1000"),
    ] {
        let net = format!("user,model={model}");
        let script = format!(
            "ping -c 20 -i 0.05 -s 1000 10.0.2.2 > /dev/null || exit 9
            service kill {driver}; ping -c 3 10.0.2.2 > /dev/null || exit 8; echo net"
        );
        let output = exec("kvm", &script, &["--strict=stop", "--net", &net]).output();
        let seen = (output.out(), output.err(), output.status);
        assert_eq!(seen, ("net\n".into(), String::new(), 0), "{model}");
    }
}

#[test]
fn rules_are_explained() {
    let text = run(&["explain", "virtio-status-order"]).output().expect(0).out();
    assert!(text.contains("VIRTIO 3.1.1") && text.contains("ACKNOWLEDGE"), "{text}");
    let text = run(&["explain"]).output().expect(0).out();
    assert!(text.lines().count() > 40, "{text}");
    run(&["explain", "nonsense"]).output().expect(125);
    let refused = run(&["run", "--engine", "qemu", "--strict", "--exec", "true"]);
    assert!(refused.output().expect(125).err().contains("--strict"));
}
