//! What is behind a machine's network devices on the host.
//!
//! | `--net` | module | |
//! |---|---|---|
//! | `user` | [`user`] | own network behind a gateway; ordinary sockets on the host, no rights needed |
//! | `tap=NAME` | [`tap`] | a TAP device, with offloads |
//! | `passt=SOCKET` | [`stream`] | frames with their length on a unix stream socket |
//! | `hub=NAME` | [`hub`] | the machines on this host that name the same hub |
//! | `none` | | nothing |
//!
//! [`open`] makes a back end of a [`NetSpec`], with [`pcap`] and [`shape`] around it where asked for.
//! Each [`Endpoint`] has one descriptor to wait on; nothing blocks, no thread is started.

pub mod fuzz;
pub mod hub;
pub mod pcap;
mod reactor;
pub mod shape;
pub mod stream;
pub mod tap;
pub mod user;

use std::os::fd::BorrowedFd;

use xinim_devices::net::{NetBackend, NoNet};
use xinim_machine::net::{self as machine, NetSpec};

/// A back end with a descriptor.
pub trait Endpoint: NetBackend {
    /// To be watched edge-triggered for input and output: on each edge the device is told
    /// `input_ready` and `output_ready`. `None`: nothing ever happens.
    fn watch(&self) -> Option<BorrowedFd<'_>>;
}

impl Endpoint for NoNet {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl<T: Endpoint + ?Sized> Endpoint for Box<T> {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        (**self).watch()
    }
}

/// Opens what `spec` says. The error is a sentence for the user.
pub fn open(spec: &NetSpec) -> Result<Box<dyn Endpoint>, String> {
    let mut endpoint: Box<dyn Endpoint> = match &spec.backend {
        machine::NetBackend::None => Box::new(NoNet),
        machine::NetBackend::User(options) => Box::new(user::Gateway::open(options, spec.mac)?),
        machine::NetBackend::Tap(name) => Box::new(tap::Tap::open(name)?),
        machine::NetBackend::Passt(path) => Box::new(stream::Stream::connect(path)?),
        machine::NetBackend::Hub(name) => Box::new(hub::Hub::join(name)?),
    };
    if !spec.shape.is_plain() {
        endpoint = Box::new(shape::Shaper::new(endpoint, spec.shape)?);
    }
    // Outside: what the guest sends and gets.
    if let Some(path) = &spec.pcap {
        endpoint = Box::new(pcap::Capture::create(endpoint, path)?);
    }
    Ok(endpoint)
}
