//! Seeded random inputs for so many seconds, without coverage guidance and on any toolchain:
//!
//! ```text
//! cargo run --release -p xinim-device-fuzz --example fuzz -- ahci 60 1
//! ```
//! A finding ends it, and is written to `$XINIM_FINDINGS` as every finding is.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use xinim_device_fuzz::HARNESSES;
use xinim_device_fuzz::findings::run;
use xinim_devices::random::draw;

/// Longest input, bytes.
const LONGEST: u64 = 4096;

struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        draw(&mut self.0)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.draw() % LONGEST;
        let words = std::iter::repeat_with(|| self.draw().to_le_bytes());
        words.flatten().take(length as usize).collect()
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen = match &arguments[..] {
        [name, seconds, seed] => {
            let harness = HARNESSES.iter().find(|(known, _)| known == name);
            harness.zip(seconds.parse().ok()).zip(seed.parse().ok())
        }
        _ => None,
    };
    let Some(((&(name, harness), seconds), seed)) = chosen else {
        let names = HARNESSES.map(|(name, _)| name).join(", ");
        eprintln!("usage: fuzz HARNESS SECONDS SEED\nharnesses: {names}");
        return ExitCode::from(2);
    };
    let (start, mut random, mut inputs) = (Instant::now(), Random(seed), 0u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        run(name, harness, &random.bytes());
        inputs += 1;
    }
    println!("{name}: {inputs} inputs from seed {seed}, nothing found");
    ExitCode::SUCCESS
}
