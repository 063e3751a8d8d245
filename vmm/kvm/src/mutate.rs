//! Mutated instructions: the small changes that programming mistakes make to code (inverted branches, wrong
//! registers, off by one, missing calls), found by pattern in a page of text.
//!
//! Patterns can fit inside other instructions; then the change is a random one, which is as good.

use xinim_devices::random::draw;

/// `jmp` to itself.
pub const SPIN: [u8; 2] = [0xEB, 0xFE];
const NOP: u8 = 0x90;

/// A change: where, the new bytes, what it is.
pub type Mutation = (usize, Vec<u8>, &'static str);

/// The first change of a kind drawn that fits at `start` or later, else the first that fits anywhere.
pub fn mutate(text: &[u8], start: usize, random: &mut u64) -> Option<Mutation> {
    let first = draw(random) as usize;
    let detail = draw(random);
    let places = || (start..text.len()).chain(0..start.min(text.len()));
    (0..KINDS.len()).find_map(|turn| {
        let kind = KINDS[(first + turn) % KINDS.len()];
        places().find_map(|at| kind(text.get(at..)?, detail).map(|(new, what)| (at, new, what)))
    })
}

type Kind = fn(&[u8], u64) -> Option<(Vec<u8>, &'static str)>;

const KINDS: [Kind; 5] = [branch, register, off_by_one, no_call, nothing];

fn branch(code: &[u8], _: u64) -> Option<(Vec<u8>, &'static str)> {
    match *code {
        [op @ 0x74..=0x75, _, ..] => Some((vec![op ^ 1], "branch inverted")),
        [0x0F, op @ 0x80..=0x8F, _, _, 0 | 0xFF, 0 | 0xFF, ..] => {
            Some((vec![0x0F, op ^ 1], "branch inverted"))
        }
        _ => None,
    }
}

/// `mov` or `lea` with REX.W: another register.
fn register(code: &[u8], detail: u64) -> Option<(Vec<u8>, &'static str)> {
    match *code {
        [rex @ 0x48..=0x4F, op @ (0x89 | 0x8B | 0x8D), modrm, ..] => {
            let flipped = modrm ^ (1 << (3 + detail % 3));
            Some((vec![rex, op, flipped], "another register"))
        }
        _ => None,
    }
}

/// Arithmetic or comparison with a small constant.
fn off_by_one(code: &[u8], _: u64) -> Option<(Vec<u8>, &'static str)> {
    match *code {
        [0x48..=0x4F, 0x83, modrm @ 0xC0..=0xFF, constant, ..] => {
            Some((vec![code[0], 0x83, modrm, constant.wrapping_add(1)], "off by one"))
        }
        _ => None,
    }
}

fn no_call(code: &[u8], _: u64) -> Option<(Vec<u8>, &'static str)> {
    match *code {
        [0xE8, _, _, 0 | 0xFF, 0 | 0xFF, ..] => Some((vec![NOP; 5], "call left out")),
        _ => None,
    }
}

/// A store left out.
fn nothing(code: &[u8], _: u64) -> Option<(Vec<u8>, &'static str)> {
    match *code {
        [0x48..=0x4F, 0x89, 0xC0..=0xFF, ..] => Some((vec![NOP; 3], "move left out")),
        _ => None,
    }
}

#[cfg(test)]
#[path = "mutate_tests.rs"]
mod tests;
