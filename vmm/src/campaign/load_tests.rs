use super::*;

#[test]
fn results_are_right_told_or_wrong() {
    let (sum, other) = ("a".repeat(64), "b".repeat(64));
    let verdict = |text: &str| work(text, &sum).map(|work| work.verdict);
    assert_eq!(verdict(&format!("copy 12 0 {sum}")), Some(Verdict::Right));
    assert_eq!(verdict(&format!("fetch 12 0 {sum}")), Some(Verdict::Right));
    assert_eq!(verdict(&format!("copy 12 0 {other}")), Some(Verdict::Wrong));
    assert_eq!(verdict("read 12 input/output error"), Some(Verdict::Told));
    assert_eq!(verdict("spawn 12 0 right"), Some(Verdict::Right));
    assert_eq!(verdict("spawn 12 0 wrong"), Some(Verdict::Wrong));
    assert_eq!(verdict("300 messages, 2 refused by the kernel"), None);
    assert_eq!(verdict("copy x 0 y"), None);
    assert_eq!(work("copy 77 0 x", &sum).unwrap().began, 77);
}

#[test]
fn a_part_is_hit_by_what_it_goes_through() {
    assert!(Part::Copy.uses("virtio-blk.0") && Part::Copy.uses("fs-fat"));
    assert!(!Part::Copy.uses("virtio-net") && !Part::Fetch.uses("ahci.0"));
    assert!(!Part::ALL.into_iter().any(|part| part.uses("services")));
}

#[test]
fn the_source_serves_the_file() {
    use std::io::Read;
    let source = Source::start().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", source.port)).unwrap();
    stream.write_all(b"GET /f HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(answer.ends_with(&file()));
}
