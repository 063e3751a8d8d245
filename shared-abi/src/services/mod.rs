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
