use super::*;
use std::time::{Duration, Instant};

fn frame(to: u8, from: u8, text: &[u8]) -> Frame {
    let mut data = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xB5];
    if to == 0xFF {
        data[..6].fill(0xFF);
    }
    data.extend_from_slice(text);
    Frame::plain(data)
}

fn next(hub: &mut Hub) -> Option<Frame> {
    let mut frame = Frame::default();
    hub.receive(&mut frame).then_some(frame)
}

fn wait(hub: &mut Hub) -> Frame {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(frame) = next(hub) {
            return frame;
        }
        assert!(Instant::now() < end, "no frame came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("hub");
    (base, path)
}

#[test]
fn members_hear_broadcasts_and_what_is_for_them() {
    let (_base, path) = directory();
    let mut a = Hub::join_in(&path).unwrap();
    let mut b = Hub::join_in(&path).unwrap();
    let mut c = Hub::join_in(&path).unwrap();
    a.send(&frame(0xFF, 1, b"hello"));
    assert_eq!(wait(&mut b), frame(0xFF, 1, b"hello"));
    assert_eq!(wait(&mut c), frame(0xFF, 1, b"hello"));
    // Now b knows where a is; c does not hear the answer.
    b.send(&frame(1, 2, b"answer"));
    assert_eq!(wait(&mut a), frame(1, 2, b"answer"));
    a.send(&frame(2, 1, b"thanks"));
    assert_eq!(wait(&mut b), frame(2, 1, b"thanks"));
    assert_eq!(next(&mut c), None);
    drop(b);
    // Whoever is gone is forgotten; its address goes to all.
    assert_eq!(next(&mut a), None);
    a.send(&frame(2, 1, b"anybody"));
    assert_eq!(wait(&mut c), frame(2, 1, b"anybody"));
}

#[test]
fn large_frames_go_with_their_header() {
    let (_base, path) = directory();
    let (mut a, mut b) = (Hub::join_in(&path).unwrap(), Hub::join_in(&path).unwrap());
    let mut large = frame(0xFF, 1, &vec![7; 60_000]);
    large.header = Header {
        flags: 1,
        gso_type: 1,
        gso_size: 1400,
        csum_start: 34,
        csum_offset: 16,
        ..Header::default()
    };
    a.send(&large);
    assert_eq!(wait(&mut b), large);
}

#[test]
fn a_member_that_does_not_listen_holds_nobody_up() {
    let (_base, path) = directory();
    let (mut a, b) = (Hub::join_in(&path).unwrap(), Hub::join_in(&path).unwrap());
    let mut c = Hub::join_in(&path).unwrap();
    for _ in 0..5_000 {
        assert_eq!(a.send(&frame(0xFF, 1, &[0; 1400])), Sent::Done);
        next(&mut c);
    }
    while next(&mut c).is_some() {}
    a.send(&frame(0xFF, 1, b"still here"));
    assert_eq!(wait(&mut c), frame(0xFF, 1, b"still here"));
    drop(b);
}

#[test]
fn what_a_killed_machine_left_behind_does_not_matter() {
    let (_base, path) = directory();
    let mut a = Hub::join_in(&path).unwrap();
    let stale = path.join("1-1");
    let socket = socket().unwrap();
    bind(&socket, &SocketAddrUnix::new(&stale).unwrap()).unwrap();
    drop(socket);
    let mut b = Hub::join_in(&path).unwrap();
    assert!(!stale.exists());
    b.send(&frame(0xFF, 2, b"hello"));
    assert_eq!(wait(&mut a), frame(0xFF, 2, b"hello"));
}

#[test]
fn hubs_are_of_one_user_and_have_plain_names() {
    use std::os::unix::fs::PermissionsExt;
    let (_base, path) = directory();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Hub::join_in(&path).unwrap_err().to_string();
    assert!(error.contains("this user's alone"), "{error}");
    for name in ["", "a/b", "..", "a b"] {
        assert!(Hub::join(name).unwrap_err().contains("cannot be the name"));
    }
}
