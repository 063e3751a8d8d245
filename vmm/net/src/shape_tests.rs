use super::*;

fn frame(number: u32, length: usize) -> Frame {
    let mut data = vec![0; length.max(18)];
    data[14..18].copy_from_slice(&number.to_be_bytes());
    Frame::plain(data)
}

fn number(frame: &Frame) -> u32 {
    u32::from_be_bytes(frame.data[14..18].try_into().unwrap())
}

/// What comes out of 10,000 frames put in 1 ms apart, with the time of each.
fn run(shape: Shape) -> Vec<(u32, Duration)> {
    let start = Instant::now();
    let mut direction = Direction::new(shape, shape.seed);
    let mut out = Vec::new();
    for step in 0..10_000 {
        let now = start + Duration::from_millis(step.into());
        direction.put(&frame(step, 1000), now);
        while let Some(frame) = direction.due(now) {
            out.push((number(&frame), now - start));
        }
    }
    out
}

#[test]
fn loss_and_duplicates_are_as_often_as_asked() {
    let lossy = run(Shape { loss: 100_000, seed: 1, ..Shape::default() });
    assert!((8_800..9_200).contains(&lossy.len()), "{}", lossy.len());
    let twice = run(Shape { duplicate: 50_000, seed: 1, ..Shape::default() });
    assert!((10_400..10_600).contains(&twice.len()), "{}", twice.len());
    assert!(run(Shape { loss: 1_000_000, ..Shape::default() }).is_empty());
}

#[test]
fn the_same_seed_makes_the_same_decisions() {
    let shape = |seed| Shape { loss: 100_000, seed, ..Shape::default() };
    assert_eq!(run(shape(7)), run(shape(7)));
    assert_ne!(run(shape(7)), run(shape(8)));
}

#[test]
fn delayed_frames_stay_in_order_unless_reordered() {
    let delay = Duration::from_millis(20);
    let plain = run(Shape { delay, ..Shape::default() });
    assert!(plain.is_sorted());
    assert!(plain.iter().all(|(n, at)| *at == Duration::from_millis(u64::from(*n)) + delay));
    let mixed = run(Shape { delay, reorder: 100_000, seed: 3, ..Shape::default() });
    let early = mixed.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    assert!((500..1_500).contains(&early), "{early}");
}

#[test]
fn a_rate_spaces_frames_and_fills_the_queue() {
    // 1,024 bytes on the wire at 8.192 Mb/s: 1 ms each.
    let shape = Shape { rate: Some(8_192_000), ..Shape::default() };
    let start = Instant::now();
    let mut direction = Direction::new(shape, 0);
    let mut put = 0;
    while !direction.is_full() {
        direction.put(&frame(put, 1000), start);
        put += 1;
    }
    assert_eq!(put as usize, QUEUE_BYTES.div_ceil(1000));
    let due = |direction: &mut Direction, after: u64| {
        direction.due(start + Duration::from_millis(after)).map(|frame| number(&frame))
    };
    assert_eq!(due(&mut direction, 0), None);
    assert_eq!(due(&mut direction, 1), Some(0));
    assert_eq!(due(&mut direction, 1), None);
    assert_eq!(due(&mut direction, 3), Some(1));
    assert_eq!(due(&mut direction, 3), Some(2));
    assert_eq!(due(&mut direction, 3), None);
}

#[test]
fn a_shaped_link_wakes_its_machine_when_frames_are_due() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hub");
    let mut far = crate::hub::Hub::join_in(&path).unwrap();
    let near = crate::hub::Hub::join_in(&path).unwrap();
    let delay = Duration::from_millis(30);
    let mut link = Shaper::new(Box::new(near), Shape { delay, ..Shape::default() }).unwrap();
    far.send(&frame(5, 100));
    let start = Instant::now();
    let mut got = Frame::default();
    while !link.receive(&mut got) {
        let fd = link.watch().unwrap();
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut fds, Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "nothing woke us");
    }
    assert_eq!(number(&got), 5);
    assert!(start.elapsed() >= delay - Duration::from_millis(5));
    assert_eq!(link.send(&frame(6, 100)), Sent::Done);
    assert!(!far.receive(&mut got), "not yet");
}
