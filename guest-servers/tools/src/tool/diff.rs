//! `diff [-u] [-q] [-U LINES] OLD NEW`: the least lines to remove and add (Myers, "An O(ND) Difference
//! Algorithm and Its Variations", 1986). 0: the same; 1: different; 2: trouble.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{is_kind, join, mode, read_file};

use crate::{Context, Options};

/// Lines removed and added that are looked for; files that differ more are shown as replaced whole.
const EDITS_MAX: usize = 4000;

pub fn run(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "uqU:", "diff [-u] [-q] [-U LINES] OLD NEW") {
        Ok(options) => options,
        Err(message) => {
            c.usage(message);
            return 2;
        }
    };
    let context = match options.number('U') {
        Ok(Some(lines)) => Some(lines.min(1 << 20) as usize),
        Ok(None) => options.has('u').then_some(3),
        Err(message) => {
            c.usage(message);
            return 2;
        }
    };
    let [old, new] = options.operands.as_slice() else {
        c.usage("two files are needed");
        return 2;
    };
    // A directory stands for the file of the same name in it.
    let is_dir = |c: &Context<'_>, path: &str| {
        c.os.stat(path).is_ok_and(|stat| is_kind(&stat, mode::DIRECTORY))
    };
    let (mut old, mut new) = (old.clone(), new.clone());
    match (is_dir(c, &old), is_dir(c, &new)) {
        (true, false) => old = join(&old, xinim_os::base_name(&new)),
        (false, true) => new = join(&new, xinim_os::base_name(&old)),
        (true, true) => {
            c.usage("directories are not compared");
            return 2;
        }
        _ => {}
    }
    let (Some(a), Some(b)) = (read(c, &old), read(c, &new)) else { return 2 };
    if a == b {
        return 0;
    }
    if a.contains(&0) || b.contains(&0) {
        let _ = writeln!(c.out, "Binary files {old} and {new} differ");
        return 1;
    }
    if options.has('q') {
        let _ = writeln!(c.out, "Files {old} and {new} differ");
        return 1;
    }
    let (a, b) = (lines(&a), lines(&b));
    let changes = changes(&a, &b);
    match context {
        Some(context) => {
            let _ = write!(c.out, "--- {old}\n+++ {new}\n");
            unified(c, &a, &b, &changes, context);
        }
        None => normal(c, &a, &b, &changes),
    }
    1
}

fn read(c: &mut Context<'_>, path: &str) -> Option<Vec<u8>> {
    let file = c.open_input(path)?;
    match read_file(c.os, file.fd) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            c.problem(path, error);
            None
        }
    }
}

/// With their newlines, so that a missing last one is a difference.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').collect()
}

/// `a[old]` is replaced by `b[new]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    old: core::ops::Range<usize>,
    new: core::ops::Range<usize>,
}

fn changes(a: &[&[u8]], b: &[&[u8]]) -> Vec<Change> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (ra, rb) = (&a[head..], &b[head..]);
    let tail = ra.iter().rev().zip(rb.iter().rev()).take_while(|(x, y)| x == y).count();
    let (ra, rb) = (&ra[..ra.len() - tail], &rb[..rb.len() - tail]);
    let Some(kept) = common(ra, rb) else {
        return Vec::from([Change { old: head..head + ra.len(), new: head..head + rb.len() }]);
    };
    let mut found: Vec<Change> = Vec::new();
    let (mut x, mut y) = (0, 0);
    for (nx, ny) in kept.into_iter().chain([(ra.len(), rb.len())]) {
        if nx > x || ny > y {
            found.push(Change { old: head + x..head + nx, new: head + y..head + ny });
        }
        (x, y) = (nx + 1, ny + 1);
    }
    found
}

/// Pairs of equal lines of a shortest edit; `None` where it would be longer than [`EDITS_MAX`].
fn common(a: &[&[u8]], b: &[&[u8]]) -> Option<Vec<(usize, usize)>> {
    let (n, m) = (a.len() as isize, b.len() as isize);
    let max = ((n + m) as usize).min(EDITS_MAX);
    let mut furthest = vec![0isize; 2 * max + 3];
    let at = |k: isize| (k + max as isize + 1) as usize;
    let mut trace: Vec<Vec<isize>> = Vec::new();
    for d in 0..=max as isize {
        trace.push(furthest[at(-d - 1)..=at(d + 1)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || k != d && furthest[at(k - 1)] < furthest[at(k + 1)];
            let mut x = if down { furthest[at(k + 1)] } else { furthest[at(k - 1)] + 1 };
            while x < n && x - k < m && x - k >= 0 && a[x as usize] == b[(x - k) as usize] {
                x += 1;
            }
            furthest[at(k)] = x;
            if x >= n && x - k >= m {
                return Some(back(&trace, a.len(), b.len()));
            }
        }
    }
    None
}

/// Goes the way of the edit backwards and gathers the diagonals.
fn back(trace: &[Vec<isize>], n: usize, m: usize) -> Vec<(usize, usize)> {
    let (mut x, mut y) = (n as isize, m as isize);
    let mut pairs = Vec::new();
    for (d, furthest) in trace.iter().enumerate().rev() {
        let d = d as isize;
        let value = |k: isize| furthest[(k + d + 1) as usize];
        let k = x - y;
        let down = k == -d || k != d && value(k - 1) < value(k + 1);
        let before = if down { k + 1 } else { k - 1 };
        let (px, py) = if d == 0 { (0, 0) } else { (value(before), value(before) - before) };
        // Behind the one line removed or added.
        let start = match (d, down) {
            (0, _) => 0,
            (_, true) => px,
            (_, false) => px + 1,
        };
        while x > start {
            (x, y) = (x - 1, y - 1);
            pairs.push((x as usize, y as usize));
        }
        (x, y) = (px, py);
    }
    pairs.reverse();
    pairs
}

fn line(c: &mut Context<'_>, mark: &str, text: &[u8]) {
    c.out.write(mark.as_bytes());
    c.out.write(text);
    if !text.ends_with(b"\n") {
        c.out.write(b"\n\\ No newline at end of file\n");
    }
}

/// `3`, `3,5`; of nothing, the line before it.
fn span(range: &core::ops::Range<usize>) -> String {
    match range.len() {
        0 => range.start.to_string(),
        1 => (range.start + 1).to_string(),
        _ => format!("{},{}", range.start + 1, range.end),
    }
}

fn normal(c: &mut Context<'_>, a: &[&[u8]], b: &[&[u8]], changes: &[Change]) {
    for Change { old, new } in changes {
        let letter = match (old.is_empty(), new.is_empty()) {
            (true, _) => 'a',
            (_, true) => 'd',
            _ => 'c',
        };
        let _ = writeln!(c.out, "{}{letter}{}", span(old), span(new));
        for text in &a[old.clone()] {
            line(c, "< ", text);
        }
        if letter == 'c' {
            c.out.write(b"---\n");
        }
        for text in &b[new.clone()] {
            line(c, "> ", text);
        }
    }
}

fn unified(c: &mut Context<'_>, a: &[&[u8]], b: &[&[u8]], changes: &[Change], context: usize) {
    let mut at = 0;
    while at < changes.len() {
        // Changes whose context meets go into one hunk.
        let mut last = at;
        while last + 1 < changes.len()
            && changes[last + 1].old.start - changes[last].old.end <= 2 * context
        {
            last += 1;
        }
        let (first, end) = (&changes[at], &changes[last]);
        let before = first.old.start.min(context);
        let after = (a.len() - end.old.end).min(context);
        let old = first.old.start - before..end.old.end + after;
        let new = first.new.start - before..end.new.end + after;
        let part = |range: &core::ops::Range<usize>| match range.len() {
            1 => (range.start + 1).to_string(),
            0 => format!("{},0", range.start),
            len => format!("{},{len}", range.start + 1),
        };
        let _ = writeln!(c.out, "@@ -{} +{} @@", part(&old), part(&new));
        let mut x = old.start;
        for change in &changes[at..=last] {
            for text in &a[x..change.old.start] {
                line(c, " ", text);
            }
            for text in &a[change.old.clone()] {
                line(c, "-", text);
            }
            for text in &b[change.new.clone()] {
                line(c, "+", text);
            }
            x = change.old.end;
        }
        for text in &a[x..old.end] {
            line(c, " ", text);
        }
        at = last + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    /// What `changes` says turns one into the other, and no shorter edit does (by brute force).
    #[test]
    fn shortest_edits() {
        let texts: Vec<Vec<&[u8]>> = (0..3usize.pow(5))
            .map(|n| {
                let all: [&[u8]; 3] = [b"a", b"b", b"c"];
                (0..n % 6).map(|at| all[n / 3usize.pow(at as u32) % 3]).collect()
            })
            .collect();
        for a in &texts {
            for b in &texts {
                let found = changes(a, b);
                let (mut made, mut x) = (Vec::new(), 0);
                for change in &found {
                    made.extend_from_slice(&a[x..change.old.start]);
                    made.extend_from_slice(&b[change.new.clone()]);
                    x = change.old.end;
                }
                made.extend_from_slice(&a[x..]);
                assert_eq!(&made, b, "{a:?}");
                let cost: usize = found.iter().map(|c| c.old.len() + c.new.len()).sum();
                assert_eq!(cost, a.len() + b.len() - 2 * longest(a, b), "{a:?} {b:?}");
            }
        }
    }

    fn longest(a: &[&[u8]], b: &[&[u8]]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (at, y) in b.iter().enumerate() {
                let above = row[at + 1];
                row[at + 1] = if x == y { diagonal + 1 } else { above.max(row[at]) };
                diagonal = above;
            }
        }
        row[b.len()]
    }
}
