//! Arithmetic expansion: C's integer expressions over 64-bit numbers that wrap around.
//!
//! Names stand for the variables' values (0 when unset). Nesting is bounded.

use alloc::format;
use alloc::string::{String, ToString};

/// Nested parentheses, operators and variables that name expressions.
const DEPTH_MAX: usize = 60;

/// What an expression reads and assigns.
pub trait Variables {
    fn get(&self, name: &str) -> String;
    fn set(&mut self, name: &str, value: String) -> Result<(), String>;
}

/// The value of `expression`; of an empty one, 0.
pub fn evaluate(expression: &str, variables: &mut dyn Variables) -> Result<i64, String> {
    let mut parser = Parser { text: expression, variables, depth: 0, skip: false };
    parser.blanks();
    if parser.text.is_empty() {
        return Ok(0);
    }
    let value = parser.comma()?;
    if !parser.text.is_empty() {
        return Err(format!("bad expression near `{}`", parser.text));
    }
    Ok(value)
}

struct Parser<'t, 'v> {
    text: &'t str,
    variables: &'v mut dyn Variables,
    depth: usize,
    /// The operand is parsed, not evaluated (right of `&&`, …).
    skip: bool,
}

/// Binary operators by level, weakest first; longer ones before their prefixes.
const LEVELS: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

const ASSIGNMENTS: &[&str] = &["<<=", ">>=", "+=", "-=", "*=", "/=", "%=", "&=", "^=", "|=", "="];

impl Parser<'_, '_> {
    fn blanks(&mut self) {
        self.text = self.text.trim_start();
    }

    fn take(&mut self, operator: &str) -> bool {
        match self.text.strip_prefix(operator) {
            Some(rest) => {
                self.text = rest;
                self.blanks();
                true
            }
            None => false,
        }
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == DEPTH_MAX {
            return Err("expression nested too deeply".to_string());
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// Runs with evaluation off if `skip`.
    fn unless(
        &mut self,
        skip: bool,
        run: impl FnOnce(&mut Self) -> Result<i64, String>,
    ) -> Result<i64, String> {
        let before = self.skip;
        self.skip |= skip;
        let result = run(self);
        self.skip = before;
        result
    }

    fn comma(&mut self) -> Result<i64, String> {
        let mut value = self.assignment()?;
        while self.take(",") {
            value = self.assignment()?;
        }
        Ok(value)
    }

    fn assignment(&mut self) -> Result<i64, String> {
        let start = self.text;
        if let Some(name) = self.name() {
            let operator = ASSIGNMENTS
                .iter()
                .find(|op| self.text.starts_with(**op) && !self.text.starts_with("=="));
            if let Some(operator) = operator {
                self.take(operator);
                let value = self.deeper(Self::assignment)?;
                let binary = &operator[..operator.len() - 1];
                let value = match binary {
                    "" => value,
                    _ => {
                        let old = self.variable(name)?;
                        self.apply(binary, old, value)?
                    }
                };
                if !self.skip {
                    self.variables.set(name, value.to_string())?;
                }
                return Ok(value);
            }
            self.text = start;
        }
        self.conditional()
    }

    fn conditional(&mut self) -> Result<i64, String> {
        let condition = self.binary(0)?;
        if !self.take("?") {
            return Ok(condition);
        }
        let yes = self.unless(condition == 0, |p| p.deeper(Self::assignment))?;
        if !self.take(":") {
            return Err("`:` expected in expression".to_string());
        }
        let no = self.unless(condition != 0, |p| p.deeper(Self::assignment))?;
        Ok(if condition != 0 { yes } else { no })
    }

    fn binary(&mut self, level: usize) -> Result<i64, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut value = self.binary(level + 1)?;
        loop {
            let found = operators.iter().find(|op| {
                let Some(rest) = self.text.strip_prefix(**op) else { return false };
                // Not the first half of another operator.
                match **op {
                    "|" | "&" => !rest.starts_with([op.as_bytes()[0] as char, '=']),
                    "<" | ">" => !rest.starts_with(['<', '>']),
                    "==" | "!=" | "<=" | ">=" | "||" | "&&" => true,
                    _ => !rest.starts_with('='),
                }
            });
            let Some(operator) = found else { return Ok(value) };
            self.take(operator);
            let skip = match *operator {
                "||" => value != 0,
                "&&" => value == 0,
                _ => false,
            };
            let right = self.unless(skip, |p| p.binary(level + 1))?;
            value = self.apply(operator, value, right)?;
        }
    }

    fn apply(&self, operator: &str, a: i64, b: i64) -> Result<i64, String> {
        if matches!(operator, "/" | "%") && b == 0 {
            return if self.skip { Ok(0) } else { Err("division by zero".to_string()) };
        }
        Ok(match operator {
            "||" => i64::from(a != 0 || b != 0),
            "&&" => i64::from(a != 0 && b != 0),
            "|" => a | b,
            "^" => a ^ b,
            "&" => a & b,
            "==" => i64::from(a == b),
            "!=" => i64::from(a != b),
            "<" => i64::from(a < b),
            ">" => i64::from(a > b),
            "<=" => i64::from(a <= b),
            ">=" => i64::from(a >= b),
            "<<" => a.wrapping_shl(b as u32),
            ">>" => a.wrapping_shr(b as u32),
            "+" => a.wrapping_add(b),
            "-" => a.wrapping_sub(b),
            "*" => a.wrapping_mul(b),
            "/" => a.wrapping_div(b),
            _ => a.wrapping_rem(b),
        })
    }

    fn unary(&mut self) -> Result<i64, String> {
        for operator in ["+", "-", "~", "!"] {
            if self.take(operator) {
                let value = self.deeper(Self::unary)?;
                return Ok(match operator {
                    "+" => value,
                    "-" => value.wrapping_neg(),
                    "~" => !value,
                    _ => i64::from(value == 0),
                });
            }
        }
        if self.take("(") {
            let value = self.deeper(Self::comma)?;
            if !self.take(")") {
                return Err("`)` expected in expression".to_string());
            }
            return Ok(value);
        }
        if self.text.starts_with(|c: char| c.is_ascii_digit()) {
            let end = self.text.find(|c: char| !c.is_ascii_alphanumeric());
            let (digits, rest) = self.text.split_at(end.unwrap_or(self.text.len()));
            self.text = rest;
            self.blanks();
            return number(digits).ok_or_else(|| format!("bad number `{digits}`"));
        }
        match self.name() {
            Some(name) => self.variable(name),
            None if self.text.is_empty() => Err("operand expected at the end".to_string()),
            None => Err(format!("operand expected near `{}`", self.text)),
        }
    }

    fn variable(&mut self, name: &str) -> Result<i64, String> {
        let value = self.variables.get(name);
        let text = value.trim();
        if text.is_empty() {
            return Ok(0);
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let value = number(digits).ok_or_else(|| format!("{name}: bad number `{text}`"))?;
        Ok(if negative { value.wrapping_neg() } else { value })
    }
}

impl<'t> Parser<'t, '_> {
    fn name(&mut self) -> Option<&'t str> {
        let text = self.text;
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let name = &text[..end.unwrap_or(text.len())];
        if !crate::parse::is_name(name) {
            return None;
        }
        self.text = &text[name.len()..];
        self.blanks();
        Some(name)
    }
}

/// Decimal, `0x` hexadecimal or `0` octal; too large ones wrap.
fn number(digits: &str) -> Option<i64> {
    let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if digits.is_empty() {
        return None;
    }
    digits.chars().try_fold(0i64, |value, c| {
        let digit = i64::from(c.to_digit(radix)?);
        Some(value.wrapping_mul(i64::from(radix)).wrapping_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    impl Variables for BTreeMap<String, String> {
        fn get(&self, name: &str) -> String {
            BTreeMap::get(self, name).cloned().unwrap_or_default()
        }
        fn set(&mut self, name: &str, value: String) -> Result<(), String> {
            self.insert(name.to_string(), value);
            Ok(())
        }
    }

    #[test]
    fn values() {
        let mut variables = BTreeMap::from([("x".to_string(), "7".to_string())]);
        let cases = [
            ("1 + 2 * 3", 7),
            ("(1 + 2) * 3", 9),
            ("-x + 1", -6),
            ("x == 7 && 2 > 1", 1),
            ("0 && 1 / 0", 0),
            ("1 ? 2 : 3", 2),
            ("0x10 + 010", 24),
            ("1 << 4 | 1", 17),
            ("y = x * 2, y + 1", 15),
            ("y += 1", 15),
            ("!x", 0),
            ("~0", -1),
            ("", 0),
            ("7 % 4", 3),
            ("10 - 2 - 3", 5),
            ("1 < 2 == 1", 1),
        ];
        for (text, expected) in cases {
            assert_eq!(evaluate(text, &mut variables), Ok(expected), "{text}");
        }
        assert_eq!(variables["y"], "15");
        for text in ["1 +", "1 / 0", "(1", "1 2", "09", "1 ? 2", "$"] {
            assert!(evaluate(text, &mut variables).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "[0-9a-c+*/%<>=&|^!~?:(), -]{0,40}") {
            let _ = evaluate(&text, &mut BTreeMap::new());
        }
        #[test]
        fn sums_and_products(a in -1000i64..1000, b in -1000i64..1000, c in 1i64..50) {
            let text = format!("{a} + {b} * {c} - ({a} % {c})");
            let expected = a + b * c - (a % c);
            prop_assert_eq!(evaluate(&text, &mut BTreeMap::new()), Ok(expected));
        }
    }
}
