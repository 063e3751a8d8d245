//! The loop: the two sockets, and the time of delayed requests.

use crate::args::Setup;
use crate::connection::Connection;
use crate::machine::Machine;
use crate::{Error, protocol, qmp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use std::time::Instant;

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
    loop {
        let readable = wait(&qtest, &monitors, machine.next_time())?;
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

/// Which of qtest and monitors can be read, after waiting for one or for the time.
fn wait(
    qtest: &Connection,
    monitors: &[Connection],
    until: Option<Instant>,
) -> Result<Vec<bool>, Error> {
    let streams = std::iter::once(qtest).chain(monitors);
    let mut polled: Vec<_> =
        streams.map(|connection| PollFd::new(connection.stream(), PollFlags::IN)).collect();
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let timeout = left.map(|left| Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(Error::host("waiting for the sockets")(error.into())),
    }
    Ok(polled.iter().map(|polled| !polled.revents().is_empty()).collect())
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
