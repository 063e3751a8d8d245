use super::*;
use proptest::prelude::*;
use std::vec;

/// A terminal that understands what the editor sends: rows of characters and a cursor.
struct Screen {
    columns: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    fn new(columns: usize) -> Self {
        Self { columns, rows: vec![vec![]], row: 0, column: 0 }
    }

    fn show(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.down(1),
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let mut number = 0;
                    let end = loop {
                        match chars.next().unwrap() {
                            d if d.is_ascii_digit() => {
                                number = number * 10 + d.to_digit(10).unwrap() as usize;
                            }
                            end => break end,
                        }
                    };
                    match end {
                        'A' => self.row -= number,
                        'B' => self.down(number),
                        'C' => self.column += number,
                        'J' => {
                            self.rows.truncate(self.row + 1);
                            self.rows[self.row].truncate(self.column);
                        }
                        other => panic!("{other}"),
                    }
                }
                c => {
                    // Wraps when a character comes, not before.
                    if self.column == self.columns {
                        self.column = 0;
                        self.down(1);
                    }
                    let line = &mut self.rows[self.row];
                    line.resize(line.len().max(self.column + 1), ' ');
                    line[self.column] = c;
                    self.column += 1;
                }
            }
        }
    }

    fn down(&mut self, count: usize) {
        self.row += count;
        while self.rows.len() <= self.row {
            self.rows.push(vec![]);
        }
    }

    fn text(&self) -> String {
        self.rows.iter().flatten().collect()
    }

    fn cursor(&self) -> usize {
        self.row * self.columns + self.column
    }
}

fn type_keys(history: &mut History, keys: &str) -> Event {
    let mut out = String::new();
    let mut editor = Editor::new(history, "$ ", 20, &mut out);
    for byte in keys.bytes() {
        let event = editor.feed(byte, &mut out);
        if event != Event::None {
            return event;
        }
    }
    Event::None
}

#[test]
fn keys_edit_the_line() {
    let history = &mut History::default();
    let cases = [
        ("abc\r", "abc"),
        ("abc\x1b[D\x1b[DX\r", "aXbc"),
        ("abc\x01X\x05Y\r", "XabcY"),
        ("abc\x7f\x7fd\r", "ad"),
        ("one two\x17three\r", "one three"),
        ("abc\x15def\r", "def"),
        ("abc\x01\x0bx\x19\r", "xabc"),
        ("abc\x1b[H\x1b[3~\r", "bc"),
        ("a b\x1b[1;5DX\r", "a Xb"),
        ("äö\x1b[Dü\r", "äüö"),
        ("ab\x01\x04\r", "b"),
        ("\x1b[A\r", "b"),
        ("\x1b[A\x1b[A\x1b[B\x1b[B new\r", " new"),
    ];
    for (keys, line) in cases {
        assert_eq!(type_keys(history, keys), Event::Line(line.into()), "{keys:?}");
    }
    assert_eq!(type_keys(history, "\x04"), Event::End);
    assert_eq!(type_keys(history, "abc\x03"), Event::Interrupt);
    assert_eq!(type_keys(history, "ec\t"), Event::Complete);
}

proptest! {
    #[test]
    fn the_screen_shows_the_line_and_the_cursor(
        keys in prop::collection::vec(
            prop_oneof![
                8 => "[a-z ]".prop_map(|s| s),
                1 => Just("\x1b[D".into()), 1 => Just("\x1b[C".into()), 1 => Just("\x1b[A".into()),
                1 => Just("\x7f".into()), 1 => Just("\x01".into()), 1 => Just("\x05".into()),
                1 => Just("\x17".into()), 1 => Just("\x0b".into()), 1 => Just("\x19".into()),
            ],
            0..60
        ),
        columns in 8usize..30,
    ) {
        let mut history = History::default();
        history.add("an older line, long enough to wrap around");
        let mut screen = Screen::new(columns);
        let mut out = String::new();
        let mut editor = Editor::new(&mut history, "$ ", columns, &mut out);
        for byte in keys.concat().bytes() {
            prop_assert_eq!(editor.feed(byte, &mut out), Event::None);
            screen.show(&core::mem::take(&mut out));
            let mut expected = String::from("$ ");
            expected.extend(editor.line.iter());
            prop_assert_eq!(screen.text(), expected);
            prop_assert_eq!(screen.cursor(), 2 + editor.at);
        }
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        let mut out = String::new();
        let mut history = History::default();
        let mut editor = Editor::new(&mut history, "> ", 40, &mut out);
        for byte in bytes {
            let _ = editor.feed(byte, &mut out);
        }
        prop_assert!(editor.line.len() <= LINE_MAX && editor.at <= editor.line.len());
    }
}
