//! `find [-H|-L|-P] [PATH...] [EXPRESSION]`, as POSIX has it and what people use besides.
//!
//! ```text
//! expression   or := and (-o and)*      and := not ([-a] not)*      not := [!|-not] test | ( or )
//! tests        -name -iname -path -type -size -links -perm -user -uid -group -gid -newer -mtime -mmin
//!              -inum -empty -true -false
//! actions      -print -print0 -delete -exec … {} ; | -exec … {} + | -prune -quit
//! elsewhere    -maxdepth -mindepth -depth -xdev
//! ```

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{Stat, base_name, is_kind, join, mode};

use super::spawn::run_program;
use crate::Context;

const DEPTH_MAX: usize = 128;
/// Paths given to one command of `-exec … +`.
const BATCH: usize = 512;
const DAY: u64 = 86_400_000_000_000;
const MINUTE: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less(u64),
    Equal(u64),
    More(u64),
}

impl Comparison {
    fn parse(text: &str) -> Option<Self> {
        match text.as_bytes().first()? {
            b'+' => text[1..].parse().ok().map(Self::More),
            b'-' => text[1..].parse().ok().map(Self::Less),
            _ => text.parse().ok().map(Self::Equal),
        }
    }

    fn holds(self, value: u64) -> bool {
        match self {
            Self::Less(than) => value < than,
            Self::Equal(to) => value == to,
            Self::More(than) => value > than,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Perm {
    Exactly(u32),
    All(u32),
    Any(u32),
}

#[derive(Debug)]
enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Constant(bool),
    Name {
        pattern: String,
        ignore_case: bool,
    },
    Path(String),
    Type(u32),
    /// Unit in bytes.
    Size(Comparison, u64),
    Links(Comparison),
    Inode(Comparison),
    Uid(Comparison),
    Gid(Comparison),
    Perm(Perm),
    Newer(u64),
    /// Age in units of so many ns.
    Age(Comparison, u64),
    Empty,
    Print,
    Print0,
    Delete,
    Prune,
    Quit,
    /// The command, and which of the batches is its own.
    Exec(Vec<String>, Option<usize>),
}

struct Find {
    follow: bool,
    follow_operands: bool,
    max_depth: usize,
    min_depth: usize,
    depth_first: bool,
    one_device: bool,
    now: u64,
    /// Paths for `-exec … +`, by number.
    batches: Vec<Vec<String>>,
    pruned: bool,
    quit: bool,
}

pub fn run(c: &mut Context<'_>) -> i32 {
    let mut find = Find {
        follow: false,
        follow_operands: false,
        max_depth: DEPTH_MAX,
        min_depth: 0,
        depth_first: false,
        one_device: false,
        now: c.os.wall_clock_ns(),
        batches: Vec::new(),
        pruned: false,
        quit: false,
    };
    let mut args = c.args;
    while let Some((first, rest)) = args.split_first()
        && matches!(first.as_str(), "-H" | "-L" | "-P")
    {
        find.follow = first == "-L";
        find.follow_operands = first != "-P";
        args = rest;
    }
    let is_expression =
        |arg: &String| arg.starts_with('-') || matches!(arg.as_str(), "(" | "!" | ")");
    let count = args.iter().position(is_expression).unwrap_or(args.len());
    let (paths, words) = args.split_at(count);
    let mut paths = paths.to_vec();
    if paths.is_empty() {
        paths.push(".".to_string());
    }
    let mut parser = Parser { c, words, find: &mut find, acts: false };
    let parsed = match words.is_empty() {
        true => Ok(Node::Constant(true)),
        false => parser.whole(),
    };
    let acts = parser.acts;
    let node = match parsed {
        Ok(node) if acts => node,
        Ok(node) => Node::And(Box::new(node), Box::new(Node::Print)),
        Err(message) => return c.usage(message),
    };
    for path in &paths {
        find.walk(c, &node, path, 0, None);
        if find.quit {
            break;
        }
    }
    find.flush(c, &node);
    0
}

impl Find {
    fn walk(
        &mut self,
        c: &mut Context<'_>,
        node: &Node,
        path: &str,
        level: usize,
        device: Option<u64>,
    ) {
        let follow = self.follow || level == 0 && self.follow_operands;
        let found = match follow {
            true => c.os.stat(path).or_else(|_| c.os.lstat(path)),
            false => c.os.lstat(path),
        };
        let stat = match found {
            Ok(stat) => stat,
            Err(error) => return c.problem(path, error),
        };
        if self.one_device && device.is_some_and(|device| device != stat.device) {
            return;
        }
        self.pruned = false;
        if !self.depth_first && level >= self.min_depth {
            self.eval(c, node, path, &stat);
        }
        let pruned = core::mem::replace(&mut self.pruned, false);
        if is_kind(&stat, mode::DIRECTORY) && level < self.max_depth && !self.quit && !pruned {
            match c.os.read_dir(path) {
                Ok(entries) => {
                    for entry in entries {
                        let below = join(path, &entry.name);
                        self.walk(c, node, &below, level + 1, Some(stat.device));
                        if self.quit {
                            return;
                        }
                    }
                }
                Err(error) => c.problem(path, error),
            }
        }
        if self.depth_first && level >= self.min_depth {
            self.eval(c, node, path, &stat);
        }
    }

    fn eval(&mut self, c: &mut Context<'_>, node: &Node, path: &str, stat: &Stat) -> bool {
        let age = |time: u64, unit: u64| self.now.saturating_sub(time) / unit;
        match node {
            Node::And(a, b) => {
                self.eval(c, a, path, stat) && !self.quit && self.eval(c, b, path, stat)
            }
            Node::Or(a, b) => {
                self.eval(c, a, path, stat) || self.quit || self.eval(c, b, path, stat)
            }
            Node::Not(a) => !self.eval(c, a, path, stat),
            Node::Constant(value) => *value,
            Node::Name { pattern, ignore_case: false } => matches(pattern, base(path)),
            Node::Name { pattern, .. } => {
                matches(&pattern.to_lowercase(), &base(path).to_lowercase())
            }
            Node::Path(pattern) => matches(pattern, path),
            Node::Type(kind) => is_kind(stat, *kind),
            Node::Size(comparison, unit) => comparison.holds(stat.size.div_ceil(*unit)),
            Node::Links(comparison) => comparison.holds(stat.links.into()),
            Node::Inode(comparison) => comparison.holds(stat.ino),
            Node::Uid(comparison) => comparison.holds(stat.uid.into()),
            Node::Gid(comparison) => comparison.holds(stat.gid.into()),
            Node::Perm(perm) => {
                let bits = stat.mode & mode::PERMISSIONS;
                match *perm {
                    Perm::Exactly(wanted) => bits == wanted,
                    Perm::All(wanted) => bits & wanted == wanted,
                    Perm::Any(wanted) => wanted == 0 || bits & wanted != 0,
                }
            }
            Node::Newer(than) => stat.mtime > *than,
            Node::Age(comparison, unit) => comparison.holds(age(stat.mtime, *unit)),
            Node::Empty if is_kind(stat, mode::DIRECTORY) => {
                c.os.read_dir(path).is_ok_and(|entries| entries.is_empty())
            }
            Node::Empty => is_kind(stat, mode::REGULAR) && stat.size == 0,
            Node::Print => writeln!(c.out, "{path}").is_ok(),
            Node::Print0 => write!(c.out, "{path}\0").is_ok(),
            Node::Delete => self.delete(c, path, stat),
            Node::Prune => {
                self.pruned = true;
                true
            }
            Node::Quit => {
                self.quit = true;
                true
            }
            Node::Exec(command, None) => {
                c.out.flush();
                let args: Vec<String> = command.iter().map(|arg| arg.replace("{}", path)).collect();
                run_program(c, &args, c.env) == 0
            }
            Node::Exec(command, Some(batch)) => {
                self.batches[*batch].push(path.to_string());
                if self.batches[*batch].len() >= BATCH {
                    self.run_batch(c, command, *batch);
                }
                true
            }
        }
    }

    fn delete(&mut self, c: &mut Context<'_>, path: &str, stat: &Stat) -> bool {
        if path == "." {
            return true;
        }
        let result = match is_kind(stat, mode::DIRECTORY) {
            true => c.os.rmdir(path),
            false => c.os.unlink(path),
        };
        if let Err(error) = result {
            c.problem(path, error);
        }
        result.is_ok()
    }

    fn run_batch(&mut self, c: &mut Context<'_>, command: &[String], batch: usize) {
        let paths = core::mem::take(&mut self.batches[batch]);
        if paths.is_empty() {
            return;
        }
        c.out.flush();
        let mut args = command.to_vec();
        args.extend(paths);
        if run_program(c, &args, c.env) != 0 {
            c.fail();
        }
    }

    /// Runs what `-exec … +` has left over.
    fn flush(&mut self, c: &mut Context<'_>, node: &Node) {
        match node {
            Node::And(a, b) | Node::Or(a, b) => {
                self.flush(c, a);
                self.flush(c, b);
            }
            Node::Not(a) => self.flush(c, a),
            Node::Exec(command, Some(batch)) => self.run_batch(c, command, *batch),
            _ => {}
        }
    }
}

/// Last component, also of `dir/`.
fn base(path: &str) -> &str {
    if path == "." || path == ".." { path } else { base_name(path) }
}

/// Shell pattern: `*`, `?`, `[a-z]`, `[!a-z]`, `\x`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when a `*` has to take one character more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => {
                bracket(&pattern[p..], text[t]).and_then(|(hit, len)| hit.then_some(p + len))
            }
            Some('\\') if p + 1 < pattern.len() => (pattern[p + 1] == text[t]).then_some(p + 2),
            Some(letter) => (*letter == text[t]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&letter| letter == '*')
}

/// Whether a bracket expression fits, and its length. Without its end `[` stands for itself.
fn bracket(pattern: &[char], letter: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let Some(len) = pattern.iter().skip(start + 1).position(|&c| c == ']') else {
        return Some((letter == '[', 1));
    };
    let end = start + 1 + len;
    let (mut at, mut hit) = (start, false);
    while at < end {
        if at + 2 < end && pattern[at + 1] == '-' {
            hit |= (pattern[at]..=pattern[at + 2]).contains(&letter);
            at += 3;
        } else {
            hit |= pattern[at] == letter;
            at += 1;
        }
    }
    Some((hit != negated, end + 1))
}

struct Parser<'p, 'c, 'a> {
    c: &'p mut Context<'c>,
    words: &'a [String],
    find: &'p mut Find,
    /// There is an action: no -print by itself.
    acts: bool,
}

impl Parser<'_, '_, '_> {
    fn whole(&mut self) -> Result<Node, String> {
        let node = self.or()?;
        match self.words.first() {
            None => Ok(node),
            Some(word) => Err(format!("unexpected {word}")),
        }
    }

    fn next(&mut self) -> Option<String> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first.clone())
    }

    fn eat(&mut self, names: &[&str]) -> bool {
        let hit = self.words.first().is_some_and(|word| names.contains(&word.as_str()));
        if hit {
            self.words = &self.words[1..];
        }
        hit
    }

    fn or(&mut self) -> Result<Node, String> {
        let mut node = self.and()?;
        while self.eat(&["-o", "-or"]) {
            node = Node::Or(Box::new(node), Box::new(self.and()?));
        }
        Ok(node)
    }

    fn and(&mut self) -> Result<Node, String> {
        let mut node = self.not()?;
        loop {
            let explicit = self.eat(&["-a", "-and"]);
            let ends =
                matches!(self.words.first().map(String::as_str), None | Some("-o" | "-or" | ")"));
            if ends && !explicit {
                return Ok(node);
            }
            node = Node::And(Box::new(node), Box::new(self.not()?));
        }
    }

    fn not(&mut self) -> Result<Node, String> {
        if self.eat(&["!", "-not"]) {
            return Ok(Node::Not(Box::new(self.not()?)));
        }
        if self.eat(&["("]) {
            let node = self.or()?;
            return if self.eat(&[")"]) { Ok(node) } else { Err("a ) is missing".into()) };
        }
        self.test()
    }

    fn comparison(&mut self, name: &str) -> Result<Comparison, String> {
        let value = self.value(name)?;
        Comparison::parse(&value).ok_or_else(|| format!("{name}: bad number '{value}'"))
    }

    fn value(&mut self, name: &str) -> Result<String, String> {
        self.next().ok_or_else(|| format!("{name} needs a value"))
    }

    fn test(&mut self) -> Result<Node, String> {
        let Some(name) = self.next() else { return Err("an expression is missing".into()) };
        let name = name.as_str();
        Ok(match name {
            "-name" | "-iname" => {
                Node::Name { pattern: self.value(name)?, ignore_case: name == "-iname" }
            }
            "-path" | "-wholename" => Node::Path(self.value(name)?),
            "-type" => Node::Type(match self.value(name)?.as_str() {
                "f" => mode::REGULAR,
                "d" => mode::DIRECTORY,
                "l" => mode::SYMLINK,
                "p" => mode::FIFO,
                "s" => mode::SOCKET,
                "c" => mode::CHARACTER,
                "b" => mode::BLOCK,
                other => return Err(format!("-type {other}: one of f d l p s c b")),
            }),
            "-size" => self.size()?,
            "-links" => Node::Links(self.comparison(name)?),
            "-inum" => Node::Inode(self.comparison(name)?),
            "-uid" => Node::Uid(self.comparison(name)?),
            "-gid" => Node::Gid(self.comparison(name)?),
            "-user" | "-group" => {
                let value = self.value(name)?;
                let group = name == "-group";
                let id = super::owner::find_id(self.c, &value, group)
                    .ok_or_else(|| format!("{name} {value}: not known"))?;
                let same = Comparison::Equal(id.into());
                if group { Node::Gid(same) } else { Node::Uid(same) }
            }
            "-perm" => self.perm()?,
            "-newer" => {
                let path = self.value(name)?;
                let stat = self.c.os.stat(&path).map_err(|error| format!("{path}: {error}"))?;
                Node::Newer(stat.mtime)
            }
            "-mtime" => Node::Age(self.comparison(name)?, DAY),
            "-mmin" => Node::Age(self.comparison(name)?, MINUTE),
            "-empty" => Node::Empty,
            "-true" => Node::Constant(true),
            "-false" => Node::Constant(false),
            "-prune" => Node::Prune,
            "-print" | "-print0" | "-delete" | "-quit" => {
                self.acts |= name != "-quit";
                match name {
                    "-print" => Node::Print,
                    "-print0" => Node::Print0,
                    "-quit" => Node::Quit,
                    _ => {
                        self.find.depth_first = true;
                        Node::Delete
                    }
                }
            }
            "-exec" => self.exec()?,
            "-maxdepth" | "-mindepth" => {
                let value = self.value(name)?;
                let depth: usize =
                    value.parse().map_err(|_| format!("{name}: bad number '{value}'"))?;
                match name {
                    "-maxdepth" => self.find.max_depth = depth.min(DEPTH_MAX),
                    _ => self.find.min_depth = depth,
                }
                Node::Constant(true)
            }
            "-depth" | "-d" => {
                self.find.depth_first = true;
                Node::Constant(true)
            }
            "-xdev" | "-mount" => {
                self.find.one_device = true;
                Node::Constant(true)
            }
            other => return Err(format!("unknown test {other}")),
        })
    }

    fn size(&mut self) -> Result<Node, String> {
        let value = self.value("-size")?;
        let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &value[digits.len()..] {
            "" | "b" => 512,
            "c" => 1,
            "w" => 2,
            "k" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            _ => return Err(format!("-size {value}: unknown unit")),
        };
        let comparison = Comparison::parse(digits);
        Ok(Node::Size(comparison.ok_or_else(|| format!("-size: bad number '{value}'"))?, unit))
    }

    fn perm(&mut self) -> Result<Node, String> {
        let value = self.value("-perm")?;
        let digits = value.trim_start_matches(['-', '/']);
        let bits = super::chmod::change(digits, 0, false, 0);
        let bits = bits.ok_or_else(|| format!("-perm {value}: bad mode"))?;
        Ok(Node::Perm(match value.as_bytes().first() {
            Some(b'-') => Perm::All(bits),
            Some(b'/') => Perm::Any(bits),
            _ => Perm::Exactly(bits),
        }))
    }

    fn exec(&mut self) -> Result<Node, String> {
        let mut command = Vec::new();
        loop {
            match self.next() {
                None => return Err("-exec needs a ; or + at its end".into()),
                Some(word) if word == ";" => break,
                Some(word) if word == "+" && command.last().is_some_and(|last| last == "{}") => {
                    command.pop();
                    self.acts = true;
                    self.find.batches.push(Vec::new());
                    return Ok(Node::Exec(command, Some(self.find.batches.len() - 1)));
                }
                Some(word) => command.push(word),
            }
        }
        if command.is_empty() {
            return Err("-exec needs a command".into());
        }
        self.acts = true;
        Ok(Node::Exec(command, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("*", ""),
            ("*.c", "a.c"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[!a]", "b"),
            ("*a*b*", "xxaxxbxx"),
            ("\\*", "*"),
            ("[", "["),
            ("[]]", "]"),
            ("a*", "a"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("*.c", "a.cc"), ("?", ""), ("[a-c]", "d"), ("a", "ab"), ("[!a]", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
