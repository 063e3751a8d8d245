//! Measures a block device through its driver's ring, as a file-system server would use it: no VFS,
//! no copy, several requests in flight. For the command `ringbench`.
//!
//! It only writes to a device that says it is made for that: whose first sector begins with
//! [`SCRATCH`]; and never to the first [`RESERVED`] bytes.

crate::interface! {
    pub mod blkbench = 0x0E {
        /// Attaches to the device with this name in /dev, in place of an older one.
        1 once Open { device: Name } -> Opened { sectors: u64, depth: u32 }
        /// Reads or writes (an operation of `block::op`) `size` bytes at a time for `ns`, keeping `depth`
        /// in flight. `Perm`: not a scratch device; `Inval`: nonsense; `NoDev`: nothing is open.
        2 once Run { op: u32, random: bool, size: u32, depth: u32, ns: u64 }
            -> RunReply { requests: u64, ns: u64, wakes: u64 }
    }
}

use crate::interface::Name;

/// A disk image that may be overwritten begins with this.
pub const SCRATCH: &[u8; 19] = b"XINIM BENCH SCRATCH";
/// Bytes at the start of the device that are neither read nor written.
pub const RESERVED: u64 = 1 << 20;
/// Longest request.
pub const SIZE_MAX: u32 = 1 << 20;
