//! virtio-console (VIRTIO 1.2 section 5.3), port 0 only: a byte stream each way.

use super::register::Register;

/// Device to driver (5.3.2).
pub const RX_QUEUE: u16 = 0;
/// Driver to device (5.3.2).
pub const TX_QUEUE: u16 = 1;

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
