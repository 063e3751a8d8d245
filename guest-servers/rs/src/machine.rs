//! The system calls behind [`Host`]: processes, endpoints, the handles each service is granted.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use xinim_abi::error::{Error, Result};
use xinim_abi::info::{Kind, ProcessInfo, Pulse};
use xinim_abi::interface::{Name, Reply};
use xinim_abi::ipc::{ReplyToken, bits};
use xinim_abi::object::{Handle, LARGE_PAGE_SIZE, MemoryFlags, PAGE_SIZE, Protection, Rights};
use xinim_abi::platform::{CMDLINE_TEXT_PRIVATE, PORT_DEBUGCON};
use xinim_abi::services::rs::{query, rs};
use xinim_abi::start::role;
use xinim_abi::syscall::{control, limit, resource};
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

/// The process of an instance, complete but for its start.
struct Spare {
    loaded: Loaded,
    endpoint: OwnedHandle,
    /// What the launch must be for it to fit.
    cookie: u64,
    program: ProgramId,
    priority: u8,
    /// Handles of the function it was given.
    function: Option<(Handle, Handle)>,
}

impl Spare {
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
        let spare = match self.spares.remove(&launch.slot) {
            Some(spare) if spare.fits(launch) => spare,
            other => {
                if let Some(other) = other {
                    let _ = sys::process_kill(other.loaded.process.raw(), KILL_CODE);
                }
                self.make(launch)?
            }
        };
        let Spare { loaded, endpoint, .. } = spare;
        let started = self.bind(launch, &endpoint).and_then(|()| loaded.start());
        if let Err(error) = started {
            let _ = sys::process_kill(loaded.process.raw(), KILL_CODE);
            return Err(error);
        }
        let Loaded { pid, process, memory, writable, .. } = loaded;
        self.instances.insert(launch.slot, Instance { pid, process, endpoint, memory, writable });
        Ok(pid)
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
    fn make(&mut self, launch: &Launch<'_>) -> Result<Spare> {
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
        Ok(Spare { loaded, endpoint, cookie, program, priority, function })
    }

    /// Gives up the process that was made ahead for a slot.
    fn drop_spare(&mut self, slot: SlotId) {
        if let Some(spare) = self.spares.remove(&slot) {
            let _ = sys::process_kill(spare.loaded.process.raw(), KILL_CODE);
        }
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

    fn prepare(&mut self, launch: &Launch<'_>) {
        self.drop_spare(launch.slot);
        // Where memory is short the restart will do without.
        if let Ok(spare) = self.make(launch) {
            self.spares.insert(launch.slot, spare);
        }
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
        let pid = self.instances.get(&slot).map_or(0, |instance| instance.pid);
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
        self.instances.remove(&slot);
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
        log!("ALERT: {text}");
        // Where there is no debug console the bytes go nowhere.
        let ports = sys::ports_create(self.resource, PORT_DEBUGCON, 1).map(OwnedHandle::from_raw);
        if let Ok(ports) = ports {
            let line = alloc::format!("rs: ALERT: {text}\n");
            let _ = sys::ports_write_bytes(ports.raw(), 0, line.as_bytes());
        }
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        log!("{line}");
    }

    fn life(&mut self, label: Name, what: u16) {
        if xinim_rt::trace::on() {
            xinim_rt::trace::service(label.as_str(), what);
        }
    }

    fn end(&mut self, end: End) {
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
