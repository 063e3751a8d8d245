//! Network devices as QEMU's.
//!
//! | ours | QEMU's |
//! |---|---|
//! | `model=virtio` | `virtio-net-pci`, modern only, multi-queue where the back end has queues |
//! | `model=e1000`, `e1000-82545em`, `e1000e` | `e1000`, `e1000-82545em`, `e1000e` |
//! | back ends | `-netdev stream` on a socket whose other end is here, with our back end behind it |
//! | `none` | a `hubport` of its own |
//!
//! So a network is the same with every engine: gateway, rules, captures and faults are ours. In a
//! line to be pasted (`--dry-run`) QEMU's own `user`, `tap` and `stream` stand for them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use xinim_devices::net::{Frame, NetBackend as _, Offloads, Port, Sent};
use xinim_hostnet::stream::Stream;
use xinim_hostnet::{Endpoint, open};
use xinim_machine::EngineError;
use xinim_machine::net::{NetBackend, NetModel, NetSpec, Publish};

/// `-netdev` value of device `index` on an inherited, connected socket.
pub fn stream_netdev(index: usize, fd: i32) -> String {
    format!("stream,id=net{index},server=off,addr.type=fd,addr.str={fd}")
}

/// `-netdev` value that comes next to ours, without us.
pub fn own_netdev(index: usize, spec: &NetSpec) -> String {
    let escape = |text: &str| text.replace(',', ",,");
    match &spec.backend {
        NetBackend::User(user) => {
            let mut text = format!("user,id=net{index}");
            if user.restrict {
                text.push_str(",restrict=on");
            }
            for Publish { udp, host, guest } in &user.publish {
                let protocol = if *udp { "udp" } else { "tcp" };
                let (ip, port) = (host.ip(), host.port());
                text.push_str(&format!(",hostfwd={protocol}:{ip}:{port}-:{guest}"));
            }
            text
        }
        NetBackend::Tap(name) => {
            format!("tap,id=net{index},ifname={},script=no,downscript=no", escape(name))
        }
        NetBackend::Passt(path) => {
            let path = escape(&path.to_string_lossy());
            format!("stream,id=net{index},server=off,addr.type=unix,addr.path={path}")
        }
        // Machines of ours meet in a hub; QEMU alone has nothing like it.
        NetBackend::Hub(_) | NetBackend::None => format!("hubport,id=net{index},hubid={index}"),
    }
}

/// `-device` value. `virtio`: further options of a virtio function.
pub fn device(index: usize, spec: &NetSpec, virtio: &str) -> String {
    let [a, b, c, d, e, f] = spec.mac;
    let model = match spec.model {
        NetModel::Virtio => "virtio-net-pci,disable-legacy=on",
        NetModel::E1000 => "e1000",
        NetModel::E1000_82545em => "e1000-82545em",
        NetModel::E1000e => "e1000e",
    };
    let virtio = if spec.model == NetModel::Virtio { virtio } else { "" };
    format!(
        "{model}{virtio},netdev=net{index},id=nic{index},mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"
    )
}

/// A back end of ours behind a socket for QEMU.
pub struct Bridge {
    thread: JoinHandle<()>,
}

impl Bridge {
    /// Opens the back end; returns QEMU's end of the socket.
    pub fn start(spec: &NetSpec) -> Result<(Self, OwnedFd), EngineError> {
        let endpoint = open(spec).map_err(EngineError::Machine)?;
        let sockets =
            |source| EngineError::Host { context: "cannot make a socket for QEMU".into(), source };
        let (ours, theirs) = UnixStream::pair().map_err(sockets)?;
        let stream = Stream::new(ours).map_err(sockets)?;
        let descriptor = endpoint.watch().map(|fd| fd.try_clone_to_owned());
        let descriptor = descriptor.transpose().map_err(sockets)?;
        let thread = std::thread::spawn(move || carry(endpoint, descriptor, stream));
        Ok((Self { thread }, theirs.into()))
    }

    /// QEMU has ended: what it sent is carried to its end.
    pub fn finish(self) {
        // It ends with QEMU's end of the socket; a panic there has been printed.
        let _ = self.thread.join();
    }
}

/// Carries frames until QEMU is gone.
fn carry(endpoint: Box<dyn Endpoint>, descriptor: Option<OwnedFd>, mut qemu: Stream) {
    let mut net = Port::new(endpoint);
    net.accept(Offloads::empty());
    let mut held: Option<Frame> = None;
    while qemu.watch().is_some() {
        let mut moved = false;
        let open = net.ready();
        let mut frame = Frame::default();
        if open && qemu.receive(&mut frame) {
            moved = true;
            net.send(std::mem::take(&mut frame));
        }
        if let Some(frame) = held.take().or_else(|| net.receive()) {
            if qemu.send(&frame) == Sent::Later {
                held = Some(frame);
            } else {
                moved = true;
            }
        }
        if !moved && wait(&qemu, descriptor.as_ref(), held.is_some(), open).is_err() {
            return;
        }
    }
}

/// Waits until something can be carried.
fn wait(qemu: &Stream, net: Option<&OwnedFd>, held: bool, open: bool) -> io::Result<()> {
    let Some(socket) = qemu.watch() else { return Ok(()) };
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, open);
    flags.set(PollFlags::OUT, held);
    let mut fds = vec![PollFd::from_borrowed_fd(socket, flags)];
    if let Some(net) = net {
        let wanted = if open { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        fds.push(PollFd::from_borrowed_fd(net.as_fd(), wanted));
    }
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
