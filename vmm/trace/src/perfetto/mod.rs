//! A trace as Perfetto's timeline: one track or group per vCPU, guest process, device and queue,
//! and arrows along every request.
//!
//! ```text
//!   process ──call──> vfs ──call──> file system ──block ring──> driver ──virtqueue──> device ──> host
//!   process <─reply── vfs <─reply── file system <──block ring── driver <──interrupt── device <── host
//! ```
//! A chain is named by the token of the call that started it (one made by a thread that serves
//! nobody at the time) and inherited: by calls the serving thread makes, by block requests its
//! process submits meanwhile, by what the driver issues for them (ring and id, then queue and
//! head or port and slot), by the device's request and the host's I/O under that name. Every step
//! carries the chain as its flow.
//!
//! ```text
//!   process ──call──> net ──link ring──> driver ──ring──> device ──> frame out
//!   process <─reply── net <──link ring── driver <──interrupt── device <── frame in
//! ```
//! A frame that is sent belongs to the call that the network server serves meanwhile. A received frame
//! starts a chain of its own, which ends with the replies that the network server makes in the same
//! turn; frames have no names on that way, so they are told apart by order and length. Events must come in order of time ([`crate::order`]).

mod chain;
mod device;
mod guest;
pub mod proto;
mod tracks;

use std::collections::HashMap;
use std::io::{self, Write};

use xinim_devices::device::Process;
use xinim_devices::trace::{Event, EventKind};

use chain::Chains;
use proto::{Role, Slice};
use tracks::{Open, Timeline};

/// Converts events into a file.
pub struct Perfetto<W> {
    line: Timeline<W>,
    chains: Chains,
    names: HashMap<u32, String>,
    /// By vCPU: who runs.
    running: HashMap<u32, Open>,
    /// By vCPU: what its last access was, for the exit's name.
    accessed: HashMap<u32, (u64, String)>,
    requests: HashMap<(std::rc::Rc<str>, u32, u32), Open>,
    host: HashMap<(std::rc::Rc<str>, u32, u32), Vec<Open>>,
    devices: Vec<std::rc::Rc<str>>,
}

impl<W: Write> Perfetto<W> {
    pub fn new(output: W) -> Self {
        Self {
            line: Timeline::new(output),
            chains: Chains::default(),
            names: HashMap::new(),
            running: HashMap::new(),
            accessed: HashMap::new(),
            requests: HashMap::new(),
            host: HashMap::new(),
            devices: Vec::new(),
        }
    }

    /// Takes the next event.
    pub fn event(&mut self, event: &Event<'_>) {
        if let Some(process) = event.origin.process {
            self.named(&process);
        }
        match event.kind {
            EventKind::Guest(guest) => self.guest(event, guest),
            EventKind::Exit { reason, address, nanos } => {
                self.exit(event, reason, address, nanos);
            }
            _ => self.device(event),
        }
    }

    /// Events are missing here.
    pub fn lost(&mut self, time: u64, count: u64) {
        let track = self.line.group("trace");
        let slice = Slice::new("trace", format!("{count} events lost")).number("count", count);
        self.line.instant(time, track, &slice);
    }

    /// Everything is in the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.line.flush()
    }

    fn named(&mut self, process: &Process) {
        let known = self.names.get(&process.pid).is_some_and(|name| name == process.name());
        if !known {
            self.names.insert(process.pid, process.name().to_owned());
        }
    }

    /// The track of a guest process.
    fn process(&mut self, pid: u32) -> u64 {
        let name = match self.names.get(&pid) {
            Some(name) => name.clone(),
            None => format!("pid {pid}"),
        };
        // A name learned later makes a second description of the same process.
        self.line.track(&format!("process {pid} {name}"), &name, None, Role::Process(pid))
    }

    fn device_name(&mut self, name: &str) -> std::rc::Rc<str> {
        if let Some(known) = self.devices.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        let name: std::rc::Rc<str> = name.into();
        self.devices.push(name.clone());
        name
    }
}

#[cfg(test)]
#[path = "../perfetto_tests.rs"]
mod tests;
