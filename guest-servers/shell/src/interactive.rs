//! The shell at a terminal: prompt, line editing, completion.
//!
//! The terminal is raw while a line is edited and back to lines while commands run. If raw mode
//! cannot be had, lines are read as the terminal gives them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xinim_os::{Error, Os, STDERR, STDIN, base_name, dir_name, is_kind, join, mode, service_query};

use crate::builtin;
use crate::edit::{Editor, Event, History};
use crate::parse;
use crate::shell::{Result, STATUS_INTERRUPTED, Shell, Unwind};

/// Names a completion lists.
const LISTED_MAX: usize = 200;
const COLUMNS: usize = 80;
/// Deaths of the terminal's service that one line survives.
const RESTARTS_MAX: u32 = 100;

enum Input {
    Line(String),
    End,
    Interrupt,
}

impl Shell<'_> {
    /// Prompts, reads and runs until the end of the input or `exit`.
    pub(crate) fn interact(&mut self) -> Result<()> {
        let mut history = History::default();
        // Typed ahead: bytes behind a line's end belong to the next line.
        let mut ahead = Vec::new();
        let mut text = String::new();
        loop {
            self.report_jobs();
            self.report_alerts();
            let prompt = self.prompt(text.is_empty());
            match self.read_input(&mut history, &prompt, &mut ahead) {
                Input::Line(line) => text.push_str(&line),
                Input::Interrupt => {
                    text.clear();
                    self.status = STATUS_INTERRUPTED;
                    continue;
                }
                Input::End if text.is_empty() => return Err(Unwind::Exit),
                Input::End => {}
            }
            match parse::parse(&text) {
                Err(error) if error.incomplete => {
                    text.push('\n');
                    continue;
                }
                Err(error) => {
                    self.complain(&format!("syntax error: {}", error.message));
                    self.status = crate::shell::STATUS_USAGE;
                }
                Ok(list) => match self.run_list(&list) {
                    Err(Unwind::Exit) if !self.options.errexit => return Err(Unwind::Exit),
                    _ => {}
                },
            }
            text.clear();
        }
    }

    /// What the Reincarnation Server thinks the operator should know, once each.
    fn report_alerts(&mut self) {
        let Ok(text) = self.os.service_query(service_query::ALERTS, "") else { return };
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        let new = lines.filter_map(|(time, text)| Some((time.parse::<u64>().ok()?, text)));
        let mut newest = self.alerts_seen;
        let mut shown = String::new();
        for (time, text) in new.filter(|(time, _)| *time > self.alerts_seen) {
            newest = newest.max(time);
            shown.push_str(&format!("*** {text}\n"));
        }
        self.alerts_seen = newest;
        if !shown.is_empty() {
            let _ = self.files.write(STDERR, shown.as_bytes());
        }
    }

    /// `PS1` or `PS2`, expanded.
    fn prompt(&mut self, first: bool) -> String {
        let (name, default) = if first { ("PS1", "") } else { ("PS2", "> ") };
        let text = self.vars.get(name).unwrap_or(default).to_string();
        if first && text.is_empty() {
            return format!("{} # ", self.os.getcwd().unwrap_or_default());
        }
        let status = self.status;
        let prompt = match parse::parse_here(&text) {
            Ok(word) => self.expand_string(&word).unwrap_or(text),
            Err(_) => text,
        };
        self.status = status;
        prompt
    }

    fn read_input(&mut self, history: &mut History, prompt: &str, ahead: &mut Vec<u8>) -> Input {
        if self.os.set_raw(STDIN, true).is_err() {
            return self.read_plain(prompt, ahead);
        }
        let input = self.edit_line(history, prompt, ahead);
        let _ = self.os.set_raw(STDIN, false);
        input
    }

    fn edit_line(&mut self, history: &mut History, prompt: &str, ahead: &mut Vec<u8>) -> Input {
        let mut out = String::new();
        let columns = self.vars.get("COLUMNS").and_then(|text| text.parse().ok());
        let mut editor = Editor::new(history, prompt, columns.unwrap_or(COLUMNS), &mut out);
        let mut restarts = 0;
        loop {
            self.show(&mut out);
            while ahead.is_empty() {
                match read_more(self.os, ahead) {
                    More::Bytes => {}
                    More::End => return Input::End,
                    More::Restarted if restarts < RESTARTS_MAX => {
                        restarts += 1;
                        let _ = self.os.set_raw(STDIN, true);
                        out.push_str("\r\n");
                        editor.show(&mut out);
                        self.show(&mut out);
                    }
                    More::Restarted => return Input::End,
                }
            }
            let bytes = core::mem::take(ahead);
            for (index, &byte) in bytes.iter().enumerate() {
                let input = match editor.feed(byte, &mut out) {
                    Event::None => continue,
                    Event::Complete => {
                        self.complete(&mut editor, &mut out);
                        continue;
                    }
                    Event::Line(line) => Input::Line(line),
                    Event::End => Input::End,
                    Event::Interrupt => Input::Interrupt,
                };
                *ahead = bytes[index + 1..].to_vec();
                self.show(&mut out);
                return input;
            }
        }
    }

    fn read_plain(&mut self, prompt: &str, ahead: &mut Vec<u8>) -> Input {
        let mut out = prompt.to_string();
        self.show(&mut out);
        loop {
            if let Some(at) = ahead.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = ahead.drain(..=at).collect();
                let line = String::from_utf8_lossy(&line[..at]).into_owned();
                return Input::Line(line);
            }
            if !matches!(read_more(self.os, ahead), More::Bytes) {
                let rest = String::from_utf8_lossy(&core::mem::take(ahead)).into_owned();
                return if rest.is_empty() { Input::End } else { Input::Line(rest) };
            }
        }
    }

    fn show(&self, out: &mut String) {
        if !out.is_empty() {
            let _ = self.files.write(STDERR, out.as_bytes());
            out.clear();
        }
    }

    /// Completes the word before the cursor, or lists what it could become.
    fn complete(&mut self, editor: &mut Editor<'_>, out: &mut String) {
        let before = editor.before();
        let start = before.rfind(|c| " \t;|&(<>=`\"'".contains(c)).map_or(0, |at| at + 1);
        let word = &before[start..];
        let head = before[..start].trim_end();
        let command = head.is_empty() || head.ends_with([';', '|', '&', '(', '`']);
        let mut found =
            if command && !word.contains('/') { self.commands(word) } else { self.paths(word) };
        found.sort_unstable();
        found.dedup();
        let Some(first) = found.first() else { return };
        let mut common = first.len();
        for other in &found {
            let same = first.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
            common = common.min(same.map_or(first.len().min(other.len()), |((at, _), _)| at));
        }
        let name = if command && !word.contains('/') { word } else { last_component(word) };
        if common > name.len() {
            let mut addition = first[name.len()..common].to_string();
            if found.len() == 1 && !first.ends_with('/') {
                addition.push(' ');
            }
            editor.insert(&addition, out);
        } else if found.len() == 1 {
            if !first.ends_with('/') {
                editor.insert(" ", out);
            }
        } else {
            out.push_str("\r\n");
            for name in found.iter().take(LISTED_MAX) {
                out.push_str(name);
                out.push_str("  ");
            }
            out.push_str("\r\n");
            editor.show(out);
        }
    }

    fn commands(&self, word: &str) -> Vec<String> {
        let built_in = builtin::names().map(String::from);
        let mut names: Vec<String> = built_in.chain(self.functions.keys().cloned()).collect();
        for dir in self.vars.get("PATH").unwrap_or("").split(':') {
            let entries = self.os.read_dir(dir).unwrap_or_default();
            names.extend(entries.into_iter().map(|entry| entry.name));
        }
        names.retain(|name| name.starts_with(word));
        names
    }

    /// Last components of the paths that begin with `word`; directories end in a slash.
    fn paths(&self, word: &str) -> Vec<String> {
        let name = last_component(word);
        let dir = &word[..word.len() - name.len()];
        let dir = match dir.strip_prefix("~/") {
            Some(rest) => join(self.vars.get("HOME").unwrap_or("/"), rest),
            None if dir.is_empty() => ".".to_string(),
            None => dir.to_string(),
        };
        let mut found = Vec::new();
        for entry in self.os.read_dir(&dir).unwrap_or_default() {
            if !entry.name.starts_with(name) || (name.is_empty() && entry.name.starts_with('.')) {
                continue;
            }
            let stat = self.os.stat(&join(&dir, &entry.name));
            let slash = stat.is_ok_and(|stat| is_kind(&stat, mode::DIRECTORY));
            found.push(if slash { format!("{}/", entry.name) } else { entry.name });
        }
        found
    }
}

/// What stands behind the last slash.
fn last_component(word: &str) -> &str {
    if word.ends_with('/') || word.is_empty() {
        return "";
    }
    debug_assert!(word.ends_with(base_name(word)) && !dir_name(word).is_empty());
    base_name(word)
}

/// What a look at the terminal gave.
enum More {
    Bytes,
    End,
    /// Its service died; a new one is there by the next request, in line mode.
    Restarted,
}

/// Appends the next byte of the terminal. One only: what was typed ahead behind this line's end
/// may be meant for the program that the line starts.
fn read_more(os: &dyn Os, bytes: &mut Vec<u8>) -> More {
    let mut byte = [0];
    match os.read(STDIN, &mut byte) {
        Err(Error::ServerDied) => More::Restarted,
        Ok(0) | Err(_) => More::End,
        Ok(_) => {
            bytes.extend_from_slice(&byte);
            More::Bytes
        }
    }
}
