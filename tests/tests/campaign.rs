//! A slice of the fault campaign against live machines under load: deaths and failing devices. All classes, and
//! more faults: `XINIM_CAMPAIGN_FAULTS=10000 cargo test -p xinim-tests --test campaign`.

use std::fs;
use std::process::Command;

use tempfile::tempdir;
use xinim_tests::host::arg;
use xinim_tests::machine::{engines, vmm};

const FAULTS: &str = "40";
/// Of the short slice.
const CLASSES: [&str; 8] =
    ["kill", "irq-lost", "irq-late", "irq-duplicate", "ring", "error", "packet", "link"];
/// Seed of the slice: another one finds other things.
const SEED: &str = "1000";

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(vmm()).arg("campaign").args(args).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The number behind the first `"key": ` of a JSON text.
fn number(json: &str, key: &str) -> u64 {
    let rest =
        json.split(&format!("\"{key}\": ")).nth(1).unwrap_or_else(|| panic!("{key}: {json}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn nothing_crashes_and_nothing_is_lost_in_silence() {
    if !engines("the fault campaign").contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let report = dir.path().join("report.json");
    let long = std::env::var("XINIM_CAMPAIGN_FAULTS").ok();
    let faults = long.clone().unwrap_or_else(|| FAULTS.into());
    let mut args = vec!["--faults", &faults, "--seed", SEED, "--jobs", "2", "--burst", "20"];
    args.extend(["--report", arg(&report)]);
    if long.is_none() {
        args.extend(CLASSES.iter().flat_map(|class| ["--class", class]));
    }
    let (status, out, err) = run(&args);
    let json = fs::read_to_string(&report).expect("a report");
    assert_eq!(status, Some(0), "{out}{err}{json}");
    assert_eq!(number(&json, "faults").to_string(), faults);
    let all = json.split("\"all\": ").nth(1).expect("totals");
    let outcomes = [
        "not-activated",
        "no-effect",
        "recovered",
        "tolerated",
        "reported-loss",
        "failed-service",
        "hang",
        "silent-loss",
        "kernel-crash",
        "vmm-crash",
    ];
    let sum: u64 = outcomes.iter().map(|outcome| number(all, outcome)).sum();
    assert_eq!(sum.to_string(), faults, "{json}");
    assert!(out.contains("whole") && out.contains("kill"), "{out}");
}

#[test]
fn a_class_that_is_none_is_refused_with_those_there_are() {
    let (status, _, err) = run(&["--faults", "1", "--class", "weather"]);
    assert_eq!(status, Some(125));
    assert!(err.contains("kill, wild-pointer"), "{err}");
}
