//! `xinim-vmm run`: one machine from its configuration to an exit status.
//!
//! ```text
//! terminal/file/socket <-> console.rs        <-> COM1
//! our stdin/out/err    <-> exec/link.rs      <-> host link (virtio-console), with --exec
//! our stderr            <- debug_console.rs  <-  debug console (port 0xE9)
//! signals, --timeout    -> control.rs         -> Stopper
//! --control socket     <-> ctl/server.rs     <-> Controller
//! ```
//!
//! A guest that reboots is run again in the same process, with the same console; with `--exec`
//! a reboot ends the run like a power-off, since the command cannot be run twice.

use std::time::Duration;

use bytes::Bytes;
use xinim_abi::exit;
use xinim_abi::platform::CMDLINE_MODE_EXEC;
use xinim_machine::{
    Controller, DiskFormat, Engine, FaultStatus, HostIo, MachineSpec, Notices, Outcome, Sandbox,
    StrictCount, StrictStats,
};

use crate::cli::RunArgs;
use crate::config::{self, RunConfig};
use crate::console::Console;
use crate::control::{Control, Deadline, SignalWatch, StopReason};
use crate::ctl::server::Server;
use crate::debug_console::DebugConsole;
use crate::error::Error;
use crate::exec::link::{Link, Streams};
use crate::exec::protocol::State;
use crate::spec::FaultRule;
use crate::stats::RunLog;
use crate::verdict::{self, Verdict};
use crate::{dry_run, engine, image, kernel, sandbox};

/// Runs the machine the options describe; returns the exit status.
pub fn run(args: RunArgs) -> Result<u8, Error> {
    let mut log = RunLog::start();
    if args.fault.iter().any(|rule| rule.0 == FaultRule::HELP) {
        println!("{}", xinim_devices::fault::HELP);
        return Ok(0);
    }
    let config = config::resolve(args)?;
    let spec = machine(&config)?;
    if config.dry_run {
        println!("{}", dry_run::command_line(&config, &spec)?);
        return Ok(0);
    }
    let selection = engine::select(config.engine, config.qemu)?;
    if selection.fallback || config.verbose > 0 {
        eprintln!("xinim-vmm: {}", selection.why);
    }
    for (option, given) in
        [("--strict", config.strict.is_some()), ("--record", config.record.is_some())]
    {
        if given && selection.engine.name() != "kvm" {
            return Err(Error::Usage(format!(
                "{option} looks at this program's own devices and needs the kvm engine"
            )));
        }
    }
    log.engine(selection.engine.name());
    if selection.engine.name() != "kvm" && !config.faults.is_empty() {
        return Err(Error::Usage(xinim_machine::control::NO_FAULTS.into()));
    }

    if !config.sandbox {
        eprintln!("xinim-vmm: running without the sandbox, as asked");
    } else if selection.engine.name() == "kvm" {
        // Before any thread: what Landlock takes away, it takes from those that come after.
        sandbox::confine(&config, &spec)?;
    }

    let control = Control::new();
    let _signals = SignalWatch::start(control.clone())
        .map_err(|e| Error::Usage(format!("cannot watch signals: {e}")))?;
    let console = Console::open(&config.console, control.clone())?;
    let _deadline = config.timeout.map(|timeout| Deadline::start(timeout.0, control.clone()));

    let controller = Controller::default();
    let server = config.control.as_ref().map(|path| {
        Server::start(path, selection.engine.name(), controller.clone(), control.clone())
    });
    let _server = server.transpose()?;
    let machine = (&control, &controller);
    let verdict = loop {
        let ended = run_once(&*selection.engine, &config, &spec, &console, machine, &mut log);
        let ended = ended
            .map(|ended| (verdict::of(&config, &ended, control.reason().as_ref()), ended.debug));
        if let (Ok((Verdict::RunAgain, debug)), 0) = (&ended, config.verbose) {
            // Why it reboots, where the guest said so. The terminal may be raw.
            let text = String::from_utf8_lossy(debug).replace('\n', "\r\n");
            eprint!("{text}");
        }
        match ended.map(|(verdict, _)| verdict) {
            Ok(Verdict::RunAgain) => {}
            other => break other,
        }
    };
    control.ended();
    // The terminal is whole again before anything is printed on it.
    drop(console);
    if let Some(path) = &config.stats {
        log.write(path)?;
    }
    match verdict? {
        Verdict::Status(status, text) => {
            eprint!("{text}");
            Ok(status)
        }
        // The loop above does not end with it.
        Verdict::RunAgain => Ok(exit::VMM_FAILED),
    }
}

/// How one run of the machine ended, and what was heard of it.
#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    /// How far the host link came; `None` without `--exec`.
    pub link: Option<State>,
    /// The last of the debug console.
    pub debug: Vec<u8>,
}

fn run_once(
    engine: &dyn Engine,
    config: &RunConfig,
    spec: &MachineSpec,
    console: &Console,
    (control, controller): (&Control, &Controller),
    log: &mut RunLog,
) -> Result<Ended, Error> {
    let plumbing = |e| Error::Usage(format!("cannot connect the machine: {e}"));
    let (console_in, console_out, carrier) = console.attach()?.split();
    let (debug, debug_out) = DebugConsole::start(config.verbose > 0).map_err(plumbing)?;
    let (link, host_link) = match &config.exec {
        Some(command) => {
            let streams = Streams::own().map_err(plumbing)?;
            let started = Link::start(command.clone(), streams, control.clone());
            let (link, machine_end) = started.map_err(plumbing)?;
            (Some(link), Some(machine_end))
        }
        None => (None, None),
    };
    let io = HostIo {
        console_in,
        console_out,
        host_link,
        debug_out: Some(debug_out),
        stop: control.stopper(),
        control: controller.clone(),
        notices: Notices::to(|text| eprint!("{text}")),
    };
    log.engine_called();
    let outcome = engine.run(spec, io);
    if let Ok(outcome) = &outcome {
        log.ended(&outcome.stats);
        if let Some(strict) = &outcome.stats.strict {
            eprint!("{}", strict_summary(strict, config.verbose > 0));
        }
        if config.verbose > 0 {
            eprint!("{}", fault_lines(&outcome.stats.faults));
        }
    }
    // The machine's ends are closed now: everything it sent comes through before these return.
    let link = link.map(Link::finish);
    carrier.finish();
    let debug = debug.finish();
    Ok(Ended { outcome: outcome?, link, debug })
}

/// What the strict checker found in all; nothing to say of a clean run, unless asked.
fn strict_summary(strict: &StrictStats, verbose: bool) -> String {
    if strict.broken.is_empty() {
        let clean = format!("strict: clean, {} accesses\n", strict.accesses);
        return if verbose { clean } else { String::new() };
    }
    let line = |count: &StrictCount| {
        let times = if count.count == 1 { "once".into() } else { format!("{} times", count.count) };
        format!("strict: {} {} {times}\n", count.device, count.rule)
    };
    strict.broken.iter().map(line).collect()
}

/// How often each fault rule struck.
fn fault_lines(faults: &[FaultStatus]) -> String {
    let line = |fault: &FaultStatus| {
        let FaultStatus { id, rule, matches, hits } = fault;
        format!("xinim-vmm: fault {id} matched {matches} times and struck {hits} times: {rule}\n")
    };
    faults.iter().map(line).collect()
}

/// Fills in the machine: files are read and checked here, so that both engines say the same.
fn machine(config: &RunConfig) -> Result<MachineSpec, Error> {
    let read = |action, path: &std::path::Path| -> Result<Bytes, Error> {
        std::fs::read(path).map(Bytes::from).map_err(|e| Error::file(action, path, e))
    };
    let (kernel, name) = match &config.kernel {
        Some(path) => (read("read the kernel", path)?, path.display().to_string()),
        None => (image::kernel()?, "inside this program".to_owned()),
    };
    let bundle = match (&config.bundle, &config.kernel) {
        (Some(path), _) => Some(read("read the bundle", path)?),
        (None, Some(_)) => None,
        (None, None) => Some(image::bundle()?),
    };
    let info = kernel::inspect(&kernel).map_err(|why| Error::Kernel { name, why })?;
    let needed = kernel::memory_needed(&info, bundle.as_ref().map_or(0, |b| b.len() as u64));
    if config.memory.0 < needed {
        return Err(Error::Usage(format!(
            "{}M of memory is too little for this kernel and bundle: it takes {}M at least",
            config.memory.0 >> 20,
            needed >> 20
        )));
    }
    Ok(MachineSpec {
        memory: config.memory.0,
        cpus: config.cpus.0,
        kernel,
        bundle,
        cmdline: cmdline(config),
        disks: config.disks.clone(),
        hotplug: config.control.is_some(),
        iommu: config.iommu,
        nets: config.nets.clone(),
        cpuid: config.cpuid.0.clone(),
        traces: config.traces.clone(),
        record: config.record.clone(),
        strict: config.strict.map(|strict| strict.0),
        faults: config.faults.clone(),
        gdb: config.gdb.clone(),
        dump: config.dump.clone(),
        sandbox: config.sandbox.then(|| Sandbox { opens_files: opens_files(config) }),
    })
}

/// Whether the machine's host side names files after its set-up.
fn opens_files(config: &RunConfig) -> bool {
    // Without a command a guest may reboot, and is set up again.
    let reboots = config.exec.is_none();
    // A qcow2 image opens its parts as they are needed.
    let qcow2 = config.disks.iter().any(|disk| disk.format() == DiskFormat::Qcow2);
    let named = [&config.control, &config.dump, &config.record, &config.stats];
    reboots || qcow2 || !config.traces.is_empty() || named.into_iter().any(Option::is_some)
}

fn cmdline(config: &RunConfig) -> String {
    let mut words = vec![config.cmdline.trim()];
    if config.exec.is_some() {
        words.push(CMDLINE_MODE_EXEC);
    }
    if config.verbose > 1 {
        words.push("klog=debugcon");
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// The sentence for a run that was ended before the guest ended it.
pub fn stop_sentence(reason: &StopReason) -> Option<String> {
    match reason {
        StopReason::TimedOut(after) => Some(format!("time-out after {}", readable(*after))),
        StopReason::Failed(sentence) => Some(sentence.clone()),
        StopReason::Signal(_) | StopReason::Left | StopReason::OutputClosed => None,
    }
}

fn readable(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}
