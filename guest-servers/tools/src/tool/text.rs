//! `head`, `tail`, `wc`, `tee`, `seq`, `cmp`, `sort`, `uniq`

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{Input, open, write_all};

use crate::tool::BUFFER;
use crate::{Context, Options};

/// Bytes `tail` and `sort` hold at most.
const MEMORY_MAX: usize = 64 << 20;

/// `-n N`, `-N`: the options without the old form, and the number.
fn line_count(args: &[String]) -> (Vec<String>, Option<u64>) {
    let mut rest = args.to_vec();
    let old = args.first().and_then(|arg| arg.strip_prefix('-')?.parse().ok());
    if old.is_some() {
        rest.remove(0);
    }
    (rest, old)
}

fn title(c: &mut Context<'_>, paths: &[String], index: usize) {
    if paths.len() > 1 {
        let gap = if index > 0 { "\n" } else { "" };
        let _ = writeln!(c.out, "{gap}==> {} <==", paths[index]);
    }
}

/// `head [-n LINES] [-c BYTES] [FILE...]`
pub fn head(c: &mut Context<'_>) -> i32 {
    let (args, old) = line_count(c.args);
    let options = match Options::parse(&args, "n:c:", "head [-n LINES] [-c BYTES] [FILE...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let (lines, bytes) = match (options.number('n'), options.number('c')) {
        (Ok(lines), Ok(bytes)) => (lines.or(old).unwrap_or(10), bytes),
        (Err(message), _) | (_, Err(message)) => return c.usage(message),
    };
    let paths = Context::inputs(&options.operands);
    for (index, path) in paths.iter().enumerate() {
        let Some(file) = c.open_input(path) else { continue };
        title(c, &paths, index);
        let mut input = Input::new(c.os, file.fd);
        let mut left = bytes.unwrap_or(lines);
        while left > 0 && c.out.error().is_none() {
            let chunk = match input.fill() {
                Ok([]) => break,
                Ok(chunk) => chunk,
                Err(error) => {
                    c.problem(path, error);
                    break;
                }
            };
            let take = if bytes.is_some() {
                let take = (chunk.len() as u64).min(left) as usize;
                left -= take as u64;
                take
            } else {
                let mut take = 0;
                while left > 0 && take < chunk.len() {
                    match chunk[take..].iter().position(|&b| b == b'\n') {
                        Some(at) => {
                            take += at + 1;
                            left -= 1;
                        }
                        None => take = chunk.len(),
                    }
                }
                take
            };
            c.out.write(&chunk[..take]);
            input.consume(take);
        }
    }
    0
}

/// `tail [-n [+]LINES] [-c BYTES] [FILE...]`
pub fn tail(c: &mut Context<'_>) -> i32 {
    let (args, old) = line_count(c.args);
    let options = match Options::parse(&args, "n:c:", "tail [-n [+]LINES] [-c BYTES] [FILE...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let text = options.value('n').map(String::from).or(old.map(|n| n.to_string()));
    let text = text.unwrap_or("10".to_string());
    let from_start = text.starts_with('+');
    let Ok(lines) = text.trim_start_matches('+').parse::<usize>() else {
        return c.usage(format!("-n: bad number '{text}'"));
    };
    let bytes = match options.number('c') {
        Ok(bytes) => bytes,
        Err(message) => return c.usage(message),
    };
    let paths = Context::inputs(&options.operands);
    for (index, path) in paths.iter().enumerate() {
        let Some(file) = c.open_input(path) else { continue };
        title(c, &paths, index);
        let mut input = Input::new(c.os, file.fd);
        if let Some(bytes) = bytes {
            last_bytes(c, path, &mut input, bytes as usize);
            continue;
        }
        let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
        let (mut size, mut number) = (0, 0);
        loop {
            let mut line = Vec::new();
            match input.line(&mut line) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    c.problem(path, error);
                    break;
                }
            }
            number += 1;
            if from_start {
                if number >= lines {
                    c.out.write(&line);
                }
                continue;
            }
            size += line.len();
            kept.push_back(line);
            while kept.len() > lines || size > MEMORY_MAX {
                size -= kept.pop_front().map_or(0, |line| line.len());
            }
        }
        for line in kept {
            c.out.write(&line);
        }
    }
    0
}

fn last_bytes(c: &mut Context<'_>, path: &str, input: &mut Input<'_>, bytes: usize) {
    let bytes = bytes.min(MEMORY_MAX);
    let mut kept: VecDeque<u8> = VecDeque::new();
    loop {
        match input.fill() {
            Ok([]) => break,
            Ok(chunk) => {
                let count = chunk.len();
                kept.extend(chunk);
                let excess = kept.len().saturating_sub(bytes);
                kept.drain(..excess);
                input.consume(count);
            }
            Err(error) => {
                c.problem(path, error);
                break;
            }
        }
    }
    c.out.write(kept.make_contiguous());
}

/// `wc [-l] [-w] [-c] [FILE...]`
pub fn wc(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "lwcm", "wc [-l] [-w] [-c] [FILE...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let all = !(options.has('l') || options.has('w') || options.has('c') || options.has('m'));
    let chosen = [
        all || options.has('l'),
        all || options.has('w'),
        all || options.has('c') || options.has('m'),
    ];
    let paths = Context::inputs(&options.operands);
    let mut total = [0u64; 3];
    for path in &paths {
        let Some(file) = c.open_input(path) else { continue };
        let mut input = Input::new(c.os, file.fd);
        let mut counts = [0u64; 3];
        let mut in_word = false;
        loop {
            match input.fill() {
                Ok([]) => break,
                Ok(chunk) => {
                    for &byte in chunk {
                        counts[0] += u64::from(byte == b'\n');
                        let blank = byte.is_ascii_whitespace() || byte == 11;
                        counts[1] += u64::from(!blank && !in_word);
                        in_word = !blank;
                    }
                    let count = chunk.len();
                    counts[2] += count as u64;
                    input.consume(count);
                }
                Err(error) => {
                    c.problem(path, error);
                    break;
                }
            }
        }
        let name = if options.operands.is_empty() { "" } else { path };
        show_counts(c, &counts, &chosen, name);
        for (sum, count) in total.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    if paths.len() > 1 {
        show_counts(c, &total, &chosen, "total");
    }
    0
}

fn show_counts(c: &mut Context<'_>, counts: &[u64; 3], chosen: &[bool; 3], name: &str) {
    let single = chosen.iter().filter(|on| **on).count() == 1;
    let shown = counts.iter().zip(chosen).filter(|(_, on)| **on);
    let texts: Vec<String> = shown
        .map(|(count, _)| if single { count.to_string() } else { format!("{count:7}") })
        .collect();
    let line = format!("{} {name}", texts.join(" "));
    let _ = writeln!(c.out, "{}", line.trim_end());
}

/// `tee [-a] [FILE...]`
pub fn tee(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "a", "tee [-a] [FILE...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let flags = if options.has('a') { open::APPEND } else { open::TRUNCATE };
    let mut files = Vec::new();
    for path in &options.operands {
        files.extend(c.create(path, flags).map(|file| (path, file)));
    }
    let mut buffer = vec![0; BUFFER];
    loop {
        match c.os.read(xinim_os::STDIN, &mut buffer) {
            Ok(0) => return 0,
            Ok(count) => {
                c.out.write(&buffer[..count]);
                c.out.flush();
                let mut failed = Vec::new();
                for (path, file) in &files {
                    if let Err(error) = write_all(c.os, file.fd, &buffer[..count]) {
                        failed.push((path.to_string(), error));
                    }
                }
                for (path, error) in failed {
                    c.problem(&path, error);
                    files.retain(|(own, _)| **own != path);
                }
            }
            Err(error) => {
                c.problem("standard input", error);
                return 1;
            }
        }
    }
}

/// `seq [FIRST [STEP]] LAST`
pub fn seq(c: &mut Context<'_>) -> i32 {
    let numbers: Result<Vec<i64>, _> = c.args.iter().map(|arg| arg.parse()).collect();
    let (first, step, last) = match numbers.as_deref() {
        Ok([last]) => (1, 1, *last),
        Ok([first, last]) => (*first, 1, *last),
        Ok([first, step, last]) if *step != 0 => (*first, *step, *last),
        _ => return c.usage("usage: seq [FIRST [STEP]] LAST (whole numbers)"),
    };
    let mut value = first;
    while (step > 0 && value <= last) || (step < 0 && value >= last) {
        let _ = writeln!(c.out, "{value}");
        let Some(next) = value.checked_add(step) else { break };
        if c.out.error().is_some() {
            break;
        }
        value = next;
    }
    0
}

/// `cmp [-s] FILE FILE`: 0 equal, 1 different, 2 trouble.
pub fn cmp(c: &mut Context<'_>) -> i32 {
    let usage = "cmp [-s] FILE FILE";
    let options = Options::parse(c.args, "s", usage);
    let operands = options.as_ref().map(|options| options.operands.as_slice());
    let (Ok(options), Ok([one, two])) = (&options, operands) else {
        c.usage(format!("usage: {usage}"));
        return 2;
    };
    let (Some(file_one), Some(file_two)) = (c.open_input(one), c.open_input(two)) else { return 2 };
    let (mut a, mut b) = (Input::new(c.os, file_one.fd), Input::new(c.os, file_two.fd));
    let (mut offset, mut line) = (0u64, 1u64);
    loop {
        let (left, right) = match (a.fill(), b.fill()) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(error), _) | (_, Err(error)) => {
                c.problem("", error);
                return 2;
            }
        };
        if left.is_empty() || right.is_empty() {
            if left.len() == right.len() {
                return 0;
            }
            if !options.has('s') {
                let short = if left.is_empty() { one } else { two };
                c.problem(short, format!("ends after byte {offset}"));
            }
            return 1;
        }
        let count = left.len().min(right.len());
        let differs = left.iter().zip(right).position(|(x, y)| x != y);
        let same = differs.unwrap_or(count);
        line += left[..same].iter().filter(|&&b| b == b'\n').count() as u64;
        offset += same as u64;
        if differs.is_some() {
            if !options.has('s') {
                let _ = writeln!(c.out, "{one} {two} differ: char {}, line {line}", offset + 1);
            }
            return 1;
        }
        a.consume(count);
        b.consume(count);
    }
}

/// All lines of the inputs, without their newlines; `None` after a problem that was reported.
fn all_lines(c: &mut Context<'_>, operands: &[String]) -> Option<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    let mut size = 0;
    for path in Context::inputs(operands) {
        let file = c.open_input(&path)?;
        let mut input = Input::new(c.os, file.fd);
        loop {
            let mut line = Vec::new();
            match input.line(&mut line) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    c.problem(&path, error);
                    return None;
                }
            }
            size += line.len();
            if size > MEMORY_MAX {
                c.problem(&path, "too large");
                return None;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            lines.push(line);
        }
    }
    Some(lines)
}

/// `sort [-n] [-r] [-u] [FILE...]`
pub fn sort(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "nru", "sort [-n] [-r] [-u] [FILE...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let Some(mut lines) = all_lines(c, &options.operands) else { return 2 };
    let number = |line: &Vec<u8>| {
        let text = line.trim_ascii_start();
        let negative = text.first() == Some(&b'-');
        let digits = text[usize::from(negative)..].iter().take_while(|b| b.is_ascii_digit());
        let value = digits
            .fold(0i64, |value, b| value.saturating_mul(10).saturating_add(i64::from(b - b'0')));
        if negative { -value } else { value }
    };
    if options.has('n') {
        lines.sort_by(|a, b| number(a).cmp(&number(b)).then_with(|| a.cmp(b)));
    } else {
        lines.sort_unstable();
    }
    if options.has('r') {
        lines.reverse();
    }
    if options.has('u') {
        lines.dedup();
    }
    for line in lines {
        c.out.write(&line);
        c.out.write(b"\n");
    }
    0
}

/// `uniq [-c] [-d] [-u] [FILE]`
pub fn uniq(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "cdu", "uniq [-c] [-d] [-u] [FILE]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let Some(lines) = all_lines(c, &options.operands) else { return 2 };
    for group in lines.chunk_by(|a, b| a == b) {
        if (options.has('d') && group.len() == 1) || (options.has('u') && group.len() > 1) {
            continue;
        }
        if options.has('c') {
            let _ = write!(c.out, "{:7} ", group.len());
        }
        c.out.write(&group[0]);
        c.out.write(b"\n");
    }
    0
}
