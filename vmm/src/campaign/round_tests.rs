use super::*;

fn fault(target: &'static str, step: Step) -> Struck {
    let fault = Fault { seed: 1, class: Class::Kill, target, step, wait_ms: 0 };
    let done = Some("x".into());
    Struck { fault, done, rule: None, rounds: 0, outcome: Outcome::NotActivated, note: None }
}

fn guest() -> Step {
    Step::Guest(String::new())
}

#[test]
fn deaths_are_given_to_the_faults_that_aimed_there() {
    let kill = || Step::Guest("kill virtio-blk".into());
    let rule = Step::Rule("sector=1,action=drop".into());
    let mut struck = [
        fault("virtio-blk", kill()),
        fault("virtio-blk", kill()),
        fault("vfs", kill()),
        fault("virtio-blk.0", rule),
    ];
    let list = |blk| vec![("virtio-blk".to_owned(), blk), ("vfs".to_owned(), 0)];
    assign(&mut struck, &list(2), &list(3));
    let outcomes = struck.map(|one| one.outcome);
    use Outcome::{NoEffect, Recovered, Tolerated};
    assert_eq!(outcomes, [Recovered, NoEffect, NoEffect, Tolerated]);
}

#[test]
fn what_somebody_was_told_of_is_less_than_what_nobody_was() {
    let told = |line: &str| event(line, "SUM").unwrap_or_else(|| panic!("{line}"));
    let mut struck = [fault("net", guest())];
    charge(&mut struck, &[Event::Mark(1), told("fetch 12 service died")]);
    assert_eq!(struck[0].outcome, Outcome::ReportedLoss);
    charge(&mut struck, &[told("fetch 12 0 OTHER")]);
    assert_eq!(struck[0].outcome, Outcome::SilentLoss);
}

#[test]
fn a_part_that_stands_still_is_charged_to_what_struck_its_way() {
    let mut struck = [fault("net", guest()), fault("virtio-net", guest()), fault("ahci", guest())];
    hung(&mut struck, Outcome::Hang, &Stuck::Parts(vec![Part::Fetch]));
    assert_eq!(struck[1].outcome, Outcome::Hang);
    assert_eq!(struck[1].note.as_deref(), Some("the load does not go on: fetch"));
    hung(&mut struck, Outcome::Hang, &Stuck::Silent);
    assert_eq!(struck[2].outcome, Outcome::Hang, "the last, where nobody is nearer");
}

#[test]
fn a_dead_machine_is_charged_to_the_last_that_struck() {
    let mut idle = fault("vfs", guest());
    idle.done = None;
    let struck = vec![fault("pm", guest()), idle];
    let judged = failed(struck, Outcome::Hang, &Stuck::Service("it hangs".into()));
    assert_eq!(judged.struck[0].outcome, Outcome::Hang);
    assert_eq!(judged.struck[0].note.as_deref(), Some("it hangs"));
    assert_eq!(judged.struck[1].outcome, Outcome::NotActivated);
    assert!(!judged.healthy);
}

#[test]
fn a_loss_is_charged_to_what_its_work_goes_through() {
    let mut struck = vec![
        fault("virtio-blk", guest()),
        fault("virtio-net", guest()),
        fault("virtio-blk", guest()),
    ];
    for (seed, one) in (100..).zip(&mut struck) {
        one.fault.seed = seed;
    }
    let lines = [
        "F 100 10",
        "copy 8 0 S",
        "F 101 20",
        "copy 9 input/output error",
        "F 102 30",
        "fetch 5 0 T",
    ];
    let events: Vec<Event> = lines.iter().filter_map(|line| event(line, "S")).collect();
    assert_eq!(events.len(), lines.len());
    charge(&mut struck, &events);
    use Outcome::{NotActivated, ReportedLoss, SilentLoss};
    let outcomes: Vec<Outcome> = struck.iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [ReportedLoss, SilentLoss, NotActivated]);
    assert_eq!(struck[0].note.as_deref(), Some("copy 9 input/output error"));
}

#[test]
fn a_disk_that_was_pulled_out_may_be_missed() {
    let mut struck = vec![fault("ahci.0", Step::Removal { out_ms: 1 })];
    let events = ["F 1 1", "read 1 no such device"].map(|line| event(line, "S").unwrap());
    charge(&mut struck, &events);
    assert_eq!(struck[0].outcome, Outcome::NotActivated);
    let wrong = event("read 1 0 T", "S").unwrap();
    charge(&mut struck, &[wrong]);
    assert_eq!(struck[0].outcome, Outcome::SilentLoss);
}

#[test]
fn restarts_of_our_own_doing_are_not_counted_and_others_are() {
    let list = |net, blk| vec![("net".to_owned(), net), ("virtio-blk".to_owned(), blk)];
    // net has died since the round began, then virtio-blk was replaced.
    let counted = forgiven(&list(2, 5), &list(3, 5), &list(3, 6));
    assert_eq!(counted, list(2, 6));
    let mut struck = [fault("net", guest()), fault("virtio-blk", guest())];
    assign(&mut struck, &counted, &list(3, 6));
    assert_eq!(struck.map(|one| one.outcome), [Outcome::Recovered, Outcome::NoEffect]);
    // One that was not there before.
    let one = forgiven(&Restarts::new(), &Restarts::new(), &list(1, 1));
    assert_eq!(one, list(1, 1));
}

#[test]
fn a_guest_that_is_late_with_its_faults_does_not_undo_ours() {
    let mut struck = vec![fault("services", guest()), fault("ahci.0", Step::Removal { out_ms: 1 })];
    struck[1].fault.seed = 2;
    let events = ["F 2 9", "F 1 8", "read 1 no such file or directory"];
    charge(&mut struck, &events.map(|line| event(line, "S").unwrap()));
    let outcomes: Vec<Outcome> = struck.iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::NotActivated; 2], "the disk was out");
    // And one that has not come to its fault is not charged for it.
    let mut struck = vec![fault("vfs", guest()), fault("virtio-net.0", guest())];
    struck[1].fault.seed = 2;
    let events = ["F 2 9", "fetch 1 connection reset", "F 1 8"];
    charge(&mut struck, &events.map(|line| event(line, "S").unwrap()));
    assert_eq!(struck[1].outcome, Outcome::ReportedLoss);
}
