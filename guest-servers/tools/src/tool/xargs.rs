//! `xargs [-0] [-r] [-t] [-n COUNT] [-s BYTES] [-I TEXT] [COMMAND [ARG...]]`

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xinim_os::{STDERR, STDIN, read_file, write_all};

use super::spawn::run_program;
use crate::{Context, Options};

/// Bytes of arguments for one command: well below what a start block holds.
const BYTES_MAX: u64 = 64 * 1024;

pub fn run(c: &mut Context<'_>) -> i32 {
    let mut count = 0;
    while let Some(arg) = c.args.get(count)
        && arg.starts_with('-')
    {
        count += if matches!(arg.as_str(), "-n" | "-s" | "-I") { 2 } else { 1 };
    }
    let (own, command) = c.args.split_at(count.min(c.args.len()));
    let usage = "xargs [-0] [-r] [-t] [-n COUNT] [-s BYTES] [-I TEXT] [COMMAND [ARG...]]";
    let options = match Options::parse(own, "0rtn:s:I:", usage) {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let (most, bytes) = match (options.number('n'), options.number('s')) {
        (Ok(most), Ok(bytes)) => (most.unwrap_or(u64::MAX), bytes.unwrap_or(BYTES_MAX)),
        (Err(message), _) | (_, Err(message)) => return c.usage(message),
    };
    if most == 0 {
        return c.usage("-n: at least 1");
    }
    let input = match read_file(c.os, STDIN) {
        Ok(input) => String::from_utf8_lossy(&input).into_owned(),
        Err(error) => {
            c.problem("standard input", error);
            return 1;
        }
    };
    let replace = options.value('I');
    let items = match (options.has('0'), replace) {
        (true, _) => {
            let mut items: Vec<String> = input.split('\0').map(ToString::to_string).collect();
            if items.last().is_some_and(String::is_empty) {
                items.pop();
            }
            Ok(items)
        }
        (false, Some(_)) => {
            let lines = input.lines().map(str::trim_start).filter(|line| !line.is_empty());
            Ok(lines.map(ToString::to_string).collect())
        }
        (false, None) => words(&input),
    };
    let items = match items {
        Ok(items) => items,
        Err(message) => return c.usage(message),
    };
    let default = Vec::from(["echo".to_string()]);
    let command = if command.is_empty() { &default[..] } else { command };
    let runs: Vec<Vec<String>> = match replace {
        Some(text) => {
            let filled =
                |item: &String| command.iter().map(|arg| arg.replace(text, item)).collect();
            items.iter().map(filled).collect()
        }
        None => batches(command, items, most, bytes.min(BYTES_MAX)),
    };
    let mut status = 0;
    for args in runs {
        if args.len() == command.len() && replace.is_none() && options.has('r') {
            continue;
        }
        if options.has('t') {
            let _ = write_all(c.os, STDERR, (args.join(" ") + "\n").as_bytes());
        }
        match run_program(c, &args, c.env) {
            0 => {}
            found @ (126 | 127) => return found,
            255 => return 124,
            129.. => return 125,
            _ => status = 123,
        }
    }
    status
}

/// At least one run, with no items if there are none.
fn batches(command: &[String], items: Vec<String>, most: u64, bytes: u64) -> Vec<Vec<String>> {
    let fixed: usize = command.iter().map(|arg| arg.len() + 1).sum();
    let mut runs = Vec::new();
    let mut args = command.to_vec();
    let mut size = fixed;
    for item in items {
        let many = (args.len() - command.len()) as u64;
        if many > 0 && (many >= most || (size + item.len() + 1) as u64 > bytes) {
            runs.push(core::mem::replace(&mut args, command.to_vec()));
            size = fixed;
        }
        size += item.len() + 1;
        args.push(item);
    }
    runs.push(args);
    runs
}

/// Words as POSIX has them for xargs: quotes of both kinds, backslashes.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(letters.next()),
            quote @ ('"' | '\'') => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some(letter) if letter == quote => break,
                        None | Some('\n') => return Err("a quote has no end"),
                        Some(letter) => word.push(letter),
                    }
                }
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}
