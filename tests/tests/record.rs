//! Machines recorded at their device boundary, and the devices replayed from that.

use tempfile::tempdir;
use xinim_tests::host::{arg, disk_on_each_bus};
use xinim_tests::machine::{engines, exec, run};

const WORK: &str = "mkdir /tmp/a; mount /dev/vda /mnt && mount /dev/sda /tmp/a || exit 9
    dd if=/dev/zero of=/mnt/f bs=64k count=16 2>/dev/null; cp /mnt/f /tmp/a/f; sync
    service kill virtio-blk; service kill ahci; cmp /mnt/f /tmp/a/f || exit 8
    ping -c 3 10.0.2.2 > /dev/null || exit 7; echo done";

#[test]
fn every_device_is_replayed_bit_for_bit() {
    if !engines("every_device_is_replayed_bit_for_bit").contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let [a, b] = disk_on_each_bus(dir.path());
    let file = dir.path().join("run.rec");
    for (model, name) in [("virtio", "virtio-net.0"), ("e1000", "e1000.0"), ("e1000e", "e1000.0")] {
        let net = format!("user,model={model}");
        let args = ["--record", arg(&file), "--disk", &a, "--disk", &b, "--net", &net];
        assert_eq!(exec("kvm", WORK, &args).output().expect(0).out(), "done\n", "{model}");
        let text = run(&["replay", arg(&file)]).output().expect(0).out();
        for device in ["virtio-console.0", "virtio-blk.0", "ahci.0", name] {
            let line = text.lines().find(|line| line.starts_with(device));
            assert!(line.is_some_and(|line| line.contains(": identical, ")), "{model}: {text}");
        }
        let one = run(&["replay", arg(&file), "--device", "ahci.0"]).output().expect(0).out();
        assert_eq!(one.lines().count(), 1, "{one}");
    }
    run(&["replay", arg(&file), "--device", "nobody"]).output().expect(125);

    // What the guest's memory held is another word now: somewhere a device must differ.
    let mut bytes = std::fs::read(&file).expect("recording");
    let text = b"XINIMREC";
    assert!(bytes.starts_with(text));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&file, bytes).expect("recording");
    let status = run(&["replay", arg(&file)]).output().status;
    assert!(status == 1 || status == 125, "{status}");
}
