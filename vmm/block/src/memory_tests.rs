use super::*;
use crate::tests::Ram;
use std::io::Write;
use std::os::fd::AsFd;

fn segments(list: &[(u64, u32)]) -> Vec<Segment> {
    list.iter().map(|&(address, length)| Segment { address, length }).collect()
}

#[test]
fn only_ram_becomes_pieces() {
    let ram: Arc<dyn HostMemory> = Ram::new(0x1000, 0x2000);
    let of = |list: &[(u64, u32)]| Pieces::of_guest(&ram, &segments(list)).map(|p| p.left());
    assert_eq!(of(&[(0x1000, 0x2000)]), Some(0x2000));
    assert_eq!(of(&[(0x1000, 1), (0x2FFF, 1), (0, 0)]), Some(2));
    assert_eq!(of(&[(0xFFF, 2)]), None);
    assert_eq!(of(&[(0x1000, 1), (0x2FFF, 2)]), None);
    assert_eq!(of(&[(u64::MAX, 2)]), None);
}

#[test]
fn a_file_fills_scattered_memory_and_back() {
    let ram = Ram::new(0, 0x4000);
    let shared: Arc<dyn HostMemory> = ram.clone();
    let mut file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    file.write_all(&content).unwrap();
    // More pieces than one system call takes.
    let many: Vec<_> = (0..1500).map(|i| (i * 5, 2)).collect();
    let mut pieces = Pieces::of_guest(&shared, &segments(&many)).unwrap();
    pieces.read_from(file.as_fd(), 7).unwrap();
    assert_eq!(pieces.left(), 0);
    for i in 0..1500 {
        assert_eq!(ram.dump(i * 5, 3), [content[7 + 2 * i], content[8 + 2 * i], 0]);
    }
    let mut pieces = Pieces::of_guest(&shared, &segments(&many)).unwrap();
    pieces.write_to(file.as_fd(), 10_000).unwrap();
    let mut back = Pieces::of_guest(&shared, &segments(&[(0x3000, 3000)])).unwrap();
    back.read_from(file.as_fd(), 10_000).unwrap();
    assert_eq!(ram.dump(0x3000, 3000), content[7..3007]);
}

#[test]
fn the_end_of_a_file_is_an_error() {
    let ram: Arc<dyn HostMemory> = Ram::new(0, 0x1000);
    let file = tempfile::tempfile().unwrap();
    file.set_len(100).unwrap();
    let mut pieces = Pieces::of_guest(&ram, &segments(&[(0, 200)])).unwrap();
    let error = pieces.read_from(file.as_fd(), 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn splitting_and_copying_keep_the_order() {
    let ram = Ram::new(0, 0x1000);
    let shared: Arc<dyn HostMemory> = ram.clone();
    let mut pieces = Pieces::of_guest(&shared, &segments(&[(0, 10), (100, 10), (50, 5)])).unwrap();
    let mut first = pieces.split(13);
    assert_eq!((first.left(), pieces.left()), (13, 12));
    first.fill(&[1; 13]);
    pieces.fill(&[2; 20]);
    assert_eq!((first.left(), pieces.left()), (0, 0));
    assert_eq!(ram.dump(98, 14), [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0, 0]);
    assert_eq!(ram.dump(49, 7), [0, 2, 2, 2, 2, 2, 0]);
    let mut pieces = Pieces::of_guest(&shared, &segments(&[(8, 3), (100, 4)])).unwrap();
    let mut out = [9; 7];
    pieces.take(&mut out);
    assert_eq!(out, [1, 1, 0, 1, 1, 1, 2]);
}

#[test]
fn zeros_are_as_many_as_asked_for() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; 3 << 20]).unwrap();
    Pieces::zeros((2 << 20) + 512).write_to(file.as_fd(), 512).unwrap();
    let mut data = vec![0; 3 << 20];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut data, 0).unwrap();
    assert!(data[..512].iter().all(|b| *b == 7));
    assert!(data[512..(2 << 20) + 1024].iter().all(|b| *b == 0));
    assert!(data[(2 << 20) + 1024..].iter().all(|b| *b == 7));
}
