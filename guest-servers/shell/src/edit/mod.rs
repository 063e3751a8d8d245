//! The line editor: keys in, lines and terminal output out. Pure: it is fed bytes and appends
//! what the terminal is to show.
//!
//! ```text
//! left right, Ctrl-B Ctrl-F   by one            Ctrl-A Ctrl-E, Home End   start, end
//! up down, Ctrl-P Ctrl-N      history           Ctrl-U Ctrl-K Ctrl-W      cut before, behind, word
//! Ctrl-Y                      paste the cut     Ctrl-D                    delete, or end of input
//! Ctrl-L                      clear the screen  Ctrl-C                    give the line up
//! Tab                         complete
//! ```
//! Long lines wrap. Every character is taken to be one column wide.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

mod history;
mod keys;

pub use history::History;
use keys::{Key, Keys};

/// Longest line, in characters.
pub const LINE_MAX: usize = 16 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Go on.
    None,
    Line(String),
    /// Ctrl-D on an empty line.
    End,
    Interrupt,
    /// Tab: the caller may [`Editor::insert`].
    Complete,
}

pub struct Editor<'h> {
    history: &'h mut History,
    prompt: String,
    columns: usize,
    line: Vec<char>,
    at: usize,
    keys: Keys,
    /// What Ctrl-U, Ctrl-K and Ctrl-W took.
    cut: Vec<char>,
    /// Steps back in history; 0: the line being typed, kept in `typed`.
    back: usize,
    typed: Vec<char>,
    /// Row of the cursor below the prompt's first, as last shown.
    row: usize,
}

impl<'h> Editor<'h> {
    /// Shows the prompt.
    pub fn new(history: &'h mut History, prompt: &str, columns: usize, out: &mut String) -> Self {
        out.push_str(prompt);
        Self {
            history,
            prompt: prompt.into(),
            columns: columns.max(8),
            line: Vec::new(),
            at: 0,
            keys: Keys::default(),
            cut: Vec::new(),
            back: 0,
            typed: Vec::new(),
            row: 0,
        }
    }

    /// The text before the cursor.
    pub fn before(&self) -> String {
        self.line[..self.at].iter().collect()
    }

    pub fn feed(&mut self, byte: u8, out: &mut String) -> Event {
        let Some(key) = self.keys.feed(byte) else { return Event::None };
        match key {
            Key::Enter => {
                self.move_to(self.line.len(), out);
                out.push_str("\r\n");
                let line: String = self.line.iter().collect();
                self.history.add(&line);
                return Event::Line(line);
            }
            Key::Control(b'D') if self.line.is_empty() => {
                out.push_str("\r\n");
                return Event::End;
            }
            Key::Control(b'C') => {
                self.move_to(self.line.len(), out);
                out.push_str("^C\r\n");
                return Event::Interrupt;
            }
            Key::Tab => return Event::Complete,
            Key::Char(c) => {
                let mut bytes = [0; 4];
                self.insert(c.encode_utf8(&mut bytes), out);
            }
            Key::Control(b'L') => {
                out.push_str("\x1b[H\x1b[2J");
                self.row = 0;
                self.show(out);
            }
            key => self.edit(key, out),
        }
        Event::None
    }

    fn edit(&mut self, key: Key, out: &mut String) {
        let len = self.line.len();
        match key {
            Key::Left | Key::Control(b'B') => self.move_to(self.at.saturating_sub(1), out),
            Key::Right | Key::Control(b'F') => self.move_to((self.at + 1).min(len), out),
            Key::Home | Key::Control(b'A') => self.move_to(0, out),
            Key::End | Key::Control(b'E') => self.move_to(len, out),
            Key::WordLeft => self.move_to(self.word_start(), out),
            Key::WordRight => self.move_to(self.word_end(), out),
            Key::Backspace if self.at > 0 => self.remove(self.at - 1, self.at, out),
            Key::Delete | Key::Control(b'D') if self.at < len => {
                self.remove(self.at, self.at + 1, out);
            }
            Key::Control(b'U') => self.cut(0, self.at, out),
            Key::Control(b'K') => self.cut(self.at, len, out),
            Key::Control(b'W') => self.cut(self.word_start(), self.at, out),
            Key::Control(b'Y') => {
                let text: String = self.cut.iter().collect();
                self.insert(&text, out);
            }
            Key::Up | Key::Control(b'P') => self.step(self.back + 1, out),
            Key::Down | Key::Control(b'N') if self.back > 0 => self.step(self.back - 1, out),
            _ => {}
        }
    }

    /// Inserts printable text at the cursor.
    pub fn insert(&mut self, text: &str, out: &mut String) {
        let room = LINE_MAX.saturating_sub(self.line.len());
        let text: Vec<char> = text.chars().filter(|c| !c.is_control()).take(room).collect();
        let at_end = self.at == self.line.len();
        let count = text.len();
        // The usual case costs only the character itself. At the last column the terminal is
        // left in doubt about the row, so that case is drawn.
        if at_end && !(self.prompt_width() + self.at + count).is_multiple_of(self.columns) {
            out.extend(text.iter());
            self.line.extend(text);
            self.at += count;
            self.row = (self.prompt_width() + self.at) / self.columns;
            return;
        }
        self.line.splice(self.at..self.at, text);
        self.at += count;
        self.redraw(out);
    }

    /// Shows the prompt and the line anew, for instance below a list of completions.
    pub fn show(&mut self, out: &mut String) {
        self.row = 0;
        self.redraw(out);
    }

    fn remove(&mut self, from: usize, to: usize, out: &mut String) {
        self.line.drain(from..to);
        self.at = from;
        self.redraw(out);
    }

    fn cut(&mut self, from: usize, to: usize, out: &mut String) {
        if from < to {
            self.cut = self.line[from..to].to_vec();
            self.remove(from, to, out);
        }
    }

    fn word_start(&self) -> usize {
        let blank = |c: &char| *c == ' ';
        let before = &self.line[..self.at];
        let word = before.iter().rposition(|c| !blank(c)).map_or(0, |at| at + 1);
        before[..word].iter().rposition(blank).map_or(0, |at| at + 1)
    }

    fn word_end(&self) -> usize {
        let behind = &self.line[self.at..];
        let word = behind.iter().position(|c| *c != ' ').unwrap_or(behind.len());
        let end = behind[word..].iter().position(|c| *c == ' ').unwrap_or(behind.len() - word);
        self.at + word + end
    }

    /// Shows the line `back` steps ago.
    fn step(&mut self, back: usize, out: &mut String) {
        if self.back == 0 {
            self.typed = self.line.clone();
        }
        self.line = match back {
            0 => self.typed.clone(),
            _ => match self.history.ago(back) {
                Some(line) => line.chars().collect(),
                None => return,
            },
        };
        self.back = back;
        self.at = self.line.len();
        self.redraw(out);
    }

    fn prompt_width(&self) -> usize {
        self.prompt.chars().count()
    }

    fn move_to(&mut self, at: usize, out: &mut String) {
        if at != self.at {
            self.at = at;
            self.place(out);
        }
    }

    /// Moves the cursor from where it was last shown to where it belongs.
    fn place(&mut self, out: &mut String) {
        let target = self.prompt_width() + self.at;
        let (row, column) = (target / self.columns, target % self.columns);
        match self.row.cmp(&row) {
            core::cmp::Ordering::Greater => _ = write!(out, "\x1b[{}A", self.row - row),
            core::cmp::Ordering::Less => _ = write!(out, "\x1b[{}B", row - self.row),
            core::cmp::Ordering::Equal => {}
        }
        out.push('\r');
        if column > 0 {
            let _ = write!(out, "\x1b[{column}C");
        }
        self.row = row;
    }

    fn redraw(&mut self, out: &mut String) {
        if self.row > 0 {
            let _ = write!(out, "\x1b[{}A", self.row);
        }
        out.push('\r');
        out.push_str(&self.prompt);
        out.extend(self.line.iter());
        let end = self.prompt_width() + self.line.len();
        if end.is_multiple_of(self.columns) {
            // The terminal wraps only with the next character: make it.
            out.push_str("\r\n");
        }
        out.push_str("\x1b[J");
        self.row = end / self.columns;
        self.place(out);
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
