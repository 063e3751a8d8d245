//! virtio-console (VIRTIO 1.2 section 5.3): a byte stream each way, per port. Our model has port 0
//! only; with MULTIPORT a device has more, and control queues to open them.

use super::register::Register;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Device to driver (5.3.2).
pub const RX_QUEUE: u16 = 0;
/// Driver to device (5.3.2).
pub const TX_QUEUE: u16 = 1;

/// Control messages, device to driver and back, with MULTIPORT (5.3.2).
pub const CONTROL_RX_QUEUE: u16 = 2;
pub const CONTROL_TX_QUEUE: u16 = 3;

/// Receive queue of `port`; its transmit queue is the next (5.3.2).
pub const fn port_rx_queue(port: u16) -> u16 {
    if port == 0 { RX_QUEUE } else { 2 + 2 * port }
}

/// A control message; a name follows [`event::PORT_NAME`] (5.3.6.2).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Control {
    /// Port number.
    pub id: u32,
    /// See [`event`].
    pub event: u16,
    pub value: u16,
}

const _: () = assert!(size_of::<Control>() == 8);

/// Kinds of control messages (5.3.6.2).
pub mod event {
    /// Driver: initialised (value 1).
    pub const DEVICE_READY: u16 = 0;
    /// Device: there is such a port.
    pub const PORT_ADD: u16 = 1;
    pub const PORT_REMOVE: u16 = 2;
    /// Driver: the port can be used (value 1).
    pub const PORT_READY: u16 = 3;
    /// Device: the port is a console.
    pub const CONSOLE_PORT: u16 = 4;
    pub const RESIZE: u16 = 5;
    /// Both: this side opened (1) or closed (0) the port.
    pub const PORT_OPEN: u16 = 6;
    pub const PORT_NAME: u16 = 7;
}

/// Feature bits (5.3.3).
pub mod feature {
    /// `cols` and `rows` are valid.
    pub const SIZE: u64 = 1 << 0;
    /// More ports, and control queues; not offered by our model.
    pub const MULTIPORT: u64 = 1 << 1;
    /// `emerg_wr` works.
    pub const EMERG_WRITE: u64 = 1 << 2;
}

/// Offsets in the device configuration (5.3.4).
pub mod config {
    pub const COLS: usize = 0;
    pub const ROWS: usize = 2;
    pub const MAX_NR_PORTS: usize = 4;
    pub const EMERG_WR: usize = 8;
    pub const SIZE: usize = 12;
}

/// Device configuration (5.3.4). `emerg_wr` takes writes only where EMERG_WRITE is offered.
pub const CONFIG: &[Register] = &[
    Register::ro(0, "cols", 2, "VIRTIO 5.3.4"),
    Register::ro(2, "rows", 2, "VIRTIO 5.3.4"),
    Register::ro(4, "max_nr_ports", 4, "VIRTIO 5.3.4"),
    Register::wo(8, "emerg_wr", 4, "VIRTIO 5.3.4"),
];
