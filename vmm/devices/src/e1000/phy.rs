//! The PHY behind MDIC: identity, auto-negotiation with a partner that offers everything up to
//! 1000BASE-T full duplex, link state.
//!
//! ```text
//!   cable in, reset, restart --> negotiating (AUTONEG_TIME) --> link
//!   cable out, power down    --> no link       forced speed --> link at once
//! ```

use std::time::Duration;
use xinim_abi::hw::e1000::{Model, phy::*};
use xinim_abi::hw::register::{Direction, OnRead, Register};

/// Real partners take about two seconds; a driver must wait for the link in any case, and a
/// machine that boots in milliseconds should not wait for that.
pub const AUTONEG_TIME: Duration = Duration::from_millis(1);

/// ANA: 10 half, 10 full, 100 half, 100 full.
const ANA_10H: u16 = 1 << 5;
const ANA_10F: u16 = 1 << 6;
const ANA_100H: u16 = 1 << 7;
const ANA_100F: u16 = 1 << 8;
/// GCON: 1000BASE-T full duplex.
const ADVERTISE_1000F: u16 = 1 << 9;
/// What the partner offers: everything, symmetric pause, acknowledged.
const PARTNER_OFFERS: u16 = 0x45E1;
/// Both receivers fine, partner offers 1000BASE-T full duplex.
const GIGABIT_PARTNER: u16 = 0x3800;
/// Partner can negotiate; a page was received.
const EXPANSION_DONE: u16 = 0x0003;

/// Speed and duplex of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Mb/s.
    pub speed: u16,
    pub full_duplex: bool,
}

#[derive(Clone, Debug)]
pub struct Phy {
    // Fixed configuration
    model: Model,
    // Volatile state
    registers: [u16; COUNT],
    cable: bool,
    /// When the negotiation going on ends.
    negotiating: Option<Duration>,
    link: Option<Link>,
}

impl Phy {
    /// Power-on at `now`.
    pub fn new(model: Model, cable: bool, now: Duration) -> Self {
        let mut phy = Self { model, registers: [0; COUNT], cable, negotiating: None, link: None };
        phy.reset(now);
        phy
    }

    /// All registers to their defaults; negotiates anew.
    pub fn reset(&mut self, now: Duration) {
        self.registers = [0; COUNT];
        for register in REGISTERS {
            self.registers[register.offset as usize] = register.reset as u16;
        }
        let (high, low) = self.model.phy_id();
        self.registers[ID1 as usize] = high;
        self.registers[ID2 as usize] = low;
        self.restart(now);
    }

    pub fn link(&self) -> Option<Link> {
        self.link
    }

    pub fn cable(&self) -> bool {
        self.cable
    }

    pub fn set_cable(&mut self, cable: bool, now: Duration) {
        if self.cable != cable {
            self.cable = cable;
            self.restart(now);
        }
    }

    pub fn loopback(&self) -> bool {
        self.registers[CONTROL as usize] & control::LOOPBACK != 0
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.negotiating
    }

    /// Ends a negotiation whose time has come.
    pub fn expire(&mut self, now: Duration) {
        if self.negotiating.is_some_and(|end| end <= now) {
            self.negotiating = None;
            self.registers[STATUS as usize] |= status::AUTONEG_DONE;
            self.registers[PARTNER as usize] = PARTNER_OFFERS | 0x4000;
            self.registers[EXPANSION as usize] = EXPANSION_DONE;
            self.registers[GIGABIT_STATUS as usize] = GIGABIT_PARTNER;
            self.registers[INTERRUPT_STATUS as usize] |= INT_AUTONEG;
            let link = self.negotiated();
            self.set_link(link);
        }
    }

    fn restart(&mut self, now: Duration) {
        self.negotiating = None;
        self.set_link(None);
        self.registers[STATUS as usize] &= !status::AUTONEG_DONE;
        for register in [PARTNER, EXPANSION, GIGABIT_STATUS] {
            self.registers[register as usize] = 0;
        }
        let mode = self.registers[CONTROL as usize];
        if !self.cable || mode & (control::POWER_DOWN | control::ISOLATE) != 0 {
            return;
        }
        if mode & control::AUTONEG != 0 {
            self.negotiating = Some(now + AUTONEG_TIME);
        } else {
            let speed = if mode & control::SPEED_1000 != 0 {
                1000
            } else if mode & control::SPEED_100 != 0 {
                100
            } else {
                10
            };
            let full_duplex = mode & control::FULL_DUPLEX != 0;
            self.set_link(Some(Link { speed, full_duplex }));
        }
    }

    /// The best that both sides offer.
    fn negotiated(&self) -> Option<Link> {
        let ours = self.registers[ADVERTISE as usize];
        if self.registers[GIGABIT_CONTROL as usize] & ADVERTISE_1000F != 0 {
            return Some(Link { speed: 1000, full_duplex: true });
        }
        let modes = [(ANA_100F, 100, true), (ANA_100H, 100, false), (ANA_10F, 10, true)];
        let modes = modes.into_iter().chain([(ANA_10H, 10, false)]);
        modes
            .filter(|(bit, ..)| ours & bit != 0)
            .map(|(_, speed, full_duplex)| Link { speed, full_duplex })
            .next()
    }

    fn set_link(&mut self, link: Option<Link>) {
        if self.link.is_some() != link.is_some() {
            self.registers[INTERRUPT_STATUS as usize] |= INT_LINK;
        }
        self.link = link;
        // The link bit stays low until read, even when the link comes back.
        if link.is_none() {
            self.registers[STATUS as usize] &= !status::LINK;
        }
        let specific = link.map_or(0, |link| {
            let speed = match link.speed {
                1000 => specific::SPEED_1000,
                100 => specific::SPEED_100,
                _ => 0,
            };
            let duplex = if link.full_duplex { specific::FULL_DUPLEX } else { 0 };
            speed | duplex | specific::LINK | specific::RESOLVED
        });
        self.registers[SPECIFIC_STATUS as usize] = specific;
    }

    /// Whether an enabled PHY interrupt is pending.
    pub fn interrupt(&self) -> bool {
        self.registers[INTERRUPT_STATUS as usize] & self.registers[INTERRUPT_ENABLE as usize] != 0
    }

    /// Reads a register; those that do not exist are 0.
    pub fn read(&mut self, number: u32) -> u16 {
        let Some(register) = find(number) else {
            return 0;
        };
        let value = self.registers[number as usize];
        if register.on_read == OnRead::Clears {
            self.registers[number as usize] = 0;
        }
        if number == STATUS && self.link.is_some() {
            self.registers[STATUS as usize] |= status::LINK;
        }
        value
    }

    /// Writes a register.
    pub fn write(&mut self, number: u32, value: u16, now: Duration) {
        let Some(register) = find(number) else {
            return;
        };
        let old = self.registers[number as usize];
        let new = register.written(u64::from(old), u64::from(value)) as u16;
        self.registers[number as usize] = new;
        if register.direction == Direction::ReadOnly || number != CONTROL {
            return;
        }
        self.registers[CONTROL as usize] = new & !(control::RESET | control::RESTART_AUTONEG);
        let mode = control::POWER_DOWN
            | control::ISOLATE
            | control::AUTONEG
            | control::SPEED_1000
            | control::SPEED_100
            | control::FULL_DUPLEX;
        if new & control::RESET != 0 {
            self.reset(now);
        } else if new & control::RESTART_AUTONEG != 0 || (old ^ new) & mode != 0 {
            self.restart(now);
        }
    }
}

fn find(number: u32) -> Option<&'static Register> {
    REGISTERS.iter().find(|register| register.offset == number)
}
