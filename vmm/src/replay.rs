//! `xinim-vmm replay`: devices driven again from a recording, with no guest, and compared bit for bit.
//!
//! | status | |
//! |---|---|
//! | 0 | every device did what it had done; with `--against`, as the other does but for what is known |
//! | 1 | one did something else; with `--against`, something that nobody has explained |
//! | 125 | the file is no recording, or has no device of that name |

use std::fs::File;

use serde_json::json;
use xinim_machine::EngineError;
use xinim_record::against::{Comparison, Difference, Running, against};
use xinim_record::{Outcome, replay as replay_file};

use crate::cli::{Peer, ReplayArgs};
use crate::engine::qemu::locate;
use crate::engine::qemu::process::{Inherited, Process};
use crate::error::Error;
use crate::output;

/// A device did something else.
const DIFFERS: u8 = 1;

pub fn replay(args: &ReplayArgs) -> Result<u8, Error> {
    if let Some(Peer::Qemu) = args.against {
        return against_qemu(args);
    }
    let file = File::open(&args.file).map_err(|e| Error::file("read", &args.file, e))?;
    let outcomes = replay_file(file, args.device.as_deref())
        .map_err(|why| Error::Usage(format!("{}: {why}", args.file.display())))?;
    if outcomes.is_empty() {
        return Err(no_device(args));
    }
    let values = || outcomes.iter().map(json).collect::<serde_json::Value>();
    let lines = || outcomes.iter().map(|outcome| line(outcome) + "\n").collect();
    output::either(args.json, values, lines)?;
    Ok(if outcomes.iter().all(Outcome::is_identical) { 0 } else { DIFFERS })
}

fn no_device(args: &ReplayArgs) -> Error {
    let file = args.file.display();
    Error::Usage(match &args.device {
        Some(name) => format!("{file} has no device {name}"),
        None => format!("{file} has no devices"),
    })
}

/// QEMU as the comparison has it.
struct Qemu(Option<Process>);

impl Running for Qemu {
    fn has_ended(&mut self) -> bool {
        let status = self.0.as_mut().map(|process| process.child.try_wait());
        !matches!(status, Some(Ok(None)))
    }

    fn end(&mut self) -> String {
        let Some(mut process) = self.0.take() else { return String::new() };
        // It may have ended by itself.
        let _ = process.child.kill();
        process.finish().map_or_else(|error| error.to_string(), |(_, text)| text)
    }
}

fn against_qemu(args: &ReplayArgs) -> Result<u8, Error> {
    let Some(program) = locate::find() else {
        return Err(EngineError::Unavailable(locate::MISSING.into()).into());
    };
    let launch = |arguments: &[String]| -> std::io::Result<Box<dyn Running>> {
        let process = Process::start(&program, arguments, Inherited::default())?;
        Ok(Box::new(Qemu(Some(process))))
    };
    let comparisons = against(&args.file, args.device.as_deref(), &launch)
        .map_err(|why| Error::Usage(format!("{}: {why}", args.file.display())))?;
    if comparisons.is_empty() {
        return Err(no_device(args));
    }
    let values = || comparisons.iter().map(comparison_json).collect::<serde_json::Value>();
    let text = || comparisons.iter().map(comparison_text).collect();
    output::either(args.json, values, text)?;
    Ok(if comparisons.iter().all(is_explained) { 0 } else { DIFFERS })
}

/// Whether the whole recording was compared and nothing is unknown.
fn is_explained(comparison: &Comparison) -> bool {
    let explained = comparison.report.explained(comparison.id);
    comparison.ended.is_none() && explained.iter().all(|(_, known)| known.is_some())
}

fn comparison_text(comparison: &Comparison) -> String {
    let Comparison { device, id, calls, report, ended } = comparison;
    let explained = report.explained(*id);
    let known = explained.iter().filter(|(_, known)| known.is_some()).count();
    let mut text = format!(
        "{device}: {calls} calls; compared {} registers and bytes, {} completions, {} disk requests, \
         {} frames, {} interrupts; {known} known differences, {} unknown\n",
        report.compared,
        report.completions,
        report.requests,
        report.frames,
        report.interrupts,
        explained.len() - known,
    );
    for (difference, known) in explained {
        let Difference { what, bits, ours, theirs, call, count } = difference;
        let bits = bits.map_or(String::new(), |bits| format!(", bits {bits:#x}"));
        text.push_str(&match known {
            Some(known) => format!(
                "  {what}{bits}: ours {ours}, QEMU {theirs} ({count} times): {}, {}\n",
                known.id,
                known.verdict.words()
            ),
            None => format!(
                "  {what}{bits}: ours {ours}, QEMU {theirs} ({count} times, first at {call}): UNKNOWN\n"
            ),
        });
    }
    if let Some(why) = ended {
        text.push_str(&format!("  not compared to the end: {why}\n"));
    }
    text
}

fn comparison_json(comparison: &Comparison) -> serde_json::Value {
    let Comparison { device, id, calls, report, ended } = comparison;
    let differences = report.explained(*id).into_iter().map(|(difference, known)| {
        json!({
            "what": difference.what,
            "bits": difference.bits,
            "ours": difference.ours,
            "qemu": difference.theirs,
            "call": difference.call,
            "count": difference.count,
            "known": known.map(|known| known.id),
            "verdict": known.map(|known| known.verdict.words()),
            "why": known.map(|known| known.why),
        })
    });
    json!({
        "device": device,
        "calls": calls,
        "compared": report.compared,
        "completions": report.completions,
        "requests": report.requests,
        "frames": report.frames,
        "interrupts": report.interrupts,
        "ahead": report.ahead,
        "differences": differences.collect::<serde_json::Value>(),
        "ended": ended,
    })
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
        ReplayArgs { file: file.to_owned(), device: None, against: None, json: false }
    }

    #[test]
    fn what_is_no_recording_is_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recording");
        assert!(replay(&args(&path)).unwrap_err().to_string().contains("recording"));
        std::fs::write(&path, "nothing of the kind").unwrap();
        assert!(replay(&args(&path)).unwrap_err().to_string().contains("XINIMREC"));
        std::fs::write(&path, b"XINIMREC\x03\0\0\0").unwrap();
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
