use super::*;
use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec;
use xinim_abi::hostlink::Header;

/// Clients are numbers; each has a window of its own.
struct FakeWorld {
    room: usize,
    sent: Vec<(Kind, Vec<u8>)>,
    windows: Vec<Vec<u8>>,
    answers: Vec<(usize, Result<Answer>)>,
    in_flight: bool,
}

impl FakeWorld {
    fn new(room: usize) -> Self {
        let windows = vec![vec![0; 256 * 1024]; 8];
        Self { room, sent: Vec::new(), windows, answers: Vec::new(), in_flight: false }
    }

    fn kinds(&self) -> Vec<Kind> {
        self.sent.iter().map(|(kind, _)| *kind).collect()
    }
}

impl World<usize> for FakeWorld {
    fn room(&self) -> usize {
        if self.room > 0 { MAX_PAYLOAD } else { 0 }
    }
    fn is_sending(&self) -> bool {
        self.in_flight
    }
    fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        assert!(self.room > 0 && payload.len() <= MAX_PAYLOAD);
        self.room -= 1;
        self.in_flight = true;
        self.sent.push((kind, payload.to_vec()));
        Ok(())
    }
    fn send_from(&mut self, kind: Kind, client: &usize, at: u32, len: usize) -> Result<()> {
        let at = at as usize;
        let bytes = self.windows[*client].get(at..at + len).ok_or(Error::Fault)?.to_vec();
        self.send(kind, &bytes)
    }
    fn deliver(&mut self, client: &usize, at: u32, bytes: &[u8]) -> Result<()> {
        let at = at as usize;
        let window = self.windows[*client].get_mut(at..at + bytes.len()).ok_or(Error::Fault)?;
        window.copy_from_slice(bytes);
        Ok(())
    }
    fn deliver_command(&mut self, client: &usize, text: &[u8]) -> Result<u64> {
        self.deliver(client, 0, text).map_err(|_| Error::TooBig)?;
        Ok(text.len() as u64)
    }
    fn answer(&mut self, client: usize, result: Result<Answer>) {
        self.answers.push((client, result));
    }
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header::new(kind, payload.len()).encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn a_run_from_hello_to_exit() {
    let (mut link, mut world) = (Link::new(Greeting::Due), FakeWorld::new(4));
    link.pump(&mut world);
    assert_eq!(world.sent, [(Kind::Hello, VERSION.to_le_bytes().to_vec())]);
    link.want_command(0);
    link.pump(&mut world);
    assert!(world.answers.is_empty());
    link.received(&frame(Kind::Command, b"ls"));
    link.pump(&mut world);
    assert_eq!(world.answers, [(0, Ok(Answer::Command(2)))]);
    assert_eq!(&world.windows[0][..2], b"ls");
    // Asked again, by a restarted init: the same answer, no second hello.
    link.want_command(1);
    link.pump(&mut world);
    assert_eq!(world.answers[1], (1, Ok(Answer::Command(2))));
    world.windows[2][10..15].copy_from_slice(b"hello");
    link.write(2, Kind::Stdout, 10, 5);
    link.exit(3, 42);
    link.pump(&mut world);
    assert_eq!(world.kinds(), [Kind::Hello, Kind::Stdout, Kind::Exit]);
    assert_eq!(world.sent[1].1, b"hello");
    assert_eq!(world.answers.len(), 3, "the exit frame is still on its way");
    world.in_flight = false;
    link.pump(&mut world);
    assert_eq!(world.answers[3], (3, Ok(Answer::Exited)));
}

#[test]
fn input_is_asked_for_once_and_bounded() {
    let (mut link, mut world) = (Link::new(Greeting::WhenNeeded), FakeWorld::new(100));
    link.pump(&mut world);
    assert!(world.sent.is_empty(), "nobody wants anything");
    link.read(0, 0, 1000);
    link.read(1, 0, 500);
    link.pump(&mut world);
    link.pump(&mut world);
    assert_eq!(world.kinds(), [Kind::Hello, Kind::WantStdin]);
    assert_eq!(world.sent[1].1, 1000u32.to_le_bytes());
    // The host sends more than was asked for: the rest is dropped.
    link.received(&frame(Kind::Stdin, &[7; 1500]));
    link.pump(&mut world);
    assert_eq!(world.answers, [(0, Ok(Answer::Read(1000)))]);
    assert_eq!(link.ignored(), 1);
    assert_eq!(world.kinds().len(), 3, "the second reader's turn");
    link.received(&frame(Kind::Stdin, b"abc"));
    link.pump(&mut world);
    assert_eq!(world.answers[1], (1, Ok(Answer::Read(3))));
    // 497 bytes are still to come: nothing is asked for.
    link.read(2, 0, 10);
    link.pump(&mut world);
    assert_eq!(world.kinds().len(), 3);
    link.received(&frame(Kind::StdinEof, &[]));
    link.pump(&mut world);
    assert_eq!(world.answers[2], (2, Ok(Answer::Read(0))));
    link.read(3, 0, 10);
    link.pump(&mut world);
    assert_eq!(world.answers[3], (3, Ok(Answer::Read(0))));
}

#[test]
fn a_huge_read_asks_for_no_more_than_is_kept() {
    let (mut link, mut world) = (Link::new(Greeting::WhenNeeded), FakeWorld::new(100));
    link.read(0, 0, u32::MAX);
    link.pump(&mut world);
    assert_eq!(world.sent[1].1, INPUT_MAX.to_le_bytes());
}

#[test]
fn writers_wait_for_room_in_order() {
    let (mut link, mut world) = (Link::new(Greeting::WhenNeeded), FakeWorld::new(1));
    link.write(0, Kind::Stdout, 0, 3);
    link.write(1, Kind::Stderr, 0, 3);
    link.pump(&mut world);
    assert_eq!(world.kinds(), [Kind::Hello]);
    world.room = 1;
    link.pump(&mut world);
    assert_eq!(world.answers, [(0, Ok(Answer::Written(3)))]);
    world.room = 1;
    link.pump(&mut world);
    assert_eq!(world.kinds(), [Kind::Hello, Kind::Stdout, Kind::Stderr]);
}

#[test]
fn a_long_write_takes_the_buffers_there_are() {
    let (mut link, mut world) = (Link::new(Greeting::ByPredecessor), FakeWorld::new(2));
    link.write(0, Kind::Stdout, 0, 200 * 1024);
    link.pump(&mut world);
    assert_eq!(world.answers, [(0, Ok(Answer::Written(128 * 1024)))]);
    // A window that is shorter than the client says.
    world.room = 4;
    link.write(1, Kind::Stdout, 256 * 1024 - 10, 100);
    link.write(2, Kind::Stdout, u32::MAX, 100);
    link.write(3, Kind::Stdout, 0, 0);
    link.pump(&mut world);
    assert_eq!(
        world.answers[1..],
        [(1, Err(Error::Fault)), (2, Err(Error::Fault)), (3, Ok(Answer::Written(0)))]
    );
}

#[test]
fn the_dead_are_forgotten_but_their_exit_status_is_not() {
    let (mut link, mut world) = (Link::new(Greeting::WhenNeeded), FakeWorld::new(0));
    link.read(0, 0, 5);
    link.write(0, Kind::Stdout, 0, 5);
    link.exit(0, 3);
    link.forget(|client| *client == 0);
    world.room = 5;
    link.pump(&mut world);
    assert_eq!(world.kinds(), [Kind::Hello, Kind::Exit]);
}

#[test]
fn a_new_instance_greets_again_only_for_the_command() {
    let (mut link, mut world) = (Link::new(Greeting::ByPredecessor), FakeWorld::new(5));
    link.write(0, Kind::Stdout, 0, 5);
    link.pump(&mut world);
    assert_eq!(world.kinds(), [Kind::Stdout]);
    link.want_command(1);
    link.pump(&mut world);
    assert_eq!(world.kinds(), [Kind::Stdout, Kind::Hello]);
}

#[derive(Clone, Debug)]
enum Step {
    Read(usize, u32),
    Write(usize, bool, Vec<u8>),
    Host(Vec<u8>),
    Eof,
    Room(usize),
    Forget(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..50);
    prop_oneof![
        (0usize..4, 0u32..40).prop_map(|(client, len)| Step::Read(client, len)),
        (0usize..4, any::<bool>(), bytes()).prop_map(|(c, err, b)| Step::Write(c, err, b)),
        bytes().prop_map(Step::Host),
        Just(Step::Eof),
        (0usize..4).prop_map(Step::Room),
        (0usize..4).prop_map(Step::Forget),
    ]
}

proptest! {
    /// An honest host: input arrives whole and in order at the readers, output likewise at the host,
    /// never more input is under way than was asked for, and every client is answered once.
    #[test]
    fn bytes_arrive_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let (mut link, mut world) = (Link::new(Greeting::WhenNeeded), FakeWorld::new(0));
        let (mut stdin, mut got) = (VecDeque::new(), Vec::new());
        let (mut fed, mut credit, mut handled) = (Vec::new(), 0usize, 0);
        let (mut written, mut busy) = (Vec::new(), vec![None::<String>; 4]);
        let mut eof = false;
        for step in steps {
            match step {
                Step::Read(client, len) if busy[client].is_none() => {
                    busy[client] = Some("read".to_string());
                    link.read(client, 0, len);
                }
                Step::Write(client, err, bytes) if busy[client].is_none() => {
                    busy[client] = Some("write".to_string());
                    world.windows[client][..bytes.len()].copy_from_slice(&bytes);
                    let kind = if err { Kind::Stderr } else { Kind::Stdout };
                    written.push((client, kind, bytes.clone()));
                    link.write(client, kind, 0, bytes.len() as u32);
                }
                Step::Host(bytes) => stdin.extend(bytes),
                Step::Eof if stdin.is_empty() && !eof && credit > 0 => {
                    eof = true;
                    credit = 0;
                    link.received(&frame(Kind::StdinEof, &[]));
                }
                Step::Room(room) => world.room += room,
                Step::Forget(client) => {
                    let never_sent = busy[client].as_deref() == Some("write");
                    if never_sent {
                        let at = written.iter().rposition(|(c, ..)| *c == client).unwrap();
                        written.remove(at);
                    }
                    link.forget(|c| *c == client);
                    busy[client] = None;
                }
                _ => {}
            }
            link.pump(&mut world);
            for (kind, payload) in &world.sent[handled..] {
                if *kind == Kind::WantStdin {
                    credit += u32::from_le_bytes(payload[..].try_into().unwrap()) as usize;
                    prop_assert!(credit <= INPUT_MAX as usize);
                }
            }
            handled = world.sent.len();
            let count = if eof { 0 } else { credit.min(stdin.len()) };
            if count > 0 {
                let piece: Vec<u8> = stdin.drain(..count).collect();
                credit -= count;
                fed.extend_from_slice(&piece);
                link.received(&frame(Kind::Stdin, &piece));
                link.pump(&mut world);
            }
            for (client, result) in core::mem::take(&mut world.answers) {
                prop_assert!(busy[client].take().is_some(), "answered without a question");
                match result.unwrap() {
                    Answer::Read(count) => {
                        got.extend_from_slice(&world.windows[client][..count as usize]);
                    }
                    Answer::Written(_) => {}
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        world.room = 1000;
        link.pump(&mut world);
        prop_assert_eq!(&got[..], &fed[..got.len()]);
        let sent: Vec<_> = world.sent.iter()
            .filter(|(kind, _)| matches!(kind, Kind::Stdout | Kind::Stderr)).cloned().collect();
        let expected: Vec<_> = written.into_iter().map(|(_, kind, bytes)| (kind, bytes)).collect();
        prop_assert_eq!(sent, expected);
        prop_assert_ne!(world.sent.first().map(|(kind, _)| *kind), Some(Kind::WantStdin));
    }
}
