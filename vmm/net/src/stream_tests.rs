use super::*;

fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Stream::new(ours).unwrap(), theirs)
}

fn frame(length: usize) -> Frame {
    Frame::plain((0..length).map(|i| i as u8).collect())
}

#[test]
fn frames_follow_their_length() {
    let (mut stream, mut peer) = pair();
    assert_eq!(stream.send(&frame(60)), Sent::Done);
    let mut got = [0; 64];
    peer.read_exact(&mut got).unwrap();
    assert_eq!((&got[..4], &got[4..]), (&[0, 0, 0, 60][..], &frame(60).data[..]));

    let mut back = Frame::default();
    assert!(!stream.receive(&mut back));
    // Two frames, the second in pieces.
    peer.write_all(&[&[0, 0, 0, 2][..], &[1, 2], &[0, 0]].concat()).unwrap();
    assert!(stream.receive(&mut back));
    assert_eq!(back.data, [1, 2]);
    assert!(!stream.receive(&mut back));
    peer.write_all(&[0, 1, 9]).unwrap();
    assert!(stream.receive(&mut back));
    assert_eq!(back.data, [9]);
}

#[test]
fn a_slow_peer_gets_every_byte() {
    let (mut stream, mut peer) = pair();
    let mut sent = 0usize;
    while stream.send(&frame(9000)) == Sent::Done {
        sent += 1;
    }
    assert!(sent > 1);
    peer.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    while got.len() < sent * 9004 {
        let mut part = vec![0; 65_536];
        match peer.read(&mut part) {
            Ok(count) => got.extend_from_slice(&part[..count]),
            Err(_) => drop(stream.flush()),
        }
    }
    for part in got.chunks(9004) {
        assert_eq!(part[..4], 9000u32.to_be_bytes());
        assert_eq!(part[4..], frame(9000).data[..]);
    }
    assert_eq!(stream.send(&frame(60)), Sent::Done);
}

#[test]
fn a_peer_that_goes_or_talks_nonsense_is_an_unplugged_cable() {
    let (mut stream, peer) = pair();
    drop(peer);
    assert_eq!(stream.send(&frame(60)), Sent::Done);
    assert!(!stream.receive(&mut Frame::default()));
    assert!(stream.watch().is_none());
    assert_eq!(stream.send(&frame(60)), Sent::Done);

    let (mut stream, mut peer) = pair();
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(!stream.receive(&mut Frame::default()));
    assert!(stream.watch().is_none());
    let error = Stream::connect(Path::new("/nonexistent/socket")).unwrap_err();
    assert!(error.contains("is passt running?"), "{error}");
}
