//! Power management (PCI PM 1.1) and wake-up (8254x 6.4): D0 and D3hot, PME status, WUFC and WUS.
//!
//! In D3hot there is no DMA and no interrupt. A frame that a filter in WUFC wants sets its bit in
//! WUS and, with PME enabled, PME status. Going back to D0 resets the device but for that.

use super::{E1000, filter, stats};
use crate::device::Origin;
use crate::net::packet::{Ip, TYPE_ARP, network_layer};
use crate::pci::ConfigSpace;
use crate::pci::config::ConfigError;
use xinim_abi::hw::e1000::{reg, wake};
use xinim_abi::hw::pci;
use xinim_abi::hw::register::{Field, Register};

/// Power management control and status, from the start of the capability.
const PMCSR: usize = 4;
const SIZE: usize = 8;
const D3_HOT: u32 = 3;
/// PMCSR: PME enable, and its status (write one to clear).
const PME_ENABLE: u64 = 1 << 8;
const PME_STATUS: u64 = 1 << 15;

const CAPABILITY: &[Register] = &[
    Register::ro(0, "pm.id", 1, "PCI PM 3.2.1").reset(pci::CAP_POWER_MANAGEMENT as u64),
    Register::ro(1, "pm.next", 1, "PCI PM 3.2.2"),
    // Version 2, PME from D0, D3hot and D3cold.
    Register::ro(2, "pm.pmc", 2, "PCI PM 3.2.3").reset(0xC802),
    Register::rw(4, "pm.pmcsr", 2, "PCI PM 3.2.4")
        .writable(PME_ENABLE | 3)
        .w1c(PME_STATUS)
        .fields(&[Field::span(0, 2, "state"), Field::bit(8, "pme_en"), Field::bit(15, "pme")]),
];

pub fn add_capability(config: &mut ConfigSpace, at: usize) -> Result<usize, ConfigError> {
    let mut body = [0; SIZE];
    body[0] = pci::CAP_POWER_MANAGEMENT;
    body[2..4].copy_from_slice(&0xC802u16.to_le_bytes());
    config.add_capability_at(at, &body, CAPABILITY)
}

impl E1000 {
    pub(super) fn asleep(&self) -> bool {
        self.config.get(self.power_capability + PMCSR, 1) & 3 == D3_HOT
    }

    /// Configuration space was written.
    pub(super) fn power_written(&mut self, offset: usize, was_asleep: bool, origin: &Origin) {
        if was_asleep && !self.asleep() {
            self.software_reset(origin);
        }
        // Both status bits are one.
        let status = self.config.get(self.power_capability + PMCSR, 2) & PME_STATUS as u32;
        if offset.abs_diff(self.power_capability + PMCSR) < 4 && status == 0 {
            self.regs[reg::WUC] &= !wake::PME_STATUS;
        }
    }

    /// A frame came while the system sleeps.
    pub(super) fn wake_frame(&mut self, frame: &[u8]) {
        let kind = stats::kind(frame);
        let own = filter::is_own(&self.regs, frame);
        let mut events = 0;
        if (own || kind == stats::Kind::Broadcast) && self.is_magic(frame) {
            events |= wake::MAG;
        }
        if own && kind == stats::Kind::Unicast {
            events |= wake::EX;
        }
        match kind {
            stats::Kind::Broadcast => events |= wake::BC,
            stats::Kind::Multicast if filter::filter(&self.regs, frame).is_some() => {
                events |= wake::MC;
            }
            _ => {}
        }
        let (at, protocol) = network_layer(frame);
        if protocol == TYPE_ARP && self.is_own_ip(frame.get(at + 24..at + 28)) {
            events |= wake::ARP;
        }
        if let Some(ip) = Ip::parse(frame)
            && !ip.v6
            && own
            && self.is_own_ip(frame.get(ip.at + 16..ip.at + 20))
        {
            events |= wake::IPV4;
        }
        self.wake(events);
    }

    /// The link changed while the system sleeps.
    pub(super) fn wake_link(&mut self) {
        if self.asleep() {
            self.wake(wake::LNKC);
        }
    }

    fn wake(&mut self, events: u32) {
        let wanted = events & self.regs[reg::WUFC];
        self.regs[reg::WUS] |= wanted;
        if wanted == 0 {
            return;
        }
        let at = self.power_capability + PMCSR + 1;
        let high = self.config.get(at, 1) as u8;
        let enabled = self.regs[reg::WUC] & wake::PME_EN != 0 || high & 1 != 0;
        if enabled {
            self.regs[reg::WUC] |= wake::PME_STATUS;
            self.config.set_u8(at, high | 0x80);
        }
    }

    /// Six bytes of ones, then our address sixteen times, anywhere behind the addresses.
    fn is_magic(&self, frame: &[u8]) -> bool {
        let mut pattern = vec![0xFF; 6];
        pattern.extend(self.nvm.mac().repeat(16));
        frame.windows(pattern.len()).skip(12).any(|window| window == pattern)
    }

    fn is_own_ip(&self, address: Option<&[u8]>) -> bool {
        (0..4).any(|index| {
            self.regs[reg::IPAV] & 1 << index != 0
                && address == Some(&self.regs[reg::IP4AT + 8 * index].to_le_bytes()[..])
        })
    }
}
