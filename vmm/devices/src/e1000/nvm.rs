//! The EEPROM: 64 words with a checksum, read by EERD (both layouts), written by EEWR (82574L), or
//! moved bit by bit over EECD as a Microwire part (8254x chapter 5.3).
//!
//! ```text
//! CS up, then on each rise of SK one bit from DI:   1 | opcode (2) | address (6) | data (16)
//! READ (10): each further rise shifts a bit out on DO, word after word
//! WRITE (01), ERASE (11), EWEN/EWDS (00 11/00 00)     CS down ends the command
//! ```

use xinim_abi::hw::e1000::{Model, eecd, eerd, nvm};

const ADDRESS_BITS: u32 = 6;

/// The memory and the state of its serial interface.
#[derive(Clone, Debug)]
pub struct Nvm {
    // Fixed configuration
    model: Model,
    // Volatile state (the words survive every reset)
    words: [u16; nvm::WORDS],
    wires: u32,
    serial: Serial,
    /// Writes are allowed (EWEN).
    unlocked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Serial {
    /// Bits shifted in since the start bit, and how many.
    bits: u32,
    count: u32,
    started: bool,
    /// A read: the word going out and its next bit, from 16 down; 16 is the leading zero.
    output: Option<(usize, u32)>,
    data_out: bool,
}

impl Nvm {
    pub fn new(model: Model, mac: [u8; 6]) -> Self {
        let mut words = [0xFFFF; nvm::WORDS];
        for (word, pair) in words[nvm::MAC..].iter_mut().zip(mac.chunks_exact(2)) {
            *word = u16::from_le_bytes([pair[0], pair[1]]);
        }
        words[nvm::COMPATIBILITY] = 0x0001;
        words[nvm::INIT_CONTROL_1] = if model.is_82574() { 0x4508 } else { 0x4408 };
        words[nvm::SUBSYSTEM_ID] = super::SUBSYSTEM;
        words[nvm::SUBSYSTEM_VENDOR] = xinim_abi::hw::e1000::VENDOR;
        words[nvm::DEVICE_ID] = model.device_id();
        words[nvm::VENDOR_ID] = xinim_abi::hw::e1000::VENDOR;
        words[nvm::INIT_CONTROL_2] = 0x3040;
        nvm::seal(&mut words);
        Self { model, words, wires: 0, serial: Serial::default(), unlocked: false }
    }

    /// The Ethernet address stored.
    pub fn mac(&self) -> [u8; 6] {
        let mut mac = [0; 6];
        for (pair, word) in mac.chunks_exact_mut(2).zip(self.words) {
            pair.copy_from_slice(&word.to_le_bytes());
        }
        mac
    }

    fn word(&self, address: usize) -> u16 {
        self.words.get(address).copied().unwrap_or(0xFFFF)
    }

    /// What EERD reads after `value` was written: addresses beyond the memory give ones.
    pub fn eerd(&self, value: u32) -> u32 {
        let (shift, mask, done) = if self.model.is_82574() {
            (eerd::ADDRESS_SHIFT_82574, eerd::ADDRESS_MASK_82574, eerd::DONE_82574)
        } else {
            (eerd::ADDRESS_SHIFT_8254X, eerd::ADDRESS_MASK_8254X, eerd::DONE_8254X)
        };
        if value & eerd::START == 0 {
            return value & !done;
        }
        let data = self.word((value >> shift & mask) as usize);
        u32::from(data) << eerd::DATA_SHIFT | (value & mask << shift) | done
    }

    /// EEWR of the 82574L: stores a word; what it reads afterwards.
    pub fn eewr(&mut self, value: u32) -> u32 {
        if value & eerd::START == 0 {
            return value & !eerd::DONE_82574;
        }
        let address = value >> eerd::ADDRESS_SHIFT_82574 & eerd::ADDRESS_MASK_82574;
        if let Some(word) = self.words.get_mut(address as usize) {
            *word = (value >> eerd::DATA_SHIFT) as u16;
        }
        value & !eerd::START | eerd::DONE_82574
    }

    /// EECD as it reads. There is nobody to share with: a request is granted at once.
    pub fn eecd(&self) -> u32 {
        let mut value = self.wires | eecd::PRES;
        if self.wires & eecd::REQ != 0 {
            value |= eecd::GNT;
        }
        if self.serial.data_out {
            value |= eecd::DO;
        }
        if self.model.is_82574() {
            value |= eecd::AUTO_RD;
        }
        value
    }

    /// The driver moves the wires.
    pub fn set_eecd(&mut self, value: u32) {
        let old = std::mem::replace(
            &mut self.wires,
            value & (eecd::SK | eecd::CS | eecd::DI | eecd::REQ),
        );
        if self.wires & eecd::CS == 0 {
            self.serial = Serial::default();
        } else if old & eecd::SK == 0 && self.wires & eecd::SK != 0 && old & eecd::CS != 0 {
            self.clock(self.wires & eecd::DI != 0);
        }
    }

    fn clock(&mut self, bit: bool) {
        if let Some((word, left)) = self.serial.output {
            self.serial.data_out = left < 16 && self.word(word) >> left & 1 != 0;
            let next = (word + 1) % nvm::WORDS;
            self.serial.output = Some(if left == 0 { (next, 15) } else { (word, left - 1) });
            return;
        }
        if !self.serial.started {
            self.serial.started = bit;
            return;
        }
        self.serial.bits = self.serial.bits << 1 | u32::from(bit);
        self.serial.count += 1;
        let (bits, count) = (self.serial.bits, self.serial.count);
        let address = |bits: u32| (bits & ((1 << ADDRESS_BITS) - 1)) as usize;
        if count == 2 + ADDRESS_BITS {
            match bits >> ADDRESS_BITS {
                0b10 => self.serial.output = Some((address(bits), 15)),
                0b11 if self.unlocked => self.words[address(bits)] = 0xFFFF,
                0b00 => self.unlocked = bits >> (ADDRESS_BITS - 2) & 3 == 3,
                _ => {}
            }
        } else if count == 2 + ADDRESS_BITS + 16 {
            if bits >> (ADDRESS_BITS + 16) == 0b01 && self.unlocked {
                self.words[address(bits >> 16)] = bits as u16;
            }
            // Ready: a finished write shows as a one until CS falls.
            self.serial.data_out = true;
        } else if count > 2 + ADDRESS_BITS + 16 {
            self.serial.count = count - 1;
        }
    }
}
