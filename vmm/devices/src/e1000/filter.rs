//! Which frames are for this station (8254x 3.2.1): exact addresses, the multicast table, VLANs,
//! and the promiscuous modes.

use super::regs::Regs;
use super::stats::{Kind, kind};
use crate::net::packet::word;
use xinim_abi::hw::e1000::{RAH_AV, RECEIVE_ADDRESSES, Rctl, reg};

/// Why a frame was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// By an address of its own, or as broadcast.
    Exact,
    /// By the multicast table or a promiscuous mode: software should look again.
    Inexact,
}

/// The VLAN tag of a frame, by the type in VET.
pub fn vlan_tag(regs: &Regs, frame: &[u8]) -> Option<u16> {
    (frame.len() >= 18 && u32::from(word(frame, 12)) == regs[reg::VET]).then(|| word(frame, 14))
}

/// Decides on a frame.
pub fn filter(regs: &Regs, frame: &[u8]) -> Option<Passed> {
    let rctl = Rctl::from_bits_retain(regs[reg::RCTL]);
    if rctl.contains(Rctl::VFE)
        && let Some(tag) = vlan_tag(regs, frame)
    {
        let id = u32::from(tag & 0xFFF);
        if regs[reg::VFTA + 4 * (id >> 5)] & 1 << (id & 31) == 0 {
            return None;
        }
        let cfi = tag & 0x1000 != 0;
        if rctl.contains(Rctl::CFIEN) && cfi != rctl.contains(Rctl::CFI) {
            return None;
        }
    }
    if is_own(regs, frame) {
        return Some(Passed::Exact);
    }
    match kind(frame) {
        Kind::Broadcast if rctl.contains(Rctl::BAM) => Some(Passed::Exact),
        Kind::Broadcast | Kind::Multicast if rctl.contains(Rctl::MPE) => Some(Passed::Inexact),
        Kind::Multicast if in_table(regs, frame, rctl) => Some(Passed::Inexact),
        Kind::Unicast if rctl.contains(Rctl::UPE) => Some(Passed::Inexact),
        _ => None,
    }
}

/// Whether the destination is one of the receive addresses.
pub fn is_own(regs: &Regs, frame: &[u8]) -> bool {
    let Some(to) = frame.first_chunk::<6>() else { return false };
    (0..RECEIVE_ADDRESSES as u32).any(|index| {
        let low = regs[reg::RAL + 8 * index].to_le_bytes();
        let high = regs[reg::RAH + 8 * index];
        // Address select 0: compared with the destination.
        high & RAH_AV != 0
            && high >> 16 & 3 == 0
            && to[..4] == low
            && to[4..] == high.to_le_bytes()[..2]
    })
}

fn in_table(regs: &Regs, frame: &[u8], rctl: Rctl) -> bool {
    let shift = [4, 3, 2, 0][(rctl.bits() >> Rctl::MO_SHIFT & 3) as usize];
    let last = u32::from(frame[4]) | u32::from(frame[5]) << 8;
    let index = last >> shift & 0xFFF;
    regs[reg::MTA + 4 * (index >> 5)] & 1 << (index & 31) != 0
}
