//! The guest's own events on the timeline.

use std::io::Write;

use xinim_abi::services::operation_name;
use xinim_abi::trace::{kind, life, words_text};
use xinim_devices::trace::{Event, Guest};

use super::Perfetto;
use super::chain::Call;
use super::proto::Slice;

const OPERATIONS: [&str; 5] = ["read", "write", "flush", "discard", "zero"];

impl<W: Write> Perfetto<W> {
    pub(super) fn guest(&mut self, event: &Event<'_>, guest: Guest) {
        let time = event.origin.time_ns;
        let owner = event.origin.process.map_or(0, |process| process.pid);
        let Guest { name, a, b, .. } = guest;
        let pid = |value: u64| u32::try_from(value).unwrap_or(0);
        match guest.kind as u8 {
            kind::SWITCH => self.switch(event, pid(a), b),
            kind::CALL => self.call(time, name, a, b),
            kind::REPLY => self.reply(time, a, name != 0),
            kind::NOTIFY => {
                let process = self.process(pid(b));
                let track = self.line.child(process, "notifications");
                let slice = Slice::new("ipc", "notified").text("bits", format!("{a:#x}"));
                self.line.instant(time, track, &slice);
            }
            kind::INTERRUPT => self.interrupt(event, name, pid(b)),
            kind::FAULT => {
                let process = self.process(pid(b));
                let track = self.line.child(process, "life");
                let slice = Slice::new("fault", format!("exception {name}"));
                self.line.instant(time, track, &slice.text("address", format!("{a:#x}")));
            }
            kind::BIRTH | kind::DEATH => {
                let process = self.process(pid(b));
                let track = self.line.child(process, "life");
                let what = if guest.kind as u8 == kind::BIRTH { "begins" } else { "ends" };
                self.line.instant(time, track, &Slice::new("life", what).number("a", a));
            }
            kind::SERVICE => {
                let mut buffer = [0; 16];
                let label = words_text(a, b, &mut buffer);
                let what = life::NAMES.get(usize::from(name)).unwrap_or(&"?");
                let group = self.line.group("services");
                let track = self.line.child(group, label);
                self.line.instant(time, track, &Slice::new("service", format!("{label} {what}")));
            }
            kind::BEGIN | kind::END => {
                let mut buffer = [0; 16];
                let text = words_text(a, b, &mut buffer).to_owned();
                let process = self.process(owner);
                let track = self.line.child(process, "spans");
                let edge = if guest.kind as u8 == kind::BEGIN { "begin" } else { "end" };
                let flow = self.chains.of_process(owner);
                let slice = Slice::new("span", format!("{text} {edge}")).flow(flow);
                self.line.instant(time, track, &slice);
            }
            kind::DMA_GRANT => {
                let process = self.process(b as u32);
                let track = self.line.child(process, "dma");
                let slice = Slice::new("dma", "dma grant").text("address", format!("{a:#x}"));
                self.line.instant(time, track, &slice.number("pages", b >> 32));
            }
            kind::FRAME_SUBMIT..=kind::FRAME_ARRIVED => self.frame(time, owner, guest),
            _ => self.block(time, owner, guest),
        }
    }

    /// Frames between the network server and its drivers.
    fn frame(&mut self, time: u64, owner: u32, guest: Guest) {
        let Guest { name, a, b, .. } = guest;
        let process = self.process(owner);
        match guest.kind as u8 {
            kind::FRAME_SUBMIT => {
                let chain = if name == 0 { None } else { self.chains.of_process(owner) };
                self.chains.frame(a as u32, b).chain = chain;
                let track = self.line.child(process, "frames");
                let slice = Slice::new("net", "frame submit").flow(chain).number("id", b);
                self.line.instant(time, track, &slice.number("driver", a));
            }
            kind::FRAME_TAKE => {
                let frame = self.chains.frame(owner, a);
                if frame.driver.is_some() {
                    // Tried again after the ring was full.
                    return;
                }
                let slice = Slice::new("driver", "driver frame").flow(frame.chain);
                let slice = slice.number("id", a).number("length", b);
                let open = self.line.begin_lane(time, process, "driver frames", &slice);
                self.chains.frame(owner, a).driver = Some(open);
            }
            kind::FRAME_SENT => {
                let Some(frame) = self.chains.frame_done(owner, a) else { return };
                if let Some(chain) = frame.chain {
                    self.chains.noticed(owner, chain);
                }
                if let Some(open) = frame.driver {
                    let slice = Slice::new("driver", "frame sent").flow(frame.chain);
                    self.line.instant(time, open.track(), &slice);
                    self.line.end(time, open, &Slice::default());
                }
            }
            kind::FRAME_UP => {
                let chain = self.chains.hands_up(owner, b);
                let track = self.line.child(process, "received frames");
                let slice = Slice::new("driver", "driver hands up").flow(chain);
                self.line.instant(time, track, &slice.number("length", b));
            }
            _ => {
                let chain = self.chains.arrives(owner, a as u32, b, time);
                let track = self.line.child(process, "received frames");
                let slice = Slice::new("net", "frame arrives").flow(chain);
                self.line.instant(time, track, &slice.number("length", b));
            }
        }
    }

    fn switch(&mut self, event: &Event<'_>, pid: u32, thread: u64) {
        let cpu = event.origin.vcpu.unwrap_or(0);
        let time = event.origin.time_ns;
        if let Some(open) = self.running.remove(&cpu) {
            self.line.end(time, open, &Slice::default());
        }
        if pid == 0 {
            return;
        }
        let name = self.names.get(&pid).cloned().unwrap_or_else(|| format!("pid {pid}"));
        let group = self.line.group(&format!("vcpu {cpu}"));
        let track = self.line.child(group, "runs");
        let slice = Slice::new("switch", name).number("pid", pid.into()).number("thread", thread);
        let open = self.line.begin(time, track, &slice);
        self.running.insert(cpu, open);
    }

    fn call(&mut self, time: u64, operation: u16, token: u64, b: u64) {
        let caller_thread = (token & 0xFFF) as u16;
        let (caller, server) = (b as u32, (b >> 32 & 0xF_FFFF) as u32);
        let server_thread = (b >> 52) as u16;
        let name = match operation_name(operation) {
            Some(name) => name.to_owned(),
            None => format!("operation {operation:#x}"),
        };
        let (chain, first) = self.chains.of_call(caller_thread, token);
        let (from, to) = (self.process(caller), self.process(server));
        let slice = Slice::new("ipc", &name).flow(Some(chain)).number("token", token);
        let lane = format!("calls (thread {caller_thread})");
        let calling = self.line.begin_lane(time, from, &lane, &slice);
        let slice = Slice::new("ipc", format!("serve {name}")).flow(Some(chain));
        let lane = format!("serves (thread {server_thread})");
        let serving = self.line.begin_lane(time, to, &lane, &slice.number("client", caller.into()));
        let call = Call { chain, caller, server, server_thread, name, calling, serving, first };
        self.chains.called(token, call);
    }

    fn reply(&mut self, time: u64, token: u64, failed: bool) {
        let Some(call) = self.chains.replied(token) else { return };
        let mut slice = Slice::new("ipc", format!("{} returns", call.name)).flow(Some(call.chain));
        slice.last = call.first;
        slice.ending = self.chains.take_arrived(call.server, time);
        if failed {
            slice = slice.text("result", "error");
        }
        self.line.end(time, call.serving, &Slice::default());
        self.line.instant(time, call.calling.track(), &slice);
        self.line.end(time, call.calling, &Slice::default());
        let _ = call.caller;
    }

    fn interrupt(&mut self, event: &Event<'_>, vector: u16, pid: u32) {
        let time = event.origin.time_ns;
        let group = self.line.group(&format!("vcpu {}", event.origin.vcpu.unwrap_or(0)));
        let track = self.line.child(group, "interrupts");
        let slice = Slice::new("irq", format!("interrupt {vector}")).number("pid", pid.into());
        let chains = self.chains.deliver(pid);
        if chains.is_empty() {
            self.line.instant(time, track, &slice);
        }
        for chain in chains {
            self.line.instant(time, track, &slice.clone().flow(Some(chain)));
        }
    }

    /// Block requests between a client, its ring and the driver.
    fn block(&mut self, time: u64, owner: u32, guest: Guest) {
        let Guest { name, a, b, .. } = guest;
        let operation = OPERATIONS.get(usize::from(name)).unwrap_or(&"request");
        let process = self.process(owner);
        match guest.kind as u8 {
            kind::BLOCK_SUBMIT => {
                let chain = self.chains.of_process(owner);
                let slice = Slice::new("block", format!("block {operation}")).flow(chain);
                let slice = slice.number("id", b).number("sector", a);
                let open = self.line.begin_lane(time, process, "block requests", &slice);
                let block = self.chains.block(owner, b);
                (block.chain, block.client) = (chain, Some(open));
            }
            kind::DRIVER_TAKE => {
                let (client, cookie) = (a as u32, a >> 32);
                let block = self.chains.taken(owner, cookie, client, b);
                if block.driver.is_some() {
                    // Tried again after the unit was full.
                    return;
                }
                let chain = block.chain;
                let slice = Slice::new("driver", format!("driver {operation}")).flow(chain);
                let slice = slice.number("id", b).number("client", client.into());
                let open = self.line.begin_lane(time, process, "driver requests", &slice);
                self.chains.block(client, b).driver = Some(open);
            }
            kind::DRIVER_ISSUE => {
                // A network driver's number for a frame, or a block driver's for a request.
                let frame = self.chains.frame_of(owner, a).map(|frame| (frame.chain, frame.driver));
                let known = frame.or_else(|| {
                    let block = self.chains.by_cookie(owner, a, false)?;
                    Some((block.chain, block.driver))
                });
                let Some((chain, open)) = known else { return };
                let place = ((b >> 16) as u32, b as u32 & 0xFFFF);
                if let Some(chain) = chain {
                    self.chains.issued(owner, place, chain);
                }
                if let Some(open) = open {
                    let slice = Slice::new("driver", format!("issue tag {}", place.1)).flow(chain);
                    self.line.instant(time, open.track(), &slice);
                }
            }
            kind::DRIVER_DONE => {
                let Some(block) = self.chains.by_cookie(owner, a, true) else { return };
                let (chain, open) = (block.chain, block.driver.take());
                if let Some(chain) = chain {
                    self.chains.noticed(owner, chain);
                }
                if let Some(open) = open {
                    let slice = Slice::new("driver", "driver answers").flow(chain);
                    self.line.instant(time, open.track(), &slice);
                    self.line.end(time, open, &Slice::default());
                }
            }
            kind::BLOCK_DONE => {
                let Some(block) = self.chains.blocks.remove(&(owner, b)) else { return };
                if let Some(open) = block.client {
                    let slice = Slice::new("block", "block done").flow(block.chain);
                    self.line.instant(time, open.track(), &slice.number("error", name.into()));
                    self.line.end(time, open, &Slice::default());
                }
            }
            _ => {}
        }
    }
}
