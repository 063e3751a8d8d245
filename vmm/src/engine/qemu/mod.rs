//! The QEMU engine: the same machine, run by `qemu-system-x86_64`.
//!
//! QEMU is a child process. Kernel and bundle reach it as files in memory, COM1, debug console,
//! host link and monitor as sockets it inherits. How the machine ended:
//!
//! | seen | means |
//! |---|---|
//! | exit status `(value << 1) \| 1` | the guest wrote `value` to the exit device |
//! | `SHUTDOWN` event, reason `guest-shutdown` | power-off through ACPI |
//! | `SHUTDOWN`, `guest-reset`, "Triple fault" in the log | triple fault (TCG only) |
//! | `SHUTDOWN`, `guest-reset` | the guest asked for a reset |
//! | `STOP` event, status `internal-error` | KVM gave up on an instruction |
//!
//! Under `--qemu-accel kvm` QEMU does not log triple faults, and one looks like a reset.

pub mod args;
mod control;
mod death;
mod disks;
pub mod locate;
pub mod net;
pub mod process;
mod qmp;
mod streams;

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use xinim_abi::platform::{EXIT_PANIC, EXIT_POWEROFF, EXIT_REBOOT};
use xinim_machine::{
    Death, End, Engine, EngineError, HostIo, MachineControl, MachineSpec, NetStatus, Outcome,
    RunStats,
};

use crate::spec::QemuOptions;
use args::{Outside, socket_chardev};
use control::QemuControl;
use process::{Inherited, Process};
use qmp::{Message, Qmp};
use streams::Bridge;

/// For questions about a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(2);
/// A core dump of all memory takes its time.
const DUMP_PATIENCE: Duration = Duration::from_secs(60);

/// The engine; one value runs any number of machines.
#[derive(Clone, Debug)]
pub struct QemuEngine {
    pub program: PathBuf,
    pub options: QemuOptions,
}

/// How a machine ended, as far as the monitor knows.
enum Seen {
    /// QEMU ended without a word: its exit status tells.
    Exited,
    End(End),
    /// We were told to stop; where the CPUs were.
    Stopped(Option<String>),
}

fn host(context: &str) -> impl FnOnce(io::Error) -> EngineError {
    move |source| EngineError::Host { context: context.to_owned(), source }
}

impl Engine for QemuEngine {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn run(&self, spec: &MachineSpec, io: HostIo) -> Result<Outcome, EngineError> {
        // Held to the end: no second machine writes these images.
        let _locks = disks::lock(&spec.disks)?;
        let mut inherited = Inherited::default();
        let kernel = inherited.add_bytes("xinim-kernel", &spec.kernel);
        let kernel = kernel.map_err(host("cannot hand QEMU the kernel"))?;
        let bundle = spec.bundle.as_ref().map(|bundle| inherited.add_bytes("xinim.cpio", bundle));
        let bundle = bundle.transpose().map_err(host("cannot hand QEMU the bundle"))?;
        let (log, log_path) = death::Log::open(spec, &mut inherited)?;

        let sockets = host("cannot make a socket for QEMU");
        let (com1, com1_fd) = Bridge::start(io.console_in, io.console_out).map_err(sockets)?;
        let sockets = host("cannot make a socket for QEMU");
        let (debug, debug_fd) = Bridge::start(None, io.debug_out).map_err(sockets)?;
        let sockets = host("cannot make a socket for QEMU");
        let (monitor, monitor_fd) = UnixStream::pair().map_err(sockets)?;
        let sockets = host("cannot make a socket for QEMU");
        let (second, second_fd) = UnixStream::pair().map_err(sockets)?;
        let mut networks = Vec::new();
        let mut netdevs = Vec::new();
        for (index, net) in spec.nets.iter().enumerate() {
            if self.options.own_net {
                if net.pcap.is_some() || !net.shape.is_plain() {
                    let why = "QEMU's own back ends make no captures and follow no rules";
                    return Err(EngineError::Machine(why.into()));
                }
                netdevs.push(net::own_netdev(index, net));
                continue;
            }
            let (network, fd) = net::Bridge::start(net)?;
            networks.push(network);
            netdevs.push(net::stream_netdev(index, inherited.add(fd)));
        }
        let outside = Outside {
            netdevs,
            options: self.options,
            kernel,
            bundle,
            com1: socket_chardev("com1", inherited.add(com1_fd)),
            debug: socket_chardev("debug", inherited.add(debug_fd)),
            link: io.host_link.map(|link| socket_chardev("link", inherited.add(link))),
            qmp: Some(socket_chardev("qmp", inherited.add(monitor_fd))),
            control: Some(socket_chardev("control", inherited.add(second_fd))),
            log: Some(log_path),
        };
        let arguments = args::arguments(spec, &outside);

        // One byte through this pipe, or its end, is the request to stop.
        let (stop, stop_writer) = io::pipe().map_err(host("cannot make a pipe"))?;
        io.stop.on_stop(move || {
            let _ = io::Write::write(&mut &stop_writer, b"s");
        });

        let mut process = Process::start(&self.program, &arguments, inherited)
            .map_err(|e| EngineError::Unavailable(format!("QEMU does not start: {e}")))?;
        let mut qmp = Qmp::new(monitor).map_err(host("cannot talk to QEMU"))?;
        let control = QemuControl::new(second, &spec.disks, &spec.nets)
            .map_err(host("cannot talk to QEMU"))?;
        for net in NetStatus::all(&spec.nets).iter().filter(|net| !net.link) {
            control.set_link(&net.name, false).map_err(EngineError::Machine)?;
        }
        let registered = io.control.register(Arc::new(control));
        let seen = watch(&mut qmp, &stop, &log);
        drop(registered);
        let seen = match &spec.dump {
            Some(path) => with_dump(seen, &mut qmp, path, io.stop.is_timed_out()),
            None => seen,
        };
        match seen {
            Seen::Exited => {}
            // It ends by itself when asked, flushing what it has; stopping is not asking.
            Seen::End(_) => qmp.quit(),
            Seen::Stopped(_) => drop(process.child.kill()),
        }
        let (status, stderr) = process.finish().map_err(host("waiting for QEMU"))?;
        com1.finish();
        debug.finish();
        networks.into_iter().for_each(net::Bridge::finish);

        let mut stats = RunStats::default();
        let end = match seen {
            Seen::Exited => end_of_status(status, &stderr)?,
            Seen::End(End::Died(death)) => End::Died(death::with_stderr(death, &stderr)),
            Seen::End(end) => end,
            Seen::Stopped(place) => {
                stats.stopped_at = place;
                End::Stopped
            }
        };
        Ok(Outcome { end, stats })
    }
}

/// Writes the core of a guest that died or ran out of time, and says so in the report.
fn with_dump(seen: Seen, qmp: &mut Qmp, path: &std::path::Path, timed_out: bool) -> Seen {
    let mut dump = || {
        let protocol = format!("file:{}", path.to_string_lossy());
        let arguments = serde_json::json!({ "paging": false, "protocol": protocol });
        match qmp.execute("dump-guest-memory", arguments, DUMP_PATIENCE) {
            Some(_) => format!("core dump in {}\n", path.display()),
            None => format!("QEMU could not write the core dump {}\n", path.display()),
        }
    };
    match seen {
        Seen::End(End::Died(mut death)) => {
            death.report.push_str(&dump());
            Seen::End(End::Died(death))
        }
        Seen::Stopped(place) if timed_out => {
            Seen::Stopped(Some(place.unwrap_or_default() + &dump()))
        }
        seen => seen,
    }
}

/// Listens to the monitor until the machine has ended or is to be stopped.
fn watch(qmp: &mut Qmp, stop: &PipeReader, log: &death::Log) -> Seen {
    loop {
        match qmp.event(Duration::ZERO) {
            Message::Closed => return Seen::Exited,
            Message::Event(name, data) => {
                if let Some(end) = death::end_of_event(qmp, log, &name, &data) {
                    return Seen::End(end);
                }
            }
            Message::Nothing => {
                let mut ready = [
                    PollFd::from_borrowed_fd(qmp.stream().as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
                ];
                match rustix::event::poll(&mut ready, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return Seen::Stopped(None),
                }
                if !ready[1].revents().is_empty() {
                    let _ = (&mut &*stop).read(&mut [0]);
                    return Seen::Stopped(death::place(qmp));
                }
            }
        }
    }
}

/// What the exit status of a QEMU that ended by itself means.
fn end_of_status(status: std::process::ExitStatus, stderr: &str) -> Result<End, EngineError> {
    let said =
        stderr.lines().next().unwrap_or("nothing").trim_start_matches("qemu-system-x86_64: ");
    match status.code() {
        Some(0) => Ok(End::PowerOff),
        // Also what writing 0 to the exit device would give, but QEMU speaks when it fails.
        Some(1) if !stderr.is_empty() => {
            Err(EngineError::Machine(format!("QEMU refuses this machine: {said}")))
        }
        Some(code) if code % 2 == 1 => Ok(match (code as u32) >> 1 {
            EXIT_POWEROFF => End::PowerOff,
            EXIT_REBOOT => End::Reboot,
            EXIT_PANIC => End::Died(Death {
                reason: "guest kernel panic".into(),
                report:
                    "(this kernel ends QEMU at once: its own report is all there is, and there \
                         is no core dump)\n"
                        .into(),
            }),
            value => End::ExitDevice(value),
        }),
        Some(code) => Err(EngineError::Machine(format!("QEMU failed with status {code}: {said}"))),
        None => {
            let signal = status.signal().unwrap_or(0);
            Err(EngineError::Machine(format!("QEMU was killed by signal {signal}: {said}")))
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
