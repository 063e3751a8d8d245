//! The machine's side of the control socket.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use xinim_machine::Controller;

use super::protocol::{LINE_MAX, line, parse, perform};
use crate::console::listen;
use crate::control::{Control, StopReason};
use crate::error::Error;

/// Connections at a time.
const CLIENTS_MAX: usize = 8;
/// A client that does not take its answer within this time is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves the socket until it is dropped, which also removes it.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    ended: Arc<AtomicBool>,
}

struct Machine {
    engine: String,
    controller: Controller,
    control: Control,
    clients: AtomicUsize,
}

impl Server {
    pub fn start(
        path: &Path,
        engine: &str,
        controller: Controller,
        control: Control,
    ) -> Result<Self, Error> {
        let failed = |error| Error::file("listen on the control socket", path, error);
        let listener = listen(path).map_err(failed)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        let clients = AtomicUsize::new(0);
        let machine = Arc::new(Machine { engine: engine.into(), controller, control, clients });
        let ended = Arc::new(AtomicBool::new(false));
        let server = Self { path: path.to_owned(), ended: ended.clone() };
        thread::spawn(move || accept(&listener, &machine, &ended));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, machine: &Arc<Machine>, ended: &AtomicBool) {
    for client in listener.incoming() {
        if ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else {
            // Out of descriptors, most likely: not at full speed.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        if !is_owner(&client) || machine.clients.load(Ordering::SeqCst) >= CLIENTS_MAX {
            continue;
        }
        machine.clients.fetch_add(1, Ordering::SeqCst);
        let machine = machine.clone();
        thread::spawn(move || {
            // A client that is gone is no matter of the machine's.
            let _ = serve(&client, &machine);
            machine.clients.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Whether the other side is the user we run as, or root.
fn is_owner(client: &UnixStream) -> bool {
    match rustix::net::sockopt::socket_peercred(client) {
        Ok(peer) => peer.uid.is_root() || peer.uid == rustix::process::geteuid(),
        Err(_) => false,
    }
}

fn serve(mut client: &UnixStream, machine: &Machine) -> io::Result<()> {
    client.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client);
    loop {
        let mut request = Vec::new();
        let mut limited = (&mut reader).take(LINE_MAX as u64);
        match limited.read_until(b'\n', &mut request) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let whole = request.ends_with(b"\n");
        let mut quit = false;
        let answer = match whole {
            false if request.len() >= LINE_MAX => Err("the request is longer than 64 KiB".into()),
            _ => parse(&request).and_then(|request| {
                perform(request, &machine.engine, &machine.controller, || quit = true)
            }),
        };
        client.write_all(line(&answer).as_bytes())?;
        if quit {
            machine.control.stop(StopReason::Left);
        }
        if !whole {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
