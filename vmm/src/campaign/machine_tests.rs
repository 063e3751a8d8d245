use super::*;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(String::from).collect()
}

#[test]
fn restarts_come_from_the_list() {
    let list = "pci\trunning\t2\t0\tsbin/pci\t-
copy 12 0 abc
virtio-blk\trunning\t17\t3\tsbin/virtio-blk\t0:2.0
net\tidle\t0\t0\tsbin/net\t-";
    let all = restarts(&lines(list)).unwrap();
    assert_eq!(all[1], ("virtio-blk".into(), 3));
    assert_eq!(all.len(), 3);
    let bad = list.replace("running\t17", "failed\t17");
    assert_eq!(restarts(&lines(&bad)), Err("virtio-blk".into()));
}

#[test]
fn memory_in_use_is_read() {
    let said = lines("copy 1 0 x\ncounts used_kib=50000 kernel_kib=7");
    assert_eq!(used_kib(&said), Some(50000));
    assert_eq!(used_kib(&[]), None);
}

#[test]
fn of_a_long_story_the_end_is_kept() {
    let last_words = |stream: &[u8]| {
        let words = Words::default();
        listen(stream, &words);
        said(&words)
    };
    assert_eq!(last_words(b"short"), "short");
    let story = [vec![b'x'; STDERR_MAX + 5000], b"the end".to_vec()].concat();
    let kept = last_words(&story);
    assert_eq!((kept.len(), kept.ends_with("xthe end")), (STDERR_MAX, true));
}

#[test]
fn counts_of_rules_are_no_last_words() {
    let said = "rs: pm died\nxinim-vmm: fault 3 matched 1 times\nxinim-vmm: the guest died\n";
    assert_eq!(without_rules(said), "rs: pm died\nxinim-vmm: the guest died\n");
}
