//! `grep [-F] [-v] [-i] [-n] [-c] [-q] [-l] [-e TEXT]... TEXT [FILE...]`: lines that contain a text.
//!
//! The text is a fixed string (as `grep -F`), except that `^` at its start and `$` at its end
//! anchor it (not with `-F`). Status 0: found, 1: not found, 2: trouble.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{Input, STDIN};

use crate::{Context, Options};

struct Needle {
    text: Vec<u8>,
    at_start: bool,
    at_end: bool,
    fold: bool,
}

impl Needle {
    fn new(text: &str, fixed: bool, fold: bool) -> Self {
        let anchored = text.strip_prefix('^').filter(|_| !fixed);
        let rest = anchored.unwrap_or(text);
        let ended = rest.strip_suffix('$').filter(|_| !fixed);
        let mut bytes = ended.unwrap_or(rest).as_bytes().to_vec();
        if fold {
            bytes.make_ascii_lowercase();
        }
        Self { text: bytes, at_start: anchored.is_some(), at_end: ended.is_some(), fold }
    }

    fn is_in(&self, line: &[u8]) -> bool {
        let folded;
        let line = if self.fold {
            folded = line.to_ascii_lowercase();
            folded.as_slice()
        } else {
            line
        };
        let text = self.text.as_slice();
        match (self.at_start, self.at_end) {
            (true, true) => line == text,
            (true, false) => line.starts_with(text),
            (false, true) => line.ends_with(text),
            (false, false) => text.is_empty() || line.windows(text.len()).any(|part| part == text),
        }
    }
}

pub fn run(c: &mut Context<'_>) -> i32 {
    let usage = "grep [-FEvincqlhHs] [-e TEXT] TEXT [FILE...]";
    let mut options = match Options::parse(c.args, "FvincqlhHse:", usage) {
        Ok(options) => options,
        Err(message) => {
            c.usage(message);
            return 2;
        }
    };
    let given: Vec<&str> = options.values('e').collect();
    let text = match given.is_empty() {
        false => given.join("\n"),
        true if options.operands.is_empty() => {
            c.usage(alloc::format!("usage: {usage}"));
            return 2;
        }
        true => options.operands.remove(0),
    };
    let fixed = options.has('F');
    let needles: Vec<Needle> =
        text.split('\n').map(|line| Needle::new(line, fixed, options.has('i'))).collect();
    let paths = Context::inputs(&options.operands);
    let named = (paths.len() > 1 || options.has('H')) && !options.has('h');
    let mut found = false;
    for path in &paths {
        let Some(file) = c.open_input(path) else { continue };
        let mut input = Input::new(c.os, file.fd);
        let (mut line, mut number, mut count) = (Vec::new(), 0u64, 0u64);
        loop {
            line.clear();
            if file.fd == STDIN {
                c.out.flush();
            }
            match input.line(&mut line) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    c.problem(path, error);
                    break;
                }
            }
            number += 1;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if needles.iter().any(|needle| needle.is_in(text)) == options.has('v') {
                continue;
            }
            count += 1;
            if options.has('q') {
                return 0;
            }
            if options.has('l') {
                break;
            }
            if !options.has('c') {
                if named {
                    let _ = write!(c.out, "{path}:");
                }
                if options.has('n') {
                    let _ = write!(c.out, "{number}:");
                }
                c.out.write(text);
                c.out.write(b"\n");
            }
            if c.out.error().is_some() {
                break;
            }
        }
        found |= count > 0;
        if options.has('l') && count > 0 {
            let _ = writeln!(c.out, "{path}");
        } else if options.has('c') {
            let prefix = if named { alloc::format!("{path}:") } else { String::new() };
            let _ = writeln!(c.out, "{prefix}{count}");
        }
    }
    match (c.failed(), found) {
        (true, _) => 2,
        (false, true) => 0,
        (false, false) => 1,
    }
}
