//! Hardware definitions shared by device models and drivers: registers as data, descriptors as
//! typed structs, each with the section of its specification.
//!
//! A table of [`register::Register`] is the one description of a device: the model takes its
//! reset values and masks from it, the trace its names and fields, the conformance tests their
//! expectations. The constants beside a table are the same offsets under a Rust name, for
//! `match` arms and drivers; tests keep the two in step.

pub mod ahci;
pub mod ata;
pub mod atapi;
pub mod chipset;
pub mod e1000;
pub mod pci;
pub mod register;
pub mod rtc;
pub mod sata;
pub mod uart16550;
pub mod virtio;
pub mod virtio_blk;
pub mod virtio_console;
pub mod virtio_iommu;
pub mod virtio_net;
