//! Plays a fuzzer's input and writes what the devices saw as a recording, for `xinim-vmm replay` and
//! for `vmm/device-fuzz/findings`:
//!
//! ```text
//! cargo run -p xinim-device-fuzz --example record -- ahci crash-1234 ahci-crash.rec
//! ```
//! Status 1: the input breaks something; the recording goes up to there.

use std::process::ExitCode;

use xinim_device_fuzz::HARNESSES;
use xinim_device_fuzz::findings::play;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, input, output] = &arguments[..] else {
        let names = HARNESSES.map(|(name, _)| name).join(", ");
        eprintln!("usage: record HARNESS INPUT OUTPUT\nharnesses: {names}");
        return ExitCode::from(2);
    };
    match record(name, input, output) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{output}: up to what went wrong");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing broke.
fn record(name: &str, input: &str, output: &str) -> Result<bool, String> {
    let known = HARNESSES.iter().find(|(known, _)| *known == name);
    let (_, harness) = known.ok_or_else(|| format!("there is no harness {name}"))?;
    let data = std::fs::read(input).map_err(|why| format!("{input} cannot be read: {why}"))?;
    let played = play(*harness, &data).map_err(|why| why.to_string())?;
    std::fs::write(output, &played.recording)
        .map_err(|why| format!("{output} cannot be written: {why}"))?;
    Ok(played.failure.is_none())
}
