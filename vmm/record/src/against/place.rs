//! Where the two have what the specification lets a device put where it likes: capabilities, the
//! structures of virtio, the MSI-X table.

use super::peer::{Peer, PeerError};
use xinim_abi::hw::pci::{
    CAP_LIST_MAX, CAP_MSI, CAP_MSIX, CAP_PCI_EXPRESS, CAP_POWER_MANAGEMENT, CAP_VENDOR,
};

/// Where the other's BARs are put: above its memory, a megabyte each.
const BARS: u64 = 0xE000_0000;
const BAR_STEP: u64 = 1 << 20;
/// Ports of its port BARs.
const PORTS: u64 = 0xC000;
const BAR_COUNT: u64 = 6;
/// First register behind the standard header.
const HEADER_END: u64 = 0x40;

/// A capability: what it is (with the type of a virtio structure), where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    pub id: u8,
    /// Of a virtio structure, else 0.
    pub structure: u8,
    pub at: u64,
}

impl Capability {
    pub fn name(&self) -> String {
        match self.id {
            CAP_POWER_MANAGEMENT => "power management".into(),
            CAP_MSI => "MSI".into(),
            CAP_VENDOR if self.structure != 0 => format!("virtio structure {}", self.structure),
            CAP_PCI_EXPRESS => "PCI Express".into(),
            CAP_MSIX => "MSI-X".into(),
            id => format!("{id:#x}"),
        }
    }
}

/// A structure in a BAR.
#[derive(Clone, Copy, Debug)]
struct Window {
    structure: Structure,
    bar: u8,
    offset: u64,
    length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Structure {
    /// By the type of its virtio capability.
    Virtio(u8),
    MsixTable,
    PendingBits,
}

const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

/// What an access to a BAR is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Registers at the same offset of the same BAR.
    Plain,
    Common(u64),
    Isr,
    DeviceConfig(u64),
    Doorbell {
        queue: u16,
    },
    /// A vector and the byte of its entry.
    Vector {
        vector: u16,
        byte: u64,
    },
    Pending(u64),
}

/// One side's places.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub capabilities: Vec<Capability>,
    windows: Vec<Window>,
    multiplier: u64,
    pub vectors: u16,
}

impl Places {
    /// Reads them out of configuration space.
    pub fn read<E>(mut config: impl FnMut(u64, u8) -> Result<u64, E>) -> Result<Self, E> {
        let mut places = Self { multiplier: 1, ..Self::default() };
        let virtio = config(0, 2)? == 0x1AF4;
        let mut at = config(0x34, 1)? & 0xFC;
        for _ in 0..CAP_LIST_MAX {
            if at < HEADER_END {
                break;
            }
            let id = config(at, 1)? as u8;
            let mut structure = 0;
            if id == CAP_VENDOR && virtio {
                structure = config(at + 3, 1)? as u8;
                let (bar, offset) = (config(at + 4, 1)? as u8, config(at + 8, 4)?);
                let length = config(at + 12, 4)?;
                if (COMMON..=DEVICE).contains(&structure) {
                    let structure = Structure::Virtio(structure);
                    places.windows.push(Window { structure, bar, offset, length });
                }
                if structure == NOTIFY {
                    places.multiplier = config(at + 16, 4)?;
                }
            }
            if id == CAP_MSIX {
                places.vectors = (config(at + 2, 2)? & 0x7FF) as u16 + 1;
                let (table, pending) = (config(at + 4, 4)?, config(at + 8, 4)?);
                let window = |structure, word: u64, length| Window {
                    structure,
                    bar: (word & 7) as u8,
                    offset: word & !7,
                    length,
                };
                let vectors = u64::from(places.vectors);
                places.windows.push(window(Structure::MsixTable, table, 16 * vectors));
                let bits = 8 * vectors.div_ceil(64);
                places.windows.push(window(Structure::PendingBits, pending, bits));
            }
            places.capabilities.push(Capability { id, structure, at });
            at = config(at + 1, 1)? & 0xFC;
        }
        Ok(places)
    }

    /// What an access of this side's is about.
    pub fn target(&self, bar: u8, offset: u64) -> Target {
        let covers =
            |w: &&Window| w.bar == bar && (w.offset..w.offset + w.length).contains(&offset);
        let Some(window) = self.windows.iter().find(covers) else { return Target::Plain };
        let inside = offset - window.offset;
        match window.structure {
            Structure::Virtio(COMMON) => Target::Common(inside),
            Structure::Virtio(NOTIFY) => {
                Target::Doorbell { queue: (inside / self.multiplier.max(1)) as u16 }
            }
            Structure::Virtio(ISR) => Target::Isr,
            Structure::Virtio(_) => Target::DeviceConfig(inside),
            Structure::MsixTable => {
                Target::Vector { vector: (inside / 16) as u16, byte: inside % 16 }
            }
            Structure::PendingBits => Target::Pending(inside),
        }
    }

    /// Where this side has it; `None`: it has not.
    pub fn find(&self, target: Target, bar: u8, offset: u64) -> Option<(u8, u64)> {
        let (structure, inside) = match target {
            Target::Plain => return Some((bar, offset)),
            Target::Common(inside) => (Structure::Virtio(COMMON), inside),
            Target::Isr => (Structure::Virtio(ISR), 0),
            Target::DeviceConfig(inside) => (Structure::Virtio(DEVICE), inside),
            Target::Doorbell { queue } => {
                (Structure::Virtio(NOTIFY), u64::from(queue) * self.multiplier)
            }
            Target::Vector { vector, byte } => {
                (Structure::MsixTable, 16 * u64::from(vector) + byte)
            }
            Target::Pending(inside) => (Structure::PendingBits, inside),
        };
        let window = self.windows.iter().find(|window| window.structure == structure)?;
        (inside < window.length).then_some((window.bar, window.offset + inside))
    }

    pub fn is_virtio(&self) -> bool {
        self.windows.iter().any(|window| window.structure == Structure::Virtio(COMMON))
    }

    /// The capability that an offset of configuration space lies in.
    pub fn capability(&self, offset: u64) -> Option<Capability> {
        let before = self.capabilities.iter().filter(|c| c.at <= offset);
        before.max_by_key(|c| c.at).copied()
    }

    /// This side's capability of that kind.
    pub fn same(&self, other: Capability) -> Option<Capability> {
        let same = |c: &&Capability| (c.id, c.structure) == (other.id, other.structure);
        self.capabilities.iter().find(same).copied()
    }
}

/// Puts the other's BARs where we know them.
pub fn place_bars(peer: &mut Peer) -> Result<(), PeerError> {
    let mut bar = 0;
    while bar < BAR_COUNT {
        let register = 0x10 + 4 * bar;
        let kind = peer.config_read(register, 4)?;
        if kind & 1 != 0 {
            peer.config_write(register, 4, PORTS + 0x100 * bar)?;
        } else {
            peer.config_write(register, 4, BARS + BAR_STEP * bar)?;
        }
        if kind & 7 == 4 {
            peer.config_write(register + 4, 4, 0)?;
            bar += 1;
        }
        bar += 1;
    }
    Ok(())
}

/// The address of an offset in a BAR so placed.
pub fn address(bar: u8, offset: u64) -> u64 {
    BARS + BAR_STEP * u64::from(bar) + offset
}
