use super::*;

fn read(what: &str, bits: u64) -> Difference {
    Difference::new(what.into(), String::new(), String::new()).bits(bits)
}

#[test]
fn bits_are_explained_by_all_entries_together() {
    assert_eq!(known(0x10D3, &read("read ICR", 0x2)).map(|k| k.id), Some("e1000-link-event"));
    assert_eq!(known(0x10D3, &read("read ICR", 0x80)).map(|k| k.id), Some("82574-queue-causes"));
    assert!(known(0x10D3, &read("read ICR", 0x83)).is_some());
    assert!(known(0x10D3, &read("read ICR", 0x1_0083)).is_none(), "a bit that nothing explains");
    assert!(known(0x100E, &read("read ICR", 0x80)).is_none(), "of another card");
}

#[test]
fn an_address_in_an_eeprom_is_never_the_boards_affair() {
    assert!(known(0x100E, &read("read EERD word 3", 0xFFFF_0000)).is_some());
    assert!(known(0x100E, &read("read EERD word 1", 0xFFFF_0000)).is_none());
}

#[test]
fn what_is_not_listed_is_unknown() {
    let frame = Difference::new("frame".into(), String::new(), String::new());
    for device in [0x2922, 0x1041, 0x1042, 0x1043, 0x100E, 0x10D3] {
        assert_eq!(known(device, &frame).map(|k| k.id), None);
    }
}

/// The page explains each, in the same words of whose doing it is.
#[test]
fn each_is_explained_in_the_documents() {
    let page = include_str!("../../../../docs/record-replay.md");
    for (index, known) in KNOWN.iter().enumerate() {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", known.id)));
        let row = row.unwrap_or_else(|| panic!("{} is not in docs/record-replay.md", known.id));
        assert!(row.contains(known.verdict.words()), "{row}");
        assert!(KNOWN[..index].iter().all(|other| other.id != known.id), "{} twice", known.id);
    }
}
