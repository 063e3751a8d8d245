//! Requests and answers as JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

use xinim_machine::control::{Injection, ThreadStatus};
use xinim_machine::net::NetModel;
use xinim_machine::statistics::{
    CpuStatistics, DeviceStatistics, ExitStatistics, MachineStatistics, ProcessStatistics,
    QueueStatistics,
};
use xinim_machine::trace::TraceStatus;
use xinim_machine::{
    CacheMode, Controller, DiskBus, DiskFormat, DiskSource, DiskStatus, FaultStatus, NetStatus,
};

use crate::spec::{Disk, Size};

/// How long an injection waits for its process, in milliseconds, unless told otherwise.
const INJECT_WAIT: u64 = 2000;
const INJECT_WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes of a line at most.
pub const LINE_MAX: usize = 64 << 10;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    Info {},
    Attach {
        disk: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    Detach {
        name: String,
    },
    Insert {
        name: String,
        disk: String,
    },
    Eject {
        name: String,
        #[serde(default)]
        force: bool,
    },
    Resize {
        name: String,
        size: String,
    },
    Link {
        name: String,
        up: bool,
    },
    /// How the traces stand.
    Traces {},
    /// Switches the trace with this file, or all.
    Trace {
        on: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
    },
    Stats {},
    #[serde(rename = "fault-add")]
    FaultAdd {
        rule: String,
    },
    #[serde(rename = "fault-list")]
    FaultList {},
    #[serde(rename = "fault-remove")]
    FaultRemove {
        id: u32,
    },
    #[serde(rename = "fault-clear")]
    FaultClear {},
    Inject {
        process: String,
        kind: String,
        #[serde(default)]
        seed: u64,
        /// Milliseconds to wait for the process to run.
        #[serde(default)]
        wait: Option<u32>,
    },
    /// What every thread of the guest waits for.
    Threads {},
    /// An absolute path, for the machine to write to.
    Dump {
        file: String,
    },
    Quit {},
}

/// What a request came to: members of the answer beside `ok`, or a sentence.
pub type Answer = Result<Value, String>;

/// The answer as a line.
pub fn line(answer: &Answer) -> String {
    let mut object = match answer {
        Ok(Value::Object(members)) => Value::Object(members.clone()),
        Ok(_) => json!({}),
        Err(error) => json!({ "error": error }),
    };
    object["ok"] = answer.is_ok().into();
    format!("{object}\n")
}

/// Reads one line.
pub fn parse(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))
}

/// Carries a request out on the machine; `quit` ends it.
pub fn perform(
    request: Request,
    engine: &str,
    control: &Controller,
    quit: impl FnOnce(),
) -> Answer {
    if request == (Request::Quit {}) {
        quit();
        return Ok(json!({}));
    }
    let machine = control.machine().ok_or("the machine is not running now")?;
    let disk = |text: &str| {
        text.parse::<Disk>().map(|disk| disk.0).map_err(|why| format!("disk `{text}` {why}"))
    };
    match request {
        Request::Info {} => {
            let disks: Vec<Value> = machine.disks()?.iter().map(describe).collect();
            let nets: Vec<Value> = machine.nets()?.iter().map(describe_net).collect();
            return Ok(json!({ "engine": engine, "disks": disks, "nets": nets }));
        }
        Request::Attach { disk: text, port } => {
            let name = machine.attach(&disk(&text)?, port)?;
            return Ok(json!({ "name": name }));
        }
        Request::Detach { name } => machine.detach(&name)?,
        Request::Insert { name, disk: text } => machine.insert(&name, &disk(&text)?)?,
        Request::Eject { name, force } => machine.eject(&name, force)?,
        Request::Resize { name, size } => {
            let bytes = size.parse::<Size>().and_then(Size::of_disk);
            machine.resize(&name, bytes.map_err(|why| format!("size `{size}` {why}"))?)?;
        }
        Request::Link { name, up } => machine.set_link(&name, up)?,
        Request::Traces {} => {
            let traces: Vec<Value> = machine.traces()?.iter().map(describe_trace).collect();
            return Ok(json!({ "traces": traces }));
        }
        Request::Trace { on, file } => machine.switch_traces(file.as_deref(), on)?,
        Request::Stats {} => return Ok(describe_statistics(&machine.statistics()?)),
        Request::FaultAdd { rule } => return Ok(json!({ "id": machine.add_fault(&rule)? })),
        Request::FaultList {} => {
            let faults: Vec<Value> = machine.faults()?.iter().map(describe_fault).collect();
            return Ok(json!({ "faults": faults }));
        }
        Request::FaultRemove { id } => machine.remove_fault(id)?,
        Request::FaultClear {} => machine.clear_faults()?,
        Request::Inject { process, kind, seed, wait } => {
            let injection = Injection { process, kind: kind.parse()?, seed };
            let wait = Duration::from_millis(wait.map_or(INJECT_WAIT, u64::from));
            let done = machine.inject(&injection, wait.min(INJECT_WAIT_MAX))?;
            return Ok(json!({ "done": done }));
        }
        Request::Threads {} => {
            let threads: Vec<Value> = machine.threads()?.iter().map(describe_thread).collect();
            return Ok(json!({ "threads": threads }));
        }
        Request::Dump { file } => machine.dump(std::path::Path::new(&file))?,
        Request::Quit {} => {}
    }
    Ok(json!({}))
}

fn describe(disk: &DiskStatus) -> Value {
    let DiskStatus { name, spec, port, bytes } = disk;
    let source = match &spec.source {
        DiskSource::File(path) => path.to_string_lossy().into_owned(),
        DiskSource::New(_) => "new".into(),
    };
    let format = match spec.format() {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    };
    let bus = bus_name(spec.bus);
    let cache = match spec.cache {
        CacheMode::Writeback => "writeback",
        CacheMode::Writethrough => "writethrough",
        CacheMode::None => "none",
        CacheMode::Unsafe => "unsafe",
    };
    json!({
        "name": name,
        "bus": bus,
        "port": port,
        "source": source,
        "format": format,
        "bytes": bytes,
        "read-only": spec.read_only,
        "snapshot": spec.snapshot,
        "cd-rom": spec.cd_rom,
        "cache": cache,
    })
}

fn describe_trace(trace: &TraceStatus) -> Value {
    let TraceStatus { spec, on, events, lost } = trace;
    json!({
        "file": spec.path.to_string_lossy(),
        "format": spec.format.name(),
        "filter": spec.filter,
        "on": on,
        "events": events,
        "lost": lost,
    })
}

fn describe_statistics(sums: &MachineStatistics) -> Value {
    let queue = |queue: &QueueStatistics| {
        json!({
            "name": queue.name, "notified": queue.notified, "begun": queue.begun,
            "done": queue.done, "time_ns": queue.time_ns,
        })
    };
    let device = |device: &DeviceStatistics| {
        json!({
            "name": device.name, "reads": device.reads, "writes": device.writes,
            "interrupts": device.interrupts, "dma_read": device.dma_read,
            "dma_written": device.dma_written, "frames_sent": device.frames_sent,
            "frames_received": device.frames_received, "errors": device.errors,
            "queues": device.queues.iter().map(queue).collect::<Vec<_>>(),
        })
    };
    let exit = |exit: &ExitStatistics| json!({ "reason": exit.reason, "count": exit.count, "time_ns": exit.time_ns });
    let cpu = |cpu: &CpuStatistics| {
        json!({
            "cpu": cpu.cpu, "exits": cpu.exits, "exit_ns": cpu.exit_ns, "ran_ns": cpu.ran_ns,
            "switches": cpu.switches, "process": cpu.process,
        })
    };
    let process = |process: &ProcessStatistics| {
        json!({
            "pid": process.pid, "name": process.name, "ran_ns": process.ran_ns,
            "switches": process.switches,
        })
    };
    let service = |(name, state): &(String, String)| json!({ "name": name, "state": state });
    json!({
        "time_ns": sums.time_ns,
        "devices": sums.devices.iter().map(device).collect::<Vec<_>>(),
        "exits": sums.exits.iter().map(exit).collect::<Vec<_>>(),
        "cpus": sums.cpus.iter().map(cpu).collect::<Vec<_>>(),
        "processes": sums.processes.iter().map(process).collect::<Vec<_>>(),
        "services": sums.services.iter().map(service).collect::<Vec<_>>(),
    })
}

fn describe_thread(thread: &ThreadStatus) -> Value {
    let ThreadStatus { pid, process, state, priority, system_calls, ticks, .. } = thread;
    json!({
        "pid": pid, "process": process, "state": state, "priority": priority,
        "system-calls": system_calls, "ticks": ticks,
        "waits-for": thread.waits_for.as_ref().map(|(pid, name)| json!({ "pid": pid, "process": name })),
        "bits": thread.bits, "stack": thread.stack,
    })
}

fn describe_net(net: &NetStatus) -> Value {
    let model = match net.model {
        NetModel::Virtio => "virtio",
        NetModel::E1000 => "e1000",
        NetModel::E1000_82545em => "e1000-82545em",
        NetModel::E1000e => "e1000e",
    };
    let mac = net.mac.map(|byte| format!("{byte:02x}")).join(":");
    json!({ "name": net.name, "model": model, "mac": mac, "link": net.link })
}

fn describe_fault(fault: &FaultStatus) -> Value {
    let FaultStatus { id, rule, matches, hits } = fault;
    json!({ "id": id, "rule": rule, "matches": matches, "hits": hits })
}

fn bus_name(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "virtio",
        DiskBus::Ahci => "ahci",
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
pub mod tests;
