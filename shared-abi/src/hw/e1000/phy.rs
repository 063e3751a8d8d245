//! PHY registers behind MDIC (IEEE 802.3 clause 22 and 8254x chapter 13.2, 82574 10.2.8): 16 bits
//! each; the offset in the table is the register's number.

use crate::hw::register::{Field, OnRead, Register};

pub const CONTROL: u32 = 0;
pub const STATUS: u32 = 1;
pub const ID1: u32 = 2;
pub const ID2: u32 = 3;
/// Auto-negotiation: what we offer, what the partner offers, how it went.
pub const ADVERTISE: u32 = 4;
pub const PARTNER: u32 = 5;
pub const EXPANSION: u32 = 6;
pub const NEXT_PAGE: u32 = 7;
pub const GIGABIT_CONTROL: u32 = 9;
pub const GIGABIT_STATUS: u32 = 10;
pub const EXTENDED_STATUS: u32 = 15;
/// Marvell: PHY specific control and status.
pub const SPECIFIC_CONTROL: u32 = 16;
pub const SPECIFIC_STATUS: u32 = 17;
pub const INTERRUPT_ENABLE: u32 = 18;
pub const INTERRUPT_STATUS: u32 = 19;
pub const EXTENDED_CONTROL: u32 = 20;
pub const RECEIVE_ERRORS: u32 = 21;
pub const PAGE: u32 = 22;
pub const COUNT: usize = 32;

/// CONTROL.
pub mod control {
    pub const SPEED_1000: u16 = 1 << 6;
    pub const FULL_DUPLEX: u16 = 1 << 8;
    /// Clears itself.
    pub const RESTART_AUTONEG: u16 = 1 << 9;
    pub const ISOLATE: u16 = 1 << 10;
    pub const POWER_DOWN: u16 = 1 << 11;
    pub const AUTONEG: u16 = 1 << 12;
    pub const SPEED_100: u16 = 1 << 13;
    pub const LOOPBACK: u16 = 1 << 14;
    /// Clears itself.
    pub const RESET: u16 = 1 << 15;
}

/// STATUS.
pub mod status {
    pub const EXTENDED: u16 = 1 << 0;
    /// Latched low: the first read after a loss of link tells of it.
    pub const LINK: u16 = 1 << 2;
    pub const AUTONEG_ABLE: u16 = 1 << 3;
    pub const AUTONEG_DONE: u16 = 1 << 5;
    /// 10 and 100 Mb/s in both duplexes, extended status at 15.
    pub const ABILITIES: u16 = 0x7900;
}

/// SPECIFIC_STATUS.
pub mod specific {
    pub const JABBER: u16 = 1 << 0;
    pub const LINK: u16 = 1 << 10;
    pub const RESOLVED: u16 = 1 << 11;
    pub const FULL_DUPLEX: u16 = 1 << 13;
    pub const SPEED_100: u16 = 1 << 14;
    pub const SPEED_1000: u16 = 2 << 14;
}

/// INTERRUPT_ENABLE and INTERRUPT_STATUS: the link changed.
pub const INT_LINK: u16 = 1 << 10;
/// Auto-negotiation completed.
pub const INT_AUTONEG: u16 = 1 << 11;

pub const REGISTERS: &[Register] = &[
    Register::rw(0, "PCTRL", 2, "802.3 22.2.4.1").reset(0x1140).fields(&[
        Field::bit(9, "restart"),
        Field::bit(11, "power_down"),
        Field::bit(12, "autoneg"),
        Field::bit(14, "loopback"),
        Field::bit(15, "reset"),
    ]),
    Register::ro(1, "PSTATUS", 2, "802.3 22.2.4.2")
        .reset(0x7949)
        .fields(&[Field::bit(2, "link"), Field::bit(5, "autoneg_done")]),
    Register::ro(2, "PHYID1", 2, "802.3 22.2.4.3.1").reset(0x0141),
    Register::ro(3, "PHYID2", 2, "802.3 22.2.4.3.1"),
    Register::rw(4, "ANA", 2, "802.3 28.2.4.1.3").reset(0x0DE1),
    Register::ro(5, "LPA", 2, "802.3 28.2.4.1.4"),
    Register::ro(6, "ANE", 2, "802.3 28.2.4.1.5"),
    Register::rw(7, "NPT", 2, "802.3 28.2.4.1.6").reset(0x2001),
    Register::ro(8, "LPN", 2, "802.3 28.2.4.1.7"),
    Register::rw(9, "GCON", 2, "802.3 40.5.1.1").reset(0x0E00).writable(0xFF00),
    Register::ro(10, "GSTATUS", 2, "802.3 40.5.1.1"),
    Register::ro(15, "ESTATUS", 2, "802.3 22.2.4.4").reset(0x3000),
    Register::rw(16, "PSCON", 2, "8254x 13.2").reset(0x0360),
    Register::ro(17, "PSSTAT", 2, "8254x 13.2").fields(&[
        Field::bit(10, "link"),
        Field::bit(11, "resolved"),
        Field::bit(13, "full_duplex"),
        Field::span(14, 2, "speed"),
    ]),
    Register::rw(18, "PINTE", 2, "8254x 13.2"),
    Register::ro(19, "PINTS", 2, "8254x 13.2").on_read(OnRead::Clears),
    Register::rw(20, "EPSCON", 2, "8254x 13.2").reset(0x0C60),
    Register::ro(21, "PREC", 2, "8254x 13.2").on_read(OnRead::Clears),
    Register::rw(22, "PAGE", 2, "82574 10.2.8").writable(0xFF),
    Register::rw(26, "EPSCON2", 2, "8254x 13.2").reset(0x000C),
    Register::rw(29, "R29", 2, "8254x 13.2"),
    Register::rw(30, "R30", 2, "8254x 13.2"),
];
