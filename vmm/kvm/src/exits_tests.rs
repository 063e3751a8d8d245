use super::*;

fn record(address: u64) -> Record {
    Record {
        time: Duration::from_micros(1500),
        vcpu: Some(1),
        kind: Kind::PortOut,
        address,
        size: 1,
        value: 0x41,
        rip: 0x1000,
        count: 1,
    }
}

#[test]
fn only_the_newest_are_kept() {
    let mut ring = Ring::default();
    for address in 0..100 {
        ring.push(record(address));
    }
    let kept: Vec<u64> = ring.iter().map(|record| record.address).collect();
    assert_eq!(kept, (68..100).collect::<Vec<_>>());
}

#[test]
fn a_polling_loop_is_one_record() {
    let mut ring = Ring::default();
    ring.push(record(1));
    for _ in 0..1000 {
        ring.push(record(2));
    }
    assert_eq!(ring.iter().map(|record| record.count).collect::<Vec<_>>(), [1, 1000]);
    let line = ring.iter().last().unwrap().to_string();
    assert!(line.contains("port-out    0x2 = 41  rip 0000000000001000  (1000 times)"), "{line}");
}

#[test]
fn counts_add_up_by_name() {
    let (mut one, mut two) = (Counts::default(), Counts::default());
    one.add(Kind::PortIn);
    two.add(Kind::PortIn);
    two.add(Kind::Doorbell);
    one.merge(&two);
    assert_eq!(one.named(), [("port-in".to_owned(), 2), ("doorbell".to_owned(), 1)]);
}

#[test]
fn debug_text_is_one_record() {
    let mut ring = Ring::default();
    for value in [0x41, 0x42, 0x43] {
        ring.push(Record { value, ..record(u64::from(PORT_DEBUGCON)) });
        ring.push(Record { value, ..record(u64::from(PORT_DEBUGCON)) });
    }
    ring.push(Record { value: 1, ..record(2) });
    ring.push(Record { value: 2, ..record(2) });
    assert_eq!(ring.iter().map(|record| record.count).collect::<Vec<_>>(), [6, 1, 1]);
}
