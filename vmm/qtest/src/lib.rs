//! `xinim-vmm qtest`: the machine's devices without a guest, driven over QEMU's qtest protocol, so
//! that tests written for QEMU's devices judge ours.
//!
//! ```text
//!   test program --- qtest socket: outl, readq, b64write, ... ---> protocol.rs --> Bus --> devices
//!                \-- QMP socket: greeting, cont, events ---------> qmp.rs
//!                                                     disk.rs: image files, faults, delays
//!             \-- sockets it inherits: frames ----------> net.rs
//! ```
//! It is started with the arguments that QEMU is started with by such tests ([`args`]) and ends
//! when the qtest socket closes, by `quit`, or by SIGTERM. One thread does everything; nothing
//! waits but the poll for the two sockets and for delayed disk requests.
//!
//! Interrupt lines are reported where the test asks for it; messages (MSI, MSI-X) are what they are
//! on the bus, writes to memory, where a test finds them.
#![forbid(unsafe_code)]

pub mod args;
mod connection;
mod disk;
mod fw_cfg;
mod machine;
mod net;
mod protocol;
mod qmp;
mod server;

pub use server::serve;

/// Why the server cannot start or go on. The text is a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arguments that QEMU takes and this server does not, or that contradict each other.
    #[error("{0}")]
    Arguments(String),
    #[error("{context}: {source}")]
    Host { context: String, source: std::io::Error },
}

impl Error {
    fn host(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let context = context.into();
        |source| Self::Host { context, source }
    }
}
