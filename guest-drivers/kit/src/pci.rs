//! The PCI function a driver drives, as the pci service lets it see it.

use crate::mmio::Mmio;
use xinim_abi::error::Result;
use xinim_abi::hw::pci;

/// Longest capability handed out; virtio's notify capability has 20 bytes.
pub const CAPABILITY_MAX: usize = 24;

/// A capability of a function: its first bytes as they stand in configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Offset in configuration space.
    pub offset: u8,
    /// Zeros behind the capability's length.
    pub bytes: [u8; CAPABILITY_MAX],
}

/// One function. The service behind it keeps BARs, command register and MSI-X to itself.
pub trait PciFunction {
    type Mmio: Mmio;

    /// The `index`th capability with `id`, counted from 0; `None` past the last.
    fn capability(&self, id: u8, index: usize) -> Result<Option<Capability>>;

    /// Memory BAR `index`, mapped and decoded (bus mastering is left as it is). `NoEnt`, `NotSup`.
    fn bar(&self, index: u8) -> Result<Self::Mmio>;

    /// Memory decoding on; bus mastering on or off. Off until the device has been reset: what a
    /// predecessor left running must not start again.
    fn enable(&self, bus_master: bool) -> Result<()>;

    /// The driver's promise that the device was reset and does nothing of a predecessor's any more.
    /// Until then the kernel keeps the predecessor's DMA memory in quarantine and pins none for this
    /// driver: call it after the reset, before the first DMA buffer is made.
    fn reset_done(&self) -> Result<()>;
}

/// Walks the capability list in configuration space; `read` reads an aligned dword. Calls `visit`
/// with each capability's offset and first dword until it returns `false` or the list ends. A list
/// that leaves configuration space or runs in circles ends there.
pub fn walk_capabilities(mut read: impl FnMut(u8) -> u32, mut visit: impl FnMut(u8, u32) -> bool) {
    let status = (read(pci::COMMAND as u8) >> 16) as u16;
    if status & pci::Status::CAPABILITIES_LIST.bits() == 0 {
        return;
    }
    let mut at = read(pci::CAPABILITIES as u8) as u8 & 0xFC;
    for _ in 0..pci::CAP_LIST_MAX {
        if usize::from(at) < pci::HEADER_SIZE {
            return;
        }
        let head = read(at);
        if !visit(at, head) {
            return;
        }
        at = (head >> 8) as u8 & 0xFC;
    }
}

/// Reads the capability at `offset` whose first dword is `head`. Vendor capabilities say their
/// length; of others the first 12 bytes are read, as far as configuration space goes.
pub fn read_capability(offset: u8, head: u32, mut read: impl FnMut(u8) -> u32) -> Capability {
    let len = match head as u8 {
        pci::CAP_VENDOR => (head >> 16) as u8 as usize,
        _ => 12,
    };
    let len = len.clamp(4, CAPABILITY_MAX).min(pci::CONFIG_SIZE - usize::from(offset));
    let mut bytes = [0; CAPABILITY_MAX];
    bytes[..4].copy_from_slice(&head.to_le_bytes());
    for at in (4..len).step_by(4) {
        let word = read(offset + at as u8).to_le_bytes();
        let take = (len - at).min(4);
        bytes[at..at + take].copy_from_slice(&word[..take]);
    }
    Capability { offset, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn dword(config: &[u8; 256], at: u8) -> u32 {
        let at = usize::from(at);
        u32::from_le_bytes(config[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn finds_all_capabilities_in_order() {
        let mut config = [0; 256];
        config[6] = 0x10;
        config[0x34] = 0x40;
        config[0x40..0x44].copy_from_slice(&[9, 0x60, 16, 1]);
        config[0x60..0x64].copy_from_slice(&[0x11, 0, 0, 0]);
        let mut seen = Vec::new();
        walk_capabilities(
            |at| dword(&config, at),
            |at, head| {
                seen.push((at, head as u8));
                true
            },
        );
        assert_eq!(seen, [(0x40, 9), (0x60, 0x11)]);
        config[6] = 0;
        walk_capabilities(|at| dword(&config, at), |_, _| panic!("no list"));
    }

    proptest! {
        /// Whatever configuration space holds, the walk ends and reads aligned dwords inside it.
        #[test]
        fn any_list_ends(config in prop::collection::vec(any::<u8>(), 256)) {
            let mut config: [u8; 256] = config.try_into().unwrap();
            config[6] |= 0x10;
            let mut count = 0;
            walk_capabilities(
                |at| { assert!(at % 4 == 0); dword(&config, at) },
                |at, head| {
                    let capability = read_capability(at, head, |at| dword(&config, at));
                    assert_eq!(capability.bytes[0], head as u8);
                    count += 1;
                    true
                },
            );
            prop_assert!(count <= pci::CAP_LIST_MAX);
        }
    }
}
