//! `xinim-vmm ctl SOCKET COMMAND`: one request to a running machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf, absolute};

use serde_json::Value;

use super::protocol::Request;
use crate::cli::{CtlArgs, CtlCommand, FaultCommand, LinkState, TraceState};
use crate::error::Error;
use crate::output;

/// An answer lists disks, or threads with their stacks; this is more than there can be.
const ANSWER_MAX: u64 = 16 << 20;

/// Sends the request, prints what is to be said; the exit status.
pub fn run(args: &CtlArgs) -> Result<u8, Error> {
    let request = request(&args.command)?;
    let answer = exchange(&args.socket, &request)?;
    // One line, as it came.
    output::print(&match (args.json, answer["ok"] == true) {
        (true, _) => format!("{answer}\n"),
        (false, true) => text(&request, &answer),
        (false, false) => String::new(),
    })?;
    match answer["ok"] == true {
        true => Ok(0),
        false => Err(Error::Usage(answer["error"].as_str().unwrap_or("it failed").to_owned())),
    }
}

fn request(command: &CtlCommand) -> Result<Request, Error> {
    Ok(match command.clone() {
        CtlCommand::Info => Request::Info {},
        CtlCommand::Attach { disk, port } => {
            Request::Attach { disk: on_ahci(absolute_disk(&disk)?), port }
        }
        CtlCommand::Detach { name } => Request::Detach { name },
        CtlCommand::Insert { name, disk } => Request::Insert { name, disk: absolute_disk(&disk)? },
        CtlCommand::Eject { name, force } => Request::Eject { name, force },
        CtlCommand::Resize { name, size } => Request::Resize { name, size },
        CtlCommand::Link { name, state } => Request::Link { name, up: state == LinkState::Up },
        CtlCommand::Trace { state, file } => match state {
            TraceState::Status => Request::Traces {},
            state => Request::Trace { on: state == TraceState::On, file },
        },
        CtlCommand::Stats => Request::Stats {},
        CtlCommand::Fault { command } => match command {
            FaultCommand::Add { rule } => Request::FaultAdd { rule },
            FaultCommand::List => Request::FaultList {},
            FaultCommand::Remove { id } => Request::FaultRemove { id },
            FaultCommand::Clear => Request::FaultClear {},
        },
        CtlCommand::Inject { process, kind, seed, wait } => {
            Request::Inject { process, kind, seed, wait: Some(wait) }
        }
        CtlCommand::Threads => Request::Threads {},
        CtlCommand::Dump { file } => {
            let file = absolute(&file).map_err(|e| Error::file("write", &file, e))?;
            Request::Dump { file: file.to_string_lossy().into_owned() }
        }
        CtlCommand::Quit => Request::Quit {},
    })
}

/// The same disk with an absolute path: the machine's directory is another.
fn absolute_disk(text: &str) -> Result<String, Error> {
    if text.is_empty() || text.starts_with("new:") {
        return Ok(text.to_owned());
    }
    let here = std::env::current_dir();
    let here = here.map_err(|e| Error::file("find the current directory", Path::new("."), e))?;
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    let here: PathBuf = absolute(here).unwrap_or_default();
    Ok(format!("{}/{text}", here.to_string_lossy().replace(',', ",,")))
}

/// The only bus to attach to, unless another is said.
fn on_ahci(disk: String) -> String {
    if disk.contains(",bus=") { disk } else { disk + ",bus=ahci" }
}

/// One request and its answer.
pub fn exchange(socket: &Path, request: &Request) -> Result<Value, Error> {
    let failed = |error| Error::file("reach the machine at", socket, error);
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    let mut line = serde_json::to_string(request).unwrap_or_default();
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(&stream).take(ANSWER_MAX).read_line(&mut answer).map_err(failed)?;
    serde_json::from_str(&answer)
        .map_err(|_| Error::Usage(format!("the machine at {} gave no answer", socket.display())))
}

/// The answer to `threads`, for people.
pub fn threads(answer: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut text = String::new();
    for thread in answer["threads"].as_array().into_iter().flatten() {
        let (name, state) = (word(&thread["process"]), word(&thread["state"]));
        text.push_str(&format!("{} {name}: {state}", thread["pid"]));
        if let Some(pid) = thread["waits-for"]["pid"].as_u64() {
            text.push_str(&format!(" of {pid} {}", word(&thread["waits-for"]["process"])));
        }
        if let Some(bits) = thread["bits"].as_u64().filter(|bits| *bits != 0) {
            text.push_str(&format!(", bits {bits:#x} not fetched"));
        }
        let (priority, calls) = (&thread["priority"], &thread["system-calls"]);
        text.push_str(&format!(", priority {priority}, {calls} system calls\n"));
        for line in thread["stack"].as_array().into_iter().flatten() {
            text.push_str(&format!("    {}\n", word(line)));
        }
    }
    text
}

/// The answer for people.
fn text(request: &Request, answer: &Value) -> String {
    match request {
        Request::Info {} => {
            let word = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Null => "-".into(),
                other => other.to_string(),
            };
            let mut text = format!("engine {}\n", word(&answer["engine"]));
            for disk in answer["disks"].as_array().into_iter().flatten() {
                let place = match &disk["port"] {
                    Value::Null => word(&disk["bus"]),
                    port => format!("{}:{port}", word(&disk["bus"])),
                };
                let mut flags = String::new();
                for flag in ["cd-rom", "read-only", "snapshot"] {
                    if disk[flag] == true {
                        flags.push(' ');
                        flags.push_str(flag);
                    }
                }
                text.push_str(&format!(
                    "{} {place} {} bytes {} {}{flags}\n",
                    word(&disk["name"]),
                    word(&disk["bytes"]),
                    word(&disk["format"]),
                    word(&disk["source"]),
                ));
            }
            for net in answer["nets"].as_array().into_iter().flatten() {
                let link = if net["link"] == true { "up" } else { "down" };
                let (name, model, mac) =
                    (word(&net["name"]), word(&net["model"]), word(&net["mac"]));
                text.push_str(&format!("{name} {model} {mac} link {link}\n"));
            }
            text
        }
        Request::Traces {} => {
            let line = |trace: &Value| {
                let (word, text) = (
                    |key: &str| trace[key].as_str().unwrap_or(""),
                    |key: &str| trace[key].to_string(),
                );
                let state = if trace["on"] == true { "on" } else { "off" };
                let filter = match trace["filter"].as_str() {
                    Some(filter) => format!(" filter {filter}"),
                    None => String::new(),
                };
                format!(
                    "{} {} {state} {} events, {} lost{filter}\n",
                    word("file"),
                    word("format"),
                    text("events"),
                    text("lost")
                )
            };
            answer["traces"].as_array().into_iter().flatten().map(line).collect()
        }
        Request::Stats {} => format!("{answer:#}\n"),
        Request::Inject { .. } => format!("{}\n", answer["done"].as_str().unwrap_or("")),
        Request::Threads {} => threads(answer),
        Request::FaultAdd { .. } => format!("{}\n", answer["id"]),
        Request::FaultList {} => {
            let line = |fault: &Value| {
                let rule = fault["rule"].as_str().unwrap_or("");
                format!("{} {} {} {rule}\n", fault["id"], fault["matches"], fault["hits"])
            };
            answer["faults"].as_array().into_iter().flatten().map(line).collect()
        }
        Request::Attach { .. } => format!("{}\n", answer["name"].as_str().unwrap_or("")),
        _ => String::new(),
    }
}
