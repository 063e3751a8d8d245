//! Statistics: cleared by reading, sticking at their maximum (8254x 13.7).

use super::regs::Regs;
use crate::net::MIN_FRAME;
use xinim_abi::hw::e1000::reg;

/// Bytes of the CRC, which all octet counters include.
pub const CRC: usize = 4;
/// Longest frame that is not long, CRC included.
pub const NORMAL_MAX: usize = 1522;

/// The low halves of 64-bit counters; the high half follows.
const WIDE: [u32; 4] = [reg::GORCL, reg::GOTCL, reg::TORL, reg::TOTL];

/// One more.
pub fn count(regs: &mut Regs, counter: u32) {
    regs[counter] = regs[counter].saturating_add(1);
}

/// Adds to a 64-bit counter, given by its low half.
fn add(regs: &mut Regs, low: u32, bytes: usize) {
    let value = u64::from(regs[low]) | u64::from(regs[low + 4]) << 32;
    let value = value.saturating_add(bytes as u64);
    regs[low] = value as u32;
    regs[low + 4] = (value >> 32) as u32;
}

/// Reads a counter. A 64-bit one is cleared when its high half is read, which a driver does
/// second.
pub fn read(regs: &mut Regs, offset: u32) -> u32 {
    let value = regs[offset];
    if let Some(low) = WIDE.into_iter().find(|low| low + 4 == offset) {
        regs[low] = 0;
    }
    if !WIDE.contains(&offset) {
        regs[offset] = 0;
    }
    value
}

/// The counter for a frame's length (with CRC) among six from `first` on.
fn by_length(first: u32, length: usize) -> u32 {
    let class = match length {
        ..=64 => 0,
        65..=127 => 1,
        128..=255 => 2,
        256..=511 => 3,
        512..=1023 => 4,
        _ => 5,
    };
    first + 4 * class
}

/// A frame came over the wire, wanted or not.
pub fn seen(regs: &mut Regs, frame: usize) {
    count(regs, reg::TPR);
    add(regs, reg::TORL, frame + CRC);
}

/// A frame passed the filters.
pub fn received(regs: &mut Regs, frame: &[u8]) {
    count(regs, reg::GPRC);
    add(regs, reg::GORCL, frame.len() + CRC);
    count(regs, by_length(reg::PRC64, frame.len() + CRC));
    match kind(frame) {
        Kind::Unicast => {}
        Kind::Multicast => count(regs, reg::MPRC),
        Kind::Broadcast => count(regs, reg::BPRC),
    }
}

/// A frame was sent.
pub fn sent(regs: &mut Regs, frame: &[u8]) {
    let length = frame.len().max(MIN_FRAME) + CRC;
    for counter in [reg::TPT, reg::GPTC, by_length(reg::PTC64, length)] {
        count(regs, counter);
    }
    add(regs, reg::TOTL, length);
    add(regs, reg::GOTCL, length);
    match kind(frame) {
        Kind::Unicast => {}
        Kind::Multicast => count(regs, reg::MPTC),
        Kind::Broadcast => count(regs, reg::BPTC),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unicast,
    Multicast,
    Broadcast,
}

/// To whom a frame goes.
pub fn kind(frame: &[u8]) -> Kind {
    match frame.get(..6) {
        Some([255, 255, 255, 255, 255, 255]) => Kind::Broadcast,
        Some(address) if address[0] & 1 != 0 => Kind::Multicast,
        _ => Kind::Unicast,
    }
}
