//! The machine protocol, as far as device tests speak it: JSON objects in, JSON lines out.
//!
//! | command | what it does |
//! |---|---|
//! | `qmp_capabilities`, `query-status`, `query-version` | as everywhere |
//! | `cont`, `stop`, `system_reset`, `quit` | events RESUME, STOP, RESET, SHUTDOWN |
//! | `device_add`, `device_del` | drives and PCI functions; event DEVICE_DELETED, for functions when the guest has ejected them |
//! | `announce-self` | RARP packets on every network |
//! | `blockdev-add`, `block_resize` | images |
//! | `blockdev-open-tray`, `-close-tray`, `-remove-medium`, `-insert-medium` | CD-ROM drives |
//! | `human-monitor-command` | `qemu-io NODE "break EVENT TAG"`, `"resume TAG"` |
//! | `x-blockdev-set-iothread` | nothing: there is one thread |
//! | `query-machines`, `qom-list-types` | what [`crate::args`] takes |
//!
//! An event that a command causes comes before the command's answer.

use crate::args::{self, Properties};
use crate::machine::{Machine, Timing};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use xinim_devices::bus::lock;

/// Sent once after connecting.
pub fn greeting() -> String {
    let version = json!({
        "qemu": { "major": 10, "minor": 0, "micro": 0 },
        "package": concat!("xinim-vmm ", env!("CARGO_PKG_VERSION")),
    });
    line(json!({ "QMP": { "version": version, "capabilities": [] } }))
}

/// An event as sent.
pub fn event(name: &str, data: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = json!({ "seconds": now.as_secs(), "microseconds": now.subsec_micros() });
    line(json!({ "event": name, "data": data, "timestamp": time }))
}

/// The event of a tray that has moved.
pub fn tray_moved(id: &str, open: bool) -> String {
    event("DEVICE_TRAY_MOVED", json!({ "device": "", "id": id, "tray-open": open }))
}

/// The event of a device that is gone.
pub fn deleted(id: &str) -> String {
    let path = format!("/machine/peripheral/{id}");
    event("DEVICE_DELETED", json!({ "device": id, "path": path }))
}

fn line(value: Value) -> String {
    format!("{value}\r\n")
}

/// Takes the next whole object from the bytes that have come. `Err`: that is no JSON.
pub fn next_object(pending: &mut Vec<u8>) -> Result<Option<Value>, String> {
    let mut stream = serde_json::Deserializer::from_slice(pending).into_iter::<Value>();
    let object = match stream.next() {
        None => None,
        Some(Ok(object)) => Some(object),
        Some(Err(error)) if error.is_eof() => return Ok(None),
        Some(Err(error)) => {
            pending.clear();
            return Err(format!("JSON parse error: {error}"));
        }
    };
    let used = stream.byte_offset();
    pending.drain(..used);
    Ok(object)
}

/// Answers to one object.
pub struct Answer {
    /// Lines to send, in order.
    pub text: String,
    pub quit: bool,
}

/// A command fails with this sentence.
type Failure = String;

/// Carries out a command.
pub fn command(machine: &mut Machine, object: &Value) -> Answer {
    let name = object["execute"].as_str().unwrap_or_default();
    let arguments = &object["arguments"];
    let mut events = String::new();
    let result = carry_out(machine, name, arguments, &mut events);
    for (id, open) in machine.moved_trays() {
        events.push_str(&tray_moved(&id, open));
    }
    let mut answer = match result {
        Ok(value) => json!({ "return": value }),
        Err(error) => json!({ "error": { "class": "GenericError", "desc": error } }),
    };
    if let Some(id) = object.get("id") {
        answer["id"] = id.clone();
    }
    Answer { text: events + &line(answer), quit: name == "quit" }
}

fn carry_out(
    machine: &mut Machine,
    name: &str,
    arguments: &Value,
    events: &mut String,
) -> Result<Value, Failure> {
    let text = |key: &str| arguments[key].as_str().unwrap_or_default();
    let said = |error: crate::Error| error.to_string();
    let done = json!({});
    match name {
        "qmp_capabilities" | "x-blockdev-set-iothread" => Ok(done),
        "query-status" => {
            let status = if machine.is_stopped() { "paused" } else { "running" };
            Ok(json!({ "status": status, "running": !machine.is_stopped() }))
        }
        "query-version" => Ok(json!({
            "qemu": { "major": 10, "minor": 0, "micro": 0 }, "package": "xinim-vmm"
        })),
        "cont" => {
            machine.go_on();
            events.push_str(&event("RESUME", json!({})));
            Ok(done)
        }
        "stop" => {
            machine.stop();
            events.push_str(&event("STOP", json!({})));
            Ok(done)
        }
        "system_reset" => {
            machine.reset();
            events.push_str(&event("RESET", json!({ "guest": false, "reason": "host-qmp" })));
            Ok(done)
        }
        "quit" => {
            let data = json!({ "guest": false, "reason": "host-qmp-quit" });
            events.push_str(&event("SHUTDOWN", data));
            Ok(done)
        }
        "device_add" => {
            let mut values = args::flatten(arguments);
            let head = values.remove("driver").unwrap_or_default();
            machine.add_device(&Properties { head, values }).map_err(said).map(|()| done)
        }
        "device_del" => {
            if machine.remove_device(text("id")).map_err(said)? {
                events.push_str(&deleted(text("id")));
            }
            Ok(done)
        }
        "blockdev-add" => {
            let node = args::node(&args::flatten(arguments)).map_err(said)?;
            machine.add_node(&node).map_err(said).map(|()| done)
        }
        "block_resize" => {
            let name =
                if text("node-name").is_empty() { text("device") } else { text("node-name") };
            let size = arguments["size"].as_u64().unwrap_or(0);
            machine.resize(name, size).map_err(said).map(|()| done)
        }
        "announce-self" => {
            let number = |key: &str, otherwise| arguments[key].as_u64().unwrap_or(otherwise);
            let timing = Timing {
                initial: number("initial", 50),
                max: number("max", 550),
                rounds: number("rounds", 5),
                step: number("step", 100),
            };
            machine.announce(text("id"), timing);
            Ok(done)
        }
        "blockdev-open-tray" => machine.move_tray(text("id"), true).map_err(said).map(|()| done),
        "blockdev-close-tray" => machine.move_tray(text("id"), false).map_err(said).map(|()| done),
        "blockdev-remove-medium" => machine.remove_medium(text("id")).map_err(said).map(|()| done),
        "blockdev-insert-medium" => {
            machine.insert_medium(text("id"), text("node-name")).map_err(said).map(|()| done)
        }
        "human-monitor-command" => human(machine, text("command-line")).map(Value::from),
        "query-machines" => Ok(json!([machine_type("q35"), machine_type("pc")])),
        "qom-list-types" => {
            let kinds = [
                "ide-hd",
                "ide-cd",
                "virtio-blk-pci",
                "virtio-net-pci",
                "virtio-serial-pci",
                "virtconsole",
                "e1000",
                "e1000-82540em",
                "e1000-82545em",
                "e1000e",
            ];
            Ok(kinds.iter().map(|kind| json!({ "name": kind })).collect())
        }
        _ => Err(format!("The command {name} has not been found")),
    }
}

fn machine_type(name: &str) -> Value {
    json!({
        "name": name, "cpu-max": 1, "hotpluggable-cpus": false, "numa-mem-supported": false,
        "deprecated": false, "acpi": true,
    })
}

/// Break points of blkdebug by the human monitor.
fn human(machine: &mut Machine, command: &str) -> Result<String, Failure> {
    let unknown = || format!("unknown command: '{command}'");
    let rest = command.strip_prefix("qemu-io ").ok_or_else(unknown)?;
    let (node, action) = rest.split_once(' ').ok_or_else(unknown)?;
    let image = machine.node(node).ok_or_else(|| format!("there is no node {node}"))?;
    let mut image = lock(&image.0);
    let words: Vec<&str> = action.trim_matches('"').split_ascii_whitespace().collect();
    match words.as_slice() {
        ["break", event, tag] => image.set_break(event, tag),
        ["resume", tag] => image.resume(tag),
        _ => return Err(unknown()),
    }
    Ok(String::new())
}

#[cfg(test)]
#[path = "qmp_tests.rs"]
mod tests;
