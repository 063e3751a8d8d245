use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use xinim_machine::{DiskSpec, MachineControl};

use super::*;

/// Remembers what it was asked for.
#[derive(Default)]
pub struct Fake(pub Mutex<Vec<String>>);

impl Fake {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

impl MachineControl for Fake {
    fn switch_traces(&self, path: Option<&std::path::Path>, on: bool) -> Result<(), String> {
        self.note(format!("trace {path:?} {on}"));
        Ok(())
    }
    fn traces(&self) -> Result<Vec<TraceStatus>, String> {
        let spec = xinim_machine::trace::TraceSpec::text("/t");
        Ok(vec![TraceStatus { spec, on: true, events: 7, lost: 1 }])
    }
    fn dump(&self, file: &std::path::Path) -> Result<(), String> {
        Err(format!("no dump at {}", file.display()))
    }

    fn nets(&self) -> Result<Vec<NetStatus>, String> {
        let spec = "user,model=e1000e,link=down".parse::<crate::net_spec::Net>().unwrap();
        Ok(NetStatus::all(&[spec.finish(0)]))
    }
    fn set_link(&self, name: &str, up: bool) -> Result<(), String> {
        self.note(format!("link {name} {up}"));
        Ok(())
    }
    fn disks(&self) -> Result<Vec<DiskStatus>, String> {
        let spec = DiskSpec::file("/a.qcow2");
        Ok(vec![
            DiskStatus { name: "disk0".into(), spec, port: None, bytes: Some(1 << 20) },
            DiskStatus {
                name: "disk1".into(),
                spec: DiskSpec::disc("b"),
                port: Some(1),
                bytes: None,
            },
        ])
    }
    fn attach(&self, disk: &DiskSpec, port: Option<u16>) -> Result<String, String> {
        self.note(format!("attach {:?} {port:?}", disk.source));
        Ok("disk2".into())
    }
    fn detach(&self, name: &str) -> Result<(), String> {
        Err(format!("there is no {name}"))
    }
    fn insert(&self, name: &str, disc: &DiskSpec) -> Result<(), String> {
        self.note(format!("insert {name} {:?}", disc.source));
        Ok(())
    }
    fn eject(&self, name: &str, force: bool) -> Result<(), String> {
        self.note(format!("eject {name} {force}"));
        Ok(())
    }
    fn faults(&self) -> Result<Vec<FaultStatus>, String> {
        let rule = "sector=1,action=error".into();
        Ok(vec![FaultStatus { id: 3, rule, matches: 5, hits: 1 }])
    }
    fn add_fault(&self, rule: &str) -> Result<u32, String> {
        self.note(format!("fault {rule}"));
        Ok(3)
    }
    fn remove_fault(&self, id: u32) -> Result<(), String> {
        Err(format!("there is no fault rule {id}"))
    }
    fn resize(&self, name: &str, bytes: u64) -> Result<(), String> {
        self.note(format!("resize {name} {bytes}"));
        Ok(())
    }
}

fn ask(machine: &Arc<Fake>, text: &str) -> String {
    let controller = Controller::default();
    let _registered = controller.register(machine.clone());
    let answer = parse(text.as_bytes()).and_then(|r| perform(r, "kvm", &controller, || ()));
    line(&answer)
}

#[test]
fn requests_reach_the_machine() {
    let machine = Arc::new(Fake::default());
    let ok = "{\"ok\":true}\n";
    let attach = ask(&machine, r#"{"command":"attach","disk":"/x.img,bus=ahci","port":3}"#);
    assert_eq!(attach, "{\"name\":\"disk2\",\"ok\":true}\n");
    assert_eq!(ask(&machine, r#"{"command":"insert","name":"disk1","disk":"/c.iso"}"#), ok);
    assert_eq!(ask(&machine, r#"{"command":"eject","name":"disk1"}"#), ok);
    assert_eq!(ask(&machine, r#"{"command":"eject","name":"disk1","force":true}"#), ok);
    assert_eq!(ask(&machine, r#"{"command":"resize","name":"disk0","size":"2M"}"#), ok);
    assert_eq!(ask(&machine, r#"{"command":"link","name":"net0","up":false}"#), ok);
    assert_eq!(ask(&machine, r#"{"command":"trace","on":true}"#), ok);
    assert_eq!(ask(&machine, r#"{"command":"trace","on":false,"file":"/t"}"#), ok);
    let traces = ask(&machine, r#"{"command":"traces"}"#);
    assert!(traces.contains(r#""events":7"#) && traces.contains(r#""format":"text""#), "{traces}");
    let stats = ask(&machine, r#"{"command":"stats"}"#);
    assert!(stats.contains("this engine counts nothing"), "{stats}");
    let asked = machine.0.lock().unwrap();
    assert_eq!(
        *asked,
        [
            "attach File(\"/x.img\") Some(3)",
            "insert disk1 File(\"/c.iso\")",
            "eject disk1 false",
            "eject disk1 true",
            "resize disk0 2097152",
            "link net0 false",
            "trace None true",
            "trace Some(\"/t\") false",
        ]
    );
}

#[test]
fn fault_rules_come_and_go() {
    let machine = Arc::new(Fake::default());
    let add = ask(&machine, r#"{"command":"fault-add","rule":"sector=1,action=error"}"#);
    assert_eq!(add, "{\"id\":3,\"ok\":true}\n");
    assert_eq!(*machine.0.lock().unwrap(), ["fault sector=1,action=error"]);
    let list: Value = serde_json::from_str(&ask(&machine, r#"{"command":"fault-list"}"#)).unwrap();
    let fault = json!({"id": 3, "rule": "sector=1,action=error", "matches": 5, "hits": 1});
    assert_eq!(list["faults"], json!([fault]));
    let remove = ask(&machine, r#"{"command":"fault-remove","id":9}"#);
    assert!(remove.contains("there is no fault rule 9"), "{remove}");
    // An engine without rules says so.
    assert!(ask(&machine, r#"{"command":"fault-clear"}"#).contains("kvm engine"));
}

#[test]
fn info_lists_the_disks() {
    let answer: Value =
        serde_json::from_str(&ask(&Arc::default(), r#"{"command":"info"}"#)).unwrap();
    assert_eq!((&answer["ok"], &answer["engine"]), (&json!(true), &json!("kvm")));
    let first = &answer["disks"][0];
    assert_eq!((&first["name"], &first["bytes"]), (&json!("disk0"), &json!(1 << 20)));
    assert_eq!((&first["format"], &first["source"]), (&json!("qcow2"), &json!("/a.qcow2")));
    let net = json!({"name": "net0", "model": "e1000e", "mac": "52:54:00:58:4e:00", "link": false});
    assert_eq!(answer["nets"], json!([net]));
    let second = &answer["disks"][1];
    assert_eq!((&second["cd-rom"], &second["bytes"]), (&json!(true), &Value::Null));
    assert_eq!((&second["bus"], &second["port"]), (&json!("ahci"), &json!(1)));
}

#[test]
fn errors_are_sentences() {
    let machine = Arc::new(Fake::default());
    for (text, why) in [
        ("", "not a request"),
        ("{}", "not a request"),
        (r#"{"command":"fly"}"#, "not a request"),
        (r#"{"command":"info","x":1}"#, "not a request"),
        (r#"{"command":"attach","disk":""}"#, "names no file"),
        (r#"{"command":"resize","name":"disk0","size":"1000"}"#, "512"),
        (r#"{"command":"detach","name":"disk7"}"#, "there is no disk7"),
    ] {
        let answer: Value = serde_json::from_str(&ask(&machine, text)).unwrap();
        assert_eq!(answer["ok"], false, "{text}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{text}: {answer}");
    }
    assert!(machine.0.lock().unwrap().is_empty());
    let nobody = perform(Request::Info {}, "kvm", &Controller::default(), || ());
    assert!(nobody.unwrap_err().contains("not running"));
}

proptest! {
    #[test]
    fn any_line_gets_one_line(text in ".{0,80}") {
        let answer = ask(&Arc::default(), &text);
        prop_assert!(answer.ends_with('\n') && !answer.trim_end().contains('\n'));
    }
}
