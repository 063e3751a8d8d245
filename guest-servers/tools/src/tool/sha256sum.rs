//! `sha256sum [FILE...]`, `sha256sum -c [FILE...]`

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use sha2::{Digest, Sha256};
use xinim_os::Input;

use crate::tool::BUFFER;
use crate::{Context, Options};

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "cbq", "sha256sum [-c] [FILE...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    for path in Context::inputs(&options.operands) {
        if options.has('c') {
            check(c, &path, options.has('q'));
        } else if let Some(sum) = sum(c, &path) {
            let _ = writeln!(c.out, "{sum}  {path}");
        }
    }
    0
}

fn sum(c: &mut Context<'_>, path: &str) -> Option<String> {
    let file = c.open_input(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match c.os.read(file.fd, &mut buffer) {
            Ok(0) => break,
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) => {
                c.problem(path, error);
                return None;
            }
        }
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

fn check(c: &mut Context<'_>, list: &str, quiet: bool) {
    let Some(file) = c.open_input(list) else { return };
    let mut input = Input::new(c.os, file.fd);
    let mut line = Vec::new();
    let (mut bad, mut good) = (0, 0);
    loop {
        line.clear();
        match input.line(&mut line) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return c.problem(list, error),
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        let Some((expected, path)) = text.split_once("  ").or_else(|| text.split_once(" *")) else {
            bad += 1;
            continue;
        };
        let equal = sum(c, path).is_some_and(|sum| sum.eq_ignore_ascii_case(expected));
        good += u32::from(equal);
        bad += u32::from(!equal);
        if !equal || !quiet {
            let _ = writeln!(c.out, "{path}: {}", if equal { "OK" } else { "FAILED" });
        }
    }
    if bad > 0 {
        c.problem(list, format!("{bad} of {} did not match", bad + good));
    } else if good == 0 {
        c.problem(list, "no check sums found");
    }
}
