//! The terminal while a guest has it: raw mode, its restoration on every way out, and the escape
//! key.
//!
//! ```text
//! Ctrl-A x       leave            Ctrl-A h   help
//! Ctrl-A Ctrl-A  send Ctrl-A      Ctrl-A …   anything else is dropped
//! ```

use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{self, OptionalActions, Termios};

const CTRL_A: u8 = 1;
pub const HELP: &str = "\nCtrl-A x leave  Ctrl-A Ctrl-A send Ctrl-A  Ctrl-A h this\n";

/// The modes to go back to, while the terminal is raw.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Puts standard input into raw mode; `Drop`, [`restore`] and a panic put it back.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// `None` when standard input is no terminal.
    pub fn enter() -> Option<Self> {
        static HOOK: Once = Once::new();
        let modes = termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        // A panic is printed on a terminal that works, whichever thread it happens in.
        HOOK.call_once(|| {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                print(info);
            }));
        });
        let mut raw = modes.clone();
        // Output as well: what the guest prints ends lines as its own terminal driver says.
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes);
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back if it is raw. For ways out that drop nothing.
pub fn restore() {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(modes) = saved {
        // Nothing helps if this fails: the terminal is gone.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &modes);
    }
}

/// Text of ours for standard error, with line ends as the terminal needs them at the moment.
pub fn for_stderr(text: &[u8]) -> Vec<u8> {
    let raw = SAVED.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    if !raw || !termios::isatty(rustix::stdio::stderr()) {
        return text.to_vec();
    }
    text.split_inclusive(|b| *b == b'\n').fold(Vec::new(), |mut lines, line| {
        match line.strip_suffix(b"\n") {
            Some(line) if !line.ends_with(b"\r") => lines.extend([line, b"\r\n"].concat()),
            _ => lines.extend(line),
        }
        lines
    })
}

/// What a typed byte means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Send(u8),
    Leave,
    Help,
    Nothing,
}

/// Finds the escape key in what is typed.
#[derive(Debug, Default)]
pub struct Escape {
    pending: bool,
}

impl Escape {
    pub fn key(&mut self, byte: u8) -> Key {
        match (std::mem::take(&mut self.pending), byte) {
            (false, CTRL_A) => {
                self.pending = true;
                Key::Nothing
            }
            (false, byte) => Key::Send(byte),
            (true, CTRL_A) => Key::Send(CTRL_A),
            (true, b'x' | b'X') => Key::Leave,
            (true, b'h' | b'H' | b'?') => Key::Help,
            (true, _) => Key::Nothing,
        }
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
