use super::*;
use crate::args::Setup;

fn machine() -> (Machine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let disc = dir.path().join("disc");
    std::fs::write(&disc, vec![1; 8192]).unwrap();
    let text = format!(
        "-qtest unix:none -M q35 -m 1M -blockdev node-name=n,driver=file,filename={} \
         -device ide-cd,id=cd0,drive=n",
        disc.display()
    );
    let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
    (Machine::new(&Setup::parse(&args).unwrap()).unwrap(), dir)
}

/// The lines a command is answered with, by their names.
fn said(machine: &mut Machine, text: &str) -> Vec<String> {
    let answer = command(machine, &serde_json::from_str(text).unwrap());
    let name = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let tray = value["data"]["tray-open"].as_bool().map_or("", |o| if o { "+" } else { "-" });
        match value["event"].as_str() {
            Some(event) => format!("{event}{tray}"),
            None if value["error"].is_object() => value["error"]["desc"].to_string(),
            None => String::from("return"),
        }
    };
    answer.text.lines().map(name).collect()
}

#[test]
fn objects_are_found_in_a_stream() {
    let mut bytes = b"{\"execute\":\"stop\"} {\"execute\":".to_vec();
    assert_eq!(next_object(&mut bytes).unwrap().unwrap()["execute"], "stop");
    assert_eq!(next_object(&mut bytes).unwrap(), None);
    bytes.extend(b"\"cont\"}\n");
    assert_eq!(next_object(&mut bytes).unwrap().unwrap()["execute"], "cont");
    assert_eq!(next_object(&mut bytes).unwrap(), None);
    bytes = b"nonsense".to_vec();
    assert!(next_object(&mut bytes).is_err() && bytes.is_empty());
}

#[test]
fn events_come_before_the_answer() {
    let (mut machine, _dir) = machine();
    let tray =
        |what: &str| format!(r#"{{"execute":"blockdev-{what}","arguments":{{"id":"cd0"}}}}"#);
    assert_eq!(said(&mut machine, r#"{"execute":"cont"}"#), ["RESUME", "return"]);
    assert_eq!(said(&mut machine, &tray("open-tray")), ["DEVICE_TRAY_MOVED+", "return"]);
    assert_eq!(said(&mut machine, &tray("open-tray")), ["return"]);
    assert_eq!(said(&mut machine, &tray("remove-medium")), ["return"]);
    let insert = r#"{"execute":"blockdev-insert-medium",
                     "arguments":{"id":"cd0","node-name":"n"}}"#;
    assert_eq!(said(&mut machine, insert), ["return"]);
    assert_eq!(said(&mut machine, &tray("close-tray")), ["DEVICE_TRAY_MOVED-", "return"]);
    assert_eq!(said(&mut machine, r#"{"execute":"quit"}"#), ["SHUTDOWN", "return"]);
}

#[test]
fn drives_come_and_go() {
    let (mut machine, dir) = machine();
    let add = format!(
        r#"{{"execute":"blockdev-add","arguments":
           {{"node-name":"x","driver":"raw","file":{{"driver":"file","filename":"{}"}}}}}}"#,
        dir.path().join("disc").display()
    );
    assert_eq!(said(&mut machine, &add), ["return"]);
    let plug = r#"{"execute":"device_add","arguments":
                   {"driver":"ide-hd","id":"d","drive":"x","bus":"ide.4"}}"#;
    assert_eq!(said(&mut machine, plug), ["return"]);
    assert!(said(&mut machine, plug)[0].contains("a drive is there already"));
    let unplug = r#"{"execute":"device_del","arguments":{"id":"d"}}"#;
    assert_eq!(said(&mut machine, unplug), ["DEVICE_DELETED", "return"]);
    assert!(said(&mut machine, unplug)[0].contains("not found"));
    let resize = r#"{"execute":"block_resize","arguments":{"node-name":"x","size":4096}}"#;
    assert_eq!(said(&mut machine, resize), ["return"]);
}

#[test]
fn mistakes_are_answered() {
    let (mut machine, _dir) = machine();
    for text in [
        r#"{"execute":"frobnicate"}"#,
        r#"{}"#,
        r#"{"execute":"blockdev-open-tray","arguments":{"id":"none"}}"#,
        r#"{"execute":"human-monitor-command","arguments":{"command-line":"info block"}}"#,
        r#"{"execute":"device_add","arguments":{"driver":"e1000-82544gc"}}"#,
    ] {
        let answer = command(&mut machine, &serde_json::from_str(text).unwrap());
        assert!(answer.text.contains("\"error\""), "{text}: {}", answer.text);
    }
}
