//! `tr SET1 SET2`, `tr -d SET1`, `tr -s SET1 [SET2]`; sets of bytes with ranges (`a-z`) and escapes.

use alloc::vec::Vec;

use xinim_os::{Input, STDIN};

use super::printf::unescape;
use crate::{Context, Options};

pub fn run(c: &mut Context<'_>) -> i32 {
    let usage = "tr [-d] [-s] SET1 [SET2]";
    let options = match Options::parse(c.args, "ds", usage) {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let sets: Vec<Vec<u8>> = options.operands.iter().map(|text| set(text)).collect();
    let delete = options.has('d');
    let (from, to) = match sets.as_slice() {
        [from] if delete || options.has('s') => (from, None),
        [from, to] if !delete && !to.is_empty() => (from, Some(to)),
        _ => return c.usage(alloc::format!("usage: {usage}")),
    };
    let mut map = [0u8; 256];
    for (at, byte) in map.iter_mut().enumerate() {
        *byte = at as u8;
    }
    if let Some(to) = to {
        // A short second set is filled up with its last byte.
        for (at, byte) in from.iter().enumerate() {
            map[usize::from(*byte)] = to[at.min(to.len() - 1)];
        }
    }
    let squeezed = to.unwrap_or(from);
    let mut input = Input::new(c.os, STDIN);
    let mut last = None;
    loop {
        let chunk = match input.fill() {
            Ok([]) => return 0,
            Ok(chunk) => chunk,
            Err(error) => {
                c.problem("standard input", error);
                return 1;
            }
        };
        let mut out = Vec::with_capacity(chunk.len());
        for &byte in chunk {
            if delete && from.contains(&byte) {
                continue;
            }
            let byte = map[usize::from(byte)];
            if options.has('s') && last == Some(byte) && squeezed.contains(&byte) {
                continue;
            }
            last = Some(byte);
            out.push(byte);
        }
        let count = chunk.len();
        c.out.write(&out);
        input.consume(count);
        if c.out.error().is_some() {
            return 0;
        }
    }
}

fn set(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    unescape(text, false, &mut bytes);
    let mut set = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((&first, behind)) = rest.split_first() {
        match behind {
            [b'-', last, behind @ ..] if first <= *last => {
                set.extend(first..=*last);
                rest = behind;
            }
            _ => {
                set.push(first);
                rest = behind;
            }
        }
    }
    set
}
