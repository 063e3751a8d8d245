//! What both devices do of their own accord, compared by content: memory they write, data of disks,
//! frames and bytes, completions and interrupts.

use super::known::known;
use super::peer::PeerError;
use super::place::address;
use super::report::Difference;
use super::session::{SILENT, Session, Stop, VECTORS, base, call};
use super::steps::Step;
use crate::entry::{Answer, Ask, Call, DiskRequest};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use xinim_abi::hw::ahci as hw;

/// How long the other may take for what our device has done.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is waited in vain in all; then it is not waited for long any more.
const WASTE_MAX: Duration = Duration::from_secs(20);
const IMPATIENCE: Duration = Duration::from_millis(20);
/// Steps for which one side may be ahead of the other, in completions.
const LAG: u32 = 256;
/// Bytes that differ are shown so many at a time.
const RUN: usize = 8;
/// Inputs of the I/O APIC from which on they are PCI's.
const PCI_LINES: u32 = 16;
/// Frames are filled up to this.
const SHORTEST: usize = 60;

impl Session {
    fn patience(&self) -> Duration {
        if self.wasted < WASTE_MAX { PATIENCE } else { IMPATIENCE }
    }

    /// Something did not come that was waited for.
    fn waste(&mut self, since: Instant) {
        self.wasted += since.elapsed();
    }

    /// Whether a difference was found before, or is known: it is not waited for.
    fn is_expected(&self, difference: &Difference) -> bool {
        self.report.has_seen(&difference.what) || known(self.id, difference).is_some()
    }

    /// Waits for what our device wrote in this call, and for the data of disks.
    pub(super) fn wait(&mut self, step: &Step) -> Result<(), PeerError> {
        let mut expected: BTreeMap<u64, u8> = BTreeMap::new();
        let mut buffers = Vec::new();
        for (ask, _) in &step.asks {
            let (address, data) = match ask {
                Ask::Write { address, data } => (*address, data.clone()),
                Ask::Store { address, value } => (*address, value.to_le_bytes().to_vec()),
                _ => continue,
            };
            if !self.queues.is_used_ring(address) {
                buffers.push((address, data.len() as u64));
                expected.extend((address..).zip(data));
            }
        }
        let ended = self.ended(step);
        self.idle(step)?;
        let start = Instant::now();
        let deadline = start + self.patience();
        loop {
            self.queues.theirs(&self.peer)?;
            let different = self.different(&expected, &buffers)?;
            let arrived = different.iter().all(|run| self.is_expected(run));
            if arrived && self.queues.caught_up() || Instant::now() > deadline {
                if !arrived || !self.queues.caught_up() {
                    self.waste(start);
                }
                for run in different {
                    self.report.differ(&call(step), run);
                }
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        if !self.queues.is_empty() {
            self.settle()?;
        }
        self.report.compared += expected.len() as u64;
        self.disks(step, &ended)
    }

    /// When our controller has nothing to do any more, the other comes to its end as well.
    fn idle(&mut self, step: &Step) -> Result<(), PeerError> {
        const PORT: u64 = 0x80;
        let port = match step.call {
            Call::Ready { unit } => u64::from(unit),
            // A tag that is announced here is only issued in PxCI.
            Call::Bar { touch, .. } if touch.offset % PORT == hw::PX_SACT as u64 => return Ok(()),
            Call::Bar { touch, .. } if touch.write.is_some() && touch.offset >= 2 * PORT => {
                touch.offset / PORT - 2
            }
            _ => return Ok(()),
        };
        if self.is_net || self.theirs.is_virtio() || self.busy() {
            return Ok(());
        }
        let registers = address(hw::ABAR, 2 * PORT + port * PORT);
        let start = Instant::now();
        let deadline = start + self.patience();
        loop {
            let issued = self.peer.mmio_read(registers + hw::PX_CI as u64, 4)?;
            let active = self.peer.mmio_read(registers + hw::PX_SACT as u64, 4)?;
            if issued | active == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.waste(start);
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Runs of bytes that are not as our device wrote them.
    /// `buffers`: the writes they are of, address and length.
    fn different(
        &self,
        expected: &BTreeMap<u64, u8>,
        buffers: &[(u64, u64)],
    ) -> Result<Vec<Difference>, PeerError> {
        let mut runs: Vec<(u64, Vec<u8>, Vec<u8>)> = Vec::new();
        for (address, byte) in expected {
            let mut theirs = [0];
            self.peer.read(*address, &mut theirs)?;
            if theirs[0] == *byte {
                continue;
            }
            match runs.last_mut() {
                Some((start, a, b)) if *start + a.len() as u64 == *address && a.len() < RUN => {
                    a.push(*byte);
                    b.push(theirs[0]);
                }
                _ => runs.push((*address, vec![*byte], vec![theirs[0]])),
            }
        }
        let named = |(at, a, b): &(u64, Vec<u8>, Vec<u8>)| {
            let what = match self.structures.name(*at) {
                Some(name) => format!("memory {name}"),
                None => {
                    let inside = |(from, length): &&(u64, u64)| (*from..from + length).contains(at);
                    let (from, length) = buffers.iter().find(inside).copied().unwrap_or((*at, 0));
                    format!("memory {length} bytes +{:#x}", at - from)
                }
            };
            Difference::new(what, format!("{a:02x?}"), format!("{b:02x?}"))
        };
        Ok(runs.iter().map(named).collect())
    }

    /// Takes out what of disks has ended in this call.
    fn ended(&mut self, step: &Step) -> Vec<(u16, DiskRequest)> {
        let mut ended = Vec::new();
        for (ask, answer) in &step.asks {
            let (Ask::Poll { unit }, Answer::Completion(Some((tag, errno)))) = (ask, answer) else {
                continue;
            };
            let Some(request) = self.requests.remove(&(*unit, *tag)) else { continue };
            let is_data = request.operation == "Read" || request.operation.starts_with("Write {");
            if errno.is_none() && is_data {
                ended.push((*unit, request));
            }
        }
        ended
    }

    /// The data of requests that have ended are where they belong.
    fn disks(&mut self, step: &Step, ended: &[(u16, DiskRequest)]) -> Result<(), PeerError> {
        for (unit, request) in ended {
            self.report.requests += 1;
            let start = Instant::now();
            let deadline = start + self.patience();
            let mut placed = self.is_placed(*unit, request)?;
            while !placed && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(200));
                placed = self.is_placed(*unit, request)?;
            }
            if !placed {
                self.waste(start);
                let what = format!("disk data {}", request.operation);
                let where_to = format!("{} bytes at {:#x}", request.length, request.offset);
                let difference = Difference::new(what, where_to, "memory and disk differ".into());
                self.report.differ(&call(step), difference);
            }
        }
        Ok(())
    }

    fn is_placed(&self, unit: u16, request: &DiskRequest) -> Result<bool, PeerError> {
        let image = self.peer.image(unit)?;
        let mut offset = request.offset;
        for (address, length) in &request.segments {
            let mut memory = vec![0; *length as usize];
            let mut disk = memory.clone();
            self.peer.read(*address, &mut memory)?;
            image
                .read_exact_at(&mut disk, offset)
                .map_err(|source| PeerError::Io { context: "reading an image", source })?;
            if memory != disk {
                return Ok(false);
            }
            offset += u64::from(*length);
        }
        Ok(true)
    }

    /// What left the device.
    pub(super) fn far_side(&mut self, step: &Step) -> Result<(), PeerError> {
        let start = Instant::now();
        let deadline = start + self.patience();
        loop {
            let received = self.peer.receive()?;
            if self.is_net {
                while let Some(theirs) = take_frame(received) {
                    let Some(ours) = self.frames.pop_front() else {
                        let text = format!("{} bytes", theirs.len());
                        let difference = Difference::new("frame".into(), "nothing".into(), text);
                        self.report.differ(&call(step), difference);
                        continue;
                    };
                    self.report.frames += 1;
                    if ours != theirs {
                        let (a, b) = first_difference(&ours, &theirs);
                        let filled = ours.strip_prefix(&theirs[..]);
                        let padding = filled.is_some_and(|rest| {
                            ours.len() == SHORTEST && rest.iter().all(|byte| *byte == 0)
                        });
                        let what = if padding { "frame padding" } else { "frame" };
                        self.report.differ(&call(step), Difference::new(what.into(), a, b));
                    }
                }
            } else {
                let count = received.len().min(self.stream.len());
                let theirs: Vec<u8> = received.drain(..count).collect();
                let ours: Vec<u8> = self.stream.drain(..count).collect();
                if ours != theirs {
                    let (a, b) = first_difference(&ours, &theirs);
                    self.report.differ(&call(step), Difference::new("stream".into(), a, b));
                }
            }
            if self.frames.is_empty() && self.stream.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.waste(start);
                let text = format!("{} frames, {} bytes", self.frames.len(), self.stream.len());
                let difference = Difference::new("sent".into(), text, "nothing".into());
                self.report.differ(&call(step), difference);
                self.frames.clear();
                self.stream.clear();
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// When nothing is under way, completions and interrupts are the same.
    pub(super) fn even(&mut self, step: &Step, register: Option<&str>) -> Result<(), Stop> {
        self.lag = if self.queues.is_even() { 0 } else { self.lag + 1 };
        let behind = !self.queues.caught_up();
        if self.busy() || (!self.queues.is_even() && !behind && self.lag < LAG) {
            return Ok(());
        }
        self.first.extend(self.queues.first());
        for (index, difference) in self.queues.compare() {
            self.report.completions += 1;
            if let Some((what, ours, theirs)) = difference {
                let what = format!("queue {index} {what}");
                self.report.differ(&call(step), Difference::new(what, ours, theirs));
            }
        }
        self.lag = 0;
        let place = register.map_or_else(|| kind(&step.call), base);
        let first = std::mem::take(&mut self.first);
        let name = |vector: &u16, how: &str| match *vector {
            VECTORS => format!("interrupt line {how} at {place}"),
            vector if first.contains(&vector) => format!("interrupt {how} at first completion"),
            _ => format!("interrupt {how} at {place}"),
        };
        let start = Instant::now();
        let deadline = start + self.patience();
        loop {
            self.signalled()?;
            let (ours, theirs) = &self.interrupts;
            let seen = |vector: &u16| {
                let what = name(vector, "missing");
                self.is_expected(&Difference::new(what, String::new(), String::new()))
            };
            if ours.difference(theirs).all(seen) || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let (ours, theirs) = std::mem::take(&mut self.interrupts);
        let (raised, silent) = (|v: &u16| format!("raised ({v})"), || "not".to_owned());
        if ours.difference(&theirs).count() > 0 {
            self.waste(start);
        }
        for vector in ours.difference(&theirs) {
            let difference = Difference::new(name(vector, "missing"), raised(vector), silent());
            self.report.differ(&call(step), difference);
        }
        for vector in theirs.difference(&ours) {
            let difference = Difference::new(name(vector, "extra"), silent(), raised(vector));
            self.report.differ(&call(step), difference);
        }
        self.report.interrupts += ours.intersection(&theirs).count() as u64;
        Ok(())
    }

    /// Its memory shows a completion before the other has asked whether to interrupt for it, and has done
    /// so: it answers a question when it is done with that. What wires do is told with the answer.
    fn settle(&mut self) -> Result<(), PeerError> {
        self.peer.command("inb 0x80").map(drop)
    }

    /// Interrupts of the other since the last call.
    fn signalled(&mut self) -> Result<(), PeerError> {
        self.settle()?;
        let mut words = vec![0; 4 * usize::from(VECTORS)];
        self.peer.read(self.vectors, &mut words)?;
        for (vector, word) in (0..VECTORS).zip(words.chunks_exact(4)) {
            if word != SILENT.to_le_bytes() {
                self.peer.write(self.slot(vector), &SILENT.to_le_bytes())?;
                self.interrupts.1.insert(vector);
            }
        }
        let raised = std::mem::take(&mut self.peer.raised);
        if raised.iter().any(|line| *line >= PCI_LINES) {
            // Without messages, the wire says what they would.
            self.interrupts.1.insert(if self.has_messages { VECTORS } else { 0 });
        }
        Ok(())
    }
}

/// A call that is no access, by name.
fn kind(call: &Call) -> &'static str {
    match call {
        Call::Config(_) => "configuration",
        Call::Bar { .. } => "a BAR",
        Call::Notify { .. } => "a doorbell",
        Call::Ready { .. } => "completion",
        Call::Input | Call::Output => "frames",
        Call::Timer => "a timer",
        Call::Link { .. } => "the cable",
        _ => "a change of the machine",
    }
}

/// A frame behind its length, if all of it is here.
fn take_frame(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = received.first_chunk::<4>().map(|length| u32::from_be_bytes(*length))?;
    let end = 4 + length as usize;
    if received.len() < end {
        return None;
    }
    Some(received.drain(..end).skip(4).collect())
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> (String, String) {
    let at = ours.iter().zip(theirs).position(|(a, b)| a != b);
    let at = at.unwrap_or(ours.len().min(theirs.len()));
    let side = |data: &[u8]| {
        let from = &data[at..data.len().min(at + 8)];
        format!("{} bytes, at {at}: {from:02x?}", data.len())
    };
    (side(ours), side(theirs))
}
