//! The qtest text protocol: one line in, one line out.
//!
//! | command | answer |
//! |---|---|
//! | `outb`, `outw`, `outl` PORT VALUE | `OK` |
//! | `inb`, `inw`, `inl` PORT | `OK 0xVALUE` |
//! | `writeb`, `writew`, `writel`, `writeq` ADDRESS VALUE | `OK` |
//! | `readb`, `readw`, `readl`, `readq` ADDRESS | `OK 0xVALUE` |
//! | `read` ADDRESS SIZE, `b64read` ADDRESS SIZE | `OK 0xHEX`, `OK BASE64` |
//! | `write` ADDRESS SIZE 0xHEX, `b64write` ADDRESS SIZE BASE64, `memset` ADDRESS SIZE BYTE | `OK` |
//! | `clock_step` \[NS\] (else to the next timer), `clock_set` NS | `OK NOW` |
//! | `irq_intercept_in` ioapic, `irq_intercept_out` ... | `OK`, and `IRQ raise N` lines from then on |
//! | `endianness` | `OK little` |
//!
//! Numbers are decimal, `0x` hexadecimal or `0` octal. A command that is not known or cannot be done
//! is answered with `FAIL` and why.

use crate::machine::Machine;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;
use xinim_devices::bus::Space;

/// Bytes moved by one command at most.
const MAX_BYTES: u64 = 64 << 20;
/// How far `clock_step` without a number goes when no timer runs.
const STEP: Duration = Duration::from_millis(1);

/// Carries out one line. The answer has no line end.
pub fn command(machine: &mut Machine, line: &str) -> String {
    match carry_out(machine, line) {
        Ok(answer) if answer.is_empty() => String::from("OK"),
        Ok(answer) => format!("OK {answer}"),
        Err(error) => format!("FAIL {error}"),
    }
}

fn carry_out(machine: &mut Machine, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let Some((name, arguments)) = words.split_first() else {
        return Err(String::from("empty command"));
    };
    let number = |index: usize| {
        let word = arguments.get(index).ok_or_else(|| format!("{name}: argument missing"))?;
        parse_number(word).ok_or_else(|| format!("{name}: {word} is no number"))
    };
    match *name {
        "outb" | "outw" | "outl" => {
            machine.write(Space::Pio, number(0)?, width(name), number(1)?);
            Ok(String::new())
        }
        "inb" | "inw" | "inl" => {
            let value = machine.read(Space::Pio, number(0)?, width(name));
            Ok(format!("{value:#06x}"))
        }
        "writeb" | "writew" | "writel" | "writeq" => {
            machine.write(Space::Mmio, number(0)?, width(name), number(1)?);
            Ok(String::new())
        }
        "readb" | "readw" | "readl" | "readq" => {
            let value = machine.read(Space::Mmio, number(0)?, width(name));
            Ok(format!("{value:#018x}"))
        }
        "read" | "b64read" => {
            let data = machine.read_bytes(number(0)?, size(number(1)?)?);
            Ok(if *name == "read" { hex(&data) } else { STANDARD.encode(data) })
        }
        "write" | "b64write" => {
            let size = size(number(1)?)?;
            let text = arguments.get(2).ok_or_else(|| format!("{name}: data missing"))?;
            let data = if *name == "write" { from_hex(text) } else { STANDARD.decode(text).ok() };
            let mut data = data.ok_or_else(|| format!("{name}: the data cannot be read"))?;
            // Short data is filled up with zeros, as QEMU does.
            data.resize(size, 0);
            machine.write_bytes(number(0)?, &data);
            Ok(String::new())
        }
        "memset" => {
            let data = vec![number(2)? as u8; size(number(1)?)?];
            machine.write_bytes(number(0)?, &data);
            Ok(String::new())
        }
        "clock_step" => {
            let step = match arguments {
                [] => machine.next_timer().unwrap_or(STEP),
                _ => Duration::from_nanos(number(0)?),
            };
            Ok(machine.step_clock(step).to_string())
        }
        "clock_set" => {
            let now = machine.step_clock(Duration::ZERO);
            Ok(machine.step_clock(Duration::from_nanos(number(0)?.saturating_sub(now))).to_string())
        }
        "irq_intercept_in" | "irq_intercept_out" => {
            machine.intercept();
            Ok(String::new())
        }
        "endianness" => Ok(String::from("little")),
        _ => Err(format!("Unknown command '{name}'")),
    }
}

/// Bytes by the last letter of a command's name.
fn width(name: &str) -> u8 {
    match name.as_bytes().last() {
        Some(b'b') => 1,
        Some(b'w') => 2,
        Some(b'l') => 4,
        _ => 8,
    }
}

fn size(bytes: u64) -> Result<usize, String> {
    usize::try_from(bytes)
        .ok()
        .filter(|_| bytes <= MAX_BYTES)
        .ok_or_else(|| format!("{bytes} bytes are too many at once"))
}

/// As strtoull with base 0.
fn parse_number(word: &str) -> Option<u64> {
    if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        u64::from_str_radix(digits, 16).ok()
    } else if word.len() > 1 && word.starts_with('0') {
        u64::from_str_radix(&word[1..], 8).ok()
    } else if let Some(digits) = word.strip_prefix('-') {
        digits.parse::<u64>().ok().map(u64::wrapping_neg)
    } else {
        word.parse().ok()
    }
}

fn hex(data: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + 2 * data.len());
    text.push_str("0x");
    for byte in data {
        text.push(char::from(digits[usize::from(byte >> 4)]));
        text.push(char::from(digits[usize::from(byte & 15)]));
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
    digits
        .chunks(2)
        .map(|pair| Some(nibble(pair.first()?)? << 4 | pair.get(1).map_or(Some(0), nibble)?))
        .collect()
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
