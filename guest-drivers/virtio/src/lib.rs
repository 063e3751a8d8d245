//! The driver side of virtio 1.x over PCI: finding the device's structures ([`discovery`]), the
//! life of a device from reset to DRIVER_OK ([`transport`]) and split virtqueues ([`queue`]).
//!
//! Nothing the device says is believed unchecked: structures must lie in their BARs, used ring
//! entries must name chains that are in flight, and every wait has a limit. A device that breaks a
//! rule is reported as a [`DeviceError`]; the driver above resets it.
//!
//! Not here: the legacy interface, packed rings, more than one vector per device.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod discovery;
pub mod queue;
pub mod transport;

pub use queue::Queue;
pub use transport::Transport;

/// How a device fails its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// A structure is missing, too short, or outside its BAR (VIRTIO 4.1.4).
    Layout(&'static str),
    /// The status did not read 0 in time after a reset (2.1).
    ResetTimedOut,
    /// It offers no VERSION_1 (6.1).
    Legacy,
    /// It took back FEATURES_OK (3.1.1).
    FeaturesRefused,
    /// The queue does not exist, is too small, or did not take its vector.
    Queue(u16),
    /// Configuration that kept changing, or makes no sense.
    Config(&'static str),
    /// The used index is further ahead than requests are in flight (2.7.8).
    UsedIndex { seen: u16, used: u16 },
    /// A used entry names no chain in flight.
    UsedId(u32),
    /// More bytes written than the chain's writable part holds.
    UsedLength { length: u32, writable: u32 },
    /// A request came back with a status that does not exist.
    Answer(u8),
    /// The device set NEEDS_RESET.
    NeedsReset,
    /// A request was not completed in time.
    TimedOut,
}

impl core::fmt::Display for DeviceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Layout(what) => write!(f, "bad {what} structure"),
            Self::ResetTimedOut => write!(f, "reset timed out"),
            Self::Legacy => write!(f, "no virtio 1.0 device"),
            Self::FeaturesRefused => write!(f, "features refused"),
            Self::Queue(queue) => write!(f, "queue {queue} unusable"),
            Self::Config(what) => write!(f, "bad configuration: {what}"),
            Self::UsedIndex { seen, used } => write!(f, "used index jumped from {seen} to {used}"),
            Self::UsedId(id) => write!(f, "used entry for chain {id}, which is not in flight"),
            Self::UsedLength { length, writable } => {
                write!(f, "used entry of {length} bytes where {writable} fit")
            }
            Self::Answer(status) => write!(f, "request answered with status {status:#x}"),
            Self::NeedsReset => write!(f, "device needs reset"),
            Self::TimedOut => write!(f, "request timed out"),
        }
    }
}

impl core::error::Error for DeviceError {}

/// What can go wrong while a device is brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    Device(DeviceError),
    /// The system refused: memory, BAR, capability.
    System(xinim_abi::error::Error),
}

impl From<DeviceError> for StartError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<xinim_abi::error::Error> for StartError {
    fn from(error: xinim_abi::error::Error) -> Self {
        Self::System(error)
    }
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}
