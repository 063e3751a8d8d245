//! A guest of a few lines talks to the host side over the real socket.

use std::io::{Read, Write};
use std::time::Duration;

use proptest::prelude::*;
use xinim_abi::hostlink::{HEADER_LEN, Header, VERSION};

use super::*;

struct Guest {
    link: Link,
    control: Control,
    socket: UnixStream,
    stdin: std::io::PipeWriter,
    stdout: std::io::PipeReader,
    stderr: std::io::PipeReader,
}

fn guest(command: &str) -> Guest {
    let (stdin_reader, stdin) = io::pipe().unwrap();
    let (stdout, stdout_writer) = io::pipe().unwrap();
    let (stderr, stderr_writer) = io::pipe().unwrap();
    let file = |fd: OwnedFd| File::from(fd);
    let streams = Streams {
        stdin: file(stdin_reader.into()),
        stdout: file(stdout_writer.into()),
        stderr: file(stderr_writer.into()),
    };
    let control = Control::new();
    let (link, fd) = Link::start(command.into(), streams, control.clone()).unwrap();
    let socket = UnixStream::from(fd);
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    Guest { link, control, socket, stdin, stdout, stderr }
}

impl Guest {
    fn send(&mut self, kind: Kind, payload: &[u8]) {
        frame::write(&mut self.socket, kind, payload).unwrap();
    }

    fn receive(&mut self) -> (Kind, Vec<u8>) {
        let mut header = [0; HEADER_LEN];
        self.socket.read_exact(&mut header).unwrap();
        let header = Header::decode(&header).unwrap();
        let mut payload = vec![0; header.len];
        self.socket.read_exact(&mut payload).unwrap();
        (header.kind, payload)
    }

    fn hello(&mut self) {
        self.send(Kind::Hello, &VERSION.to_le_bytes());
    }

    /// Closes the machine's end; gives the state, both outputs, and why the run was stopped.
    fn end(self) -> (State, String, String, Option<StopReason>) {
        let Guest { link, control, socket, stdin, mut stdout, mut stderr } = self;
        drop((socket, stdin));
        let state = link.finish();
        control.ended();
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_to_string(&mut out).unwrap();
        stderr.read_to_string(&mut err).unwrap();
        (state, out, err, control.reason())
    }
}

#[test]
fn a_command_runs_and_its_output_stays_apart() {
    let mut guest = guest("echo hi");
    guest.hello();
    assert_eq!(guest.receive(), (Kind::Command, b"echo hi".to_vec()));
    guest.send(Kind::Stdout, b"one ");
    guest.send(Kind::Stderr, b"two");
    guest.send(Kind::Stdout, b"three");
    guest.send(Kind::Stdout, b"");
    guest.send(Kind::Exit, &7u32.to_le_bytes());
    guest.send(Kind::Stderr, b" late");
    assert_eq!(guest.end(), (State::Exited(7), "one three".into(), "two late".into(), None));
}

#[test]
fn standard_input_comes_as_far_as_asked() {
    let mut guest = guest("cat");
    guest.hello();
    guest.receive();
    guest.stdin.write_all(b"0123456789").unwrap();
    guest.send(Kind::WantStdin, &0u32.to_le_bytes());
    guest.send(Kind::WantStdin, &4u32.to_le_bytes());
    assert_eq!(guest.receive(), (Kind::Stdin, b"0123".to_vec()));
    guest.send(Kind::WantStdin, &100u32.to_le_bytes());
    assert_eq!(guest.receive(), (Kind::Stdin, b"456789".to_vec()));
    guest.stdin = io::pipe().unwrap().1;
    assert_eq!(guest.receive(), (Kind::StdinEof, vec![]));
    guest.send(Kind::WantStdin, &1u32.to_le_bytes());
    assert_eq!(guest.receive(), (Kind::StdinEof, vec![]));
    assert_eq!(guest.end().0, State::Running);
}

#[test]
fn standard_input_is_not_touched_unasked() {
    let mut guest = guest("true");
    guest.hello();
    guest.receive();
    guest.stdin.write_all(b"for the next program").unwrap();
    guest.send(Kind::Exit, &0u32.to_le_bytes());
    guest.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(guest.socket.read(&mut [0]).is_err(), "nothing comes");
    assert_eq!(guest.end().0, State::Exited(0));
}

#[test]
fn more_output_than_any_buffer_holds() {
    let mut guest = guest("big");
    guest.hello();
    guest.receive();
    let data: Vec<u8> = (0..4_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut stdout = std::mem::replace(&mut guest.stdout, io::pipe().unwrap().0);
    let expected = data.clone();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        stdout.read_to_end(&mut got).unwrap();
        assert!(got == expected);
    });
    for chunk in data.chunks(MAX_PAYLOAD) {
        guest.send(Kind::Stdout, chunk);
    }
    guest.end();
    reader.join().unwrap();
}

#[test]
fn a_closed_output_ends_the_run_quietly() {
    let mut guest = guest("yes");
    guest.hello();
    guest.receive();
    guest.stdout = io::pipe().unwrap().0;
    guest.send(Kind::Stdout, b"y\n");
    let (_, _, _, reason) = guest.end();
    assert_eq!(reason, Some(StopReason::OutputClosed));
}

#[test]
fn a_closed_error_stream_does_not() {
    let mut guest = guest("x");
    guest.hello();
    guest.receive();
    guest.stderr = io::pipe().unwrap().0;
    guest.send(Kind::Stderr, b"lost");
    guest.send(Kind::Exit, &3u32.to_le_bytes());
    let (state, _, _, reason) = guest.end();
    assert_eq!((state, reason), (State::Exited(3), None));
}

fn refused(frames: &[(Kind, &[u8])]) -> String {
    let mut guest = guest("x");
    for (kind, payload) in frames {
        guest.send(*kind, payload);
    }
    match guest.end().3 {
        Some(StopReason::Failed(sentence)) => sentence,
        other => panic!("{frames:?}: {other:?}"),
    }
}

#[test]
fn hostile_frames_end_the_run_with_a_sentence() {
    let hello: (Kind, &[u8]) = (Kind::Hello, &[1, 0, 0, 0]);
    assert!(refused(&[(Kind::Hello, &[2, 0, 0, 0])]).contains("version 2"));
    assert!(refused(&[(Kind::Hello, &[])]).contains("0 bytes"));
    assert!(refused(&[hello, hello]).contains("twice"));
    assert!(refused(&[(Kind::Stdout, b"x")]).contains("before Hello"));
    assert!(refused(&[hello, (Kind::Command, b"rm")]).contains("only the host"));
    assert!(refused(&[hello, (Kind::Exit, b"")]).contains("Exit"));
    let exit: (Kind, &[u8]) = (Kind::Exit, &[0; 4]);
    assert!(refused(&[hello, exit, exit]).contains("twice"));
}

#[test]
fn hostile_headers_end_the_run_with_a_sentence() {
    for (bytes, why) in [
        ([9, 0, 0, 0, 0, 0, 0, 0], "unknown frame kind"),
        ([1, 1, 0, 0, 4, 0, 0, 0], "reserved"),
        ([1, 0, 0, 0, 1, 0, 1, 0], "longer"),
    ] {
        let mut guest = guest("x");
        guest.socket.write_all(&bytes).unwrap();
        match guest.end().3 {
            Some(StopReason::Failed(sentence)) => assert!(sentence.contains(why), "{sentence}"),
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever bytes the guest sends, the host side ends, and without a panic.
    #[test]
    fn any_bytes_are_survived(
        chunks in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                Just(vec![1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]),
                Just(vec![2, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c']),
                Just(vec![5, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0]),
            ],
            0..8,
        )
    ) {
        let mut guest = guest("x");
        for chunk in &chunks {
            // The host may have given up already.
            let _ = guest.socket.write_all(chunk);
        }
        let Guest { link, control, socket, .. } = guest;
        drop(socket);
        link.thread.join().expect("no panic");
        control.ended();
    }
}
