//! The system calls behind [`Host`]: processes, endpoints, the handles each service is granted.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use xinim_abi::error::{Error, Result};
use xinim_abi::info::{Kind, ProcessInfo, Pulse, SystemInfo};
use xinim_abi::interface::{Name, Reply};
use xinim_abi::ipc::{ReplyToken, bits};
use xinim_abi::object::{Handle, LARGE_PAGE_SIZE, MemoryFlags, PAGE_SIZE, Protection, Rights};
use xinim_abi::platform::{CMDLINE_TEXT_PRIVATE, PORT_DEBUGCON};
use xinim_abi::services::rs::{query, rs};
use xinim_abi::start::role;
use xinim_abi::syscall::{control, limit, priority, resource};
use xinim_manifest::{Manifest, Resource};
use xinim_rs::bundle::{self, Entry};
use xinim_rs::core_file::{self, Dead, Piece};
use xinim_rs::{Answer, End, Host, KEPT_MAX, Launch, ProgramId, SlotId, Usage};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::loader::{self, Give, Image, Loaded, Program, Writable};
use xinim_rt::memory::Memory;
use xinim_rt::{kip, log, start, sys};

const FRAMES_PER_MIB: u64 = 256;
/// Code in the obituary of a service that RS killed.
const KILL_CODE: i64 = 9;
const DEFAULT_HANDLES: u32 = 256;
/// Cores kept at one time, one of a service at most.
const CORES_MAX: usize = 4;
/// Bytes of a core copied at a time.
const CORE_STEP: u64 = 64 << 10;
/// Lines for the log and the handles of dead instances wait this long, ns: about as long as a restart.
const BURIAL_DELAY: u64 = 30_000_000;
/// There are spare processes while this part of all memory is free.
const SPARE_MEMORY: u64 = 16;
/// Programs from outside the bundle at one time, and bytes of one.
const PROGRAMS_MAX: usize = 32;
const PROGRAM_MAX: u64 = 16 << 20;

/// Everything RS holds.
pub struct System {
    endpoint: OwnedHandle,
    resource: Handle,
    acpi: Option<Handle>,
    bundle_memory: Handle,
    bundle: &'static [u8],
    /// Regular files of the bundle.
    programs: BTreeMap<&'static str, Entry<'static>>,
    /// Programs that came from outside the bundle.
    files: BTreeMap<ProgramId, File>,
    last_file: ProgramId,
    /// Live instances.
    instances: BTreeMap<SlotId, Instance>,
    /// Dead instances whose handles are still to be closed, and lines for the log: their successors go first.
    dead: Vec<Instance>,
    lines: Vec<String>,
    burial: Option<u64>,
    /// Processes made ahead.
    spares: BTreeMap<SlotId, Spare>,
    /// What is made once and lent to every instance of a slot.
    kept: BTreeMap<SlotId, Kept>,
    /// Memory kept for the next instance, by slot and the service's own key.
    memory: BTreeMap<(SlotId, u64), Memory>,
    /// The newest cores, oldest first.
    cores: VecDeque<Core>,
}

struct Instance {
    pid: u32,
    process: OwnedHandle,
    endpoint: OwnedHandle,
    /// What it may write, for a core: the object outlives the process.
    memory: Memory,
    writable: Vec<Writable>,
}

/// A dead instance's memory, and what stands before it in a core file.
struct Core {
    label: Name,
    head: Vec<u8>,
    memory: Memory,
    writable: Vec<Writable>,
}

impl Core {
    fn len(&self) -> u64 {
        self.head.len() as u64 + self.writable.iter().map(|piece| piece.len).sum::<u64>()
    }
}

/// The process of an instance, complete but for its start, or one that was started and stands by.
struct Spare {
    loaded: Loaded,
    endpoint: OwnedHandle,
    /// What the launch must be for it to fit.
    cookie: u64,
    program: ProgramId,
    priority: u8,
    /// Handles of the function it was given.
    function: Option<(Handle, Handle)>,
    /// Its first thread, once that was started.
    thread: Option<OwnedHandle>,
    /// It is as far as it can come, and waits for the answer to this.
    ready: Option<ReplyToken>,
}

impl Spare {
    /// It is not wanted.
    fn end(&self) {
        // Fails only where it is dead already.
        let _ = sys::process_kill(self.loaded.process.raw(), KILL_CODE);
    }

    fn fits(&self, launch: &Launch<'_>) -> bool {
        let function = launch.function.map(|function| (function.device, function.pci));
        self.cookie == launch.cookie
            && (self.program, self.priority) == (launch.program, launch.priority)
            && self.function == function
    }
}

/// A program that was brought: copied, so that nobody can change it any more.
struct File {
    bytes: Vec<u8>,
    /// The same, to be mapped in place.
    memory: Memory,
}

#[derive(Default)]
struct Kept {
    ports: Vec<OwnedHandle>,
    interrupts: Vec<OwnedHandle>,
}

impl System {
    pub fn new() -> Result<Self> {
        let resource = start::handle(role::RESOURCE).ok_or(Error::BadHandle)?;
        let memory = OwnedHandle::from_raw(start::handle(role::BUNDLE).ok_or(Error::NoEnt)?);
        let memory = Memory::from_handle(memory)?;
        let bundle = memory.map_static()?;
        let bundle_memory = memory.raw();
        core::mem::forget(memory);
        let programs = bundle::entries(bundle)
            .filter(|e| e.mode & 0o170_000 == 0o100_000 && e.mode & 0o111 != 0);
        Ok(System {
            endpoint: OwnedHandle::from_raw(sys::endpoint_create()?),
            resource,
            acpi: start::handle(role::ACPI),
            bundle_memory,
            bundle,
            programs: programs.map(|entry| (entry.name, entry)).collect(),
            files: BTreeMap::new(),
            last_file: 0,
            instances: BTreeMap::new(),
            dead: Vec::new(),
            lines: Vec::new(),
            burial: None,
            spares: BTreeMap::new(),
            kept: BTreeMap::new(),
            memory: BTreeMap::new(),
            cores: VecDeque::new(),
        })
    }

    /// The bundle's bytes.
    pub fn bundle(&self) -> &'static [u8] {
        self.bundle
    }

    /// Writes the core of a service to the start of somebody's memory; how many bytes.
    pub fn write_core(&self, label: &Name, memory: &Memory) -> Result<u64> {
        let core = self.cores.iter().find(|core| core.label == *label).ok_or(Error::NoEnt)?;
        if core.len() > memory.len() {
            return Err(Error::TooBig);
        }
        let theirs = memory.map(Protection::READ | Protection::WRITE)?;
        let ours = core.memory.map(Protection::READ)?;
        theirs.copy_in(0, &core.head)?;
        let mut at = core.head.len();
        for piece in &core.writable {
            for done in (0..piece.len).step_by(CORE_STEP as usize) {
                let step = CORE_STEP.min(piece.len - done) as usize;
                theirs.copy_in(at, &ours.to_vec((piece.offset + done) as usize, step)?)?;
                at += step;
            }
        }
        Ok(at as u64)
    }

    /// When there is something to do that nobody waits for; the restart of a service goes first.
    pub fn burial(&self) -> Option<u64> {
        self.burial
    }

    pub fn bury_later(&mut self) {
        if self.burial.is_none() && !(self.dead.is_empty() && self.lines.is_empty()) {
            self.burial = Some(kip::now_ns() + BURIAL_DELAY);
        }
    }

    pub fn bury(&mut self) {
        if self.burial.is_some_and(|at| at <= kip::now_ns()) {
            self.bury_now();
        }
    }

    fn bury_now(&mut self) {
        self.burial = None;
        self.dead.clear();
        for line in self.lines.drain(..) {
            log!("{line}");
        }
    }

    /// RS's own endpoint, for receiving.
    pub fn endpoint(&self) -> Handle {
        self.endpoint.raw()
    }

    /// Answers a `Keep`: memory of `slot` under `key`, made if `len` is not 0.
    pub fn keep(
        &mut self,
        token: ReplyToken,
        slot: SlotId,
        key: u64,
        len: u64,
        limit: u64,
    ) -> Result<()> {
        if !self.memory.contains_key(&(slot, key)) {
            if len == 0 {
                return Err(Error::NoEnt);
            }
            let mine = self.memory.range((slot, 0)..=(slot, u64::MAX));
            let (count, bytes) =
                mine.fold((0, 0), |(n, sum), (_, memory)| (n + 1, sum + memory.len()));
            if count >= KEPT_MAX || len > limit || bytes + len > limit {
                return Err(Error::Limit);
            }
            // Large pages cost less to map, if there are any.
            let large = match len.is_multiple_of(LARGE_PAGE_SIZE as u64) {
                true => Memory::create(len, MemoryFlags::LARGE),
                false => Err(Error::Inval),
            };
            let memory = large.or_else(|_| Memory::create(len, MemoryFlags::empty()))?;
            self.memory.insert((slot, key), memory);
        }
        let memory = self.memory.get(&(slot, key)).ok_or(Error::NoEnt)?;
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER;
        let handle = memory.handle().mint(rights, 0)?;
        sys::reply(token, &rs::Kept { len: memory.len(), memory: handle.raw() }.encode())
    }

    pub fn unkeep(&mut self, slot: SlotId, key: u64) {
        self.memory.remove(&(slot, key));
    }

    /// Takes a program over; 0 for memory of one page or less, which holds none.
    pub fn add_program(&mut self, memory: OwnedHandle) -> Result<ProgramId> {
        let theirs = Memory::from_handle(memory)?;
        if theirs.len() <= PAGE_SIZE as u64 {
            return Ok(0);
        }
        if theirs.len() > PROGRAM_MAX || self.files.len() == PROGRAMS_MAX {
            return Err(Error::Limit);
        }
        let bytes = theirs.map(Protection::READ)?.to_vec(0, theirs.len() as usize)?;
        let memory = Memory::create(theirs.len(), MemoryFlags::empty())?;
        memory.map(Protection::READ | Protection::WRITE)?.copy_in(0, &bytes)?;
        self.last_file += 1;
        self.files.insert(self.last_file, File { bytes, memory });
        Ok(self.last_file)
    }

    /// Ports and interrupts of a slot, made at its first start.
    fn kept(&mut self, slot: SlotId, manifest: &Manifest) -> Result<&Kept> {
        if !self.kept.contains_key(&slot) {
            let mut kept = Kept::default();
            for range in &manifest.ports {
                let ports = sys::ports_create(self.resource, range.first, range.count.into())?;
                kept.ports.push(OwnedHandle::from_raw(ports));
            }
            for &gsi in &manifest.interrupts {
                let interrupt = sys::irq_create_gsi(self.resource, gsi.into(), 0)?;
                kept.interrupts.push(OwnedHandle::from_raw(interrupt));
            }
            self.kept.insert(slot, kept);
        }
        self.kept.get(&slot).ok_or(Error::NoMem)
    }

    /// A handle to a slot's endpoint for somebody else. Programs only call; services also notify.
    fn mint(&self, slot: SlotId, badge: u64) -> Result<OwnedHandle> {
        let mut rights = Rights::SEND | Rights::TRANSFER;
        rights.set(Rights::NOTIFY, badge != 0);
        let instance = self.instances.get(&slot).ok_or(Error::ServerDied)?;
        instance.endpoint.mint(rights, badge)
    }

    fn try_answer(&self, token: ReplyToken, answer: &Answer) -> Result<()> {
        match *answer {
            Answer::Found { slot, pid, badge } => {
                let handle = self.mint(slot, badge)?;
                sys::reply(token, &rs::Found { pid, endpoint: handle.raw() }.encode())
            }
            Answer::FoundRs => {
                let handle = self.endpoint.mint(Rights::SEND | Rights::TRANSFER, 0)?;
                let pid = start::pid();
                sys::reply(token, &rs::Found { pid, endpoint: handle.raw() }.encode())
            }
            Answer::Spawned { slot, pid, label, badge } => {
                let handle = self.mint(slot, badge)?;
                sys::reply(token, &rs::Spawned { pid, label, endpoint: handle.raw() }.encode())
            }
            Answer::Announced => sys::reply(token, &rs::Announced {}.encode()),
            Answer::Started => sys::reply(token, &rs::Started {}.encode()),
            Answer::Controlled { pid } => sys::reply(token, &rs::Controlled { pid }.encode()),
            Answer::FunctionAdded => sys::reply(token, &rs::FunctionAdded {}.encode()),
            Answer::Updated { pid, rolled_back } => {
                sys::reply(token, &rs::Updated { pid, rolled_back }.encode())
            }
            Answer::Complained => sys::reply(token, &rs::Complained {}.encode()),
            Answer::FunctionsDone => sys::reply(token, &rs::FunctionsDoneReply {}.encode()),
            Answer::Error(error) => Err(error),
        }
    }

    fn try_launch(&mut self, launch: &Launch<'_>) -> Result<u32> {
        let spare = self.spares.remove(&launch.slot);
        let fits = spare.as_ref().is_some_and(|spare| spare.fits(launch));
        match spare {
            Some(spare) if fits => match self.set_going(launch, &spare) {
                Ok(()) => return Ok(self.adopt(launch, spare)),
                // It died while it waited, say. No worse than if there had been none.
                Err(_) => spare.end(),
            },
            other => other.iter().for_each(Spare::end),
        }
        let made = match self.make(launch, false) {
            Err(Error::NoMem) if !self.dead.is_empty() => {
                self.bury_now();
                self.make(launch, false)?
            }
            made => made?,
        };
        match self.set_going(launch, &made) {
            Ok(()) => Ok(self.adopt(launch, made)),
            Err(error) => {
                made.end();
                Err(error)
            }
        }
    }

    /// Lets the process of an instance run.
    fn set_going(&mut self, launch: &Launch<'_>, spare: &Spare) -> Result<()> {
        self.bind(launch, &spare.endpoint)?;
        let Some(thread) = &spare.thread else { return spare.loaded.start() };
        sys::thread_priority(thread.raw(), spare.loaded.priority())?;
        match spare.ready {
            Some(token) => sys::reply(token, &rs::Started {}.encode()),
            // Still on its way: it is told when it asks.
            None => Ok(()),
        }
    }

    /// The process is the slot's instance from now on; its id.
    fn adopt(&mut self, launch: &Launch<'_>, spare: Spare) -> u32 {
        let Spare { loaded, endpoint, .. } = spare;
        let Loaded { pid, process, memory, writable, .. } = loaded;
        self.instances.insert(launch.slot, Instance { pid, process, endpoint, memory, writable });
        pid
    }

    /// Binds the ISA interrupts of a slot to its new instance.
    fn bind(&mut self, launch: &Launch<'_>, endpoint: &OwnedHandle) -> Result<()> {
        if launch.manifest.interrupts.is_empty() {
            return Ok(());
        }
        let kept = self.kept(launch.slot, launch.manifest)?;
        for (bit, interrupt) in (0..).zip(&kept.interrupts) {
            sys::irq_bind(interrupt.raw(), endpoint.raw(), bit)?;
        }
        Ok(())
    }

    /// Makes endpoint and process of an instance.
    fn make(&mut self, launch: &Launch<'_>, standby: bool) -> Result<Spare> {
        let manifest = launch.manifest;
        if launch.program == 0 && !self.programs.contains_key(manifest.program.as_str()) {
            return Err(Error::NoEnt);
        }
        let endpoint = OwnedHandle::from_raw(sys::endpoint_create()?);
        let to_rs = self.endpoint.mint(Rights::SEND | Rights::TRANSFER, launch.badge)?;
        let manage = (Rights::MANAGE | Rights::TRANSFER).bits();
        let mut gives = Vec::from([
            Give { role: role::RS, handle: to_rs.raw(), rights: Rights::SEND.bits() },
            Give { role: role::SERVICE, handle: endpoint.raw(), rights: SERVICE_RIGHTS.bits() },
        ]);
        if !manifest.resources.is_empty() {
            let rights = manage | authority(manifest);
            gives.push(Give { role: role::RESOURCE, handle: self.resource, rights });
        }
        let read = Rights::READ | Rights::EXECUTE | Rights::TRANSFER;
        if manifest.bundle {
            let rights = read.bits();
            gives.push(Give { role: role::BUNDLE, handle: self.bundle_memory, rights });
        }
        if let (true, Some(handle)) = (manifest.acpi, self.acpi) {
            gives.push(Give { role: role::ACPI, handle, rights: Rights::READ.bits() });
        }
        if let Some(function) = launch.function {
            gives.push(Give { role: role::DEVICE, handle: function.device, rights: manage });
            let rights = Rights::SEND.bits();
            gives.push(Give { role: role::PCI, handle: function.pci, rights });
        }
        if !manifest.ports.is_empty() || !manifest.interrupts.is_empty() {
            let kept = self.kept(launch.slot, manifest)?;
            for ports in &kept.ports {
                gives.push(Give { role: role::PORTS, handle: ports.raw(), rights: manage });
            }
            for interrupt in &kept.interrupts {
                let rights = Rights::MANAGE.bits();
                gives.push(Give { role: role::INTERRUPT, handle: interrupt.raw(), rights });
            }
        }
        // Always copied when asked: it costs memory and start-up time, so only for experiments.
        let in_place =
            !kip::cmdline().split_ascii_whitespace().any(|word| word == CMDLINE_TEXT_PRIVATE);
        let mut args = Vec::from([launch.label.as_str()]);
        args.extend(manifest.args.iter().map(|arg| arg.as_str()));
        let image = match launch.program {
            0 => {
                let program = self.programs.get(manifest.program.as_str()).ok_or(Error::NoEnt)?;
                let memory = Some((self.bundle_memory, program.offset as u64));
                Image { bytes: program.data, memory }
            }
            number => {
                let file = self.files.get(&number).ok_or(Error::NoEnt)?;
                Image { bytes: &file.bytes, memory: Some((file.memory.raw(), 0)) }
            }
        };
        let loaded = loader::load(
            self.resource,
            &Program {
                name: launch.label.as_str(),
                image: Image { memory: image.memory.filter(|_| in_place), ..image },
                args: &args,
                env: &[],
                handles: &gives,
                supervisor: self.endpoint.raw(),
                cookie: launch.cookie,
                priority: launch.priority.into(),
                frames: manifest.memory.map(|mib| u64::from(mib) * FRAMES_PER_MIB),
                stack: u64::from(manifest.stack) << 10,
                incarnation: launch.incarnation,
                standby,
            },
        )?;
        let process = loaded.process.raw();
        let limited = sys::endpoint_owner(endpoint.raw(), process)
            .and_then(|()| match manifest.handles {
                DEFAULT_HANDLES => Ok(()),
                handles => sys::process_limit(process, limit::HANDLES, handles.into()),
            })
            .and_then(|()| match manifest.dma {
                None => Ok(()),
                Some(mib) => {
                    sys::process_limit(process, limit::PINNED, u64::from(mib) * FRAMES_PER_MIB)
                }
            });
        if let Err(error) = limited {
            let _ = sys::process_kill(process, KILL_CODE);
            return Err(error);
        }
        let function = launch.function.map(|function| (function.device, function.pci));
        let Launch { cookie, program, priority, .. } = *launch;
        Ok(Spare {
            loaded,
            endpoint,
            cookie,
            program,
            priority,
            function,
            thread: None,
            ready: None,
        })
    }
}

/// What a process uses.
fn usage(pid: u32) -> Usage {
    // The record is of the first process from this id on.
    match sys::info::<ProcessInfo>(Kind::Process, pid.into()) {
        Ok(info) if info.pid == pid => Usage {
            cpu: info.cpu_ns,
            frames: info.frames,
            handles: info.handles,
            threads: info.threads,
            refused: info.refused,
        },
        _ => Usage::default(),
    }
}

/// A service does with its own endpoint what it likes.
const SERVICE_RIGHTS: Rights =
    Rights::SEND.union(Rights::NOTIFY).union(Rights::RECEIVE).union(Rights::TRANSFER);

/// The further rights on the resource handle that a manifest grants.
fn authority(manifest: &Manifest) -> u32 {
    let right = |r: &Resource| match r {
        Resource::Hardware => resource::HARDWARE,
        Resource::Process => resource::PROCESS,
        Resource::Power => resource::POWER,
        Resource::Log => resource::LOG,
    };
    manifest.resources.iter().map(right).fold(0, |all, right| all | right)
}

impl Host for System {
    fn now(&self) -> u64 {
        kip::now_ns()
    }

    fn launch(&mut self, launch: &Launch<'_>) -> Result<u32> {
        self.try_launch(launch)
    }

    fn prepare(&mut self, launch: &Launch<'_>, standby: bool) -> Option<u32> {
        self.drop_spare(launch.slot);
        // Where memory is short the restart will do without.
        let mut spare = self.make(launch, standby).ok()?;
        if standby {
            // Behind everybody who has work to do.
            match spare.loaded.start_at(priority::USER) {
                Ok(thread) => spare.thread = Some(thread),
                Err(_) => {
                    spare.end();
                    return None;
                }
            }
        }
        let pid = spare.loaded.pid;
        self.spares.insert(launch.slot, spare);
        Some(pid)
    }

    fn stand_by(&mut self, slot: SlotId, token: ReplyToken) {
        if let Some(spare) = self.spares.get_mut(&slot) {
            spare.ready = Some(token);
        }
    }

    fn drop_spare(&mut self, slot: SlotId) {
        self.spares.remove(&slot).iter().for_each(Spare::end);
    }

    fn spare_usage(&self, slot: SlotId) -> Usage {
        self.spares.get(&slot).map_or(Usage::default(), |spare| usage(spare.loaded.pid))
    }

    fn memory_is_short(&self) -> bool {
        sys::info::<SystemInfo>(Kind::System, 0)
            .is_ok_and(|info| info.frames_free < info.frames_total / SPARE_MEMORY)
    }

    fn kill(&mut self, slot: SlotId) {
        if let Some(instance) = self.instances.get(&slot) {
            // Fails only when it is dead already; then its obituary is on its way.
            let _ = sys::process_kill(instance.process.raw(), KILL_CODE);
        }
    }

    fn notify(&mut self, slot: SlotId, bits: u64) {
        if let Some(instance) = self.instances.get(&slot) {
            let _ = sys::notify(instance.endpoint.raw(), bits);
        }
    }

    fn probe(&mut self, slot: SlotId) -> Option<(u64, Pulse)> {
        sys::probe(self.instances.get(&slot)?.endpoint.raw(), bits::PING).ok()
    }

    fn usage(&self, slot: SlotId) -> Usage {
        self.instances.get(&slot).map_or(Usage::default(), |instance| usage(instance.pid))
    }

    /// The memory is kept as it is: nothing is copied, and a restart waits for nothing.
    fn keep_core(&mut self, slot: SlotId, dead: &Dead<'_>) {
        let Some(Instance { memory, writable, .. }) = self.instances.remove(&slot) else { return };
        let pieces = writable.iter().map(|w| Piece { address: w.address, len: w.len });
        let head = core_file::head(dead, &pieces.collect::<Vec<_>>());
        let core = Core { label: dead.label, head, memory, writable };
        if core.len() > query::CORE_MAX {
            return;
        }
        self.cores.retain(|other| other.label != dead.label);
        if self.cores.len() == CORES_MAX {
            self.cores.pop_front();
        }
        self.cores.push_back(core);
    }

    fn core_len(&self, label: &Name) -> Option<u64> {
        self.cores.iter().find(|core| core.label == *label).map(Core::len)
    }

    fn forget(&mut self, slot: SlotId) {
        self.dead.extend(self.instances.remove(&slot));
    }

    fn retire(&mut self, slot: SlotId) {
        self.kept.remove(&slot);
        self.discard(slot);
    }

    fn discard(&mut self, slot: SlotId) {
        self.drop_spare(slot);
        self.memory.retain(|&(owner, _), _| owner != slot);
    }

    fn drop_program(&mut self, program: ProgramId) {
        self.files.remove(&program);
    }

    fn close(&mut self, handle: Handle) {
        drop(OwnedHandle::from_raw(handle));
    }

    fn answer(&mut self, token: ReplyToken, answer: Answer) {
        if let Err(error) = self.try_answer(token, &answer) {
            // The caller may be gone; then nobody wants to know.
            let _ = sys::reply(token, &crate::refusal(error));
        }
    }

    fn alert(&mut self, text: &str) {
        self.bury_now();
        log!("ALERT: {text}");
        // Where there is no debug console the bytes go nowhere.
        let ports = sys::ports_create(self.resource, PORT_DEBUGCON, 1).map(OwnedHandle::from_raw);
        if let Ok(ports) = ports {
            let line = alloc::format!("rs: ALERT: {text}\n");
            let _ = sys::ports_write_bytes(ports.raw(), 0, line.as_bytes());
        }
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        self.lines.push(line.to_string());
        self.bury_later();
    }

    fn life(&mut self, label: Name, what: u16) {
        if xinim_rt::trace::on() {
            xinim_rt::trace::service(label.as_str(), what);
        }
    }

    fn end(&mut self, end: End) {
        self.bury_now();
        let operation = match end {
            End::Fall => xinim_rt::process::exit(KILL_CODE as i32),
            End::PowerOff => control::POWER_OFF,
            End::Reboot => control::REBOOT,
        };
        if let Err(error) = sys::system_control(self.resource, operation) {
            log!("cannot end the system: {error}");
        }
    }
}
