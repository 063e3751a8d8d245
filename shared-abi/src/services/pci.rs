//! The PCI service as a driver sees it: the caller's endpoint is badged for its one function.
//!
//! The service keeps configuration space, BAR assignment and MSI-X tables to itself, so that a
//! driver can neither move its BARs over another device's nor aim an interrupt message elsewhere.

crate::interface! {
    /// Operations on the badge's function.
    pub mod pci = 0x07 {
        /// `size` 1, 2 or 4 bytes, aligned.
        1 idempotent ConfigRead { offset: u32, size: u32 } -> ConfigValue { value: u32 }
        /// Only what is the driver's: device-specific capabilities. Command register, BARs, MSI and
        /// MSI-X are `Perm`.
        2 idempotent ConfigWrite { offset: u32, size: u32, value: u32 } -> ConfigWritten { }
        /// BAR `index` (0..=5) as device memory; `NoEnt` if it is not there, `NotSup` if it is ports.
        /// Pages with the MSI-X table or pending bits are left out (`NotSup` if that leaves nothing).
        /// `ahead`: only one whose size is known, because finding it out disturbs whoever drives the function.
        3 idempotent Bar { index: u32, ahead: bool } -> BarReply { len: u64; memory: handle }
        /// Routes MSI-X (or MSI) message `index`, or the pin of a function without messages (index 0), to
        /// a new interrupt object and enables it. `level`: a pin, each interrupt of which wants
        /// `IRQ_ACK` after the device was asked. `NoEnt`: the function has no such message. `ahead`: a message
        /// that the function has been using, and nothing is touched (`NotSup`: it has not).
        4 idempotent Interrupt { index: u32, ahead: bool } -> InterruptReply { level: bool; interrupt: handle }
        /// Memory decoding, and bus mastering when `bus_master`.
        5 idempotent Enable { bus_master: bool } -> Enabled { }
        /// How many messages the function has; 1 for one with only a pin.
        6 idempotent InterruptCount { } -> InterruptCountReply { count: u32 }
        /// BAR `index` as I/O ports; `NoEnt`, or `NotSup` if it is memory.
        7 idempotent PortBar { index: u32 } -> PortBarReply { len: u64; ports: handle }
        /// The `index`th capability with this `id`, counted from 0 (`NoEnt` past the last): its offset
        /// and first 24 bytes, little-endian, zeros behind its end. One call instead of a walk.
        8 idempotent Capability { id: u32, index: u32 }
            -> CapabilityReply { offset: u32, bytes0: u64, bytes8: u64, bytes16: u64 }
        /// What the driver pinned or unpinned counts for its device when this returns: where an IOMMU
        /// stands before the function, its mappings are brought in line with the kernel's grants.
        /// `confined`: there is one; else nobody has to ask again. Of a caller without a function
        /// (who looked the service up by name) all functions are brought in line. `Io`: the IOMMU fails.
        9 idempotent Sync { } -> Synced { confined: bool }
    }
}
