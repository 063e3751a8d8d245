//! `echo [-n] [-e] TEXT...`

use alloc::string::String;
use alloc::vec::Vec;

use super::printf::unescape;
use crate::Context;

pub fn run(c: &mut Context<'_>) -> i32 {
    c.out.write(&render(c.args));
    0
}

/// What `echo` with these arguments writes.
pub fn render(args: &[String]) -> Vec<u8> {
    let (mut newline, mut escapes) = (true, false);
    let mut words = args;
    while let Some(letters) = words.first().and_then(|word| word.strip_prefix('-'))
        && !letters.is_empty()
        && letters.chars().all(|c| matches!(c, 'n' | 'e' | 'E'))
    {
        for letter in letters.chars() {
            match letter {
                'n' => newline = false,
                letter => escapes = letter == 'e',
            }
        }
        words = &words[1..];
    }
    let text = words.join(" ");
    let mut bytes = Vec::with_capacity(text.len() + 1);
    if !escapes {
        bytes.extend_from_slice(text.as_bytes());
    } else if !unescape(&text, true, &mut bytes) {
        return bytes;
    }
    if newline {
        bytes.push(b'\n');
    }
    bytes
}
