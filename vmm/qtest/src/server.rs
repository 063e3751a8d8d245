//! The loop: the two sockets, and the time of delayed requests.

use crate::args::Setup;
use crate::connection::Connection;
use crate::machine::Machine;
use crate::{Error, protocol, qmp};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use serde_json::json;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Serves until the test has gone. SIGTERM ends the process with status 0, as it does QEMU.
pub fn serve(args: &[String]) -> Result<(), Error> {
    let setup = Setup::parse(args)?;
    end_at_sigterm()?;
    let mut machine = Machine::new(&setup)?;
    let mut qtest = Connection::open(&setup.qtest)?;
    let monitors: Result<Vec<_>, _> =
        setup.monitors.iter().map(|path| Connection::open(path)).collect();
    let mut monitors = monitors?;
    for monitor in &mut monitors {
        monitor.send(&qmp::greeting());
    }
    let networks = watch(&machine)?;
    loop {
        let next = [machine.next_time(), machine.next_announcement()].into_iter().flatten().min();
        let (readable, network) = wait(&qtest, &monitors, &networks, next)?;
        if network {
            machine.serve_cards();
        }
        machine.run_announcements();
        if readable[0] && !qtest.fill() {
            return Ok(());
        }
        while let Some(line) = qtest.line() {
            let mut answer = String::new();
            let reply = protocol::command(&mut machine, &line);
            report(&mut machine, &mut monitors);
            for (number, level) in machine.line_changes() {
                let what = if level { "raise" } else { "lower" };
                answer.push_str(&format!("IRQ {what} {number}\n"));
            }
            answer.push_str(&reply);
            answer.push('\n');
            if !qtest.send(&answer) {
                return Ok(());
            }
        }
        for (index, ready) in readable.iter().skip(1).enumerate() {
            if *ready && !monitor(&mut machine, &mut monitors, index) {
                return Ok(());
            }
        }
        report(&mut machine, &mut monitors);
    }
}

fn end_at_sigterm() -> Result<(), Error> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])
        .map_err(Error::host("watching for signals"))?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(0);
        }
    });
    Ok(())
}

/// Something that is readable when a network has news; on edges, as a card may leave them alone.
fn watch(machine: &Machine) -> Result<OwnedFd, Error> {
    let failed = || Error::host("watching the networks");
    let all = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| failed()(e.into()))?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    for network in machine.networks() {
        let data = epoll::EventData::new_u64(0);
        epoll::add(&all, &network, data, flags).map_err(|e| failed()(e.into()))?;
    }
    Ok(all)
}

/// Which of qtest and monitors can be read, and whether a network has news, after waiting for one of
/// them or for the time.
fn wait(
    qtest: &Connection,
    monitors: &[Connection],
    networks: &OwnedFd,
    until: Option<Instant>,
) -> Result<(Vec<bool>, bool), Error> {
    let streams = std::iter::once(qtest).chain(monitors);
    let watched = streams.map(|connection| connection.stream().as_fd());
    let watched = watched.chain(std::iter::once(networks.as_fd()));
    let mut polled: Vec<_> =
        watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let timeout = left.map(|left| Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(Error::host("waiting for the sockets")(error.into())),
    }
    let mut ready: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
    let network = ready.pop() == Some(true);
    if network {
        // Edges that were told are told no more.
        let mut events = Vec::with_capacity(16);
        let _ = epoll::wait(networks, rustix::buffer::spare_capacity(&mut events), Some(&NOW));
    }
    Ok((ready, network))
}

/// Lets disks go on, and tells what has happened by itself.
fn report(machine: &mut Machine, monitors: &mut [Connection]) {
    let mut text = String::new();
    if machine.run_disks() {
        text.push_str(&qmp::event("STOP", json!({})));
    }
    for (id, open) in machine.moved_trays() {
        text.push_str(&qmp::tray_moved(&id, open));
    }
    for id in machine.ejected() {
        text.push_str(&qmp::deleted(&id));
    }
    if !text.is_empty() {
        for monitor in monitors {
            monitor.send(&text);
        }
    }
}

/// Serves one monitor; `false`: the server is to end.
fn monitor(machine: &mut Machine, monitors: &mut [Connection], index: usize) -> bool {
    let connection = &mut monitors[index];
    if !connection.fill() {
        return false;
    }
    loop {
        let object = match qmp::next_object(&mut connection.pending) {
            Ok(Some(object)) => object,
            Ok(None) => return true,
            Err(error) => {
                let error = json!({ "error": { "class": "GenericError", "desc": error } });
                return connection.send(&format!("{error}\r\n"));
            }
        };
        let answer = qmp::command(machine, &object);
        if !connection.send(&answer.text) || answer.quit {
            return false;
        }
    }
}
