use super::*;

#[test]
fn results_are_right_told_or_wrong() {
    let (sum, other) = ("a".repeat(64), "b".repeat(64));
    let line = |text: &str| judge(text, &sum);
    assert_eq!(line(&format!("1 00 {sum} -")), Result::Right);
    assert_eq!(line(&format!("2 0 {sum} -")), Result::Right);
    assert_eq!(line(&format!("1 00 {other} -")), Result::Wrong);
    assert_eq!(line(&format!("2 1 {other} -")), Result::Told, "the program said so");
    assert_eq!(line(&format!("1 01 {sum} -")), Result::Told);
    assert_eq!(line("3 0 a b c d e"), Result::Right);
    assert_eq!(line("3 0 a b"), Result::Told);
    assert_eq!(line("4 0 removal"), Result::Right);
    assert_eq!(line("cp: /mnt/d1: input/output error"), Result::Told);
    assert_eq!(line("1 0"), Result::Told);
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
