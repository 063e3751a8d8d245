//! Command-line options as POSIX has them: `-a -b`, `-ab`, `-n 5`, `-n5`, `--` ends them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    given: Vec<(char, Option<String>)>,
    pub operands: Vec<String>,
}

impl Options {
    /// `known`: each option's letter, followed by `:` where it takes a value. Options may stand
    /// behind operands too. Fails with a sentence that ends in the usage.
    pub fn parse(args: &[String], known: &str, usage: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                options.operands.extend(args.cloned());
                break;
            }
            let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                options.operands.push(arg.clone());
                continue;
            };
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                let Some(at) = known.find(letter).filter(|_| letter != ':') else {
                    return Err(format!("unknown option -{letter}\nusage: {usage}"));
                };
                let mut value = None;
                if known[at + letter.len_utf8()..].starts_with(':') {
                    value = match rest.as_str() {
                        "" => args.next().cloned(),
                        text => Some(text.to_string()),
                    };
                    if value.is_none() {
                        return Err(format!("-{letter} needs a value\nusage: {usage}"));
                    }
                    rest = "".chars();
                }
                options.given.push((letter, value));
            }
        }
        Ok(options)
    }

    pub fn has(&self, letter: char) -> bool {
        self.given.iter().any(|(own, _)| *own == letter)
    }

    /// The value given last.
    pub fn value(&self, letter: char) -> Option<&str> {
        let mut found = self.given.iter().rev().filter(|(own, _)| *own == letter);
        found.next()?.1.as_deref()
    }

    /// All values given, in order.
    pub fn values(&self, letter: char) -> impl Iterator<Item = &str> {
        let given = self.given.iter().filter(move |(own, _)| *own == letter);
        given.filter_map(|(_, value)| value.as_deref())
    }

    /// A value that is a number.
    pub fn number(&self, letter: char) -> Result<Option<u64>, String> {
        let Some(text) = self.value(letter) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("-{letter}: bad number '{text}'"))
    }
}

/// A size such as `4k`, `1M`, `512`, `2x512`.
pub fn parse_size(text: &str) -> Option<u64> {
    text.split('x').try_fold(1u64, |product, factor| {
        let digits = factor.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match &factor[digits.len()..] {
            "" | "c" => 1,
            "w" => 2,
            "b" => 512,
            "k" | "K" | "KiB" => 1 << 10,
            "kB" | "KB" => 1000,
            "M" | "MiB" => 1 << 20,
            "MB" => 1_000_000,
            "G" | "GiB" => 1 << 30,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        product.checked_mul(digits.parse::<u64>().ok()?.checked_mul(unit)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn forms() {
        let options =
            Options::parse(&args(&["-ab", "-n5", "x", "-n", "6", "--", "-c"]), "abn:", "");
        let options = options.unwrap();
        assert!(options.has('a') && options.has('b') && !options.has('c'));
        assert_eq!(options.number('n'), Ok(Some(6)));
        assert_eq!(options.operands, args(&["x", "-c"]));
        assert!(Options::parse(&args(&["-z"]), "a", "").is_err());
        assert!(Options::parse(&args(&["-n"]), "n:", "").is_err());
        assert!(Options::parse(&args(&["-:"]), "n:", "").is_err());
        assert_eq!(Options::parse(&args(&["-"]), "", "").unwrap().operands, args(&["-"]));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4k"), Some(4096));
        assert_eq!(parse_size("2x512"), Some(1024));
        assert_eq!(parse_size("1M"), Some(1 << 20));
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        for bad in ["", "k", "-1", "1q", "99999999999999999999", "9999999999999999999G"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
