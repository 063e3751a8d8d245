//! Networks: the socket that a test has inherited to the server, with frames behind their lengths as
//! in `--net passt` of the VMM ([`Stream`]), or a cable to nowhere.

use crate::Error;
use crate::args::NetArgs;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use xinim_devices::bus::lock;
use xinim_devices::net::{Frame, NetBackend, Sent};
use xinim_hostnet::stream::Stream;

/// A network, in the hands of a card and of the server.
#[derive(Clone)]
pub struct Net {
    /// `None`: nowhere.
    stream: Option<Arc<Mutex<Stream>>>,
    /// To be watched, as long as the network is there.
    pub watch: Option<Arc<OwnedFd>>,
    /// Frames that are shorter are filled up.
    pub shortest: usize,
}

impl Net {
    pub fn nowhere() -> Self {
        Self { stream: None, watch: None, shortest: 0 }
    }

    pub fn open(args: &NetArgs) -> Result<Self, Error> {
        let Some(number) = args.fd else {
            return Ok(Self::nowhere());
        };
        let failed = || Error::host(format!("using descriptor {number} of -netdev {}", args.id));
        // A copy of our own descriptor, through the kernel: the number alone owns nothing.
        let copy = || -> std::io::Result<OwnedFd> {
            let own = pidfd_open(getpid(), PidfdFlags::empty())?;
            Ok(pidfd_getfd(own, number, PidfdGetfdFlags::empty())?)
        };
        let socket = UnixStream::from(copy().map_err(failed())?);
        let watch = OwnedFd::from(socket.try_clone().map_err(failed())?);
        let stream = Stream::new(socket).map_err(failed())?;
        let stream = Some(Arc::new(Mutex::new(stream)));
        Ok(Self { stream, watch: Some(Arc::new(watch)), shortest: 0 })
    }
}

impl NetBackend for Net {
    fn send(&mut self, frame: &Frame) -> Sent {
        self.stream.as_ref().map_or(Sent::Done, |stream| lock(stream).send(frame))
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        let Some(stream) = &self.stream else { return false };
        let received = lock(stream).receive(frame);
        if received && frame.data.len() < self.shortest {
            frame.data.resize(self.shortest, 0);
        }
        received
    }
}
