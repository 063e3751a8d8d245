//! Devices and VM exits on the timeline.

use std::io::Write;

use xinim_abi::hw::ata;
use xinim_abi::hw::register::touched;
use xinim_devices::device::Op;
use xinim_devices::trace::{Event, EventKind, ExitReason, Owner};

use super::Perfetto;
use super::proto::Slice;

/// Host requests under way for one request of the guest, at most.
const PARTS_MAX: usize = 1024;

/// Queue or port, head or slot.
fn place(owner: Owner) -> (u32, u32) {
    match owner {
        Owner::Unknown => (u32::MAX, u32::MAX),
        Owner::Queue { queue, head } => (queue.into(), head.into()),
        Owner::Slot { port, slot } => (port.into(), slot.into()),
        Owner::Ring { send, queue, index } => {
            (u32::from(send) << 16 | u32::from(queue), index.into())
        }
    }
}

impl<W: Write> Perfetto<W> {
    pub(super) fn exit(&mut self, event: &Event<'_>, reason: ExitReason, address: u64, nanos: u64) {
        let cpu = event.origin.vcpu.unwrap_or(0);
        let start = event.origin.time_ns;
        let name = match self.accessed.remove(&cpu) {
            Some((time, text)) if time >= start => format!("{} {text}", reason.name()),
            _ => reason.name().to_owned(),
        };
        let group = self.line.group(&format!("vcpu {cpu}"));
        let track = self.line.child(group, "exits");
        let slice = Slice::new("exit", name).text("address", format!("{address:#x}"));
        let open = self.line.begin(start, track, &slice);
        self.line.end(start.saturating_add(nanos), open, &Slice::default());
    }

    pub(super) fn device(&mut self, event: &Event<'_>) {
        let device = self.device_name(event.device);
        let group = self.line.group(event.device);
        let time = event.origin.time_ns;
        match event.kind {
            EventKind::Access { decode, size, op, .. } => {
                if let (Some(process), Some(_)) = (event.origin.process, event.origin.vcpu) {
                    self.chains.drives(&device, process.pid);
                }
                let write = matches!(op, Op::Write(_));
                let register = decode
                    .and_then(|d| touched(d.table, d.offset, size, write).next().map(|r| r.name));
                let name = format!("{} {}", event.device, register.unwrap_or("access"));
                if let Some(vcpu) = event.origin.vcpu {
                    self.accessed.insert(vcpu, (time, name));
                }
                let letter = if write { "write" } else { "read" };
                let slice =
                    Slice::new("register", register.unwrap_or(letter)).text("access", event.what());
                let track = self.line.child(group, "registers");
                self.line.instant(time, track, &slice);
            }
            EventKind::QueuePop { queue, head, readable, writable, .. } => {
                let at = (u32::from(queue), u32::from(head));
                let slice = Slice::new("request", format!("{} queue {queue}", event.device))
                    .number("head", head.into())
                    .number("readable", readable)
                    .number("writable", writable);
                self.begin(&device, group, &format!("queue {queue}"), time, at, slice);
            }
            EventKind::Descriptor { send: true, queue, index, done, .. } => {
                let at = (u32::from(queue), u32::from(index));
                let chain = if done {
                    self.chains.ended(&device, at)
                } else {
                    let chain = self.chains.begun(&device, at);
                    self.chains.sends(&device, chain);
                    chain
                };
                let step = if done { "done" } else { "taken" };
                let slice = Slice::new("descriptor", format!("{} descriptor {step}", event.device));
                let track = self.line.child(group, "descriptor");
                let slice = slice.flow(chain).text("event", event.what());
                self.line.instant(time, track, &slice);
            }
            EventKind::Frame { sent, length } => {
                let chain = if sent {
                    self.chains.sending(&device)
                } else {
                    Some(self.chains.receives(&device, length.into()))
                };
                let way = if sent { "out" } else { "in" };
                let slice = Slice::new("net", format!("{} frame {way}", event.device)).flow(chain);
                let track = self.line.child(group, "frames");
                self.line.instant(time, track, &slice.number("length", length.into()));
            }
            EventKind::AtaCommand { port, slot, command, lba, count } => {
                let name = ata::command::name(command)
                    .map_or_else(|| format!("command {command:#x}"), str::to_owned);
                let slice = Slice::new("request", format!("{} {name}", event.device))
                    .number("lba", lba)
                    .number("count", count.into());
                let at = (u32::from(port), u32::from(slot));
                self.begin(&device, group, &format!("port {port}"), time, at, slice);
            }
            EventKind::QueuePush { queue, head, .. } => {
                self.end(&device, time, (u32::from(queue), u32::from(head)), event);
            }
            EventKind::AtaEnd { port, slot, .. } => {
                self.end(&device, time, (u32::from(port), u32::from(slot)), event);
            }
            EventKind::HostIo { op, offset, length, owner, done: false, .. } => {
                let at = place(owner);
                let slice = Slice::new("host", format!("host {}", op.name()))
                    .flow(self.chains.of_request(&device, at))
                    .number("offset", offset)
                    .number("length", length);
                let open = self.line.begin_lane(time, group, "host I/O", &slice);
                let parts = self.host.entry((device, at.0, at.1)).or_default();
                if parts.len() < PARTS_MAX {
                    parts.push(open);
                }
            }
            EventKind::HostIo { owner, done: true, errno, .. } => {
                let at = place(owner);
                let flow = self.chains.of_request(&device, at);
                let parts = self.host.get_mut(&(device, at.0, at.1));
                let Some(open) =
                    parts.and_then(|parts| (!parts.is_empty()).then(|| parts.remove(0)))
                else {
                    return;
                };
                let slice = Slice::new("host", "host done").flow(flow);
                let slice = slice.number("errno", errno.unsigned_abs().into());
                self.line.instant(time, open.track(), &slice);
                self.line.end(time, open, &Slice::default());
            }
            EventKind::Msi { .. } | EventKind::Line { level: true } => {
                let track = self.line.child(group, "interrupts");
                let slice = Slice::new("irq", format!("{} raises", event.device))
                    .text("interrupt", event.what());
                let chains = self.chains.raise(&device);
                if chains.is_empty() {
                    self.line.instant(time, track, &slice);
                }
                for chain in chains {
                    self.line.instant(time, track, &slice.clone().flow(Some(chain)));
                }
            }
            _ => {
                let track = self.line.child(group, crate::filter::kind_name(&event.kind));
                let text = event.what();
                let name = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
                self.line.instant(time, track, &Slice::new("device", name).text("event", text));
            }
        }
    }

    fn begin(
        &mut self,
        device: &std::rc::Rc<str>,
        group: u64,
        lane: &str,
        time: u64,
        at: (u32, u32),
        slice: Slice,
    ) {
        let chain = self.chains.begun(device, at);
        self.chains.sends(device, chain);
        let slice = slice.flow(chain);
        let open = self.line.begin_lane(time, group, lane, &slice);
        if let Some(old) = self.requests.insert((device.clone(), at.0, at.1), open) {
            // Its end is missing.
            self.line.end(time, old, &Slice::default());
        }
    }

    fn end(&mut self, device: &std::rc::Rc<str>, time: u64, at: (u32, u32), event: &Event<'_>) {
        let chain = self.chains.ended(device, at);
        if let Some(open) = self.requests.remove(&(device.clone(), at.0, at.1)) {
            let slice = Slice::new("request", "device done").flow(chain);
            self.line.instant(time, open.track(), &slice.text("event", event.what()));
            self.line.end(time, open, &Slice::default());
        }
    }
}
