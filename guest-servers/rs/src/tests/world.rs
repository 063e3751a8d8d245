//! A pretended system, and hands to move it.

use crate::*;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::event::{Obituary, Registers, cause};
use xinim_abi::info::{Pulse, pulse};
use xinim_abi::interface::Name;
use xinim_abi::ipc::ReplyToken;
use xinim_abi::object::Handle;
use xinim_abi::services::rs::rs::AddFunction;
use xinim_manifest::{Catalog, Manifest};

pub const MS: u64 = 1_000_000;

/// A system in which processes do what the test says.
#[derive(Clone, Default)]
pub struct Fake {
    pub now: u64,
    pub next_pid: u32,
    /// Live instances by slot: pid, cookie, label, incarnation, badge.
    pub live: BTreeMap<SlotId, (u32, u64, String, u32, u64)>,
    /// Processes made ahead, by slot: pid, cookie, badge, and whether they were started.
    pub spares: BTreeMap<SlotId, (u32, u64, u64, bool)>,
    /// What they were made from.
    pub spare_programs: BTreeMap<SlotId, ProgramId>,
    /// Those that have died since.
    pub dead_spares: Vec<SlotId>,
    /// Spares that wait.
    pub ready: BTreeMap<SlotId, ReplyToken>,
    /// There is little memory.
    pub short: bool,
    /// Launches that fail for want of memory.
    pub no_memory: u32,
    /// Launches that found their process made.
    pub spared: Vec<SlotId>,
    pub killed: Vec<SlotId>,
    pub notified: Vec<(SlotId, u64)>,
    pub answers: BTreeMap<u64, Answer>,
    pub missing: Vec<String>,
    pub closed: Vec<Handle>,
    pub retired: Vec<SlotId>,
    pub discarded: Vec<SlotId>,
    /// Programs that are not needed any more.
    pub dropped: Vec<ProgramId>,
    /// What each slot's instance was started from.
    pub programs: BTreeMap<SlotId, ProgramId>,
    /// Highest priority of each slot's instance.
    pub priorities: BTreeMap<SlotId, u8>,
    /// Programs that cannot be started.
    pub broken: Vec<ProgramId>,
    pub log: Vec<String>,
    pub end: Option<End>,
    pub started: Vec<String>,
    /// What probes answer, where not that all is well.
    pub pulses: BTreeMap<SlotId, (u64, Pulse)>,
    pub cpu: BTreeMap<SlotId, u64>,
    /// How often each slot was probed.
    pub probes: Vec<u32>,
}

impl Host for Fake {
    fn now(&self) -> u64 {
        self.now
    }
    fn launch(&mut self, launch: &Launch<'_>) -> Result<u32> {
        if self.missing.contains(&launch.manifest.program) {
            return Err(Error::NoEnt);
        }
        if self.broken.contains(&launch.program) {
            return Err(Error::NoExec);
        }
        if self.no_memory > 0 {
            self.no_memory -= 1;
            return Err(Error::NoMem);
        }
        let spare = self.spares.remove(&launch.slot);
        let ready = self.ready.remove(&launch.slot);
        let same = self.spare_programs.get(&launch.slot) == Some(&launch.program);
        let fits = |&(_, cookie, ..): &(u32, u64, u64, bool)| same && cookie == launch.cookie;
        let lives = !self.dead_spares.contains(&launch.slot);
        let spare = spare.filter(|spare| lives && fits(spare)).map(|(pid, ..)| pid);
        if spare.is_some() {
            self.spared.push(launch.slot);
            if let Some(token) = ready {
                self.answer(token, Answer::Started);
            }
        }
        self.programs.insert(launch.slot, launch.program);
        self.priorities.insert(launch.slot, launch.priority);
        let pid = spare.unwrap_or_else(|| self.new_pid());
        let label = launch.label.to_string();
        self.started.push(label.clone());
        let instance = (pid, launch.cookie, label, launch.incarnation, launch.badge);
        assert!(self.live.insert(launch.slot, instance).is_none(), "two instances in a slot");
        Ok(pid)
    }
    fn prepare(&mut self, launch: &Launch<'_>, standby: bool) -> Option<u32> {
        assert!(self.live.contains_key(&launch.slot), "a spare of nobody");
        let pid = self.new_pid();
        let spare = (pid, launch.cookie, launch.badge, standby);
        assert!(self.spares.insert(launch.slot, spare).is_none(), "two spares in a slot");
        self.spare_programs.insert(launch.slot, launch.program);
        Some(pid)
    }
    fn stand_by(&mut self, slot: SlotId, token: ReplyToken) {
        assert!(self.spares.contains_key(&slot), "nobody stands by");
        assert!(self.ready.insert(slot, token).is_none(), "ready twice");
    }
    fn drop_spare(&mut self, slot: SlotId) {
        self.spares.remove(&slot);
        self.ready.remove(&slot);
    }
    fn memory_is_short(&self) -> bool {
        self.short
    }
    fn kill(&mut self, slot: SlotId) {
        assert!(self.live.contains_key(&slot), "kill of nobody");
        self.killed.push(slot);
    }
    fn notify(&mut self, slot: SlotId, bits: u64) {
        assert!(self.live.contains_key(&slot), "notification to nobody");
        self.notified.push((slot, bits));
    }
    fn probe(&mut self, slot: SlotId) -> Option<(u64, Pulse)> {
        assert!(self.live.contains_key(&slot), "probe of nobody");
        self.probes.resize(self.probes.len().max(slot + 1), 0);
        self.probes[slot] += 1;
        Some(self.pulses.get(&slot).copied().unwrap_or((pulse::WAITING, Pulse::default())))
    }
    fn usage(&self, slot: SlotId) -> Usage {
        Usage { cpu: self.cpu.get(&slot).copied().unwrap_or(0), ..Usage::default() }
    }
    fn forget(&mut self, slot: SlotId) {
        assert!(self.live.remove(&slot).is_some(), "nobody to forget");
    }
    fn retire(&mut self, slot: SlotId) {
        self.retired.push(slot);
    }
    fn discard(&mut self, slot: SlotId) {
        self.drop_spare(slot);
        self.discarded.push(slot);
    }
    fn drop_program(&mut self, program: ProgramId) {
        if program != 0 {
            self.dropped.push(program);
        }
    }
    fn close(&mut self, handle: Handle) {
        self.closed.push(handle);
    }
    fn answer(&mut self, token: ReplyToken, answer: Answer) {
        assert!(self.answers.insert(token.0, answer).is_none(), "two answers to {token:?}");
    }
    fn alert(&mut self, text: &str) {
        self.log.push(["ALERT: ", text].concat());
    }
    fn log(&mut self, line: core::fmt::Arguments<'_>) {
        self.log.push(line.to_string());
    }
    fn end(&mut self, end: End) {
        assert!(self.end.is_none(), "two ends");
        self.end = Some(end);
    }
}

impl Fake {
    fn new_pid(&mut self) -> u32 {
        self.next_pid += 1;
        100 + self.next_pid
    }
}

pub struct World {
    pub core: Core,
    pub host: Fake,
    pub token: u64,
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl World {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let manifests = files.iter().map(|(l, text)| Manifest::parse(l, text).unwrap()).collect();
        let core = Core::new(Catalog::strict(manifests).unwrap(), 1);
        World { core, host: Fake::default(), token: 0 }
    }

    pub fn boot(files: &[(&str, &str)]) -> Self {
        let mut world = World::new(files);
        world.core.boot(&mut world.host);
        world
    }

    pub fn slot(&self, label: &str) -> &Slot {
        let found = self.core.slots().find(|(_, s)| s.label == name(label));
        found.unwrap_or_else(|| panic!("no {label}")).1
    }

    pub fn id(&self, label: &str) -> SlotId {
        self.core.slots().find(|(_, s)| s.label == name(label)).unwrap().0
    }

    pub fn state(&self, label: &str) -> &'static str {
        self.slot(label).state.name()
    }

    pub fn badge(&self, label: &str) -> (u64, u32) {
        let (pid, _, _, _, badge) = self.host.live[&self.id(label)];
        (badge, pid)
    }

    pub fn announce(&mut self, label: &str) {
        let (badge, pid) = self.badge(label);
        assert_eq!(self.core.announce(&mut self.host, badge, pid), Answer::Announced);
    }

    /// Announces whoever starts, until nothing starts any more.
    pub fn run(&mut self) {
        while let Some(label) = {
            let starting = |s: &Slot| matches!(s.state.name(), "starting" | "recovering");
            self.core.slots().find(|(_, s)| starting(s)).map(|(_, s)| s.label.to_string())
        } {
            self.announce(&label);
        }
    }

    pub fn die(&mut self, label: &str, obituary: Obituary) {
        let id = self.id(label);
        let (pid, cookie, ..) = self.host.live[&id];
        let obituary = Obituary { pid, cookie, time: self.host.now, ..obituary };
        self.core.died(&mut self.host, &obituary);
    }

    pub fn fault(&mut self, label: &str) {
        let registers = Registers { rip: 0x40_1000, ..Default::default() };
        let fault = Obituary {
            cause: cause::FAULT,
            vector: 14,
            address: 0x10,
            registers,
            ..Default::default()
        };
        self.die(label, fault);
    }

    pub fn exit(&mut self, label: &str, code: i64) {
        self.die(label, Obituary { cause: cause::EXIT, code, ..Default::default() });
    }

    pub fn token(&mut self) -> ReplyToken {
        self.token += 1;
        ReplyToken(self.token)
    }

    pub fn lookup(
        &mut self,
        (badge, pid): (u64, u32),
        label: &str,
        wait: bool,
    ) -> (u64, Option<Answer>) {
        let token = self.token();
        (token.0, self.core.lookup(&mut self.host, badge, pid, token, &name(label), wait))
    }

    pub fn control(&mut self, operation: u32, label: &str) -> (u64, Option<Answer>) {
        let token = self.token();
        let answer = self.core.control(&mut self.host, 0, 77, token, operation, &name(label));
        (token.0, answer)
    }

    /// Kills of the host become deaths.
    pub fn reap(&mut self) {
        for id in core::mem::take(&mut self.host.killed) {
            if let Some((_, _, label, ..)) = self.host.live.get(&id).cloned() {
                self.die(&label, Obituary { cause: cause::KILLED, code: 9, ..Default::default() });
            }
        }
    }

    pub fn at(&mut self, ms: u64) {
        self.host.now = ms * MS;
        self.core.tick(&mut self.host);
    }
}

pub const PROGRAMS: (&str, &str) =
    ("programs", "instances = \"programs\"\ncalls = [\"a\"]\ncontrol = true");
pub const CHAIN: [(&str, &str); 4] = [
    ("a", ""),
    ("b", "needs = [\"a\"]"),
    ("c", "needs = [\"b\"]\nresources = [\"process\"]\ncalls = [\"a:admin\"]"),
    PROGRAMS,
];

pub const PCI: [(&str, &str); 5] = [
    ("pci", "resources = [\"hardware\"]"),
    (
        "disk",
        "class = \"block\"\ninstances = \"per-function\"\npci = [{ vendor = 0x1AF4, device = 0x1042 }]\nneeds = [\"pci\"]",
    ),
    ("fat", "instances = \"on-demand\"\ncalls = [\"class:block\"]"),
    (
        "vfs",
        "wants = [\"class:block\"]\ncalls = [\"fat:admin\"]\nspawns = [\"fat\"]\nnotify = [\"disk\"]",
    ),
    PROGRAMS_NONE,
];
pub const PROGRAMS_NONE: (&str, &str) =
    ("programs", "instances = \"programs\"\ncalls = [\"disk\"]\ncontrol = true");

pub fn function(location: u32, handle: Handle) -> AddFunction {
    AddFunction { location, id: 0x1042_1AF4, class: 0x01_00_00, device: handle, pci: handle + 1 }
}

impl World {
    pub fn add(&mut self, call: AddFunction) -> Answer {
        let (badge, pid) = self.badge("pci");
        self.core.add_function(&mut self.host, badge, pid, &call)
    }

    pub fn done(&mut self) {
        let (badge, pid) = self.badge("pci");
        let answer = self.core.functions_done(&mut self.host, badge, pid);
        assert_eq!(answer, Answer::FunctionsDone);
    }
}

impl World {
    pub fn spawn(&mut self, label: &str) -> (u64, Option<Answer>) {
        let (badge, pid) = self.badge("vfs");
        let token = self.token();
        (token.0, self.core.spawn(&mut self.host, badge, pid, token, &name(label)))
    }
}
