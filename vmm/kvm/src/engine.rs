//! [`KvmEngine`]: from a machine's description to its end.
//!
//! ```text
//!   kernel image checked, disks opened and locked     (sentences for the user)
//!   VM, RAM, interrupt controllers                    (KVM)
//!   devices on the bus                                (machine.rs)
//!   kernel, bundle, ACPI tables into RAM              (pvh.rs, acpi.rs)
//!   vCPU threads run; this thread serves I/O          (vcpu, io.rs)
//!   vCPUs stopped, I/O drained, trace flushed
//! ```

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VmFd};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use xinim_abi::platform::CMDLINE_RAM_ZEROED;
use xinim_devices::bus::lock;
use xinim_devices::trace::Hub;
use xinim_machine::{End, Engine, EngineError, HostIo, MachineSpec, Outcome, RunStats};

use crate::confine;
use crate::control::Controls;
use crate::cpuid::{self, Shape};
use crate::disks::Disks;
use crate::dma::GuestDma;
use crate::dump;
use crate::fault;
use crate::gdb;
use crate::guest_trace::GuestEvents;
use crate::halt::Halt;
use crate::host::{self, host, host_io};
use crate::io::{IoLoop, WAKE_TOKEN};
use crate::machine;
use crate::memory::{GuestRam, HUGE_PAGE};
use crate::net;
use crate::probe::probe;
use crate::pvh::{self, Entry, Kernel};
use crate::record::Recording;
use crate::shared::{Ending, MachineClock, Shared};
use crate::strict::Strict;
use crate::symbols::Images;
use crate::traces::Traces;
use crate::vcpu::exit::Runner;
use crate::vcpu::{self, Finished, Handle, setup};
use crate::{acpi, layout};

/// Exits told of a machine that was stopped.
const LAST_EXITS: usize = 4;

/// Runs machines on `/dev/kvm`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvmEngine;

impl Engine for KvmEngine {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn run(&self, spec: &MachineSpec, io: HostIo) -> Result<Outcome, EngineError> {
        let start = Instant::now();
        let stop = io.stop.clone();
        let kernel = Kernel::parse(&spec.kernel).map_err(EngineError::Machine)?;
        check_shape(spec)?;
        let disks = spec
            .disks
            .iter()
            .map(|disk| xinim_block::open(disk).map_err(EngineError::Machine))
            .collect::<Result<Vec<_>, _>>()?;
        let nets = net::prepare(&spec.nets)?;
        let clock = MachineClock { start };
        let hub = Arc::new(Hub::new(Some(Arc::new(clock))));
        let traces = Traces::open(&spec.traces, &hub)?;

        let recording = Recording::create(spec.record.as_deref(), spec.iommu)?;
        let gdb = spec.gdb.as_ref().map(gdb::Listener::open).transpose()?;

        let kvm = host::open(host::DEVICE)?;
        let vm = Arc::new(host::create_vm(&kvm)?);
        // In this order: after the controllers, KVM has their buses to wait for, 7 ms here.
        let ram = Arc::new(map_ram(&vm, spec.memory)?);
        create_controllers(&vm)?;
        let tables = acpi::build(spec.cpus, spec.iommu).map_err(EngineError::Machine)?;
        ram.map()
            .write_slice(&tables, GuestAddress(layout::ACPI_BASE))
            .map_err(|_| EngineError::Machine("the ACPI tables do not fit into memory".into()))?;
        // Anonymous memory of this run's own: our kernel need not clear it.
        let cmdline = format!("{} {CMDLINE_RAM_ZEROED}", spec.cmdline);
        let bundle = spec.bundle.as_deref();
        let entry = pvh::load(&ram, &kernel, bundle, cmdline.trim_start(), layout::ACPI_BASE)
            .map_err(EngineError::Machine)?;

        let epoll = Arc::new(Epoll::new().map_err(host_io("creating an epoll instance"))?);
        let ending = Arc::new(Ending::new().map_err(host_io("creating an eventfd"))?);
        let wake = EpollEvent::new(EventSet::IN, WAKE_TOKEN);
        epoll
            .ctl(ControlOperation::Add, ending.wake().as_raw_fd(), wake)
            .map_err(host_io("watching an eventfd"))?;
        let strict = spec.strict.map(|mode| {
            let dma = Arc::new(GuestDma(ram.clone()));
            Strict::new(mode, &hub, dma, io.notices.clone(), ending.clone())
        });
        let disks_now = Arc::new(Disks::new(epoll.clone()));
        let control = io.control.clone();
        let parts = machine::Parts {
            vm: vm.clone(),
            ram: ram.clone(),
            epoll: epoll.clone(),
            ending: ending.clone(),
            clock,
            hub: hub.clone(),
            disks: disks_now.clone(),
            hotplug: spec.hotplug,
            iommu: spec.iommu,
            looked_at: strict.as_ref().map(Strict::checker),
            recording: recording.clone(),
        };
        let built = machine::build(parts, disks, nets, io)?;
        for rule in &spec.faults {
            built.faults.add(rule).map_err(EngineError::Machine)?;
        }
        let shared = Arc::new(Shared {
            bus: built.bus,
            ram,
            clock,
            ending: ending.clone(),
            ring: Default::default(),
            page: Default::default(),
            meter: Default::default(),
            hub: hub.clone(),
            strict,
            injector: Default::default(),
            faults: built.faults.clone(),
            pending: Default::default(),
            halt: Halt::new(spec.cpus),
            images: Images::new(spec.kernel.clone(), spec.bundle.clone()),
            stop: stop.clone(),
            user_breaks: spec.gdb.is_none() || probe().is_ok_and(|kvm| !kvm.ring0_emulated),
            sandboxed: spec.sandbox.is_some(),
            network: !spec.nets.is_empty(),
        });
        let controls = Controls {
            shared: shared.clone(),
            disks: disks_now,
            attaching: Mutex::default(),
            cards: built.cards,
            traces: traces.clone(),
            faults: built.faults.clone(),
            controller: built.controller,
            reach: built.reach,
        };
        let registered = control.register(Arc::new(controls));
        let guest_events = GuestEvents::start(shared.clone())
            .map_err(host_io("starting the thread of the guest's events"))?;
        let vcpus = create_vcpus(&kvm, &vm, spec, &shared, entry)?;
        let stopped = ending.clone();
        stop.on_stop(move || stopped.finish(Ok(End::Stopped)));

        let debugger = match gdb {
            Some(listener) => {
                if listener.waits() {
                    shared.halt.hold_initial();
                }
                Some(listener.start(shared.clone()).map_err(host_io("starting a thread"))?)
            }
            None => None,
        };
        if let Some(sandbox) = &spec.sandbox {
            let refused = |why| EngineError::Machine(format!("{why} (see --no-sandbox)"));
            confine::all_threads(sandbox.opens_files).map_err(refused)?;
        }
        let io_loop = IoLoop::new(epoll, shared.clone(), built.doorbells, built.ports);
        let outcome = run(vcpus, io_loop, &shared, &stop, spec.dump.as_deref());
        if let Some(debugger) = debugger {
            // A panic in there has been printed; the machine has ended either way.
            let _ = debugger.join();
        }
        stop.on_stop(|| {});
        drop(registered);
        hub.unwatch();
        drop(guest_events);
        traces.finish()?;
        recording.finish()?;
        outcome
    }
}

fn check_shape(spec: &MachineSpec) -> Result<(), EngineError> {
    if spec.memory < HUGE_PAGE || !spec.memory.is_multiple_of(HUGE_PAGE) {
        return Err(EngineError::Machine(format!(
            "memory must be a multiple of 2 MiB and not 0, but it is {} bytes",
            spec.memory
        )));
    }
    Ok(())
}

fn create_controllers(vm: &VmFd) -> Result<(), EngineError> {
    // Only Intel hosts need these two; others say so, which is all right.
    let _ = vm.set_identity_map_address(layout::KVM_IDENTITY_MAP);
    let _ = vm.set_tss_address(layout::KVM_TSS);
    vm.create_irq_chip().map_err(host("creating the interrupt controllers"))?;
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    if vm.check_extension(Cap::Pit2) {
        vm.create_pit2(pit).map_err(host("creating the interval timer"))?;
    }
    Ok(())
}

fn map_ram(vm: &VmFd, size: u64) -> Result<GuestRam, EngineError> {
    let ram = GuestRam::new(size).map_err(|error| {
        EngineError::Machine(format!("the host cannot give {} MiB of memory: {error}", size >> 20))
    })?;
    for (slot, part) in (0..).zip(ram.parts()) {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: part.base,
            memory_size: part.size,
            userspace_addr: part.host_address(),
        };
        // SAFETY: the mapping has this size. The machine's threads end before it goes, and a
        // machine without threads does not touch memory.
        unsafe { vm.set_user_memory_region(region) }.map_err(host("mapping guest memory"))?;
    }
    Ok(ram)
}

fn create_vcpus(
    kvm: &Kvm,
    vm: &VmFd,
    spec: &MachineSpec,
    shared: &Shared,
    entry: Entry,
) -> Result<Vec<Runner>, EngineError> {
    let max = kvm.get_max_vcpus();
    if spec.cpus as usize > max {
        return Err(EngineError::Machine(format!("this host's KVM allows {max} CPUs at most")));
    }
    let supported = kvm
        .get_supported_cpuid(cpuid::ENTRIES_MAX)
        .map_err(host("asking for the supported CPUID"))?;
    let sync = vm.check_extension(Cap::SyncRegs);
    let mut runners = Vec::new();
    let mut common = None;
    for index in 0..spec.cpus {
        let fd = vm.create_vcpu(u64::from(index)).map_err(host("creating a vCPU"))?;
        let shape = Shape {
            cpus: spec.cpus,
            tsc_khz: fd.get_tsc_khz().unwrap_or(0),
            tsc_deadline: vm.check_extension(Cap::TscDeadlineTimer),
        };
        let leaves = match &common {
            Some(leaves) => leaves,
            None => common.insert(
                cpuid::common(&supported, shape, &spec.cpuid).map_err(EngineError::Machine)?,
            ),
        };
        let own = cpuid::for_vcpu(leaves, shape, index).map_err(EngineError::Machine)?;
        fd.set_cpuid2(&own).map_err(host("setting CPUID"))?;
        if index == 0 {
            warn_of_cpuid(&fd, &spec.cpuid);
            setup::boot_state(&fd, &shared.ram, entry)
                .map_err(|(what, error)| host(what)(error))?;
        }
        runners.push(Runner::new(fd, sync));
    }
    Ok(runners)
}

/// Says so if KVM does not hide what it was told to hide.
fn warn_of_cpuid(vcpu: &kvm_ioctls::VcpuFd, changes: &[xinim_machine::CpuidChange]) {
    if changes.iter().all(|change| change.enable) {
        return;
    }
    // A KVM that does not tell is believed.
    let Ok(shown) = vcpu.get_cpuid2(cpuid::ENTRIES_MAX) else { return };
    let names = cpuid::shown_anyway(shown.as_slice(), changes);
    if !names.is_empty() {
        eprintln!("xinim-vmm: this host's KVM shows the guest {} all the same", names.join(", "));
    }
}

/// The machine lives from here until this returns.
fn run(
    vcpus: Vec<Runner>,
    mut io_loop: IoLoop,
    shared: &Arc<Shared>,
    stop: &xinim_machine::Stopper,
    dump: Option<&Path>,
) -> Result<Outcome, EngineError> {
    let mut handles: Vec<Handle> = Vec::new();
    for (index, runner) in (0..).zip(vcpus) {
        match vcpu::spawn(index, runner, shared.clone()) {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                shared.ending.finish(Err(error));
                break;
            }
        }
    }
    for missing in handles.len() as u32..shared.halt.vcpus() {
        shared.halt.leave(missing);
    }
    if let Err(error) = io_loop.run() {
        shared.ending.finish(Err(error));
    }
    handles.iter().for_each(Handle::kick);
    let finished: Vec<_> = handles.into_iter().map(Handle::join).collect();
    let drained = io_loop.finish(stop);
    let mut counts = io_loop.counts;
    for vcpu in &finished {
        counts.merge(&vcpu.counts);
    }
    let to_first_instruction = finished.first().and_then(|vcpu| vcpu.first_entry);
    let mut end = shared.ending.take().unwrap_or(Ok(End::Stopped))?;
    drained?;
    let mut stopped_at = (end == End::Stopped).then(|| whereabouts(&finished, shared));
    if let Some(path) = dump {
        match (&mut end, &mut stopped_at) {
            (End::Died(death), _) => death.report.push_str(&core_dump(path, &finished, shared)),
            (_, Some(text)) if stop.is_timed_out() => {
                text.push('\n');
                text.push_str(&core_dump(path, &finished, shared));
            }
            _ => {}
        }
    }
    let strict = shared.strict.as_ref().map(Strict::stats);
    let exits = counts.named();
    let faults = fault::list(&shared.faults);
    Ok(Outcome { end, stats: RunStats { to_first_instruction, exits, stopped_at, strict, faults } })
}

/// Writes the core; what became of it, as a line.
fn core_dump(path: &Path, vcpus: &[Finished], shared: &Shared) -> String {
    let states: Vec<_> = vcpus.iter().filter_map(|vcpu| vcpu.state).collect();
    let written =
        File::create(path).and_then(|mut file| dump::write(&mut file, &shared.ram, &states));
    match written {
        Ok(()) => format!("core dump in {}\n", path.display()),
        Err(error) => format!("the core dump {} cannot be written: {error}\n", path.display()),
    }
}

/// Where a stopped machine was: each vCPU's place, and the last it wanted of the machine.
fn whereabouts(vcpus: &[Finished], shared: &Shared) -> String {
    let ring = lock(&shared.ring);
    let last: Vec<_> = ring.iter().collect();
    let last = &last[last.len().saturating_sub(LAST_EXITS)..];
    let places = vcpus.iter().map(|vcpu| vcpu.place.clone());
    if vcpus.iter().any(|vcpu| vcpu.report.is_some()) {
        // They name the last exits, too.
        let reports = vcpus.iter().filter_map(|vcpu| vcpu.report.clone());
        return places.chain(reports).collect::<Vec<_>>().join("\n");
    }
    let exits = last.iter().map(|record| format!("last exit: {record}"));
    places.chain(exits).collect::<Vec<_>>().join("\n")
}
