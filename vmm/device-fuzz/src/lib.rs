//! Harness bodies for fuzzing: a machine that does whatever `data` says, with everything listening
//! that a machine has: the strict checker, a trace, a recording ([`stage`]).
//!
//! They are ordinary functions so that the coverage-guided targets (`vmm/fuzz`) and the bounded
//! seeded tests run the same code. A harness panics only where a device breaks an invariant, a
//! listener does, or a device does not do the same again from its recording. Such a finding is
//! written down as a recording ([`findings`]).
#![forbid(unsafe_code)]

mod ahci;
mod blk;
mod bus;
pub mod findings;
mod input;
mod iommu;
mod net;
pub mod stage;

use findings::{Harness, run};

/// Guest memory of the harness; small, so that random addresses hit it.
const MEMORY: usize = 64 << 10;
/// Steps taken from one input at most.
const STEPS: usize = 512;
const DISK: usize = 64 << 10;

/// Every harness with a name.
pub const HARNESSES: [(&str, Harness); 6] = [
    ("virtio-blk", blk::virtio_blk),
    ("ahci", ahci::ahci),
    ("e1000", net::e1000),
    ("virtio-net", net::virtio_net),
    ("iommu", iommu::iommu),
    ("bus", bus::pci_config),
];

/// A hostile driver in front of the virtio-blk model.
pub fn virtio_blk(data: &[u8]) {
    run("virtio-blk", blk::virtio_blk, data);
}

/// A hostile driver and an unruly host around the AHCI model.
pub fn ahci(data: &[u8]) {
    run("ahci", ahci::ahci, data);
}

/// A hostile driver and a hostile network around the E1000 models.
pub fn e1000(data: &[u8]) {
    run("e1000", net::e1000, data);
}

/// A hostile driver and a hostile network around the virtio-net model.
pub fn virtio_net(data: &[u8]) {
    run("virtio-net", net::virtio_net, data);
}

/// A hostile driver in front of the virtio-iommu model, and devices behind it.
pub fn iommu(data: &[u8]) {
    run("iommu", iommu::iommu, data);
}

/// Random accesses to a whole machine.
pub fn pci_config(data: &[u8]) {
    run("bus", bus::pci_config, data);
}

/// Offload headers of any content; no device, so nothing is recorded.
pub fn offloads(data: &[u8]) {
    net::offloads(data);
}

#[cfg(test)]
mod tests;
