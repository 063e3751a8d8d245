//! Lines entered before.

use alloc::collections::VecDeque;
use alloc::string::String;

/// Lines kept.
const HISTORY_MAX: usize = 500;

#[derive(Debug, Default)]
pub struct History(VecDeque<String>);

impl History {
    /// Empty lines and repetitions of the last one are not kept, nor are those that begin with a
    /// blank.
    pub fn add(&mut self, line: &str) {
        let repeated = self.0.back().is_some_and(|last| last == line);
        if line.trim().is_empty() || line.starts_with(' ') || repeated {
            return;
        }
        if self.0.len() == HISTORY_MAX {
            self.0.pop_front();
        }
        self.0.push_back(line.into());
    }

    /// The line `back` steps ago; 1 is the last.
    pub fn ago(&self, back: usize) -> Option<&str> {
        let at = self.0.len().checked_sub(back)?;
        self.0.get(at).map(String::as_str)
    }
}
