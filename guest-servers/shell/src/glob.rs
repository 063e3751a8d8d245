//! Patterns (POSIX 2.13): matching, and path-name expansion.
//!
//! A *pattern string* is text in which `*`, `?` and `[…]` act and a backslash makes the next
//! character itself. Matching takes time in the product of both lengths.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_os::{Os, join};

/// Paths one pattern may expand to; what is beyond is dropped.
pub const MATCHES_MAX: usize = 65_536;

/// Appends `text` so that each of its characters stands for itself.
pub fn push_escaped(pattern: &mut String, text: &str) {
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '-' | '!' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
}

/// The text whose characters all stand for themselves.
pub fn unescape(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

/// Whether anything in it acts as a pattern.
pub fn is_pattern(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => _ = chars.next(),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

enum Token {
    Any,
    One,
    Char(char),
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn matches(&self, c: char) -> bool {
        match self {
            Token::Any | Token::One => true,
            Token::Char(own) => *own == c,
            Token::Set { negated, ranges } => {
                ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
        }
    }
}

/// A pattern string made ready.
pub struct Pattern(Vec<Token>);

impl Pattern {
    pub fn new(pattern: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => {
                    let c = rest.chars().next().unwrap_or('\\');
                    rest = rest.get(c.len_utf8()..).unwrap_or("");
                    Token::Char(c)
                }
                '[' => match set(rest) {
                    Some((token, behind)) => {
                        rest = behind;
                        token
                    }
                    None => Token::Char('['),
                },
                c => Token::Char(c),
            });
        }
        Pattern(tokens)
    }

    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.matches_chars(&text)
    }

    /// Greedy with one point to come back to: the last `*`.
    pub fn matches_chars(&self, text: &[char]) -> bool {
        let (mut p, mut t) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        loop {
            match self.0.get(p) {
                Some(Token::Any) => {
                    back = Some((p + 1, t));
                    p += 1;
                    continue;
                }
                Some(token) if t < text.len() && token.matches(text[t]) => {
                    p += 1;
                    t += 1;
                    continue;
                }
                None if t == text.len() => return true,
                _ => {}
            }
            match back {
                Some((star, from)) if from < text.len() => {
                    back = Some((star, from + 1));
                    p = star;
                    t = from + 1;
                }
                _ => return false,
            }
        }
    }
}

/// A bracket expression behind its `[`, and what follows it.
fn set(text: &str) -> Option<(Token, &str)> {
    let mut rest = text;
    let negated = rest.starts_with(['!', '^']);
    if negated {
        rest = &rest[1..];
    }
    let mut ranges: Vec<(char, char)> = Vec::new();
    let mut first = true;
    loop {
        let c = rest.chars().next()?;
        if c == ']' && !first {
            return Some((Token::Set { negated, ranges }, &rest[1..]));
        }
        first = false;
        if let Some(class) = rest.strip_prefix("[:")
            && let Some(end) = class.find(":]")
        {
            ranges.extend_from_slice(character_class(&class[..end])?);
            rest = &class[end + 2..];
            continue;
        }
        let (low, behind) = set_char(rest)?;
        rest = behind;
        let mut high = low;
        if let Some(behind) = rest.strip_prefix('-')
            && !behind.starts_with(']')
        {
            (high, rest) = set_char(behind)?;
        }
        ranges.push((low, high));
    }
}

fn set_char(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    let c = match chars.next()? {
        '\\' => chars.next()?,
        c => c,
    };
    Some((c, chars.as_str()))
}

fn character_class(name: &str) -> Option<&'static [(char, char)]> {
    Some(match name {
        "alpha" => &[('a', 'z'), ('A', 'Z')],
        "digit" => &[('0', '9')],
        "alnum" => &[('a', 'z'), ('A', 'Z'), ('0', '9')],
        "upper" => &[('A', 'Z')],
        "lower" => &[('a', 'z')],
        "space" => &[(' ', ' '), ('\t', '\r')],
        "blank" => &[(' ', ' '), ('\t', '\t')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "xdigit" => &[('0', '9'), ('a', 'f'), ('A', 'F')],
        _ => return None,
    })
}

/// The paths that match, sorted; none if nothing does.
pub fn expand(os: &dyn Os, pattern: &str) -> Vec<String> {
    let mut found = Vec::new();
    let trimmed = pattern.trim_start_matches('/');
    let root = if trimmed.len() < pattern.len() { "/" } else { "" };
    found.push(String::from(root));
    let mut components = trimmed.split('/').peekable();
    while let Some(component) = components.next() {
        let last = components.peek().is_none();
        let mut next = Vec::new();
        for dir in &found {
            if next.len() >= MATCHES_MAX {
                break;
            }
            step(os, dir, component, last, &mut next);
        }
        found = next;
    }
    found.sort_unstable();
    found.truncate(MATCHES_MAX);
    found
}

fn step(os: &dyn Os, dir: &str, component: &str, last: bool, next: &mut Vec<String>) {
    if !is_pattern(component) {
        let mut path = join(dir, &unescape(component));
        if component.is_empty() && !path.ends_with('/') {
            path.push('/');
        }
        if !last || os.lstat(&path).is_ok() {
            next.push(path);
        }
        return;
    }
    let entries = os.read_dir(if dir.is_empty() { "." } else { dir }).unwrap_or_default();
    let hidden = component.starts_with('.') || component.starts_with("\\.");
    let pattern = Pattern::new(component);
    for entry in entries {
        if entry.name.starts_with('.') && (!hidden || entry.name == "." || entry.name == "..") {
            continue;
        }
        if pattern.matches(&entry.name) {
            next.push(join(dir, &entry.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matching() {
        let cases = [
            ("*", "anything", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXcYYb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[[:digit:]]*", "1a", true),
            ("[", "[", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*.rs", "a.b.rs", true),
            ("", "", true),
            ("[a", "[a", true),
            ("[a\\-c]", "b", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn escaped_text_matches_itself_only(text in "\\PC{0,20}", other in "\\PC{0,20}") {
            let mut pattern = String::new();
            push_escaped(&mut pattern, &text);
            prop_assert!(!is_pattern(&pattern));
            prop_assert_eq!(&unescape(&pattern), &text);
            prop_assert!(Pattern::new(&pattern).matches(&text));
            prop_assert_eq!(Pattern::new(&pattern).matches(&other), text == other);
        }

        #[test]
        fn any_pattern(pattern in "[a-c*?\\[\\]!\\\\:-]{0,12}", text in "[a-c]{0,12}") {
            let _ = Pattern::new(&pattern).matches(&text);
        }
    }
}
