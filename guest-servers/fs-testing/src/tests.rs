use xinim_block_client::Storage;

use crate::{Image, Random, Step, hostile, require};

#[test]
fn a_cut_keeps_what_stood_before_the_barrier_and_nothing_after_the_cut() {
    let image = Image::zeroed(4096);
    image.record();
    let mut disk = image.clone();
    disk.write(0, &[1; 1024]).unwrap();
    disk.flush().unwrap();
    image.mark(7);
    disk.write(512, &[2; 1024]).unwrap();
    disk.write(3000, &[3; 10]).unwrap();
    let recording = image.recording();
    assert_eq!(recording.steps.len(), 5);
    assert_eq!(recording.steps[1], Step::Barrier);
    let (mut torn, mut whole, mut old) = (false, false, false);
    for seed in 0..200 {
        let cut = recording.cut_at(4, &mut Random::new(seed));
        assert_eq!(cut.marks, [7]);
        assert!(cut.image[..512].iter().all(|&byte| byte == 1), "before the barrier");
        assert!(cut.image[2048..].iter().all(|&byte| byte == 0), "after the cut");
        let (middle, end) = (cut.image[512], cut.image[1024]);
        assert!(matches!((middle, end), (1 | 2, 0 | 2)));
        torn |= middle != 2 && end == 2 || middle == 2 && end == 0;
        whole |= middle == 2 && end == 2;
        old |= middle == 1 && end == 0;
    }
    assert!(torn && whole && old, "every state of the epoch comes up");
}

#[test]
fn sectors_written_twice_in_an_epoch_go_through_all_their_states() {
    let image = Image::zeroed(512);
    image.record();
    for value in 1..=3 {
        image.clone().write(value, &[value as u8]).unwrap();
    }
    let recording = image.recording();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        seen.insert(recording.cut_at(3, &mut Random::new(seed)).image[..4].to_vec());
    }
    let states = [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 2, 0], [0, 1, 2, 3]];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), states.map(|state| state.to_vec()));
}

#[test]
fn accesses_beyond_the_budget_fail() {
    let mut image = Image::zeroed(512).budget(2);
    assert!(image.read(0, &mut [0; 4]).is_ok() && image.write(0, &[1]).is_ok());
    assert!(!image.exhausted());
    assert!(image.read(0, &mut [0; 4]).is_err() && image.exhausted());
    assert!(Image::zeroed(512).read(510, &mut [0; 4]).is_err(), "beyond the end");
    assert!(Image::zeroed(512).read_only().write(0, &[1]).is_err());
}

#[test]
fn damage_is_repeatable_and_hits() {
    let good = vec![0x55; 10_000];
    let hot = std::iter::once(1000..1100).collect::<Vec<_>>();
    let one = hostile::damage(&good, &hot, &mut Random::new(5));
    assert_eq!(one, hostile::damage(&good, &hot, &mut Random::new(5)));
    let changed = |seed| hostile::damage(&good, &hot, &mut Random::new(seed)) != good;
    assert!((0..50).filter(|&seed| changed(seed)).count() > 45);
}

#[test]
fn missing_tools_are_said() {
    assert!(require("missing_tools_are_said", &["sh"]));
    assert!(!crate::have("no-such-tool-anywhere"));
    assert_eq!(crate::run("sh", &["-c", "echo a; echo b >&2; exit 3"]), (3, "a\nb\n".into()));
}
