//! How far the tests are: a line that is drawn again on a terminal, a line for each result
//! elsewhere. Everything goes to standard error; the summary is standard output's.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::{Mutex, PoisonError};

use super::case::{CaseResult, Ending};
use super::select::Case;

/// Names shown of the cases under way.
const SHOWN: usize = 3;

#[derive(Debug)]
pub struct Progress {
    names: Vec<String>,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<usize>,
    done: usize,
    failed: usize,
}

impl Progress {
    pub fn start(cases: &[Case], jobs: usize) -> Self {
        let names: Vec<String> = cases.iter().map(Case::name).collect();
        let terminal = std::io::stderr().is_terminal();
        eprintln!("running {}, {jobs} at a time", count(names.len(), "case"));
        Self { names, terminal, state: Mutex::default() }
    }

    pub fn begin(&self, index: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.push(index);
        self.draw(&state);
    }

    pub fn end(&self, index: usize, result: &CaseResult) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.retain(|running| *running != index);
        state.done += 1;
        state.failed += usize::from(result.ending != Ending::Passed);
        self.clear();
        let word = match result.ending {
            Ending::Passed => "ok     ",
            Ending::Failed(_) => "FAILED ",
            Ending::NotRun(_) => "NOT RUN",
        };
        eprintln!("{word} {}  {:.2} s", result.name, result.took.as_secs_f64());
        self.draw(&state);
    }

    pub fn finish(&self) {
        self.clear();
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn draw(&self, state: &State) {
        if !self.terminal {
            return;
        }
        let mut line = format!("[{}/{}]", state.done, self.names.len());
        if state.failed > 0 {
            let _ = write!(line, " {} failed", state.failed);
        }
        let shown = state.running.iter().take(SHOWN).map(|index| &*self.names[*index]);
        let _ = write!(line, " {}", shown.collect::<Vec<_>>().join(", "));
        if state.running.len() > SHOWN {
            let _ = write!(line, " and {} more", state.running.len() - SHOWN);
        }
        let width = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
        let width = width.map_or(80, |size| usize::from(size.ws_col)).max(20);
        let line: String = line.chars().take(width - 1).collect();
        eprint!("\r\x1b[K{line}");
        let _ = std::io::stderr().flush();
    }
}

/// `1 case`, `2 cases`.
pub fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
