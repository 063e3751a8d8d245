//! Intel gigabit Ethernet controllers: 82540EM, 82545EM ("8254x") and 82574L.
//!
//! Chapters are those of the *PCI/PCI-X Family of Gigabit Ethernet Controllers Software
//! Developer's Manual* (317453, "8254x") and of the *82574 GbE Controller Family Datasheet*
//! ("82574").
//!
//! * [`registers`]: the register tables and their offsets under Rust names;
//! * [`descriptor`]: receive and transmit descriptors;
//! * [`phy`]: registers behind MDIC; [`nvm`]: words of the EEPROM.
//!
//! BAR 0 is 128 KiB of registers, each 32 bits wide. The 82574L has its MSI-X table in BAR 3.

pub mod descriptor;
pub mod nvm;
pub mod phy;
pub mod registers;

pub use registers::{BLOCKS, Block, REGISTERS, REGISTERS_8254X, REGISTERS_82574, reg};

use bitflags::bitflags;

/// PCI vendor of all models.
pub const VENDOR: u16 = 0x8086;
/// Bytes of BAR 0.
pub const BAR_SIZE: u64 = 128 << 10;
/// BAR of the registers.
pub const REGISTER_BAR: u8 = 0;
/// BAR of the 82574L's MSI-X table.
pub const MSIX_BAR: u8 = 3;
/// MSI-X vectors of the 82574L.
pub const MSIX_VECTORS: u16 = 5;

/// The models described here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// 82540EM, 8086:100E.
    I82540em,
    /// 82545EM, copper, 8086:100F.
    I82545em,
    /// 82574L, 8086:10D3: PCI Express, MSI-X, two queues each way.
    I82574l,
}

impl Model {
    pub const ALL: [Model; 3] = [Model::I82540em, Model::I82545em, Model::I82574l];

    /// PCI device id.
    pub const fn device_id(self) -> u16 {
        match self {
            Model::I82540em => 0x100E,
            Model::I82545em => 0x100F,
            Model::I82574l => 0x10D3,
        }
    }

    pub const fn from_device_id(id: u16) -> Option<Self> {
        Some(match id {
            0x100E => Model::I82540em,
            0x100F => Model::I82545em,
            0x10D3 => Model::I82574l,
            _ => return None,
        })
    }

    pub const fn is_82574(self) -> bool {
        matches!(self, Model::I82574l)
    }

    /// Receive and transmit queues, each.
    pub const fn queues(self) -> usize {
        if self.is_82574() { 2 } else { 1 }
    }

    /// PHY identifier registers 2 and 3.
    pub const fn phy_id(self) -> (u16, u16) {
        if self.is_82574() { (0x0141, 0x0CB1) } else { (0x0141, 0x0C20) }
    }
}

bitflags! {
    /// CTRL (8254x 13.4, 82574 10.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ctrl: u32 {
        /// Full duplex.
        const FD = 1 << 0;
        /// 82574: no new DMA; STATUS.GIO_MASTER_ENABLE goes down when all is done.
        const GIO_MASTER_DISABLE = 1 << 2;
        /// Link reset.
        const LRST = 1 << 3;
        /// Speed from the PHY.
        const ASDE = 1 << 5;
        /// Set link up.
        const SLU = 1 << 6;
        /// Invert loss of signal.
        const ILOS = 1 << 7;
        const SPEED_100 = 1 << 8;
        const SPEED_1000 = 1 << 9;
        const FORCE_SPEED = 1 << 11;
        const FORCE_DUPLEX = 1 << 12;
        /// Device reset; clears itself.
        const RST = 1 << 26;
        /// Obey received pause frames.
        const RFCE = 1 << 27;
        /// Send pause frames.
        const TFCE = 1 << 28;
        /// Strip and insert VLAN tags.
        const VME = 1 << 30;
        /// PHY reset.
        const PHY_RST = 1 << 31;
    }
}

bitflags! {
    /// STATUS (8254x 13.4, 82574 10.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u32 {
        /// Full duplex.
        const FD = 1 << 0;
        /// Link up.
        const LU = 1 << 1;
        /// Transmission is paused.
        const TXOFF = 1 << 4;
        const SPEED_100 = 1 << 6;
        const SPEED_1000 = 1 << 7;
        const ASDV_100 = 1 << 8;
        const ASDV_1000 = 1 << 9;
        /// 82574: the PHY has been reset and must be initialised.
        const PHYRA = 1 << 10;
        /// 8254x on PCI: the bus runs at 66 MHz.
        const PCI66 = 1 << 11;
        /// 82574: DMA may be going on.
        const GIO_MASTER_ENABLE = 1 << 19;
    }
}

bitflags! {
    /// CTRL_EXT (8254x 13.4, 82574 10.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CtrlExt: u32 {
        const ASDCHK = 1 << 12;
        /// Reload from EEPROM; clears itself.
        const EE_RST = 1 << 13;
        const SPD_BYPS = 1 << 15;
        const RO_DIS = 1 << 17;
        /// 82574: auto-mask in MSI-X mode.
        const EIAME = 1 << 24;
        /// 82574: reading ICR masks the causes in IAM.
        const IAME = 1 << 27;
        const DRV_LOAD = 1 << 28;
        /// 82574: the interrupt causes' timers also in MSI-X mode.
        const INT_TIMERS_CLEAR_ENA = 1 << 29;
        /// 82574: pending MSI-X bits are cleared by hardware.
        const PBA_SUPPORT = 1 << 31;
    }
}

bitflags! {
    /// Interrupt causes: ICR, ICS, IMS, IMC (8254x 13.4, 82574 10.2.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cause: u32 {
        /// Transmit descriptor written back.
        const TXDW = 1 << 0;
        /// Transmit queue empty.
        const TXQE = 1 << 1;
        /// Link status change.
        const LSC = 1 << 2;
        /// Receive sequence error.
        const RXSEQ = 1 << 3;
        /// Receive descriptors below the minimum threshold.
        const RXDMT0 = 1 << 4;
        /// Receiver overrun.
        const RXO = 1 << 6;
        /// Receiver timer.
        const RXT0 = 1 << 7;
        /// MDIO access complete.
        const MDAC = 1 << 9;
        const PHYINT = 1 << 12;
        /// Transmit descriptors low threshold.
        const TXD_LOW = 1 << 15;
        /// Small packet received.
        const SRPD = 1 << 16;
        /// 82574: TCP acknowledgement received.
        const ACK = 1 << 17;
        /// 82574, MSI-X.
        const RXQ0 = 1 << 20;
        const RXQ1 = 1 << 21;
        const TXQ0 = 1 << 22;
        const TXQ1 = 1 << 23;
        const OTHER = 1 << 24;
        /// 82574: the device has asserted its interrupt.
        const ASSERTED = 1 << 31;
    }
}

impl Cause {
    /// What the OTHER vector of MSI-X stands for.
    pub const OTHERS: Cause = Cause::LSC
        .union(Cause::RXO)
        .union(Cause::MDAC)
        .union(Cause::SRPD)
        .union(Cause::ACK)
        .union(Cause::PHYINT);
}

bitflags! {
    /// RCTL (8254x 13.4, 82574 10.2.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rctl: u32 {
        const EN = 1 << 1;
        /// Store bad packets.
        const SBP = 1 << 2;
        /// Unicast promiscuous.
        const UPE = 1 << 3;
        /// Multicast promiscuous.
        const MPE = 1 << 4;
        /// Long packets, beyond 1522 bytes.
        const LPE = 1 << 5;
        /// MAC loopback (field LBM = 01).
        const LBM_MAC = 1 << 6;
        /// Accept broadcast.
        const BAM = 1 << 15;
        /// VLAN filter on.
        const VFE = 1 << 18;
        const CFIEN = 1 << 19;
        const CFI = 1 << 20;
        /// Discard pause frames.
        const DPF = 1 << 22;
        /// Pass MAC control frames.
        const PMCF = 1 << 23;
        /// Buffer sizes times 16.
        const BSEX = 1 << 25;
        /// Strip the CRC.
        const SECRC = 1 << 26;
    }
}

impl Rctl {
    /// Receive descriptor minimum threshold: 1/2, 1/4, 1/8 of the ring.
    pub const RDMTS_SHIFT: u32 = 8;
    /// Descriptor type: 0 legacy or extended, 1 packet split (82574).
    pub const DTYP_SHIFT: u32 = 10;
    /// Which twelve bits of a multicast address index MTA: from bit 47, 46, 45 or 43 down.
    pub const MO_SHIFT: u32 = 12;
    pub const BSIZE_SHIFT: u32 = 16;
    /// 82574: buffer size in KiB, when not 0.
    pub const FLXBUF_SHIFT: u32 = 27;
}

bitflags! {
    /// TCTL (8254x 13.4, 82574 10.2.6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Tctl: u32 {
        const EN = 1 << 1;
        /// Pad short packets.
        const PSP = 1 << 3;
        /// Send XOFF now; clears itself.
        const SWXOFF = 1 << 22;
        const RTLC = 1 << 24;
        /// 82574: several reads at once.
        const MULR = 1 << 28;
    }
}

bitflags! {
    /// RXCSUM (8254x 13.4, 82574 10.2.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RxCsum: u32 {
        const IPOFL = 1 << 8;
        const TUOFL = 1 << 9;
        const IPV6OFL = 1 << 10;
        /// 82574: the descriptor has the RSS hash instead of the packet checksum.
        const PCSD = 1 << 13;
    }
}

impl RxCsum {
    /// First byte of the packet checksum.
    pub const PCSS_MASK: u32 = 0xFF;
}

/// EECD: the four wires of the EEPROM, and who has them.
pub mod eecd {
    pub const SK: u32 = 1 << 0;
    pub const CS: u32 = 1 << 1;
    pub const DI: u32 = 1 << 2;
    pub const DO: u32 = 1 << 3;
    pub const REQ: u32 = 1 << 6;
    pub const GNT: u32 = 1 << 7;
    pub const PRES: u32 = 1 << 8;
    /// 82574: the automatic load has finished.
    pub const AUTO_RD: u32 = 1 << 9;
}

/// EERD in its two layouts: word address, start, done, data.
pub mod eerd {
    pub const START: u32 = 1 << 0;
    pub const DATA_SHIFT: u32 = 16;
    /// 8254x.
    pub const DONE_8254X: u32 = 1 << 4;
    pub const ADDRESS_SHIFT_8254X: u32 = 8;
    pub const ADDRESS_MASK_8254X: u32 = 0xFF;
    /// 82574.
    pub const DONE_82574: u32 = 1 << 1;
    pub const ADDRESS_SHIFT_82574: u32 = 2;
    pub const ADDRESS_MASK_82574: u32 = 0x3FFF;
}

/// MDIC: a PHY register access.
pub mod mdic {
    pub const DATA_MASK: u32 = 0xFFFF;
    pub const REGISTER_SHIFT: u32 = 16;
    pub const REGISTER_MASK: u32 = 0x1F;
    pub const PHY_SHIFT: u32 = 21;
    pub const PHY_MASK: u32 = 0x1F;
    pub const WRITE: u32 = 1 << 26;
    pub const READ: u32 = 2 << 26;
    pub const READY: u32 = 1 << 28;
    pub const INTERRUPT: u32 = 1 << 29;
    pub const ERROR: u32 = 1 << 30;
    /// The one PHY.
    pub const PHY_ADDRESS: u32 = 1;
}

/// RAH: address valid.
pub const RAH_AV: u32 = 1 << 31;
/// RDTR: write back and interrupt now.
pub const RDTR_FPD: u32 = 1 << 31;
/// RFCTL (82574): extended receive descriptors.
pub const RFCTL_EXSTEN: u32 = 1 << 15;
/// RFCTL (82574): no ACK interrupts.
pub const RFCTL_ACKDIS: u32 = 1 << 13;
/// Receive addresses.
pub const RECEIVE_ADDRESSES: usize = 16;
/// Words of MTA and of VFTA.
pub const TABLE_WORDS: usize = 128;
/// Descriptor rings are aligned to this, and their lengths are multiples of it in 8 descriptors.
pub const RING_ALIGN: u64 = 16;
pub const RING_LENGTH_UNIT: u32 = 128;
/// ITR and EITR count in these nanoseconds.
pub const ITR_UNIT_NS: u64 = 256;
/// RDTR, RADV, TIDV and TADV count in these.
pub const DELAY_UNIT_NS: u64 = 1024;

/// IVAR (82574): four bits for each cause, vector and valid bit.
pub mod ivar {
    pub const RXQ0_SHIFT: u32 = 0;
    pub const RXQ1_SHIFT: u32 = 4;
    pub const TXQ0_SHIFT: u32 = 8;
    pub const TXQ1_SHIFT: u32 = 12;
    pub const OTHER_SHIFT: u32 = 16;
    pub const VECTOR_MASK: u32 = 7;
    pub const VALID: u32 = 8;
    /// An interrupt at every write-back of a transmit descriptor.
    pub const ON_ALL_WB: u32 = 1 << 31;
}

/// WUC, WUFC and WUS: wake-up.
pub mod wake {
    /// WUC: advanced power management wake-up.
    pub const APME: u32 = 1 << 0;
    pub const PME_EN: u32 = 1 << 1;
    /// WUC: write one to clear.
    pub const PME_STATUS: u32 = 1 << 2;
    pub const APMPME: u32 = 1 << 3;
    /// WUFC and WUS: link status change, magic packet, directed exact, directed multicast,
    /// broadcast, ARP request for an IPv4 address of IP4AT, directed IPv4.
    pub const LNKC: u32 = 1 << 0;
    pub const MAG: u32 = 1 << 1;
    pub const EX: u32 = 1 << 2;
    pub const MC: u32 = 1 << 3;
    pub const BC: u32 = 1 << 4;
    pub const ARP: u32 = 1 << 5;
    pub const IPV4: u32 = 1 << 6;
}
