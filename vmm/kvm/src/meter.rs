//! Counts for `top`: a sink at the hub that is switched on by whoever asks, and off again when nobody
//! has asked for a while. Doorbells stay doorbells: it does not ask for who rang.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use xinim_abi::trace::{kind, life, words_text};
use xinim_devices::backend::Clock;
use xinim_devices::bus::lock;
use xinim_devices::device::Op;
use xinim_devices::trace::{Event, EventKind, Hub, Interest, Tap, TraceSink};
use xinim_machine::statistics::{
    CpuStatistics, DeviceStatistics, ExitStatistics, MachineStatistics, ProcessStatistics,
    QueueStatistics,
};

use crate::shared::Shared;

/// Nobody has asked for so long: nobody looks any more.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Devices, queues, processes and requests kept apart.
const KEPT: usize = 4096;

/// The counts of a machine.
#[derive(Default)]
pub struct Meter {
    counter: Arc<Counter>,
    tap: OnceLock<Arc<Tap>>,
}

#[derive(Default)]
struct Counter(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    asked: Option<Instant>,
    devices: BTreeMap<String, DeviceStatistics>,
    exits: BTreeMap<&'static str, (u64, u64)>,
    cpus: BTreeMap<u32, CpuStatistics>,
    processes: BTreeMap<u32, ProcessStatistics>,
    services: BTreeMap<String, &'static str>,
    under_way: HashMap<(String, String, u32), u64>,
    running: HashMap<u32, (u32, u64)>,
}

impl Meter {
    /// The sums so far; counting begins with the first call.
    pub fn statistics(&self, shared: &Shared) -> MachineStatistics {
        let tap = self.tap.get_or_init(|| shared.hub.add(self.counter.clone(), None, false));
        lock(&self.counter.0).asked = Some(Instant::now());
        if !tap.is_on() {
            shared.hub.switch(tap, true);
        }
        let counts = lock(&self.counter.0);
        let exits = counts.exits.iter().map(|(reason, (count, time_ns))| ExitStatistics {
            reason: (*reason).to_owned(),
            count: *count,
            time_ns: *time_ns,
        });
        let services =
            counts.services.iter().map(|(name, what)| (name.clone(), (*what).to_owned()));
        MachineStatistics {
            time_ns: shared.clock.monotonic().as_nanos() as u64,
            devices: counts.devices.values().cloned().collect(),
            exits: exits.collect(),
            cpus: counts.cpus.values().cloned().collect(),
            processes: counts.processes.values().cloned().collect(),
            services: services.collect(),
        }
    }

    /// Called now and then: stops counting when nobody looks.
    pub fn rest(&self, hub: &Hub) {
        let Some(tap) = self.tap.get().filter(|tap| tap.is_on()) else { return };
        let forgotten = lock(&self.counter.0).asked.is_none_or(|at| at.elapsed() > FORGOTTEN);
        if forgotten {
            hub.switch(tap, false);
            *lock(&self.counter.0) = Counts::default();
        }
    }
}

impl TraceSink for Counter {
    fn event(&self, event: &Event<'_>) {
        lock(&self.0).event(event);
    }

    fn interest(&self) -> Interest {
        Interest::all() - Interest::ATTRIBUTED
    }
}

impl Counts {
    fn device(&mut self, name: &str) -> Option<&mut DeviceStatistics> {
        if !self.devices.contains_key(name) {
            if self.devices.len() >= KEPT {
                return None;
            }
            let device = DeviceStatistics { name: name.to_owned(), ..Default::default() };
            self.devices.insert(name.to_owned(), device);
        }
        self.devices.get_mut(name)
    }

    fn queue(&mut self, device: &str, name: &str) -> Option<&mut QueueStatistics> {
        let queues = &mut self.device(device)?.queues;
        let at = match queues.iter().position(|queue| queue.name == name) {
            Some(at) => at,
            None if queues.len() >= KEPT => return None,
            None => {
                queues.push(QueueStatistics { name: name.to_owned(), ..Default::default() });
                queues.len() - 1
            }
        };
        queues.get_mut(at)
    }

    fn begin(&mut self, event: &Event<'_>, queue: String, number: u32) {
        if let Some(queue) = self.queue(event.device, &queue) {
            queue.begun += 1;
        }
        if self.under_way.len() >= KEPT {
            self.under_way.clear();
        }
        let key = (event.device.to_owned(), queue, number);
        self.under_way.insert(key, event.origin.time_ns);
    }

    fn end(&mut self, event: &Event<'_>, queue: String, number: u32) {
        let key = (event.device.to_owned(), queue, number);
        let begun = self.under_way.remove(&key);
        if let Some(queue) = self.queue(event.device, &key.1) {
            queue.done += 1;
            queue.time_ns += begun.map_or(0, |at| event.origin.time_ns.saturating_sub(at));
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        match event.kind {
            EventKind::Access { op, error, .. } => {
                if let Some(device) = self.device(event.device) {
                    *(match op {
                        Op::Read => &mut device.reads,
                        Op::Write(_) => &mut device.writes,
                    }) += 1;
                    device.errors += u64::from(error.is_some());
                }
            }
            EventKind::QueueNotify { queue } => {
                if let Some(queue) = self.queue(event.device, &format!("queue {queue}")) {
                    queue.notified += 1;
                }
            }
            EventKind::QueuePop { queue, head, .. } => {
                self.begin(event, format!("queue {queue}"), head.into());
            }
            EventKind::QueuePush { queue, head, .. } => {
                self.end(event, format!("queue {queue}"), head.into());
            }
            EventKind::AtaCommand { port, slot, .. } => {
                self.begin(event, format!("port {port}"), slot.into());
            }
            EventKind::AtaEnd { port, slot, .. } => {
                self.end(event, format!("port {port}"), slot.into());
            }
            EventKind::Dma { write, length, .. } => {
                if let Some(device) = self.device(event.device) {
                    *(if write { &mut device.dma_written } else { &mut device.dma_read }) += length;
                }
            }
            EventKind::Msi { .. } | EventKind::Line { level: true } => {
                if let Some(device) = self.device(event.device) {
                    device.interrupts += 1;
                }
            }
            EventKind::Frame { sent, .. } => {
                if let Some(device) = self.device(event.device) {
                    *(if sent { &mut device.frames_sent } else { &mut device.frames_received }) +=
                        1;
                }
            }
            EventKind::Exit { reason, nanos, .. } => {
                let (count, time) = self.exits.entry(reason.name()).or_default();
                (*count, *time) = (*count + 1, time.saturating_add(nanos));
                if let Some(cpu) = self.cpu(event) {
                    (cpu.exits, cpu.exit_ns) = (cpu.exits + 1, cpu.exit_ns.saturating_add(nanos));
                }
            }
            EventKind::Guest(guest) if guest.kind == u16::from(kind::SWITCH) => {
                self.switch(event, guest.a as u32);
            }
            EventKind::Guest(guest) if guest.kind == u16::from(kind::SERVICE) => {
                let mut buffer = [0; 16];
                let label = words_text(guest.a, guest.b, &mut buffer);
                let label = label.replace(char::is_control, "?");
                if let Some(what) = life::NAMES.get(usize::from(guest.name))
                    && self.services.len() < KEPT
                {
                    self.services.insert(label, what);
                }
            }
            EventKind::Guest(guest) if guest.kind == u16::from(kind::DEATH) => {
                self.processes.remove(&(guest.b as u32));
            }
            _ => {}
        }
    }

    fn cpu(&mut self, event: &Event<'_>) -> Option<&mut CpuStatistics> {
        let number = event.origin.vcpu?;
        if self.cpus.len() >= KEPT && !self.cpus.contains_key(&number) {
            return None;
        }
        let cpu = self.cpus.entry(number).or_default();
        cpu.cpu = number;
        Some(cpu)
    }

    fn switch(&mut self, event: &Event<'_>, pid: u32) {
        let (cpu, now) = (event.origin.vcpu.unwrap_or(0), event.origin.time_ns);
        let name = event.origin.process.filter(|_| pid != 0);
        let name = name.map_or(String::new(), |process| process.name().to_owned());
        let before = self.running.insert(cpu, (pid, now));
        let (old, ran) = before.map_or((0, 0), |(old, since)| (old, now.saturating_sub(since)));
        if let Some(process) = self.processes.get_mut(&old) {
            process.ran_ns += ran;
        }
        if let Some(cpu) = self.cpu(event) {
            cpu.ran_ns += if old == 0 { 0 } else { ran };
            (cpu.switches, cpu.process) = (cpu.switches + 1, name);
        }
        let room = self.processes.len() < KEPT || self.processes.contains_key(&pid);
        if pid != 0 && room && self.running.len() < KEPT {
            let name = event.origin.process.map(|process| process.name().to_owned());
            let process = self.processes.entry(pid).or_default();
            (process.pid, process.switches) = (pid, process.switches + 1);
            if let Some(name) = name {
                process.name = name;
            }
        }
    }
}
