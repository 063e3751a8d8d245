use std::io::{BufRead, BufReader};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A monitor that answers each line it gets with the next of `answers`.
fn monitor(answers: &'static [&'static str]) -> Qmp {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
        for answer in answers {
            lines.next().unwrap().unwrap();
            (&theirs).write_all(answer.as_bytes()).unwrap();
        }
    });
    Qmp::new(ours).unwrap()
}

#[test]
fn events_are_kept_while_a_command_runs() {
    let mut qmp = monitor(&[
        "{\"QMP\": {}}\r\n{\"return\": {}}\r\n",
        "{\"event\": \"STOP\"}\n{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-reset\"}}\n\
         {\"id\": \"human-monitor-command\", \"return\": \"RIP=1\\r\\n\"}\n",
    ]);
    assert_eq!(qmp.human("info registers", PATIENCE).as_deref(), Some("RIP=1\n"));
    assert_eq!(qmp.event(PATIENCE), Message::Event("STOP".into(), Value::Null));
    match qmp.event(PATIENCE) {
        Message::Event(name, data) => {
            assert_eq!((name.as_str(), &data["reason"]), ("SHUTDOWN", &json!("guest-reset")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(qmp.event(PATIENCE), Message::Closed);
}

#[test]
fn an_error_a_silence_and_nonsense_are_told_apart() {
    let mut qmp = monitor(&["{}\n", "{\"id\": \"x\", \"error\": {}}\n"]);
    assert_eq!(qmp.execute("x", json!({}), PATIENCE), None);

    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut qmp = Qmp::new(ours).unwrap();
    assert_eq!(qmp.event(Duration::from_millis(1)), Message::Nothing);
    assert_eq!(qmp.event(Duration::ZERO), Message::Nothing);
    (&theirs).write_all(b"\xff\xfe garbage\n").unwrap();
    assert_eq!(qmp.event(PATIENCE), Message::Closed);
}

#[test]
fn an_endless_line_is_not_kept() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut qmp = Qmp::new(ours).unwrap();
    std::thread::spawn(move || while (&theirs).write_all(&[b' '; 65536]).is_ok() {});
    assert_eq!(qmp.event(PATIENCE), Message::Closed);
    assert!(qmp.received.len() < LINE_MAX + 65536);
}
