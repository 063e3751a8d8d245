use super::*;

fn fault(target: &'static str, step: Step) -> Struck {
    let fault = Fault { seed: 1, class: Class::Kill, target, step, wait_ms: 0 };
    Struck { fault, done: Some("x".into()), rule: None, outcome: Outcome::NotActivated }
}

#[test]
fn deaths_are_given_to_the_faults_that_aimed_there() {
    let kill = || Step::Guest("service kill virtio-blk".into());
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
fn a_failure_is_charged_to_the_last_that_struck() {
    let mut idle = fault("vfs", Step::Guest(String::new()));
    idle.done = None;
    let struck = vec![fault("pm", Step::Guest(String::new())), idle];
    let judged = judged(struck, Outcome::Hang, None);
    assert_eq!(judged.struck[0].outcome, Outcome::Hang);
    assert_eq!(judged.struck[1].outcome, Outcome::NotActivated);
    assert!(!judged.healthy);
}

#[test]
fn memory_in_use_is_read() {
    let lines = ["x".to_owned(), "Mem:  196608  50000  146608".to_owned()];
    assert_eq!(memory(&lines), Some(50000));
    assert_eq!(memory(&[]), None);
}
