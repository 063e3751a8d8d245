//! A slice of the fault campaign against live machines under load. All classes, and more faults:
//! `XINIM_CAMPAIGN_FAULTS=10000 cargo test -p xinim-tests --test campaign`.

use std::fs;
use std::process::Command;

use tempfile::tempdir;
use xinim_tests::host::arg;
use xinim_tests::machine::{engines, vmm};

const FAULTS: &str = "200";
/// Of the short slice: without damage to a process that goes on with it, and without completions that are
/// wrong, of which a result may be wrong under checksum offload (docs/reliability.md).
const CLASSES: [&str; 14] = [
    "kill",
    "wild-pointer",
    "hang",
    "message",
    "memory",
    "dma-address",
    "irq-lost",
    "irq-late",
    "irq-duplicate",
    "ring",
    "error",
    "removal",
    "link",
    "packet",
];
/// Of a hundred faults, so many may end with a hang, a service that does not come back or the end of the
/// machine's command (docs/reliability.md says how many do).
const STUCK_PERCENT: u64 = 3;
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
    let mut args = vec!["--faults", &faults, "--seed", SEED, "--jobs", "2", "--burst", "50"];
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
    let stuck = number(all, "hang") + number(all, "failed-service");
    assert!(stuck * 100 <= sum * STUCK_PERCENT, "{out}{err}{json}");
    // The report of one campaign is the sum of itself.
    let output = Command::new(vmm()).args(["campaign", "--merge", arg(&report)]).output();
    let merged = String::from_utf8_lossy(&output.expect("it starts").stdout).into_owned();
    let row = |text: &str| text.lines().find(|line| line.starts_with("all")).map(str::to_owned);
    assert!(row(&merged).is_some() && row(&merged) == row(&out), "{merged}{out}");
}

#[test]
fn a_class_that_is_none_is_refused_with_those_there_are() {
    let (status, _, err) = run(&["--faults", "1", "--class", "weather"]);
    assert_eq!(status, Some(125));
    assert!(err.contains("kill, wild-pointer"), "{err}");
}
