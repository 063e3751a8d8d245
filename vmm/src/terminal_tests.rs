use super::*;
use proptest::prelude::*;

fn keys(text: &[u8]) -> Vec<Key> {
    let mut escape = Escape::default();
    text.iter().map(|b| escape.key(*b)).filter(|key| *key != Key::Nothing).collect()
}

#[test]
fn escape_keys() {
    assert_eq!(keys(b"ab"), [Key::Send(b'a'), Key::Send(b'b')]);
    assert_eq!(keys(b"\x01x"), [Key::Leave]);
    assert_eq!(keys(b"\x01\x01x"), [Key::Send(1), Key::Send(b'x')]);
    assert_eq!(keys(b"\x01h\x03"), [Key::Help, Key::Send(3)]);
    assert_eq!(keys(b"\x01qx"), [Key::Send(b'x')]);
}

proptest! {
    /// Doubling every Ctrl-A sends any bytes whatever.
    #[test]
    fn everything_can_be_sent(bytes: Vec<u8>) {
        let typed: Vec<u8> =
            bytes.iter().flat_map(|b| std::iter::repeat_n(*b, 1 + usize::from(*b == 1))).collect();
        let sent: Vec<Key> = bytes.iter().map(|b| Key::Send(*b)).collect();
        prop_assert_eq!(keys(&typed), sent);
    }
}
