use super::*;
use crate::campaign::round::Struck;

fn tally(kills: u64) -> Tally {
    let failure = Failure {
        seed: 7,
        class: "ring".into(),
        target: "virtio-blk.0".into(),
        outcome: Outcome::Hang,
        done: None,
        note: Some("it hangs".into()),
        text: String::new(),
        threads: "1 rs: receiving".into(),
        command: "xinim-vmm campaign".into(),
    };
    let counts = [
        ((Class::Kill, Outcome::Recovered), kills),
        ((Class::Ring, Outcome::Hang), 1),
        ((Class::Ring, Outcome::NoEffect), 5),
    ];
    Tally {
        counts: counts.into_iter().collect(),
        failures: vec![failure],
        rounds: 3,
        machines: 1,
        leaks: vec![-4],
        ..Tally::default()
    }
}

#[test]
fn reports_add_up() {
    let mut sum = Tally::default();
    for kills in [3, 4] {
        let one = tally(kills);
        sum.merge(&Report { wanted: Some((9, 1)), tally: &one }.json()).unwrap();
    }
    let report = Report::merged(&sum);
    assert_eq!(report.count(Some(Class::Kill), Outcome::Recovered), 7);
    assert_eq!(report.count(None, Outcome::Hang), 2);
    assert_eq!((sum.rounds, sum.machines, &sum.leaks), (6, 2, &vec![-4, -4]));
    assert_eq!(sum.failures[1].threads, "1 rs: receiving");
    let text = report.table();
    assert!(text.contains("19 faults, in 6 rounds on 2 machines; no kernel crash"), "{text}");
    // The sum is a report like any other.
    Tally::default().merge(&report.json()).unwrap();
}

#[test]
fn what_is_no_report_is_refused() {
    let good = Report { wanted: None, tally: &tally(1) }.json();
    for (bad, why) in [
        ("", "is no report"),
        ("{}", "no classes"),
        (&good.replace("\"kill\"", "\"weather\""), "`weather`"),
        (&good.replace("\"rounds\": 3", "\"rounds\": -3"), "number"),
        (&good.replace("\"failures\": [", "\"failures\": [7,"), "is no report"),
    ] {
        let told = Tally::default().merge(bad).unwrap_err();
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_machines_last_words_are_with_its_failure() {
    let mut one = tally(1);
    // A character of two bytes where it is cut.
    let said = ["é".repeat(TEXT_MAX), "x\npm died\n".into()].concat();
    let end = MachineEnd { text: said, leaked_kib: None, outcome: None, waiting: Vec::new() };
    one.machine(false, end);
    let text = &one.failures[0].text;
    assert!(text.ends_with("éx\npm died\n") && text.len() <= TEXT_MAX, "{}", text.len());
}

#[test]
fn the_command_repeats_the_round_whatever_was_judged_in_it() {
    let args = CampaignArgs {
        faults: 9,
        seed: 90,
        jobs: 1,
        report: None,
        burst: 3,
        json: false,
        class: Vec::new(),
        merge: Vec::new(),
        run: Vec::new(),
        verbose: 0,
    };
    let faults = [100, 101, 102].map(|seed| Fault::new(seed, &[Class::Kill]));
    // A rule of an earlier round has struck in this one.
    let lost = Struck {
        fault: Fault::new(97, &[Class::Ring]),
        done: Some("device=virtio-blk.0".into()),
        rule: Some(1),
        rounds: 1,
        outcome: Outcome::ReportedLoss,
        note: None,
    };
    let (threads, said) = (String::new(), "[4.1] rs: pm died".to_owned());
    let judged = Judged { struck: vec![lost], healthy: true, threads, said };
    let mut tally = Tally::default();
    tally.round(&args, &faults, &judged);
    let command = "xinim-vmm campaign --faults 3 --seed 100 --burst 3 --jobs 1";
    assert_eq!((tally.failures[0].seed, tally.failures[0].command.as_str()), (97, command));
    assert_eq!(tally.failures[0].text, "[4.1] rs: pm died");
}
