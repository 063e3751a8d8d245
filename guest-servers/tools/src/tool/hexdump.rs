//! `hexdump [-C] [-n LENGTH] [-s OFFSET] [FILE...]`. Lines that repeat are shown as `*`.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::Whence;

use crate::options::parse_size;
use crate::tool::BUFFER;
use crate::{Context, Options};

struct Dump {
    canonical: bool,
    offset: u64,
    line: Vec<u8>,
    previous: Option<Vec<u8>>,
    starred: bool,
}

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "Cn:s:v", "hexdump [-Cv] [-n N] [-s N] [FILE...]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let size = |letter| match options.value(letter) {
        None => Ok(None),
        Some(text) => parse_size(text).map(Some).ok_or(text),
    };
    let (mut left, skip) = match (size('n'), size('s')) {
        (Ok(length), Ok(skip)) => (length.unwrap_or(u64::MAX), skip.unwrap_or(0)),
        (Err(text), _) | (_, Err(text)) => return c.usage(alloc::format!("{text}: bad number")),
    };
    let mut dump = Dump {
        canonical: options.has('C'),
        offset: skip,
        line: Vec::new(),
        previous: None,
        starred: false,
    };
    let verbose = options.has('v');
    let mut buffer = vec![0; BUFFER];
    for path in Context::inputs(&options.operands) {
        let Some(file) = c.open_input(&path) else { continue };
        if skip > 0
            && let Err(error) = c.os.seek(file.fd, skip as i64, Whence::Start)
        {
            c.problem(&path, error);
            continue;
        }
        while left > 0 && c.out.error().is_none() {
            let want = left.min(buffer.len() as u64) as usize;
            match c.os.read(file.fd, &mut buffer[..want]) {
                Ok(0) => break,
                Ok(count) => {
                    left -= count as u64;
                    for &byte in &buffer[..count] {
                        dump.line.push(byte);
                        if dump.line.len() == 16 {
                            dump.flush(c, verbose);
                        }
                    }
                }
                Err(error) => {
                    c.problem(&path, error);
                    break;
                }
            }
        }
    }
    dump.flush(c, true);
    if dump.offset > skip {
        let width = if dump.canonical { 8 } else { 7 };
        let _ = writeln!(c.out, "{:0width$x}", dump.offset);
    }
    0
}

impl Dump {
    fn flush(&mut self, c: &mut Context<'_>, verbose: bool) {
        if self.line.is_empty() {
            return;
        }
        let line = core::mem::take(&mut self.line);
        let offset = self.offset;
        self.offset += line.len() as u64;
        if !verbose && self.previous.as_ref() == Some(&line) {
            if !self.starred {
                c.out.write(b"*\n");
                self.starred = true;
            }
            return;
        }
        self.starred = false;
        if self.canonical {
            let _ = write!(c.out, "{offset:08x} ");
            for at in 0..16 {
                let gap = if at == 8 { "  " } else { " " };
                let _ = match line.get(at) {
                    Some(byte) => write!(c.out, "{gap}{byte:02x}"),
                    None => write!(c.out, "{gap}  "),
                };
            }
            c.out.write(b"  |");
            for byte in &line {
                let shown = if (b' '..=b'~').contains(byte) { *byte } else { b'.' };
                c.out.write(&[shown]);
            }
            c.out.write(b"|\n");
        } else {
            let _ = write!(c.out, "{offset:07x}");
            for pair in line.chunks(2) {
                let high = pair.get(1).copied().unwrap_or(0);
                let _ = write!(c.out, " {high:02x}{:02x}", pair[0]);
            }
            c.out.write(b"\n");
        }
        self.previous = Some(line);
    }
}
