//! `read`: one line of standard input into variables.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xinim_os::{Fd, Os, STDIN, Whence};

use crate::parse::is_name;
use crate::shell::{Result, Shell};

/// Bytes read ahead of a file, which is moved back to the line's end.
const CHUNK: usize = 1024;
/// Longest line.
const LINE_MAX: usize = 1024 * 1024;

pub fn read(shell: &mut Shell<'_>, args: &[String]) -> Result<u32> {
    let mut names = &args[1..];
    let mut raw = false;
    let mut prompt = None;
    while let Some(option) = names.first().filter(|arg| arg.starts_with('-')) {
        match option.as_str() {
            "-r" => raw = true,
            "-p" if names.len() > 1 => {
                prompt = Some(names[1].clone());
                names = &names[1..];
            }
            _ => return Ok(shell.misused("read", "usage: read [-r] [-p PROMPT] NAME...")),
        }
        names = &names[1..];
    }
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Ok(shell.misused("read", &alloc::format!("{name}: bad variable name")));
    }
    if let Some(prompt) = prompt {
        let _ = shell.files.write(xinim_os::STDERR, prompt.as_bytes());
    }
    let fd = match shell.files.get(STDIN) {
        Ok(fd) => fd,
        Err(error) => {
            shell.complain_about("read", error);
            return Ok(1);
        }
    };
    let mut line = Vec::new();
    let complete = loop {
        match read_line(shell.os, fd, &mut line) {
            Ok(true) if !raw && ends_escaped(&line) => line.truncate(line.len() - 1),
            Ok(complete) => break complete,
            Err(error) => {
                shell.complain_about("read", error);
                break false;
            }
        }
    };
    let line = String::from_utf8_lossy(&line).into_owned();
    let separators = shell.vars.get("IFS").unwrap_or(" \t\n").to_string();
    let default = ["REPLY".to_string()];
    let names = if names.is_empty() { &default[..] } else { names };
    for (name, value) in names.iter().zip(split(&line, &separators, names.len(), raw)) {
        shell.vars.set(name, value).map_err(|message| shell.fail(&message))?;
    }
    Ok(u32::from(!complete))
}

fn ends_escaped(line: &[u8]) -> bool {
    line.iter().rev().take_while(|&&b| b == b'\\').count() % 2 == 1
}

/// Appends up to the next newline, which is taken but not stored. `false`: the end came first.
/// Nothing behind the line is lost: files are moved back, pipes are read by the byte, and a
/// terminal gives a line at a time.
fn read_line(os: &dyn Os, fd: Fd, line: &mut Vec<u8>) -> xinim_os::Result<bool> {
    let seekable = os.seek(fd, 0, Whence::Current).is_ok();
    let whole = seekable || os.is_terminal(fd);
    let mut chunk = vec![0; if whole { CHUNK } else { 1 }];
    while line.len() < LINE_MAX {
        let count = os.read(fd, &mut chunk)?;
        let bytes = &chunk[..count.min(chunk.len())];
        if bytes.is_empty() {
            return Ok(false);
        }
        let Some(at) = bytes.iter().position(|&b| b == b'\n') else {
            line.extend_from_slice(bytes);
            continue;
        };
        line.extend_from_slice(&bytes[..at]);
        let behind = bytes.len() - at - 1;
        if behind > 0 && seekable {
            os.seek(fd, -(behind as i64), Whence::Current)?;
        }
        return Ok(true);
    }
    Ok(true)
}

/// `count` values; the last one takes the rest of the line.
fn split(line: &str, separators: &str, count: usize, raw: bool) -> Vec<String> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n') && separators.contains(c);
    let mut values = Vec::new();
    let mut rest = line.trim_start_matches(blank);
    while values.len() < count {
        let last = values.len() + 1 == count;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        // Length of the value without separators at its end that may be cut.
        let mut kept = 0;
        while let Some((at, c)) = chars.next() {
            if c == '\\' && !raw {
                value.extend(chars.next().map(|(_, c)| c));
                kept = value.len();
            } else if !last && separators.contains(c) {
                end = at;
                break;
            } else {
                value.push(c);
                if !blank(c) {
                    kept = value.len();
                }
            }
        }
        value.truncate(kept);
        values.push(value);
        rest = rest[end..].trim_start_matches(blank);
        if let Some(c) = rest.chars().next()
            && separators.contains(c)
            && !last
        {
            rest = rest[c.len_utf8()..].trim_start_matches(blank);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_line() {
        let space = " \t\n";
        assert_eq!(split("a b c", space, 2, true), ["a", "b c"]);
        assert_eq!(split("  a  ", space, 1, true), ["a"]);
        assert_eq!(split("a", space, 3, true), ["a", "", ""]);
        assert_eq!(split("a:b::c", ":", 4, true), ["a", "b", "", "c"]);
        assert_eq!(split("a\\ b c", space, 2, false), ["a b", "c"]);
        assert_eq!(split("", space, 1, true), [""]);
    }
}
