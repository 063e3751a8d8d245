//! Bytes of a terminal to keys: control characters, escape sequences (VT100, xterm), UTF-8.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// By its letter.
    Control(u8),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    WordLeft,
    WordRight,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Plain,
    Escape,
    /// Behind `ESC [` or `ESC O`: the number given first, and the one given last.
    Sequence {
        first: u16,
        last: u16,
    },
    /// Within a character of UTF-8.
    Utf8 {
        bytes: [u8; 4],
        have: usize,
        want: usize,
    },
}

#[derive(Debug, Default)]
pub struct Keys(State);

impl Keys {
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        match core::mem::take(&mut self.0) {
            State::Plain => self.plain(byte),
            State::Escape => match byte {
                b'[' | b'O' => {
                    self.0 = State::Sequence { first: 0, last: 0 };
                    None
                }
                b'b' => Some(Key::WordLeft),
                b'f' => Some(Key::WordRight),
                0x1B => {
                    self.0 = State::Escape;
                    None
                }
                _ => None,
            },
            State::Sequence { first, last } => match byte {
                b'0'..=b'9' => {
                    let last = last.wrapping_mul(10).wrapping_add(u16::from(byte - b'0'));
                    self.0 = State::Sequence { first, last };
                    None
                }
                b';' => {
                    self.0 = State::Sequence { first: last, last: 0 };
                    None
                }
                byte => sequence(byte, first, last),
            },
            State::Utf8 { mut bytes, have, want } => {
                if byte & 0xC0 != 0x80 {
                    // Not a continuation: what came before is dropped.
                    return self.plain(byte);
                }
                bytes[have] = byte;
                let have = have + 1;
                if have < want {
                    self.0 = State::Utf8 { bytes, have, want };
                    return None;
                }
                let text = core::str::from_utf8(&bytes[..want]).ok()?;
                text.chars().next().filter(|c| !c.is_control()).map(Key::Char)
            }
        }
    }

    fn plain(&mut self, byte: u8) -> Option<Key> {
        let want = match byte {
            b'\r' | b'\n' => return Some(Key::Enter),
            b'\t' => return Some(Key::Tab),
            8 | 0x7F => return Some(Key::Backspace),
            0x1B => {
                self.0 = State::Escape;
                return None;
            }
            1..0x1B => return Some(Key::Control(byte + b'@')),
            b' '..0x7F => return Some(Key::Char(char::from(byte))),
            0xC2..0xE0 => 2,
            0xE0..0xF0 => 3,
            0xF0..0xF5 => 4,
            _ => return None,
        };
        self.0 = State::Utf8 { bytes: [byte, 0, 0, 0], have: 1, want };
        None
    }
}

fn sequence(byte: u8, first: u16, last: u16) -> Option<Key> {
    // `ESC [ 1 ; 5 C`: with Ctrl; 3 is Alt.
    let by_word = first == 1 && (last == 5 || last == 3);
    Some(match byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' if by_word => Key::WordRight,
        b'D' if by_word => Key::WordLeft,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'~' => match last {
            1 | 7 => Key::Home,
            4 | 8 => Key::End,
            3 => Key::Delete,
            _ => return None,
        },
        _ => return None,
    })
}
