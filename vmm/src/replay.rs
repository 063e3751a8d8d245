//! `xinim-vmm replay`: devices driven again from a recording, with no guest, and compared bit for bit.
//!
//! | status | |
//! |---|---|
//! | 0 | every device did what it had done |
//! | 1 | one did something else |
//! | 125 | the file is no recording, or has no device of that name |

use std::fs::File;

use serde_json::json;
use xinim_record::{Outcome, replay as replay_file};

use crate::cli::ReplayArgs;
use crate::error::Error;

/// A device did something else.
const DIFFERS: u8 = 1;

pub fn replay(args: &ReplayArgs) -> Result<u8, Error> {
    let file = File::open(&args.file).map_err(|e| Error::file("read", &args.file, e))?;
    let outcomes = replay_file(file, args.device.as_deref())
        .map_err(|why| Error::Usage(format!("{}: {why}", args.file.display())))?;
    if outcomes.is_empty() {
        let file = args.file.display();
        return Err(Error::Usage(match &args.device {
            Some(name) => format!("{file} has no device {name}"),
            None => format!("{file} has no devices"),
        }));
    }
    if args.json {
        println!("{:#}", outcomes.iter().map(json).collect::<serde_json::Value>());
    } else {
        outcomes.iter().for_each(|outcome| println!("{}", line(outcome)));
    }
    Ok(if outcomes.iter().all(Outcome::is_identical) { 0 } else { DIFFERS })
}

fn line(outcome: &Outcome) -> String {
    let Outcome { device, calls, asks, .. } = outcome;
    match &outcome.difference {
        Some(how) => format!("{device}: differs at {how}"),
        None => {
            let end = if outcome.cut_off { ", cut off in the middle of a call" } else { "" };
            format!("{device}: identical, {calls} calls, {asks} questions{end}")
        }
    }
}

fn json(outcome: &Outcome) -> serde_json::Value {
    json!({
        "device": outcome.device,
        "identical": outcome.is_identical(),
        "calls": outcome.calls,
        "questions": outcome.asks,
        "difference": outcome.difference,
        "cut_off": outcome.cut_off,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(file: &std::path::Path) -> ReplayArgs {
        ReplayArgs { file: file.to_owned(), device: None, json: false }
    }

    #[test]
    fn what_is_no_recording_is_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recording");
        assert!(replay(&args(&path)).unwrap_err().to_string().contains("recording"));
        std::fs::write(&path, "nothing of the kind").unwrap();
        assert!(replay(&args(&path)).unwrap_err().to_string().contains("XINIMREC"));
        std::fs::write(&path, b"XINIMREC\x01\0\0\0").unwrap();
        assert!(replay(&args(&path)).unwrap_err().to_string().contains("no devices"));
    }

    #[test]
    fn outcomes_are_lines() {
        let outcome = Outcome {
            device: "ahci.0".into(),
            calls: 7,
            asks: 9,
            difference: None,
            cut_off: false,
        };
        assert_eq!(line(&outcome), "ahci.0: identical, 7 calls, 9 questions");
        let difference = Some("call 3, Reset: it asked Receive".to_owned());
        let line = line(&Outcome { difference, ..outcome });
        assert_eq!(line, "ahci.0: differs at call 3, Reset: it asked Receive");
    }
}
