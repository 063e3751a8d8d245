use super::*;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(String::from).collect()
}

#[test]
fn restarts_come_from_the_list() {
    let list = "NAME        STATE    PID  RESTARTS  PROGRAM          LOCATION
pci         running  2    0         sbin/pci         -
virtio-blk  running  17   3         sbin/virtio-blk  0:2.0
net         idle     0    0         sbin/net         -";
    let all = restarts(&lines(list)).unwrap();
    assert_eq!(all[1], ("virtio-blk".into(), 3));
    assert_eq!(all.len(), 3);
    let bad = list.replace("running  17", "failed   17");
    assert_eq!(restarts(&lines(&bad)), Err("virtio-blk".into()));
}
