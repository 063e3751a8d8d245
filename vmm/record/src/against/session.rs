//! One device's recording, driven into QEMU's device call by call.
//!
//! ```text
//!   call of the recording
//!     memory: what a card will write is made different, so that it is seen when it does;
//!             what our device read during the call (and will read before the guest's next) is put there
//!     access: the same, where QEMU's device has that register; frames, bytes, cables from outside
//!     wait:   until its memory holds what our device wrote, its used rings what ours completed
//!     even:   when nothing is under way on either side, interrupts since the last such moment
//! ```

use super::device::pattern;
use super::peer::{Peer, PeerError};
use super::place::{Places, Target, address, place_bars};
use super::report::{Difference, Report};
use super::rings::Queues;
use super::steps::Step;
use super::structures::Structures;
use crate::entry::{Answer, Ask, Call, DiskRequest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use xinim_abi::hw::pci::{CAP_MSI, CAP_MSIX};
use xinim_abi::hw::virtio::common;
use xinim_devices::pci::ConfigSpace;

/// Vectors that have a place.
pub(super) const VECTORS: u16 = 512;
/// What a place for a vector holds until it is signalled.
pub(super) const SILENT: u32 = 0xFEED_FACE;

/// Why a comparison ends before its recording does.
#[derive(Debug)]
pub enum Stop {
    Failed(PeerError),
    Unsupported(String),
}

impl From<PeerError> for Stop {
    fn from(error: PeerError) -> Self {
        Self::Failed(error)
    }
}

pub struct Session {
    pub(super) peer: Peer,
    pub(super) ours: Places,
    pub(super) theirs: Places,
    pub(super) queues: Queues,
    pub(super) structures: Structures,
    pub(super) report: Report,
    /// Place of the vectors' words in the other's memory.
    pub(super) vectors: u64,
    pub(super) interrupts: (BTreeSet<u16>, BTreeSet<u16>),
    /// Vectors of queues that have completed something for the first time.
    pub(super) first: BTreeSet<u16>,
    pub(super) requests: BTreeMap<(u16, u64), DiskRequest>,
    /// Bits that the driver cleared while the other was ahead, by register.
    pub(super) cleared: BTreeMap<String, u64>,
    /// What was last read of registers that are cleared by writing ones: ours, theirs.
    pub(super) read: BTreeMap<String, (u64, u64)>,
    pub(super) offered: [u64; 2],
    pub(super) feature_select: u64,
    pub(super) stream: Vec<u8>,
    pub(super) frames: VecDeque<Vec<u8>>,
    pub(super) lag: u32,
    /// Time waited in vain.
    pub(super) wasted: Duration,
    /// PCI device id.
    pub(super) id: u16,
    pub(super) writes: u64,
    pub(super) is_net: bool,
    /// Whether it is one of the E1000 family.
    is_card: bool,
    /// Whether the other can send interrupts as messages.
    pub(super) has_messages: bool,
}

impl Session {
    pub fn new(
        mut peer: Peer,
        config: &ConfigSpace,
        memory: u64,
        is_net: bool,
    ) -> Result<Self, PeerError> {
        place_bars(&mut peer)?;
        let theirs = Places::read(|offset, size| peer.config_read(offset, size))?;
        let ours = |offset, size| Ok::<_, PeerError>(config.get(offset as usize, size).into());
        let ours = Places::read(ours)?;
        let is_card = is_net && !theirs.is_virtio();
        let message = |id: u8| matches!(id, CAP_MSI | CAP_MSIX);
        let has_messages = theirs.capabilities.iter().any(|capability| message(capability.id));
        let mut session = Self {
            has_messages,
            peer,
            ours,
            theirs,
            queues: Queues::default(),
            structures: Structures::default(),
            report: Report::default(),
            vectors: memory - 4 * u64::from(VECTORS),
            interrupts: Default::default(),
            first: BTreeSet::new(),
            requests: BTreeMap::new(),
            cleared: BTreeMap::new(),
            read: BTreeMap::new(),
            offered: [0; 2],
            feature_select: 0,
            stream: Vec::new(),
            frames: VecDeque::new(),
            lag: 0,
            wasted: Duration::ZERO,
            id: config.get(2, 2) as u16,
            writes: 0,
            is_net,
            is_card,
        };
        session.listen()?;
        session.compare_capabilities();
        session.read_offered()?;
        Ok(session)
    }

    pub(super) fn listen(&mut self) -> Result<(), PeerError> {
        for vector in 0..VECTORS {
            self.peer.write(self.slot(vector), &SILENT.to_le_bytes())?;
        }
        Ok(())
    }

    pub(super) fn slot(&self, vector: u16) -> u64 {
        self.vectors + 4 * u64::from(vector.min(VECTORS - 1))
    }

    fn compare_capabilities(&mut self) {
        for (mine, other, side) in
            [(&self.ours, &self.theirs, true), (&self.theirs, &self.ours, false)]
        {
            for capability in &mine.capabilities {
                if other.same(*capability).is_none() {
                    let what = format!("capability {}", capability.name());
                    let (has, lacks) = ("there".to_owned(), "missing".to_owned());
                    let (ours, theirs) = if side { (has, lacks) } else { (lacks, has) };
                    self.report.differ("the start", Difference::new(what, ours, theirs));
                }
            }
        }
    }

    /// Features that the other offers: a driver cannot take more of it.
    fn read_offered(&mut self) -> Result<(), PeerError> {
        let at = |offset: usize| self.theirs.find(Target::Common(offset as u64), 0, 0);
        let (Some(select), Some(feature)) =
            (at(common::DEVICE_FEATURE_SELECT), at(common::DEVICE_FEATURE))
        else {
            return Ok(());
        };
        self.peer.config_write(4, 2, 2)?;
        for half in 0..2 {
            self.peer.mmio_write(address(select.0, select.1), 4, half)?;
            self.offered[half as usize] = self.peer.mmio_read(address(feature.0, feature.1), 4)?;
        }
        self.peer.mmio_write(address(select.0, select.1), 4, 0)?;
        self.peer.config_write(4, 2, 0)
    }

    /// One call. `register`: what it touches, by name.
    pub fn step(
        &mut self,
        step: &Step,
        ahead: &VecDeque<Step>,
        register: Option<&str>,
    ) -> Result<(), Stop> {
        self.disturb(step)?;
        self.preload(step, ahead)?;
        let told = match step.call {
            Call::Bar { bar, touch } if touch.write.is_some() => {
                match self.ours.target(bar, touch.offset) {
                    Target::Doorbell { queue } => Some(queue),
                    _ => None,
                }
            }
            Call::Notify { queue } => Some(queue),
            _ => None,
        };
        for queue in self.queues.untold(&step.asks, told) {
            self.notify(queue)?;
        }
        self.call(step, register)?;
        self.input(step)?;
        self.queues.ours(&step.asks);
        for (ask, answer) in &step.asks {
            self.outside(ask, answer);
        }
        self.wait(step)?;
        self.far_side(step)?;
        self.even(step, register)
    }

    /// A card writes the same as before when the same frames come again, and what is there already
    /// tells nothing: it is made different. Other devices may be ahead of ours; a card is not, it
    /// waits for the frame or the tail.
    fn disturb(&mut self, step: &Step) -> Result<(), PeerError> {
        if !self.is_card {
            return Ok(());
        }
        for (ask, _) in &step.asks {
            let Ask::Write { address, data } = ask else { continue };
            let mut there = vec![0; data.len()];
            self.peer.read(*address, &mut there)?;
            if there == *data {
                let other: Vec<u8> = there.iter().map(|byte| !byte).collect();
                self.peer.write(*address, &other)?;
            }
        }
        Ok(())
    }

    fn preload(&mut self, step: &Step, ahead: &VecDeque<Step>) -> Result<(), PeerError> {
        let mut written: Vec<(u64, u64)> = Vec::new();
        let mut words = Vec::new();
        let soon = ahead.iter().take_while(|next| !next.is_guest()).take(16);
        for step in std::iter::once(step).chain(soon) {
            for (ask, answer) in &step.asks {
                match (ask, answer) {
                    (Ask::Read { address, .. }, Answer::Data(Some(data))) => {
                        let end = address + data.len() as u64;
                        if !written.iter().any(|(from, to)| *from < end && *address < *to) {
                            self.peer.write(*address, data)?;
                        }
                    }
                    (Ask::Load { address }, Answer::Word(Some(word))) => {
                        words.push((*address, *word));
                    }
                    (Ask::Write { address, data }, _) => {
                        written.push((*address, address + data.len() as u64));
                    }
                    (Ask::Submit { request, .. }, _)
                        if request.operation.starts_with("Write {") =>
                    {
                        self.fill(request)?;
                    }
                    _ => {}
                }
            }
        }
        // Which completion the driver wants to hear of is read when there is one, which may be later.
        let event = ahead.iter().take(32).filter(|next| !next.is_guest()).find_map(|next| {
            next.asks.iter().find_map(|(ask, answer)| match (ask, answer) {
                (Ask::Load { address }, Answer::Word(Some(word)))
                    if self.queues.is_used_event(*address) =>
                {
                    Some((*address, *word))
                }
                _ => None,
            })
        });
        let own = |at: u64| words.iter().any(|(address, _)| *address == at);
        let event = event.filter(|(address, _)| !own(*address));
        for (address, word) in words.into_iter().chain(event) {
            self.peer.write(address, &word.to_le_bytes())?;
        }
        Ok(())
    }

    /// What the guest wrote to a disk is not in a recording: something that is like nothing else.
    fn fill(&mut self, request: &DiskRequest) -> Result<(), PeerError> {
        for (address, length) in &request.segments {
            self.writes += 1;
            self.peer.write(*address, &pattern(self.writes << 32, 0, u64::from(*length)))?;
        }
        Ok(())
    }

    fn notify(&mut self, queue: u16) -> Result<(), PeerError> {
        if let Some((bar, offset)) = self.theirs.find(Target::Doorbell { queue }, 0, 0) {
            self.peer.mmio_write(address(bar, offset), 2, queue.into())?;
        }
        Ok(())
    }

    fn call(&mut self, step: &Step, register: Option<&str>) -> Result<(), Stop> {
        match &step.call {
            Call::Config(touch) => self.config(step, *touch, register)?,
            Call::Bar { bar, touch } => self.bar(step, *bar, *touch, register)?,
            Call::Notify { queue } => self.notify(*queue)?,
            Call::Link { up } => {
                let arguments = format!("{{\"name\": \"card\", \"up\": {up}}}");
                let command = format!("{{\"execute\": \"set_link\", \"arguments\": {arguments}}}");
                self.peer.monitor(&command).map(drop)?;
            }
            Call::Reset => {
                self.peer.reset()?;
                place_bars(&mut self.peer)?;
                self.queues = Queues::default();
                self.structures = Structures::default();
            }
            Call::Input | Call::Output | Call::Timer | Call::Ready { .. } => {}
            Call::Resized { .. }
            | Call::Attach(_)
            | Call::Detach { .. }
            | Call::Insert { .. }
            | Call::Tray { .. }
            | Call::Eject { .. } => {
                let text = format!("{:?} is not repeated on QEMU", step.call);
                return Err(Stop::Unsupported(text));
            }
        }
        Ok(())
    }

    /// Whether our device waits for a disk.
    pub(super) fn busy(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Frames and bytes that came from outside.
    fn input(&mut self, step: &Step) -> Result<(), PeerError> {
        for (ask, answer) in &step.asks {
            match (ask, answer) {
                (Ask::Receive, Answer::Frame(Some(frame))) => {
                    let length = (frame.data.len() as u32).to_be_bytes();
                    self.peer.send(&length)?;
                    self.peer.send(&frame.data)?;
                    self.report.frames += 1;
                }
                (Ask::StreamRead { .. }, Answer::Data(Some(data))) => self.peer.send(data)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// What our device told its surroundings.
    fn outside(&mut self, ask: &Ask, answer: &Answer) {
        match (ask, answer) {
            (Ask::Signal { vector, .. }, _) => {
                self.interrupts.0.insert(*vector);
            }
            (Ask::Line { level: true }, _) => {
                self.interrupts.0.insert(VECTORS);
            }
            (Ask::Submit { unit, request }, _) => {
                self.requests.insert((*unit, request.tag), request.clone());
            }
            (Ask::Send(frame), Answer::Ok(true)) => self.frames.push_back(frame.data.clone()),
            (Ask::StreamWrite { data }, Answer::Number(count)) => {
                let count = (*count as usize).min(data.len());
                self.stream.extend_from_slice(&data[..count]);
            }
            _ => {}
        }
    }
}

/// A register's name without its number.
pub(super) fn base(name: &str) -> &str {
    name.split(['[', ' ']).next().unwrap_or(name)
}

pub(super) fn call(step: &Step) -> String {
    format!("{:x?}", step.call)
}
