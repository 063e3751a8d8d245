//! Service interfaces, one file each, and who may call whom.
//!
//! ```text
//! programs -> pm -> vfs -> file systems (ramfs, devfs, procfs, fs-fat) -> block drivers -> pci
//!            vfs and programs -> net -> network drivers -> pci
//!                      programs and vfs -> character devices (tty, log, virtio-console)
//! everybody -> rs          rs -> nobody (it only notifies)
//! ```
//! Synchronous calls go down this order only, so they cannot form a cycle; upwards there are
//! notifications. A service that would wait for a client keeps its reply token and goes on.

pub mod blkbench;
pub mod block;
pub mod chardev;
pub mod fs;
pub mod hostlink;
pub mod link;
pub mod pci;
pub mod pm;
pub mod rs;
pub mod socket;
pub mod vfs;

/// The name of an operation of any service, `vfs.Read`, for traces.
pub fn operation_name(op: u16) -> Option<&'static str> {
    let interfaces: [&[(u16, &'static str)]; 11] = [
        rs::rs::OPERATIONS,
        pm::pm::OPERATIONS,
        vfs::vfs::OPERATIONS,
        fs::fs::OPERATIONS,
        chardev::chardev::OPERATIONS,
        block::block::OPERATIONS,
        pci::pci::OPERATIONS,
        hostlink::hostlink::OPERATIONS,
        link::link::OPERATIONS,
        socket::socket::OPERATIONS,
        blkbench::blkbench::OPERATIONS,
    ];
    interfaces.into_iter().flatten().find(|(known, _)| *known == op).map(|(_, name)| *name)
}
