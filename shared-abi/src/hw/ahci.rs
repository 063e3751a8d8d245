//! AHCI 1.3.1: registers of the HBA and of its ports, and what lies in memory between driver and
//! HBA. The FISes inside are in [`super::sata`], the commands in [`super::ata`].
//!
//! Sections are those of *Serial ATA Advanced Host Controller Interface (AHCI)* 1.3.1.
//!
//! ```text
//! ABAR (BAR5)  0x000 generic host control          [`HBA`]
//!              0x100 port 0, 0x180 port 1, ...     [`PORT`]
//!
//! PxCLB -> command list: 32 x CommandHeader --CTBA--> command table: CFIS  at 0x00
//!                                                                    ACMD  at 0x40
//!                                                                    PRDT  at 0x80: n x Prd
//! PxFB  -> received FISes: DMA setup 0x00, PIO setup 0x20, D2H 0x40, SDB 0x58, unknown 0x60
//! ```

use super::register::{Field, Register};
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// PCI base class, subclass, programming interface of an AHCI HBA (2.1.5).
pub const PCI_CLASS: [u8; 3] = [0x01, 0x06, 0x01];
/// BAR of the registers (2.1.11).
pub const ABAR: u8 = 5;
/// Ports an HBA can have, and bits of GHC.IS, PI.
pub const MAX_PORTS: usize = 32;
/// Command slots a port can have.
pub const MAX_SLOTS: usize = 32;
/// Where port 0's registers begin (3.3).
pub const PORT_BASE: usize = 0x100;
/// Bytes of one port's registers.
pub const PORT_SIZE: usize = 0x80;
/// Bytes of the registers of an HBA with `ports` ports.
pub const fn abar_size(ports: usize) -> usize {
    PORT_BASE + ports * PORT_SIZE
}

// Generic host control (3.1).
pub const CAP: usize = 0x00;
pub const GHC: usize = 0x04;
pub const IS: usize = 0x08;
pub const PI: usize = 0x0C;
pub const VS: usize = 0x10;
pub const CCC_CTL: usize = 0x14;
pub const CCC_PORTS: usize = 0x18;
pub const EM_LOC: usize = 0x1C;
pub const EM_CTL: usize = 0x20;
pub const CAP2: usize = 0x24;
pub const BOHC: usize = 0x28;

// Port registers (3.3), from the port's base.
pub const PX_CLB: usize = 0x00;
pub const PX_CLBU: usize = 0x04;
pub const PX_FB: usize = 0x08;
pub const PX_FBU: usize = 0x0C;
pub const PX_IS: usize = 0x10;
pub const PX_IE: usize = 0x14;
pub const PX_CMD: usize = 0x18;
pub const PX_TFD: usize = 0x20;
pub const PX_SIG: usize = 0x24;
pub const PX_SSTS: usize = 0x28;
pub const PX_SCTL: usize = 0x2C;
pub const PX_SERR: usize = 0x30;
pub const PX_SACT: usize = 0x34;
pub const PX_CI: usize = 0x38;
pub const PX_SNTF: usize = 0x3C;
pub const PX_FBS: usize = 0x40;
pub const PX_DEVSLP: usize = 0x44;

/// VS of AHCI 1.3.1 (3.1.5).
pub const VERSION_1_3_1: u32 = 0x0001_0301;

bitflags! {
    /// CAP (3.1.1); the numbers in it are [`cap`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cap: u32 {
        /// External SATA connectors.
        const SXS = 1 << 5;
        /// Enclosure management.
        const EMS = 1 << 6;
        /// Command completion coalescing.
        const CCCS = 1 << 7;
        const PSC = 1 << 13;
        const SSC = 1 << 14;
        /// PIO of several DRQ blocks.
        const PMD = 1 << 15;
        /// FIS-based switching.
        const FBSS = 1 << 16;
        /// Port multipliers.
        const SPM = 1 << 17;
        /// AHCI only: no legacy interface, GHC.AE is always set.
        const SAM = 1 << 18;
        /// Command list override (PxCMD.CLO).
        const SCLO = 1 << 24;
        const SAL = 1 << 25;
        const SALP = 1 << 26;
        /// Staggered spin-up: the link waits for PxCMD.SUD.
        const SSS = 1 << 27;
        const SMPS = 1 << 28;
        const SSNTF = 1 << 29;
        /// Native command queuing.
        const SNCQ = 1 << 30;
        /// 64-bit addresses.
        const S64A = 1 << 31;
        const _ = !0;
    }
}

/// Numbers in CAP (3.1.1).
pub mod cap {
    /// Ports minus one.
    pub const fn ports(cap: u32) -> u32 {
        (cap & 0x1F) + 1
    }
    /// Command slots per port.
    pub const fn slots(cap: u32) -> u32 {
        (cap >> 8 & 0x1F) + 1
    }
    /// Interface speed: 1, 2, 3 for 1.5, 3, 6 Gbit/s.
    pub const fn speed(cap: u32) -> u32 {
        cap >> 20 & 0xF
    }
}

bitflags! {
    /// GHC (3.1.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ghc: u32 {
        /// HBA reset; reads 1 until it is done (1 s at most).
        const HR = 1 << 0;
        /// Interrupts on.
        const IE = 1 << 1;
        /// The HBA fell back to a single MSI message.
        const MRSM = 1 << 2;
        /// AHCI enabled.
        const AE = 1 << 31;
    }
}

bitflags! {
    /// CAP2 (3.1.10).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cap2: u32 {
        /// BOHC is there.
        const BOH = 1 << 0;
        const NVMP = 1 << 1;
        const APST = 1 << 2;
        const SDS = 1 << 3;
        const SADM = 1 << 4;
        const DESO = 1 << 5;
    }
}

bitflags! {
    /// BOHC, the BIOS/OS hand-off (3.1.11, 10.6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Bohc: u32 {
        /// BIOS owns the HBA.
        const BOS = 1 << 0;
        /// OS owns the HBA.
        const OOS = 1 << 1;
        /// SMI on ownership change.
        const SOOE = 1 << 2;
        /// Ownership changed (write one to clear).
        const OOC = 1 << 3;
        /// BIOS is busy with its outstanding commands.
        const BB = 1 << 4;
    }
}

bitflags! {
    /// PxIS and PxIE (3.3.5, 3.3.6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PortInterrupt: u32 {
        /// D2H register FIS with I set.
        const DHRS = 1 << 0;
        /// PIO setup FIS with I set.
        const PSS = 1 << 1;
        /// DMA setup FIS with I set.
        const DSS = 1 << 2;
        /// Set device bits FIS with I set.
        const SDBS = 1 << 3;
        /// Unknown FIS (reflects PxSERR.DIAG.F).
        const UFS = 1 << 4;
        /// A PRD with I set was transferred.
        const DPS = 1 << 5;
        /// Connection changed (reflects PxSERR.DIAG.X).
        const PCS = 1 << 6;
        /// Mechanical presence switch.
        const DMPS = 1 << 7;
        /// PhyRdy changed (reflects PxSERR.DIAG.N).
        const PRCS = 1 << 22;
        /// FIS from a port multiplier port that is not expected.
        const IPMS = 1 << 23;
        /// More bytes than the PRDT has room for.
        const OFS = 1 << 24;
        /// Interface error, recovered.
        const INFS = 1 << 26;
        /// Interface error, fatal.
        const IFS = 1 << 27;
        /// Host bus data error (bad address for data).
        const HBDS = 1 << 28;
        /// Host bus fatal error (bad address for the HBA's own structures).
        const HBFS = 1 << 29;
        /// Task file error: the device reported ERR.
        const TFES = 1 << 30;
        /// Cold presence detect.
        const CPDS = 1 << 31;
        /// After any of these the port must be restarted (6.2.2).
        const FATAL = Self::IFS.bits() | Self::HBDS.bits() | Self::HBFS.bits()
            | Self::TFES.bits();
    }
}

bitflags! {
    /// PxCMD (3.3.7); the numbers in it are [`cmd`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PortCmd: u32 {
        /// Process the command list.
        const ST = 1 << 0;
        /// Spin up.
        const SUD = 1 << 1;
        /// Power on.
        const POD = 1 << 2;
        /// Clear BSY and DRQ in PxTFD; reads 1 until it is done.
        const CLO = 1 << 3;
        /// Take received FISes.
        const FRE = 1 << 4;
        const MPSS = 1 << 13;
        /// FIS receive is running.
        const FR = 1 << 14;
        /// The command list is running.
        const CR = 1 << 15;
        const CPS = 1 << 16;
        /// A port multiplier is attached (software's word).
        const PMA = 1 << 17;
        /// Hot plug capable port.
        const HPCP = 1 << 18;
        const MPSP = 1 << 19;
        const CPD = 1 << 20;
        const ESP = 1 << 21;
        const FBSCP = 1 << 22;
        const APSTE = 1 << 23;
        /// The device is ATAPI (only drives the LED).
        const ATAPI = 1 << 24;
        const DLAE = 1 << 25;
        const ALPE = 1 << 26;
        const ASP = 1 << 27;
        const _ = !0;
    }
}

/// Numbers in PxCMD (3.3.7).
pub mod cmd {
    pub const CCS_SHIFT: u32 = 8;
    /// Current command slot.
    pub const fn ccs(cmd: u32) -> u32 {
        cmd >> CCS_SHIFT & 0x1F
    }
    pub const ICC_SHIFT: u32 = 28;
    /// Interface communication control: 1 active, 2 partial, 6 slumber; reads 0 when done.
    pub const fn icc(cmd: u32) -> u32 {
        cmd >> ICC_SHIFT
    }
    pub const ICC_ACTIVE: u32 = 1;
}

/// PxSSTS (3.3.10) and PxSCTL (3.3.11): three fields of four bits.
pub mod link {
    pub const fn det(register: u32) -> u32 {
        register & 0xF
    }
    pub const fn spd(register: u32) -> u32 {
        register >> 4 & 0xF
    }
    pub const fn ipm(register: u32) -> u32 {
        register >> 8 & 0xF
    }
    /// PxSSTS.DET: no device.
    pub const DET_NONE: u32 = 0;
    /// PxSSTS.DET: a device, communication not established.
    pub const DET_PRESENT: u32 = 1;
    /// PxSSTS.DET: a device, communication established.
    pub const DET_READY: u32 = 3;
    /// PxSSTS.DET: interface off-line.
    pub const DET_OFFLINE: u32 = 4;
    /// PxSSTS.IPM: active.
    pub const IPM_ACTIVE: u32 = 1;
    /// PxSCTL.DET: nothing asked.
    pub const CONTROL_NONE: u32 = 0;
    /// PxSCTL.DET: hold COMRESET (for at least 1 ms).
    pub const CONTROL_RESET: u32 = 1;
    /// PxSCTL.DET: interface off-line.
    pub const CONTROL_OFFLINE: u32 = 4;
    /// PxSCTL.IPM: neither partial nor slumber.
    pub const CONTROL_NO_POWER_MANAGEMENT: u32 = 3 << 8;
}

bitflags! {
    /// PxSERR (3.3.12).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PortError: u32 {
        const RECOVERED_DATA = 1 << 0;
        const RECOVERED_COMMUNICATION = 1 << 1;
        const TRANSIENT_DATA = 1 << 8;
        const PERSISTENT_COMMUNICATION = 1 << 9;
        const PROTOCOL = 1 << 10;
        const INTERNAL = 1 << 11;
        /// PhyRdy changed.
        const DIAG_N = 1 << 16;
        const DIAG_I = 1 << 17;
        /// Comm wake.
        const DIAG_W = 1 << 18;
        const DIAG_B = 1 << 19;
        const DIAG_D = 1 << 20;
        /// CRC error.
        const DIAG_C = 1 << 21;
        /// Handshake error.
        const DIAG_H = 1 << 22;
        const DIAG_S = 1 << 23;
        const DIAG_T = 1 << 24;
        /// Unknown FIS.
        const DIAG_F = 1 << 25;
        /// Exchanged: COMINIT was received.
        const DIAG_X = 1 << 26;
    }
}

/// PxTFD (3.3.8): ATA status in bits 7:0 and error in 15:8.
pub const fn tfd(status: u8, error: u8) -> u32 {
    (error as u32) << 8 | status as u32
}

/// PxSIG (3.3.9): sector count, LBA low, middle, high of the first D2H FIS, low byte first.
pub mod signature {
    pub const ATA: u32 = 0x0000_0101;
    pub const ATAPI: u32 = 0xEB14_0101;
    /// Enclosure management bridge.
    pub const SEMB: u32 = 0xC33C_0101;
    pub const PORT_MULTIPLIER: u32 = 0x9669_0101;
    /// Nothing has announced itself.
    pub const NONE: u32 = 0xFFFF_FFFF;
}

/// Command list: alignment and bytes (4.2.2).
pub const COMMAND_LIST_ALIGN: usize = 1024;
pub const COMMAND_LIST_SIZE: usize = MAX_SLOTS * COMMAND_HEADER_SIZE;
pub const COMMAND_HEADER_SIZE: usize = 32;
/// Received FISes: alignment and bytes without FIS-based switching (4.2.1).
pub const RECEIVED_FIS_ALIGN: usize = 256;
pub const RECEIVED_FIS_SIZE: usize = 256;

/// Places in the received FIS structure (4.2.1).
pub mod received {
    pub const DMA_SETUP: usize = 0x00;
    pub const PIO_SETUP: usize = 0x20;
    pub const REGISTER: usize = 0x40;
    pub const SET_DEVICE_BITS: usize = 0x58;
    pub const UNKNOWN: usize = 0x60;
    pub const UNKNOWN_SIZE: usize = 64;
}

/// Places in a command table (4.2.3).
pub mod table {
    /// A table starts on a multiple of this.
    pub const ALIGN: usize = 128;
    pub const CFIS: usize = 0x00;
    pub const CFIS_SIZE: usize = 64;
    pub const ACMD: usize = 0x40;
    pub const ACMD_SIZE: usize = 16;
    pub const PRDT: usize = 0x80;
    pub const PRD_SIZE: usize = 16;
    /// Entries of a PRDT at most.
    pub const PRDT_MAX: usize = 65_535;
}

/// One entry of the command list (4.2.2).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CommandHeader {
    /// [`HeaderFlags`] and CFL in its low five bits.
    pub flags: u16,
    /// Entries in the PRDT.
    pub prdtl: u16,
    /// Bytes transferred; the HBA writes it.
    pub prdbc: u32,
    /// Command table, a multiple of [`table::ALIGN`]: low half, high half.
    pub ctba: u32,
    pub ctbau: u32,
    pub reserved: [u32; 4],
}

const _: () = assert!(size_of::<CommandHeader>() == COMMAND_HEADER_SIZE);

impl CommandHeader {
    /// Dwords of the command FIS; 2 to 16 are valid.
    pub const fn cfl(&self) -> u16 {
        self.flags & 0x1F
    }

    pub const fn table(&self) -> u64 {
        (self.ctbau as u64) << 32 | (self.ctba & !(table::ALIGN as u32 - 1)) as u64
    }

    pub const fn flags(&self) -> HeaderFlags {
        HeaderFlags::from_bits_truncate(self.flags)
    }
}

bitflags! {
    /// First word of a [`CommandHeader`]; CFL is bits 4:0, PMP bits 15:12 (4.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HeaderFlags: u16 {
        /// ATAPI: ACMD is sent.
        const ATAPI = 1 << 5;
        /// Data goes to the device.
        const WRITE = 1 << 6;
        const PREFETCHABLE = 1 << 7;
        /// Software reset: the CFIS is a control FIS.
        const RESET = 1 << 8;
        const BIST = 1 << 9;
        /// Clear BSY when R_OK came back: the command ends without a D2H FIS.
        const CLEAR_BUSY = 1 << 10;
    }
}

/// Physical region descriptor (4.2.3.3).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Prd {
    /// Word-aligned address: low half, high half.
    pub dba: u32,
    pub dbau: u32,
    pub reserved: u32,
    /// Bit 31: interrupt on completion. Bits 21:0: bytes minus one; bytes are even.
    pub dbc: u32,
}

const _: () = assert!(size_of::<Prd>() == table::PRD_SIZE);

impl Prd {
    /// Largest region in bytes.
    pub const MAX: u32 = 4 << 20;
    pub const INTERRUPT: u32 = 1 << 31;

    /// A region of `bytes` bytes: even, at most [`Prd::MAX`], not 0.
    pub const fn new(address: u64, bytes: u32) -> Self {
        Self {
            dba: address as u32,
            dbau: (address >> 32) as u32,
            reserved: 0,
            dbc: bytes.wrapping_sub(1) & (Self::MAX - 1),
        }
    }

    pub const fn address(&self) -> u64 {
        (self.dbau as u64) << 32 | (self.dba & !1) as u64
    }

    /// Bytes; an odd count is rounded up, as bit 0 of DBC must be set.
    pub const fn bytes(&self) -> u32 {
        ((self.dbc & (Self::MAX - 1)) | 1) + 1
    }

    pub const fn interrupt(&self) -> bool {
        self.dbc & Self::INTERRUPT != 0
    }
}

const INTERRUPT_FIELDS: &[Field] = &[
    Field::bit(0, "dhr"),
    Field::bit(1, "ps"),
    Field::bit(2, "ds"),
    Field::bit(3, "sdb"),
    Field::bit(4, "uf"),
    Field::bit(5, "dp"),
    Field::bit(6, "pc"),
    Field::bit(7, "dmp"),
    Field::bit(22, "prc"),
    Field::bit(23, "ipm"),
    Field::bit(24, "of"),
    Field::bit(26, "inf"),
    Field::bit(27, "if"),
    Field::bit(28, "hbd"),
    Field::bit(29, "hbf"),
    Field::bit(30, "tfe"),
    Field::bit(31, "cpd"),
];

/// Bits of PxIS that writing one clears; the others follow PxSERR.
pub const PX_IS_CLEAR: u32 = 0xFD80_00AF;
/// Bits of PxIE that exist.
pub const PX_IE_MASK: u32 = 0xFDC0_00FF;
/// Bits of PxSERR that exist.
pub const PX_SERR_MASK: u32 = 0x07FF_0F03;

/// Generic host control. CAP, PI and the ports in IS depend on the HBA; the writable bits are
/// those of an HBA with CAP.SAM (so that GHC.AE is fixed) and CAP2.BOH.
pub const HBA: &[Register] = &[
    Register::ro(0x00, "CAP", 4, "AHCI 3.1.1").fields(&[
        Field::span(0, 5, "ports-1"),
        Field::bit(5, "sxs"),
        Field::bit(6, "ems"),
        Field::bit(7, "ccc"),
        Field::span(8, 5, "slots-1"),
        Field::bit(13, "psc"),
        Field::bit(14, "ssc"),
        Field::bit(15, "pmd"),
        Field::bit(16, "fbs"),
        Field::bit(17, "spm"),
        Field::bit(18, "sam"),
        Field::span(20, 4, "speed"),
        Field::bit(24, "clo"),
        Field::bit(25, "sal"),
        Field::bit(26, "salp"),
        Field::bit(27, "sss"),
        Field::bit(28, "smps"),
        Field::bit(29, "sntf"),
        Field::bit(30, "ncq"),
        Field::bit(31, "64"),
    ]),
    Register::rw(0x04, "GHC", 4, "AHCI 3.1.2").reset(0x8000_0000).writable(0x0000_0003).fields(&[
        Field::bit(0, "hr"),
        Field::bit(1, "ie"),
        Field::bit(2, "mrsm"),
        Field::bit(31, "ae"),
    ]),
    Register::rw(0x08, "IS", 4, "AHCI 3.1.3")
        .w1c(0xFFFF_FFFF)
        .fields(&[Field::span(0, 32, "ports")]),
    Register::ro(0x0C, "PI", 4, "AHCI 3.1.4").fields(&[Field::span(0, 32, "ports")]),
    Register::ro(0x10, "VS", 4, "AHCI 3.1.5").reset(VERSION_1_3_1 as u64),
    Register::ro(0x14, "CCC_CTL", 4, "AHCI 3.1.6"),
    Register::ro(0x18, "CCC_PORTS", 4, "AHCI 3.1.7"),
    Register::ro(0x1C, "EM_LOC", 4, "AHCI 3.1.8"),
    Register::ro(0x20, "EM_CTL", 4, "AHCI 3.1.9"),
    Register::ro(0x24, "CAP2", 4, "AHCI 3.1.10").fields(&[Field::bit(0, "boh")]),
    Register::rw(0x28, "BOHC", 4, "AHCI 3.1.11").writable(0x0000_0017).w1c(0x0000_0008).fields(&[
        Field::bit(0, "bos"),
        Field::bit(1, "oos"),
        Field::bit(2, "sooe"),
        Field::bit(3, "ooc"),
        Field::bit(4, "bb"),
    ]),
];

const LINK_FIELDS: &[Field] =
    &[Field::span(0, 4, "det"), Field::span(4, 4, "spd"), Field::span(8, 4, "ipm")];

/// One port's registers, offsets from the port's base. PxCMD.SUD and POD are writable only where
/// CAP.SSS and PxCMD.CPD say so. CI and SACT take ones only, and only while PxCMD.ST is set. PxSNTF
/// takes writes only where CAP.SSNTF is set.
pub const PORT: &[Register] = &[
    Register::rw(0x00, "PxCLB", 4, "AHCI 3.3.1").writable(0xFFFF_FC00),
    Register::rw(0x04, "PxCLBU", 4, "AHCI 3.3.2"),
    Register::rw(0x08, "PxFB", 4, "AHCI 3.3.3").writable(0xFFFF_FF00),
    Register::rw(0x0C, "PxFBU", 4, "AHCI 3.3.4"),
    Register::rw(0x10, "PxIS", 4, "AHCI 3.3.5")
        .writable(0)
        .w1c(PX_IS_CLEAR as u64)
        .fields(INTERRUPT_FIELDS),
    Register::rw(0x14, "PxIE", 4, "AHCI 3.3.6")
        .writable(PX_IE_MASK as u64)
        .fields(INTERRUPT_FIELDS),
    Register::rw(0x18, "PxCMD", 4, "AHCI 3.3.7").writable(0xF300_001B).fields(&[
        Field::bit(0, "st"),
        Field::bit(1, "sud"),
        Field::bit(2, "pod"),
        Field::bit(3, "clo"),
        Field::bit(4, "fre"),
        Field::span(8, 5, "ccs"),
        Field::bit(14, "fr"),
        Field::bit(15, "cr"),
        Field::bit(17, "pma"),
        Field::bit(18, "hpcp"),
        Field::bit(20, "cpd"),
        Field::bit(24, "atapi"),
        Field::bit(25, "dlae"),
        Field::bit(26, "alpe"),
        Field::bit(27, "asp"),
        Field::span(28, 4, "icc"),
    ]),
    Register::ro(0x20, "PxTFD", 4, "AHCI 3.3.8").reset(0x7F).fields(&[
        Field::bit(0, "err"),
        Field::bit(3, "drq"),
        Field::bit(5, "df"),
        Field::bit(6, "drdy"),
        Field::bit(7, "bsy"),
        Field::span(8, 8, "error"),
    ]),
    Register::ro(0x24, "PxSIG", 4, "AHCI 3.3.9").reset(signature::NONE as u64),
    Register::ro(0x28, "PxSSTS", 4, "AHCI 3.3.10").fields(LINK_FIELDS),
    Register::rw(0x2C, "PxSCTL", 4, "AHCI 3.3.11").writable(0x0000_0FFF).fields(LINK_FIELDS),
    Register::rw(0x30, "PxSERR", 4, "AHCI 3.3.12").writable(0).w1c(PX_SERR_MASK as u64).fields(&[
        Field::bit(0, "rec_data"),
        Field::bit(1, "rec_comm"),
        Field::bit(8, "data"),
        Field::bit(9, "comm"),
        Field::bit(10, "protocol"),
        Field::bit(11, "internal"),
        Field::bit(16, "N"),
        Field::bit(17, "I"),
        Field::bit(18, "W"),
        Field::bit(19, "B"),
        Field::bit(20, "D"),
        Field::bit(21, "C"),
        Field::bit(22, "H"),
        Field::bit(23, "S"),
        Field::bit(24, "T"),
        Field::bit(25, "F"),
        Field::bit(26, "X"),
    ]),
    Register::rw(0x34, "PxSACT", 4, "AHCI 3.3.13").fields(&[Field::span(0, 32, "tags")]),
    Register::rw(0x38, "PxCI", 4, "AHCI 3.3.14").fields(&[Field::span(0, 32, "slots")]),
    Register::ro(0x3C, "PxSNTF", 4, "AHCI 3.3.15"),
    Register::ro(0x40, "PxFBS", 4, "AHCI 3.3.16"),
    Register::ro(0x44, "PxDEVSLP", 4, "AHCI 3.3.17"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_tables_agree() {
        let hba = [
            (CAP, "CAP"),
            (GHC, "GHC"),
            (IS, "IS"),
            (PI, "PI"),
            (VS, "VS"),
            (CCC_CTL, "CCC_CTL"),
            (CCC_PORTS, "CCC_PORTS"),
            (EM_LOC, "EM_LOC"),
            (EM_CTL, "EM_CTL"),
            (CAP2, "CAP2"),
            (BOHC, "BOHC"),
        ];
        let port = [
            (PX_CLB, "PxCLB"),
            (PX_CLBU, "PxCLBU"),
            (PX_FB, "PxFB"),
            (PX_FBU, "PxFBU"),
            (PX_IS, "PxIS"),
            (PX_IE, "PxIE"),
            (PX_CMD, "PxCMD"),
            (PX_TFD, "PxTFD"),
            (PX_SIG, "PxSIG"),
            (PX_SSTS, "PxSSTS"),
            (PX_SCTL, "PxSCTL"),
            (PX_SERR, "PxSERR"),
            (PX_SACT, "PxSACT"),
            (PX_CI, "PxCI"),
            (PX_SNTF, "PxSNTF"),
            (PX_FBS, "PxFBS"),
            (PX_DEVSLP, "PxDEVSLP"),
        ];
        for (table, names) in [(HBA, &hba[..]), (PORT, &port[..])] {
            assert_eq!(table.len(), names.len());
            for (register, (offset, name)) in table.iter().zip(names) {
                assert_eq!((register.offset as usize, register.name), (*offset, *name));
            }
        }
        assert_eq!(PORT[5].writable as u32, PortInterrupt::all().bits());
        assert_eq!(PORT[11].write_one_to_clear as u32, PortError::all().bits());
        let follows = PortInterrupt::UFS | PortInterrupt::PCS | PortInterrupt::PRCS;
        assert_eq!(PX_IS_CLEAR | follows.bits(), PX_IE_MASK);
    }

    #[test]
    fn a_prd_holds_its_length_minus_one() {
        let prd = Prd::new(0x1_2345_6780, 512);
        assert_eq!((prd.dbc, prd.address(), prd.bytes()), (511, 0x1_2345_6780, 512));
        assert_eq!(Prd::new(0, Prd::MAX).bytes(), Prd::MAX);
        assert_eq!(Prd { dbc: 0, ..Prd::default() }.bytes(), 2, "an odd count is a word");
    }
}
