//! `printf FORMAT [ARGUMENT...]`: `%s %b %c %d %i %u %o %x %X %%` with flags, width and precision.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::Context;

/// Bound of widths and precisions.
const WIDTH_MAX: usize = 4096;

pub fn run(c: &mut Context<'_>) -> i32 {
    let Some(format) = c.args.first() else { return c.usage("usage: printf FORMAT [ARGUMENT...]") };
    let (text, problem) = render(format, &c.args[1..]);
    c.out.write(&text);
    if let Some(message) = problem {
        c.problem("", message);
    }
    0
}

/// The bytes, and the first problem. The format is used again while arguments remain.
pub fn render(format: &str, args: &[String]) -> (Vec<u8>, Option<String>) {
    let mut printer = Printer { out: Vec::new(), args, used: 0, problem: None };
    loop {
        let before = printer.used;
        if !printer.pass(format) || printer.used >= args.len() || printer.used == before {
            return (printer.out, printer.problem);
        }
    }
}

struct Printer<'a> {
    out: Vec<u8>,
    args: &'a [String],
    used: usize,
    problem: Option<String>,
}

#[derive(Default)]
struct Directive {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

impl Printer<'_> {
    fn next(&mut self) -> String {
        self.used += 1;
        self.args.get(self.used - 1).cloned().unwrap_or_default()
    }

    fn complain(&mut self, message: String) {
        self.problem.get_or_insert(message);
    }

    /// The format once. `false`: output ends here.
    fn pass(&mut self, format: &str) -> bool {
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            if !unescape(&rest[..at], false, &mut self.out) {
                return false;
            }
            rest = &rest[at + 1..];
            match self.directive(rest) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        unescape(rest, false, &mut self.out)
    }

    fn directive<'f>(&mut self, format: &'f str) -> Option<&'f str> {
        if let Some(rest) = format.strip_prefix('%') {
            self.out.push(b'%');
            return Some(rest);
        }
        let mut d = Directive::default();
        let mut rest = format;
        loop {
            match rest.as_bytes().first() {
                Some(b'-') => d.left = true,
                Some(b'0') => d.zero = true,
                Some(b'+') => d.plus = true,
                Some(b' ') => d.space = true,
                Some(b'#') => d.alternate = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        (d.width, rest) = self.number(rest);
        if let Some(behind) = rest.strip_prefix('.') {
            let (precision, behind) = self.number(behind);
            d.precision = Some(precision);
            rest = behind;
        }
        let Some(kind) = rest.chars().next() else {
            self.complain("format ends in %".to_string());
            return None;
        };
        let rest = &rest[kind.len_utf8()..];
        match kind {
            's' | 'c' => {
                let arg = self.next();
                let limit = if kind == 'c' { Some(1) } else { d.precision };
                let text: String = arg.chars().take(limit.unwrap_or(usize::MAX)).collect();
                self.pad(&d, text.as_bytes(), text.chars().count());
            }
            'b' => {
                let arg = self.next();
                let mut bytes = Vec::new();
                let go_on = unescape(&arg, true, &mut bytes);
                self.pad(&d, &bytes, bytes.len());
                if !go_on {
                    return None;
                }
            }
            'd' | 'i' | 'u' | 'o' | 'x' | 'X' => self.integer(&d, kind),
            _ => {
                self.complain(format!("%{kind}: unknown directive"));
                return None;
            }
        }
        Some(rest)
    }

    /// Digits, or an argument for `*`.
    fn number<'f>(&mut self, format: &'f str) -> (usize, &'f str) {
        if let Some(rest) = format.strip_prefix('*') {
            let value = self.next().parse().unwrap_or(0);
            return (usize::min(value, WIDTH_MAX), rest);
        }
        let digits = format.bytes().take_while(u8::is_ascii_digit).count();
        let value = format[..digits].parse().unwrap_or(if digits == 0 { 0 } else { WIDTH_MAX });
        (value.min(WIDTH_MAX), &format[digits..])
    }

    fn integer(&mut self, d: &Directive, kind: char) {
        let arg = self.next();
        let value = parse_integer(&arg).unwrap_or_else(|| {
            self.complain(format!("'{arg}': not a number"));
            0
        });
        let negative = matches!(kind, 'd' | 'i') && value < 0;
        let magnitude = if negative { value.unsigned_abs() } else { value as u128 } as u64;
        let digits = match kind {
            'o' => format!("{magnitude:o}"),
            'x' => format!("{magnitude:x}"),
            'X' => format!("{magnitude:X}"),
            _ => magnitude.to_string(),
        };
        let mut text = match (negative, d.plus, d.space, kind) {
            (true, ..) => "-".to_string(),
            (false, true, _, 'd' | 'i') => "+".to_string(),
            (false, false, true, 'd' | 'i') => " ".to_string(),
            _ => String::new(),
        };
        match kind {
            'x' if d.alternate && magnitude != 0 => text += "0x",
            'X' if d.alternate && magnitude != 0 => text += "0X",
            'o' if d.alternate => text += "0",
            _ => {}
        }
        let zeros = match d.precision {
            Some(precision) => precision.saturating_sub(digits.len()),
            None if d.zero && !d.left => d.width.saturating_sub(text.len() + digits.len()),
            None => 0,
        };
        text.extend(core::iter::repeat_n('0', zeros));
        text += &digits;
        self.pad(d, text.as_bytes(), text.len());
    }

    fn pad(&mut self, d: &Directive, bytes: &[u8], width: usize) {
        let spaces = d.width.saturating_sub(width);
        if !d.left {
            self.out.extend(core::iter::repeat_n(b' ', spaces));
        }
        self.out.extend_from_slice(bytes);
        if d.left {
            self.out.extend(core::iter::repeat_n(b' ', spaces));
        }
    }
}

/// Decimal, `0x…`, `0…`, or the character behind a quote.
fn parse_integer(text: &str) -> Option<i128> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix(['\'', '"']) {
        return Some(rest.chars().next().map_or(0, |c| i128::from(u32::from(c))));
    }
    if text.is_empty() {
        return Some(0);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    let value = i128::from(value.ok()?);
    Some(if negative { -value } else { value })
}

/// Appends `text` with backslash escapes undone; octal ones begin with 0 in arguments (`%b`).
/// `false`: `\c` ended the output.
pub fn unescape(text: &str, argument: bool, out: &mut Vec<u8>) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else {
            out.push(b'\\');
            return true;
        };
        let mut taken = c.len_utf8();
        match c {
            'a' => out.push(7),
            'b' => out.push(8),
            'c' => return false,
            'e' => out.push(0x1B),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            '"' if !argument => out.push(b'"'),
            'x' => {
                let digits = count_digits(&rest[1..], 16, 2);
                match u8::from_str_radix(&rest[1..1 + digits], 16) {
                    Ok(byte) => out.push(byte),
                    Err(_) => out.extend_from_slice(b"\\x"),
                }
                taken += digits;
            }
            '0'..='7' => {
                let skip = usize::from(argument && c == '0');
                let digits = count_digits(&rest[skip..], 8, 3);
                let value = u32::from_str_radix(&rest[skip..skip + digits], 8).unwrap_or(0);
                out.push(value as u8);
                taken = skip + digits;
            }
            _ => {
                out.push(b'\\');
                out.extend_from_slice(&rest.as_bytes()[..taken]);
            }
        }
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest.as_bytes());
    true
}

fn count_digits(text: &str, radix: u32, max: usize) -> usize {
    text.chars().take(max).take_while(|c| c.is_digit(radix)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render_text(format: &str, args: &[&str]) -> String {
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        String::from_utf8(render(format, &args).0).unwrap()
    }

    #[test]
    fn directives() {
        assert_eq!(render_text("%s-%s\\n", &["a", "b", "c"]), "a-b\nc-\n");
        assert_eq!(render_text("%5d|%-5d|%05d", &["42", "42", "-42"]), "   42|42   |-0042");
        assert_eq!(render_text("%x %X %o %#x", &["255", "255", "8", "16"]), "ff FF 10 0x10");
        assert_eq!(render_text("%.2s|%c|%%", &["abc", "xyz"]), "ab|x|%");
        assert_eq!(render_text("%b", &["a\\tb\\0101\\c"]), "a\tbA");
        assert_eq!(render_text("\\101\\x41", &[]), "AA");
        assert!(render("%d", &["x".to_string()]).1.is_some());
        assert!(render("%q", &[]).1.is_some());
    }

    proptest! {
        #[test]
        fn any_format(format in "[%a-z0-9.*\\\\+ #-]{0,20}", arg in "\\PC{0,6}") {
            let _ = render(&format, &[arg]);
        }
    }
}
