//! EEPROM words (EERD) and PHY registers (MDIC), each waited for within a limit.

use xinim_abi::hw::e1000::nvm::{self, WORDS};
use xinim_abi::hw::e1000::{Model, eerd, mdic, reg};
use xinim_driver_kit::{Clock, Mmio, wait_until};

/// EERD takes microseconds, MDIC 64.
const TIMEOUT_NS: u64 = 10_000_000;

/// `None`: no answer.
pub fn nvm_word<M: Mmio>(
    registers: &M,
    clock: &impl Clock,
    model: Model,
    word: u32,
) -> Option<u16> {
    let (request, done) = if model.is_82574() {
        (word << eerd::ADDRESS_SHIFT_82574, eerd::DONE_82574)
    } else {
        (word << eerd::ADDRESS_SHIFT_8254X, eerd::DONE_8254X)
    };
    registers.write32(reg::EERD as usize, request | eerd::START);
    let mut value = 0;
    let answered = wait_until(clock, TIMEOUT_NS, || {
        value = registers.read32(reg::EERD as usize);
        value & done != 0
    });
    answered.then_some((value >> eerd::DATA_SHIFT) as u16)
}

/// The address in the EEPROM; `None` if it cannot be read, its checksum is wrong or the address is none
/// a card can have. Reading costs two register accesses a word, which are exits in a virtual machine:
/// where the address words agree with what the device `loaded` by itself, the checksum is not looked at.
pub fn nvm_mac<M: Mmio>(
    registers: &M,
    clock: &impl Clock,
    model: Model,
    loaded: Option<[u8; 6]>,
) -> Option<[u8; 6]> {
    let mut words = [0; WORDS];
    let read = |words: &mut [u16], first: usize| {
        for (at, word) in words.iter_mut().enumerate() {
            *word = nvm_word(registers, clock, model, (first + at) as u32)?;
        }
        Some(())
    };
    let (head, rest) = words.split_at_mut(nvm::MAC + 3);
    read(head, 0)?;
    let mut mac = [0; 6];
    for (to, word) in mac.as_chunks_mut::<2>().0.iter_mut().zip(&head[nvm::MAC..]) {
        *to = word.to_le_bytes();
    }
    if loaded != Some(mac) {
        read(rest, nvm::MAC + 3)?;
        if !nvm::is_valid(&words) {
            return None;
        }
    }
    is_station(mac).then_some(mac)
}

/// An address of one card: not multicast, not all zeros.
pub fn is_station(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

fn mdic<M: Mmio>(registers: &M, clock: &impl Clock, command: u32) -> Option<u16> {
    let command = command | mdic::PHY_ADDRESS << mdic::PHY_SHIFT;
    registers.write32(reg::MDIC as usize, command);
    let mut value = 0;
    let answered = wait_until(clock, TIMEOUT_NS, || {
        value = registers.read32(reg::MDIC as usize);
        value & mdic::READY != 0
    });
    (answered && value & mdic::ERROR == 0).then_some((value & mdic::DATA_MASK) as u16)
}

pub fn phy_read<M: Mmio>(registers: &M, clock: &impl Clock, register: u32) -> Option<u16> {
    mdic(registers, clock, mdic::READ | register << mdic::REGISTER_SHIFT)
}

pub fn phy_write<M: Mmio>(
    registers: &M,
    clock: &impl Clock,
    register: u32,
    value: u16,
) -> Option<()> {
    let command = mdic::WRITE | register << mdic::REGISTER_SHIFT | u32::from(value);
    mdic(registers, clock, command).map(drop)
}
