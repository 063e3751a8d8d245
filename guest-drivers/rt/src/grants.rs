//! Telling the IOMMU, where there is one, that this driver's grants have changed.
//!
//! What the driver pins is in the kernel's list at once, but its device reaches it only when the pci
//! service has brought the IOMMU in line. So this is called between pinning and use, and after
//! unpinning. Where there is no IOMMU it costs one call in a driver's life.

use core::sync::atomic::{AtomicBool, Ordering};

use xinim_abi::error::{Error, Result};
use xinim_abi::services::pci::pci;
use xinim_abi::start::role;
use xinim_rt::ipc::Service;
use xinim_rt::{ipc, start};

/// There is no IOMMU before the function of this process.
static FREE: AtomicBool = AtomicBool::new(false);

/// When this returns the device reaches what is pinned and nothing else.
pub fn changed() -> Result<()> {
    if FREE.load(Ordering::Relaxed) {
        return Ok(());
    }
    // A process without a function (the pci service itself, tests) drives what is not confined.
    let Some(own) = start::handle(role::PCI) else { return Ok(()) };
    let reply = match ipc::call(own, &pci::Sync {}) {
        // The service's next instance is to be had by name, and then means every function.
        Err(Error::ServerDied) => Service::new("pci").call(&pci::Sync {}),
        other => other,
    }?;
    if !reply.confined {
        FREE.store(true, Ordering::Relaxed);
    }
    Ok(())
}
