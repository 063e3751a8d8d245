//! Register tables of BAR 0. All registers are 32 bits wide.
//!
//! [`REGISTERS`] are common to all models, [`REGISTERS_8254X`] and [`REGISTERS_82574`] belong to
//! their own; arrays are in [`BLOCKS`]. Statistics are cleared by reading (8254x 13.7).

use super::{MSIX_VECTORS, Model, RECEIVE_ADDRESSES, TABLE_WORDS};
use crate::hw::register::{Field, OnRead, Register};

/// Offsets.
pub mod reg {
    pub const CTRL: u32 = 0x0000;
    pub const STATUS: u32 = 0x0008;
    pub const EECD: u32 = 0x0010;
    pub const EERD: u32 = 0x0014;
    pub const CTRL_EXT: u32 = 0x0018;
    pub const FLA: u32 = 0x001C;
    pub const MDIC: u32 = 0x0020;
    pub const FCAL: u32 = 0x0028;
    pub const FCAH: u32 = 0x002C;
    pub const FCT: u32 = 0x0030;
    pub const VET: u32 = 0x0038;
    pub const ICR: u32 = 0x00C0;
    pub const ITR: u32 = 0x00C4;
    pub const ICS: u32 = 0x00C8;
    pub const IMS: u32 = 0x00D0;
    pub const IMC: u32 = 0x00D8;
    pub const EIAC: u32 = 0x00DC;
    pub const IAM: u32 = 0x00E0;
    pub const IVAR: u32 = 0x00E4;
    pub const RCTL: u32 = 0x0100;
    pub const FCTTV: u32 = 0x0170;
    pub const TXCW: u32 = 0x0178;
    pub const RXCW: u32 = 0x0180;
    pub const TCTL: u32 = 0x0400;
    pub const TIPG: u32 = 0x0410;
    pub const AIT: u32 = 0x0458;
    pub const LEDCTL: u32 = 0x0E00;
    pub const EXTCNF_CTRL: u32 = 0x0F00;
    pub const EXTCNF_SIZE: u32 = 0x0F08;
    pub const PBA: u32 = 0x1000;
    pub const PBS: u32 = 0x1008;
    pub const EEMNGCTL: u32 = 0x1010;
    pub const EEWR: u32 = 0x102C;
    pub const FCRTL: u32 = 0x2160;
    pub const FCRTH: u32 = 0x2168;
    pub const PSRCTL: u32 = 0x2170;
    pub const RDFH: u32 = 0x2410;
    pub const RDFT: u32 = 0x2418;
    pub const RDFHS: u32 = 0x2420;
    pub const RDFTS: u32 = 0x2428;
    pub const RDFPC: u32 = 0x2430;
    pub const RDBAL: u32 = 0x2800;
    pub const RDBAH: u32 = 0x2804;
    pub const RDLEN: u32 = 0x2808;
    pub const RDH: u32 = 0x2810;
    pub const RDT: u32 = 0x2818;
    pub const RDTR: u32 = 0x2820;
    pub const RXDCTL: u32 = 0x2828;
    pub const RADV: u32 = 0x282C;
    pub const RDBAL1: u32 = 0x2900;
    pub const RDBAH1: u32 = 0x2904;
    pub const RDLEN1: u32 = 0x2908;
    pub const RDH1: u32 = 0x2910;
    pub const RDT1: u32 = 0x2918;
    pub const RXDCTL1: u32 = 0x2928;
    pub const RSRPD: u32 = 0x2C00;
    pub const RAID: u32 = 0x2C08;
    pub const TXDMAC: u32 = 0x3000;
    pub const TDFH: u32 = 0x3410;
    pub const TDFT: u32 = 0x3418;
    pub const TDFHS: u32 = 0x3420;
    pub const TDFTS: u32 = 0x3428;
    pub const TDFPC: u32 = 0x3430;
    pub const TDBAL: u32 = 0x3800;
    pub const TDBAH: u32 = 0x3804;
    pub const TDLEN: u32 = 0x3808;
    pub const TDH: u32 = 0x3810;
    pub const TDT: u32 = 0x3818;
    pub const TIDV: u32 = 0x3820;
    pub const TXDCTL: u32 = 0x3828;
    pub const TADV: u32 = 0x382C;
    pub const TSPMT: u32 = 0x3830;
    pub const TARC0: u32 = 0x3840;
    pub const TDBAL1: u32 = 0x3900;
    pub const TDBAH1: u32 = 0x3904;
    pub const TDLEN1: u32 = 0x3908;
    pub const TDH1: u32 = 0x3910;
    pub const TDT1: u32 = 0x3918;
    pub const TXDCTL1: u32 = 0x3928;
    pub const TARC1: u32 = 0x3940;
    pub const CRCERRS: u32 = 0x4000;
    pub const ALGNERRC: u32 = 0x4004;
    pub const SYMERRS: u32 = 0x4008;
    pub const RXERRC: u32 = 0x400C;
    pub const MPC: u32 = 0x4010;
    pub const SCC: u32 = 0x4014;
    pub const ECOL: u32 = 0x4018;
    pub const MCC: u32 = 0x401C;
    pub const LATECOL: u32 = 0x4020;
    pub const COLC: u32 = 0x4028;
    pub const DC: u32 = 0x4030;
    pub const TNCRS: u32 = 0x4034;
    pub const SEC: u32 = 0x4038;
    pub const CEXTERR: u32 = 0x403C;
    pub const RLEC: u32 = 0x4040;
    pub const XONRXC: u32 = 0x4048;
    pub const XONTXC: u32 = 0x404C;
    pub const XOFFRXC: u32 = 0x4050;
    pub const XOFFTXC: u32 = 0x4054;
    pub const FCRUC: u32 = 0x4058;
    pub const PRC64: u32 = 0x405C;
    pub const PRC127: u32 = 0x4060;
    pub const PRC255: u32 = 0x4064;
    pub const PRC511: u32 = 0x4068;
    pub const PRC1023: u32 = 0x406C;
    pub const PRC1522: u32 = 0x4070;
    pub const GPRC: u32 = 0x4074;
    pub const BPRC: u32 = 0x4078;
    pub const MPRC: u32 = 0x407C;
    pub const GPTC: u32 = 0x4080;
    pub const GORCL: u32 = 0x4088;
    pub const GORCH: u32 = 0x408C;
    pub const GOTCL: u32 = 0x4090;
    pub const GOTCH: u32 = 0x4094;
    pub const RNBC: u32 = 0x40A0;
    pub const RUC: u32 = 0x40A4;
    pub const RFC: u32 = 0x40A8;
    pub const ROC: u32 = 0x40AC;
    pub const RJC: u32 = 0x40B0;
    pub const MGTPRC: u32 = 0x40B4;
    pub const MGTPDC: u32 = 0x40B8;
    pub const MGTPTC: u32 = 0x40BC;
    pub const TORL: u32 = 0x40C0;
    pub const TORH: u32 = 0x40C4;
    pub const TOTL: u32 = 0x40C8;
    pub const TOTH: u32 = 0x40CC;
    pub const TPR: u32 = 0x40D0;
    pub const TPT: u32 = 0x40D4;
    pub const PTC64: u32 = 0x40D8;
    pub const PTC127: u32 = 0x40DC;
    pub const PTC255: u32 = 0x40E0;
    pub const PTC511: u32 = 0x40E4;
    pub const PTC1023: u32 = 0x40E8;
    pub const PTC1522: u32 = 0x40EC;
    pub const MPTC: u32 = 0x40F0;
    pub const BPTC: u32 = 0x40F4;
    pub const TSCTC: u32 = 0x40F8;
    pub const TSCTFC: u32 = 0x40FC;
    pub const IAC: u32 = 0x4100;
    pub const ICRXPTC: u32 = 0x4104;
    pub const ICRXATC: u32 = 0x4108;
    pub const ICTXPTC: u32 = 0x410C;
    pub const ICTXATC: u32 = 0x4110;
    pub const ICTXQEC: u32 = 0x4118;
    pub const ICTXQMTC: u32 = 0x411C;
    pub const ICRXDMTC: u32 = 0x4120;
    pub const ICRXOC: u32 = 0x4124;
    pub const RXCSUM: u32 = 0x5000;
    pub const RFCTL: u32 = 0x5008;
    pub const WUC: u32 = 0x5800;
    pub const WUFC: u32 = 0x5808;
    pub const WUS: u32 = 0x5810;
    pub const MRQC: u32 = 0x5818;
    pub const MANC: u32 = 0x5820;
    pub const IPAV: u32 = 0x5838;
    pub const WUPL: u32 = 0x5900;
    pub const GCR: u32 = 0x5B00;
    pub const FACTPS: u32 = 0x5B30;
    pub const SWSM: u32 = 0x5B50;
    pub const FWSM: u32 = 0x5B54;
    pub const SWSM2: u32 = 0x5B58;
    /// First of five, 4 bytes apart (82574).
    pub const EITR: u32 = 0x00E8;
    /// First of the multicast table's 128 words.
    pub const MTA: u32 = 0x5200;
    /// First of 16 receive addresses, 8 bytes apart: low, high.
    pub const RAL: u32 = 0x5400;
    pub const RAH: u32 = 0x5404;
    /// First of the VLAN filter's 128 words.
    pub const VFTA: u32 = 0x5600;
    /// First of four IPv4 addresses, 8 bytes apart.
    pub const IP4AT: u32 = 0x5840;
    /// First of four words, an IPv6 address.
    pub const IP6AT: u32 = 0x5880;
    /// First of 32 words: the packet that woke the system.
    pub const WUPM: u32 = 0x5A00;
    /// First of 32 words: the RSS redirection table, a byte an entry (82574).
    pub const RETA: u32 = 0x5C00;
    /// First of 10 words: the RSS key (82574).
    pub const RSSRK: u32 = 0x5C80;
    /// First of four flexible filter lengths, 8 bytes apart; masks; values.
    pub const FFLT: u32 = 0x5F00;
    pub const FFMT: u32 = 0x9000;
    pub const FFVT: u32 = 0x9800;
    /// First statistics register, and the first behind them.
    pub const STATISTICS: u32 = 0x4000;
    pub const STATISTICS_END: u32 = 0x4128;
}

const CAUSES: &[Field] = &[
    Field::bit(0, "txdw"),
    Field::bit(1, "txqe"),
    Field::bit(2, "lsc"),
    Field::bit(4, "rxdmt0"),
    Field::bit(6, "rxo"),
    Field::bit(7, "rxt0"),
    Field::bit(9, "mdac"),
    Field::bit(15, "txd_low"),
    Field::bit(16, "srpd"),
    Field::bit(17, "ack"),
    Field::bit(20, "rxq0"),
    Field::bit(21, "rxq1"),
    Field::bit(22, "txq0"),
    Field::bit(23, "txq1"),
    Field::bit(24, "other"),
    Field::bit(31, "asserted"),
];

/// Registers of all models.
pub const REGISTERS: &[Register] = &[
    Register::rw(reg::CTRL, "CTRL", 4, "8254x 13.4").reset(0x0000_0201).fields(&[
        Field::bit(0, "fd"),
        Field::bit(2, "gio_master_disable"),
        Field::bit(3, "lrst"),
        Field::bit(5, "asde"),
        Field::bit(6, "slu"),
        Field::span(8, 2, "speed"),
        Field::bit(26, "rst"),
        Field::bit(27, "rfce"),
        Field::bit(28, "tfce"),
        Field::bit(30, "vme"),
        Field::bit(31, "phy_rst"),
    ]),
    Register::ro(reg::STATUS, "STATUS", 4, "8254x 13.4").fields(&[
        Field::bit(0, "fd"),
        Field::bit(1, "lu"),
        Field::bit(4, "txoff"),
        Field::span(6, 2, "speed"),
        Field::bit(19, "gio_master"),
    ]),
    Register::rw(reg::EECD, "EECD", 4, "8254x 13.4")
        .reset(0x0000_0100)
        .writable(0x0000_0047)
        .fields(&[
            Field::bit(0, "sk"),
            Field::bit(1, "cs"),
            Field::bit(2, "di"),
            Field::bit(3, "do"),
            Field::bit(6, "req"),
            Field::bit(7, "gnt"),
            Field::bit(8, "present"),
        ]),
    Register::rw(reg::CTRL_EXT, "CTRL_EXT", 4, "8254x 13.4").fields(&[
        Field::bit(13, "ee_rst"),
        Field::bit(24, "eiame"),
        Field::bit(27, "iame"),
        Field::bit(31, "pba_support"),
    ]),
    Register::ro(reg::FLA, "FLA", 4, "8254x 13.4"),
    Register::rw(reg::MDIC, "MDIC", 4, "8254x 13.4").writable(0x3FFF_FFFF).fields(&[
        Field::span(0, 16, "data"),
        Field::span(16, 5, "register"),
        Field::span(21, 5, "phy"),
        Field::span(26, 2, "op"),
        Field::bit(28, "ready"),
        Field::bit(29, "interrupt"),
        Field::bit(30, "error"),
    ]),
    Register::rw(reg::FCAL, "FCAL", 4, "8254x 13.4").reset(0x00C2_8001),
    Register::rw(reg::FCAH, "FCAH", 4, "8254x 13.4").reset(0x0000_0100).writable(0xFFFF),
    Register::rw(reg::FCT, "FCT", 4, "8254x 13.4").reset(0x8808).writable(0xFFFF),
    Register::rw(reg::VET, "VET", 4, "8254x 13.4").reset(0x8100).writable(0xFFFF),
    Register::rw(reg::ICR, "ICR", 4, "8254x 13.4")
        .writable(0)
        .w1c(0xFFFF_FFFF)
        .on_read(OnRead::Clears)
        .fields(CAUSES),
    Register::rw(reg::ITR, "ITR", 4, "8254x 13.4").writable(0xFFFF),
    Register::wo(reg::ICS, "ICS", 4, "8254x 13.4").fields(CAUSES),
    Register::rw(reg::IMS, "IMS", 4, "8254x 13.4").fields(CAUSES),
    Register::wo(reg::IMC, "IMC", 4, "8254x 13.4").fields(CAUSES),
    Register::rw(reg::RCTL, "RCTL", 4, "8254x 13.4").writable(0xFFFF_FFFE).fields(&[
        Field::bit(1, "en"),
        Field::bit(2, "sbp"),
        Field::bit(3, "upe"),
        Field::bit(4, "mpe"),
        Field::bit(5, "lpe"),
        Field::span(6, 2, "lbm"),
        Field::span(8, 2, "rdmts"),
        Field::span(10, 2, "dtyp"),
        Field::span(12, 2, "mo"),
        Field::bit(15, "bam"),
        Field::span(16, 2, "bsize"),
        Field::bit(18, "vfe"),
        Field::bit(25, "bsex"),
        Field::bit(26, "secrc"),
    ]),
    Register::rw(reg::FCTTV, "FCTTV", 4, "8254x 13.4").writable(0xFFFF),
    Register::rw(reg::TXCW, "TXCW", 4, "8254x 13.4"),
    Register::ro(reg::RXCW, "RXCW", 4, "8254x 13.4"),
    Register::rw(reg::TCTL, "TCTL", 4, "8254x 13.4").writable(0x3FFF_FFFF).fields(&[
        Field::bit(1, "en"),
        Field::bit(3, "psp"),
        Field::span(4, 8, "ct"),
        Field::span(12, 10, "cold"),
        Field::bit(22, "swxoff"),
    ]),
    Register::rw(reg::TIPG, "TIPG", 4, "8254x 13.4").reset(0x0060_2008).writable(0x3FFF_FFFF),
    Register::rw(reg::AIT, "AIT", 4, "8254x 13.4").writable(0xFFFF),
    Register::rw(reg::LEDCTL, "LEDCTL", 4, "8254x 13.4").reset(0x0706_8302),
    Register::rw(reg::PBA, "PBA", 4, "8254x 13.4")
        .reset(0x0010_0030)
        .writable(0xFFFF)
        .fields(&[Field::span(0, 16, "rx_kib"), Field::span(16, 16, "tx_kib")]),
    Register::rw(reg::FCRTL, "FCRTL", 4, "8254x 13.4").writable(0x8000_FFF8),
    Register::rw(reg::FCRTH, "FCRTH", 4, "8254x 13.4").writable(0x0000_FFF8),
    Register::ro(reg::RDFH, "RDFH", 4, "8254x 13.8"),
    Register::ro(reg::RDFT, "RDFT", 4, "8254x 13.8"),
    Register::ro(reg::RDFHS, "RDFHS", 4, "8254x 13.8"),
    Register::ro(reg::RDFTS, "RDFTS", 4, "8254x 13.8"),
    Register::ro(reg::RDFPC, "RDFPC", 4, "8254x 13.8"),
    Register::rw(reg::RDBAL, "RDBAL", 4, "8254x 13.4").writable(0xFFFF_FFF0),
    Register::rw(reg::RDBAH, "RDBAH", 4, "8254x 13.4"),
    Register::rw(reg::RDLEN, "RDLEN", 4, "8254x 13.4").writable(0x000F_FF80),
    Register::rw(reg::RDH, "RDH", 4, "8254x 13.4").writable(0xFFFF),
    Register::rw(reg::RDT, "RDT", 4, "8254x 13.4").writable(0xFFFF),
    Register::rw(reg::RDTR, "RDTR", 4, "8254x 13.4")
        .writable(0x8000_FFFF)
        .fields(&[Field::span(0, 16, "delay"), Field::bit(31, "fpd")]),
    Register::rw(reg::RXDCTL, "RXDCTL", 4, "8254x 13.4").reset(0x0101_0000).writable(0x013F_3F3F),
    Register::rw(reg::RADV, "RADV", 4, "8254x 13.4").writable(0xFFFF),
    Register::rw(reg::RSRPD, "RSRPD", 4, "8254x 13.4").writable(0xFFF),
    Register::ro(reg::TDFH, "TDFH", 4, "8254x 13.8"),
    Register::ro(reg::TDFT, "TDFT", 4, "8254x 13.8"),
    Register::ro(reg::TDFHS, "TDFHS", 4, "8254x 13.8"),
    Register::ro(reg::TDFTS, "TDFTS", 4, "8254x 13.8"),
    Register::ro(reg::TDFPC, "TDFPC", 4, "8254x 13.8"),
    Register::rw(reg::TDBAL, "TDBAL", 4, "8254x 13.4").writable(0xFFFF_FFF0),
    Register::rw(reg::TDBAH, "TDBAH", 4, "8254x 13.4"),
    Register::rw(reg::TDLEN, "TDLEN", 4, "8254x 13.4").writable(0x000F_FF80),
    Register::rw(reg::TDH, "TDH", 4, "8254x 13.4").writable(0xFFFF),
    Register::rw(reg::TDT, "TDT", 4, "8254x 13.4").writable(0xFFFF),
    Register::rw(reg::TIDV, "TIDV", 4, "8254x 13.4").writable(0x8000_FFFF),
    Register::rw(reg::TXDCTL, "TXDCTL", 4, "8254x 13.4").writable(0xFF3F_3F3F),
    Register::rw(reg::TADV, "TADV", 4, "8254x 13.4").writable(0xFFFF),
    Register::ro(reg::CRCERRS, "CRCERRS", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::ALGNERRC, "ALGNERRC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::SYMERRS, "SYMERRS", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::RXERRC, "RXERRC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::MPC, "MPC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::SCC, "SCC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::ECOL, "ECOL", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::MCC, "MCC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::LATECOL, "LATECOL", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::COLC, "COLC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::DC, "DC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TNCRS, "TNCRS", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::SEC, "SEC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::CEXTERR, "CEXTERR", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::RLEC, "RLEC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::XONRXC, "XONRXC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::XONTXC, "XONTXC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::XOFFRXC, "XOFFRXC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::XOFFTXC, "XOFFTXC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::FCRUC, "FCRUC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PRC64, "PRC64", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PRC127, "PRC127", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PRC255, "PRC255", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PRC511, "PRC511", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PRC1023, "PRC1023", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PRC1522, "PRC1522", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::GPRC, "GPRC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::BPRC, "BPRC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::MPRC, "MPRC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::GPTC, "GPTC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::GORCL, "GORCL", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::GORCH, "GORCH", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::GOTCL, "GOTCL", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::GOTCH, "GOTCH", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::RNBC, "RNBC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::RUC, "RUC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::RFC, "RFC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::ROC, "ROC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::RJC, "RJC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::MGTPRC, "MGTPRC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::MGTPDC, "MGTPDC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::MGTPTC, "MGTPTC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TORL, "TORL", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TORH, "TORH", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TOTL, "TOTL", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TOTH, "TOTH", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TPR, "TPR", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TPT, "TPT", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PTC64, "PTC64", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PTC127, "PTC127", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PTC255, "PTC255", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PTC511, "PTC511", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PTC1023, "PTC1023", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::PTC1522, "PTC1522", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::MPTC, "MPTC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::BPTC, "BPTC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TSCTC, "TSCTC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::ro(reg::TSCTFC, "TSCTFC", 4, "8254x 13.7").on_read(OnRead::Clears),
    Register::rw(reg::RXCSUM, "RXCSUM", 4, "8254x 13.4").writable(0x0000_3FFF).fields(&[
        Field::span(0, 8, "pcss"),
        Field::bit(8, "ipofl"),
        Field::bit(9, "tuofl"),
        Field::bit(13, "pcsd"),
    ]),
    Register::rw(reg::WUC, "WUC", 4, "8254x 13.6").writable(0xB).w1c(0x4).fields(&[
        Field::bit(0, "apme"),
        Field::bit(1, "pme_en"),
        Field::bit(2, "pme_status"),
    ]),
    Register::rw(reg::WUFC, "WUFC", 4, "8254x 13.6"),
    Register::rw(reg::WUS, "WUS", 4, "8254x 13.6").writable(0).w1c(0xFFFF_FFFF),
    Register::rw(reg::MANC, "MANC", 4, "8254x 13.6"),
    Register::rw(reg::IPAV, "IPAV", 4, "8254x 13.6"),
    Register::ro(reg::WUPL, "WUPL", 4, "8254x 13.6"),
];

/// Registers of the 82540EM and the 82545EM only.
pub const REGISTERS_8254X: &[Register] = &[
    Register::rw(reg::EERD, "EERD", 4, "8254x 13.4").writable(0x0000_FF01).fields(&[
        Field::bit(0, "start"),
        Field::bit(4, "done"),
        Field::span(8, 8, "address"),
        Field::span(16, 16, "data"),
    ]),
    Register::rw(reg::TXDMAC, "TXDMAC", 4, "8254x 13.4").writable(0x1),
    Register::rw(reg::TSPMT, "TSPMT", 4, "8254x 13.4"),
];

/// Registers of the 82574L only.
pub const REGISTERS_82574: &[Register] = &[
    Register::rw(reg::EERD, "EERD", 4, "82574 10.2.2").writable(0x0000_FFFD).fields(&[
        Field::bit(0, "start"),
        Field::bit(1, "done"),
        Field::span(2, 14, "address"),
        Field::span(16, 16, "data"),
    ]),
    Register::rw(reg::EIAC, "EIAC", 4, "82574 10.2.4").writable(0x01F0_0000),
    Register::rw(reg::IAM, "IAM", 4, "82574 10.2.4"),
    Register::rw(reg::IVAR, "IVAR", 4, "82574 10.2.4").writable(0x800F_FFFF).fields(&[
        Field::span(0, 4, "rxq0"),
        Field::span(4, 4, "rxq1"),
        Field::span(8, 4, "txq0"),
        Field::span(12, 4, "txq1"),
        Field::span(16, 4, "other"),
    ]),
    Register::rw(reg::EXTCNF_CTRL, "EXTCNF_CTRL", 4, "82574 10.2.2")
        .reset(0x8)
        .fields(&[Field::bit(5, "mdio_sw_ownership")]),
    Register::rw(reg::EXTCNF_SIZE, "EXTCNF_SIZE", 4, "82574 10.2.2"),
    Register::ro(reg::PBS, "PBS", 4, "82574 10.2.3").reset(0x28),
    Register::rw(reg::EEMNGCTL, "EEMNGCTL", 4, "82574 10.2.2").reset(0x8004_0000),
    Register::rw(reg::EEWR, "EEWR", 4, "82574 10.2.2").fields(&[
        Field::bit(0, "start"),
        Field::bit(1, "done"),
        Field::span(2, 14, "address"),
        Field::span(16, 16, "data"),
    ]),
    Register::rw(reg::PSRCTL, "PSRCTL", 4, "82574 10.2.5")
        .reset(0x0004_0402)
        .writable(0x3F3F_3F7F)
        .fields(&[
            Field::span(0, 7, "size0/128"),
            Field::span(8, 6, "size1/1024"),
            Field::span(16, 6, "size2/1024"),
            Field::span(24, 6, "size3/1024"),
        ]),
    Register::rw(reg::RDBAL1, "RDBAL1", 4, "82574 10.2.5").writable(0xFFFF_FFF0),
    Register::rw(reg::RDBAH1, "RDBAH1", 4, "82574 10.2.5"),
    Register::rw(reg::RDLEN1, "RDLEN1", 4, "82574 10.2.5").writable(0x000F_FF80),
    Register::rw(reg::RDH1, "RDH1", 4, "82574 10.2.5").writable(0xFFFF),
    Register::rw(reg::RDT1, "RDT1", 4, "82574 10.2.5").writable(0xFFFF),
    Register::rw(reg::RXDCTL1, "RXDCTL1", 4, "82574 10.2.5")
        .reset(0x0101_0000)
        .writable(0x013F_3F3F),
    Register::rw(reg::RAID, "RAID", 4, "82574 10.2.5"),
    Register::rw(reg::TARC0, "TARC0", 4, "82574 10.2.6").reset(0x0000_0403),
    Register::rw(reg::TDBAL1, "TDBAL1", 4, "82574 10.2.6").writable(0xFFFF_FFF0),
    Register::rw(reg::TDBAH1, "TDBAH1", 4, "82574 10.2.6"),
    Register::rw(reg::TDLEN1, "TDLEN1", 4, "82574 10.2.6").writable(0x000F_FF80),
    Register::rw(reg::TDH1, "TDH1", 4, "82574 10.2.6").writable(0xFFFF),
    Register::rw(reg::TDT1, "TDT1", 4, "82574 10.2.6").writable(0xFFFF),
    Register::rw(reg::TXDCTL1, "TXDCTL1", 4, "82574 10.2.6").writable(0xFF3F_3F3F),
    Register::rw(reg::TARC1, "TARC1", 4, "82574 10.2.6").reset(0x0000_0403),
    Register::ro(reg::IAC, "IAC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::ro(reg::ICRXPTC, "ICRXPTC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::ro(reg::ICRXATC, "ICRXATC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::ro(reg::ICTXPTC, "ICTXPTC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::ro(reg::ICTXATC, "ICTXATC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::ro(reg::ICTXQEC, "ICTXQEC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::ro(reg::ICTXQMTC, "ICTXQMTC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::ro(reg::ICRXDMTC, "ICRXDMTC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::ro(reg::ICRXOC, "ICRXOC", 4, "82574 10.2.7").on_read(OnRead::Clears),
    Register::rw(reg::RFCTL, "RFCTL", 4, "82574 10.2.5"),
    Register::rw(reg::MRQC, "MRQC", 4, "82574 10.2.5"),
    Register::rw(reg::GCR, "GCR", 4, "82574 10.2.2"),
    Register::ro(reg::FACTPS, "FACTPS", 4, "82574 10.2.2").reset(0x2000_0000),
    Register::rw(reg::SWSM, "SWSM", 4, "82574 10.2.2")
        .fields(&[Field::bit(0, "smbi"), Field::bit(1, "swesmbi")]),
    Register::rw(reg::FWSM, "FWSM", 4, "82574 10.2.2"),
    Register::rw(reg::SWSM2, "SWSM2", 4, "82574 10.2.2"),
];

/// An array of equal groups of registers.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Offset of the first group.
    pub first: u32,
    pub count: u32,
    /// Bytes from one group to the next.
    pub stride: u32,
    /// Registers of a group, offsets from its start.
    pub table: &'static [Register],
    /// Only the 82574L has it.
    pub only_82574: bool,
}

impl Block {
    const fn new(first: u32, count: usize, stride: u32, table: &'static [Register]) -> Self {
        Self { first, count: count as u32, stride, table, only_82574: false }
    }

    const fn of_82574(mut self) -> Self {
        self.only_82574 = true;
        self
    }

    /// Which group `offset` is in, and where in it.
    pub const fn locate(&self, offset: u32) -> Option<(u32, u32)> {
        if offset < self.first || offset >= self.first + self.count * self.stride {
            return None;
        }
        let inside = offset - self.first;
        Some((inside / self.stride, inside % self.stride))
    }
}

/// The arrays.
pub const BLOCKS: &[Block] = &[
    Block::new(
        reg::EITR,
        MSIX_VECTORS as usize,
        4,
        &[Register::rw(0, "EITR", 4, "82574 10.2.4").writable(0xFFFF)],
    )
    .of_82574(),
    Block::new(reg::MTA, TABLE_WORDS, 4, &[Register::rw(0, "MTA", 4, "8254x 13.5")]),
    Block::new(
        reg::RAL,
        RECEIVE_ADDRESSES,
        8,
        &[
            Register::rw(0, "RAL", 4, "8254x 13.5"),
            Register::rw(4, "RAH", 4, "8254x 13.5").writable(0x8003_FFFF).fields(&[
                Field::span(0, 16, "address"),
                Field::span(16, 2, "select"),
                Field::bit(31, "valid"),
            ]),
        ],
    ),
    Block::new(reg::VFTA, TABLE_WORDS, 4, &[Register::rw(0, "VFTA", 4, "8254x 13.5")]),
    Block::new(reg::IP4AT, 4, 8, &[Register::rw(0, "IP4AT", 4, "8254x 13.6")]),
    Block::new(reg::IP6AT, 4, 4, &[Register::rw(0, "IP6AT", 4, "8254x 13.6")]),
    Block::new(reg::WUPM, 32, 4, &[Register::ro(0, "WUPM", 4, "8254x 13.6")]),
    Block::new(reg::RETA, 32, 4, &[Register::rw(0, "RETA", 4, "82574 10.2.5")]).of_82574(),
    Block::new(reg::RSSRK, 10, 4, &[Register::rw(0, "RSSRK", 4, "82574 10.2.5")]).of_82574(),
    Block::new(reg::FFLT, 4, 8, &[Register::rw(0, "FFLT", 4, "8254x 13.6").writable(0x7FF)]),
    Block::new(reg::FFMT, 128, 8, &[Register::rw(0, "FFMT", 4, "8254x 13.6").writable(0xF)]),
    Block::new(reg::FFVT, 128, 8, &[Register::rw(0, "FFVT", 4, "8254x 13.6")]),
];

/// The register of `model` at `offset`: its table, its offset there and, in an array, which group.
pub fn locate(model: Model, offset: u32) -> Option<(&'static [Register], u32, Option<u16>)> {
    let own = if model.is_82574() { REGISTERS_82574 } else { REGISTERS_8254X };
    let covers = |r: &Register| r.offset <= offset && offset < r.end();
    for table in [REGISTERS, own] {
        if table.iter().any(covers) {
            return Some((table, offset, None));
        }
    }
    BLOCKS.iter().filter(|block| model.is_82574() || !block.only_82574).find_map(|block| {
        let (index, inside) = block.locate(offset)?;
        block.table.iter().any(|r| r.offset <= inside && inside < r.end()).then_some((
            block.table,
            inside,
            Some(index as u16),
        ))
    })
}
