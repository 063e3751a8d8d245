use super::*;
use crate::net_spec::Net;

fn spec(text: &str) -> NetSpec {
    text.parse::<Net>().unwrap().finish(0)
}

#[test]
fn devices_have_qemus_names() {
    for (text, name) in [
        ("none", "virtio-net-pci,"),
        ("none,model=e1000", "e1000,"),
        ("none,model=e1000-82545em", "e1000-82545em,"),
        ("none,model=e1000e", "e1000e,"),
    ] {
        let device = device(2, &spec(text), "");
        assert!(device.starts_with(name), "{device}");
        assert!(device.contains("netdev=net2") && device.contains("mac=52:54:00:58:4e:00"));
    }
    let user = own_netdev(0, &spec("user,publish=8080:80,restrict"));
    assert_eq!(user, "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:8080-:80");
}

#[test]
fn a_bridge_carries_frames_between_qemu_and_a_back_end_until_qemu_is_gone() {
    use std::io::{Read, Write};
    let (bridge, fd) = Bridge::start(&spec("user,restrict")).unwrap();
    let mut qemu = UnixStream::from(fd);
    // Who has 10.0.2.2?
    let mut arp = vec![0xFF; 6];
    arp.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 2, 15]);
    arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    qemu.write_all(&(arp.len() as u32).to_be_bytes()).unwrap();
    qemu.write_all(&arp).unwrap();
    let mut answer = [0; 4 + 42];
    qemu.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], 42u32.to_be_bytes());
    assert_eq!(answer[4..10], [2, 0, 0, 0, 0, 9]);
    assert_eq!(answer[4 + 28..4 + 32], [10, 0, 2, 2]);
    drop(qemu);
    bridge.finish();
}
