use super::*;
use proptest::prelude::*;
use std::vec;
use xinim_abi::hostlink::MAX_PAYLOAD;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Command(Vec<u8>),
    Eof,
    Ignored,
}

/// Everything a stream comes to, when it is cut into pieces of these sizes (again and again).
fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<Seen>, Vec<u8>) {
    let (mut decoder, mut seen, mut stdin) = (Decoder::default(), Vec::new(), Vec::new());
    let mut cuts = cuts.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*cuts.next().unwrap_or(&1)).clamp(1, rest.len()));
        decoder.feed(now, |event| match event {
            Event::Command(text) => seen.push(Seen::Command(text)),
            Event::Stdin(piece) => stdin.extend_from_slice(piece),
            Event::StdinEof => seen.push(Seen::Eof),
            Event::Ignored => seen.push(Seen::Ignored),
        });
        rest = later;
    }
    (seen, stdin)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[derive(Clone, Debug)]
enum Frame {
    Command(Vec<u8>),
    Stdin(Vec<u8>),
    Eof,
    Unknown(u8, Vec<u8>),
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let frame = prop_oneof![
        bytes().prop_map(Frame::Command),
        bytes().prop_map(Frame::Stdin),
        Just(Frame::Eof),
        (0x84u8.., bytes()).prop_map(|(kind, payload)| Frame::Unknown(kind, payload)),
        (1u8..6, bytes()).prop_map(|(kind, payload)| Frame::Unknown(kind, payload)),
    ];
    prop::collection::vec(frame, 0..20)
}

proptest! {
    #[test]
    fn pieces_do_not_matter(frames in frames(), cuts in prop::collection::vec(1usize..30, 1..10)) {
        let (mut bytes, mut expected, mut stdin) = (Vec::new(), Vec::new(), Vec::new());
        for each in frames {
            match each {
                Frame::Command(text) => {
                    bytes.extend(frame(Kind::Command as u8, &text));
                    expected.push(Seen::Command(text));
                }
                Frame::Stdin(data) => {
                    bytes.extend(frame(Kind::Stdin as u8, &data));
                    stdin.extend(data);
                }
                Frame::Eof => {
                    bytes.extend(frame(Kind::StdinEof as u8, &[]));
                    expected.push(Seen::Eof);
                }
                Frame::Unknown(kind, payload) => {
                    bytes.extend(frame(kind, &payload));
                    expected.push(Seen::Ignored);
                }
            }
        }
        prop_assert_eq!(decode(&bytes, &cuts), (expected, stdin));
    }

    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        decode(&bytes, &[7]);
    }
}

#[test]
fn malformed_frames_are_skipped_by_their_length() {
    let mut bytes = vec![Kind::Stdin as u8, 1, 0, 0, 3, 0, 0, 0, 1, 2, 3];
    let long = (MAX_PAYLOAD as u32 + 1).to_le_bytes();
    bytes.extend([Kind::Command as u8, 0, 0, 0]);
    bytes.extend(long);
    bytes.extend(vec![9; MAX_PAYLOAD + 1]);
    bytes.extend(frame(Kind::Stdin as u8, b"ok"));
    let (seen, stdin) = decode(&bytes, &[1000]);
    assert_eq!(seen, [Seen::Ignored, Seen::Ignored]);
    assert_eq!(stdin, b"ok");
}
