//! Rules of Intel's gigabit controllers (8254x software developer's manual, 82574 datasheet).
//!
//! A descriptor belongs to the device from the write of its ring's tail until the device takes it; it
//! is sealed in between.

use super::Found;
use super::memory::{Memory, Sealed};
use super::shadow::Touch;
use crate::trace::EventKind;
use std::collections::BTreeMap;
use xinim_abi::hw::e1000::descriptor::SIZE;
use xinim_abi::hw::e1000::{
    Ctrl, REGISTERS, REGISTERS_8254X, REGISTERS_82574, RING_ALIGN, RING_LENGTH_UNIT, Rctl, Tctl,
    eerd, mdic, reg,
};

/// Nothing may be touched for so long after CTRL.RST (8254x 13.4.1), ns.
const RESET_PAUSE: u64 = 1_000;
/// Registers of the second queue are this far from the first's.
const QUEUE_STRIDE: u32 = 0x100;
/// Bytes of a descriptor that only the driver writes: the address; transmitted ones also the command.
const RECEIVED: usize = 8;
const SENT: usize = 12;
/// Bits of RCTL that select packet split descriptors, which are larger (82574 10.2.5).
const SPLIT: u64 = 1 << Rctl::DTYP_SHIFT;
/// The largest ring: 20 bits of length.
const DESCRIPTORS_MAX: u64 = (1 << 20) / SIZE as u64;

/// What a driver has made of one controller.
#[derive(Default)]
pub struct E1000 {
    /// When CTRL.RST was set, until the pause is over.
    reset: Option<u64>,
    receive: [Ring; 2],
    send: [Ring; 2],
    receiving: bool,
    sending: bool,
    split: bool,
    /// An operation was begun and its end not yet seen.
    mdic_busy: bool,
    eerd_busy: bool,
    /// An interrupt came and the causes were not looked at.
    interrupted: bool,
    /// Causes that may interrupt.
    open: u64,
    /// All of them were closed since that interrupt: the driver deals with it.
    closed: bool,
    /// EIAC: causes that clear themselves.
    auto_clear: u64,
}

#[derive(Default)]
struct Ring {
    base: u64,
    /// Bytes.
    length: u64,
    tail: u64,
    /// The device's, by index.
    owned: BTreeMap<u64, Option<Sealed>>,
}

impl Ring {
    fn count(&self) -> u64 {
        self.length / SIZE as u64
    }
}

impl E1000 {
    pub fn access(&mut self, touch: &Touch, time: u64, memory: &Memory, found: &mut Found) {
        let own = [REGISTERS, REGISTERS_8254X, REGISTERS_82574].iter().any(|table| touch.is(table));
        if !own {
            return;
        }
        if let Some(since) = self.reset.take()
            && time.saturating_sub(since) < RESET_PAUSE
        {
            found.add(
                "e1000-reset-pause",
                format!("a register was touched {} ns after CTRL.RST", time - since),
            );
        }
        for (register, value, _) in touch.parts() {
            if touch.write {
                self.written(register.name, register.offset, value, time, memory, found);
            } else {
                self.read(touch, register.offset, value);
            }
        }
    }

    fn read(&mut self, touch: &Touch, offset: u32, value: u64) {
        match offset {
            reg::ICR => self.interrupted = false,
            reg::MDIC if value & u64::from(mdic::READY | mdic::ERROR) != 0 => {
                self.mdic_busy = false
            }
            reg::EERD => {
                let done = match touch.is(REGISTERS_82574) {
                    true => eerd::DONE_82574,
                    false => eerd::DONE_8254X,
                };
                if value & u64::from(done) != 0 {
                    self.eerd_busy = false;
                }
            }
            _ => {}
        }
    }

    fn written(
        &mut self,
        name: &str,
        offset: u32,
        value: u64,
        time: u64,
        memory: &Memory,
        found: &mut Found,
    ) {
        match offset {
            reg::CTRL if value & u64::from(Ctrl::RST.bits()) != 0 => {
                *self = Self { reset: Some(time), ..Self::default() };
            }
            reg::ICR => self.interrupted = false,
            reg::EIAC => self.auto_clear = value,
            reg::IMS => {
                if self.interrupted && self.closed && self.auto_clear == 0 {
                    found.add(
                        "e1000-interrupt-unread",
                        "interrupts were unmasked after one whose causes in ICR were not looked at",
                    );
                }
                self.closed = false;
                self.open |= value;
            }
            reg::IMC => {
                self.open &= !value;
                self.closed |= self.interrupted && self.open == 0;
            }
            reg::MDIC => {
                let busy = std::mem::replace(&mut self.mdic_busy, true);
                begun(name, busy, found);
            }
            reg::EERD if value & u64::from(eerd::START) != 0 => {
                let busy = std::mem::replace(&mut self.eerd_busy, true);
                begun(name, busy, found);
            }
            reg::RCTL => self.control_written(false, value, found),
            reg::TCTL => self.control_written(true, value, found),
            _ => self.ring_written(name, offset, value, memory, found),
        }
    }

    /// RCTL or TCTL.
    fn control_written(&mut self, send: bool, value: u64, found: &mut Found) {
        let (enabled, on, ring, name) = if send {
            (value & u64::from(Tctl::EN.bits()) != 0, &mut self.sending, &self.send[0], "TCTL.EN")
        } else {
            self.split = value & SPLIT != 0;
            let enabled = value & u64::from(Rctl::EN.bits()) != 0;
            (enabled, &mut self.receiving, &self.receive[0], "RCTL.EN")
        };
        if enabled && !*on && ring.length == 0 {
            found.add("e1000-no-ring", format!("{name} was set while the ring has no length"));
        }
        *on = enabled;
    }

    /// One of the registers of a ring, if it is one.
    fn ring_written(
        &mut self,
        name: &str,
        offset: u32,
        value: u64,
        memory: &Memory,
        found: &mut Found,
    ) {
        let (send, first) = match offset & !(QUEUE_STRIDE | 0xFF) {
            0x2800 => (false, 0x2800),
            0x3800 => (true, 0x3800),
            _ => return,
        };
        let queue = usize::from(offset & QUEUE_STRIDE != 0);
        // The rings have the same registers at the same distances from their first.
        let place = offset - first - QUEUE_STRIDE * queue as u32 + reg::RDBAL;
        let enabled = if send { self.sending } else { self.receiving };
        let split = self.split && !send;
        let rings = if send { &mut self.send } else { &mut self.receive };
        let ring = &mut rings[queue];
        if enabled
            && matches!(place, reg::RDBAL | reg::RDBAH | reg::RDLEN)
            && !ring.owned.is_empty()
        {
            found.add(
                "e1000-ring-live",
                format!("{name} was written while the device has descriptors of the ring"),
            );
        }
        match place {
            reg::RDBAL => {
                if !value.is_multiple_of(RING_ALIGN) {
                    found.add(
                        "e1000-ring-alignment",
                        format!("{name} was written with {value:#x}, no multiple of {RING_ALIGN}"),
                    );
                }
                ring.base = (ring.base & !0xFFFF_FFFF) | (value & !(RING_ALIGN - 1));
            }
            reg::RDBAH => ring.base = (ring.base & 0xFFFF_FFFF) | value << 32,
            reg::RDLEN => {
                if !value.is_multiple_of(u64::from(RING_LENGTH_UNIT)) {
                    found.add(
                        "e1000-ring-length",
                        format!(
                            "{name} was written with {value}, no multiple of {RING_LENGTH_UNIT}"
                        ),
                    );
                }
                ring.length = value;
                ring.owned.clear();
            }
            reg::RDT => ring.tail_written(name, value, send, split, memory, found),
            _ => {}
        }
    }

    pub fn event(&mut self, kind: &EventKind, memory: &Memory, found: &mut Found) {
        match *kind {
            EventKind::Msi { pending: false, .. } | EventKind::Line { level: true } => {
                self.closed &= self.interrupted;
                self.interrupted = true;
            }
            EventKind::Descriptor { send, queue, index, .. } => {
                let rings = if send { &mut self.send } else { &mut self.receive };
                let Some(ring) = rings.get_mut(usize::from(queue)) else { return };
                let sealed = ring.owned.remove(&u64::from(index)).flatten();
                if sealed.is_some_and(|sealed| !memory.intact(&sealed)) {
                    let which = if send { "transmit" } else { "receive" };
                    found.add(
                        "e1000-descriptor-changed",
                        format!("{which} descriptor {index} changed while the device had it"),
                    );
                }
            }
            _ => {}
        }
    }
}

fn begun(name: &str, busy: bool, found: &mut Found) {
    if busy {
        found.add(
            "e1000-operation-busy",
            format!("{name} was written before the last operation was seen to end"),
        );
    }
}

impl Ring {
    /// The driver gives descriptors to the device: from the old tail to the new one.
    fn tail_written(
        &mut self,
        name: &str,
        tail: u64,
        send: bool,
        split: bool,
        memory: &Memory,
        found: &mut Found,
    ) {
        let count = self.count();
        if tail >= count || count > DESCRIPTORS_MAX {
            let ring =
                if count == 0 { "no ring".to_owned() } else { format!("{count} descriptors") };
            found.add("e1000-tail-beyond", format!("{name} was set to {tail}; there is {ring}"));
            return;
        }
        // Packet split descriptors are twice as large; they are not followed.
        if split {
            self.tail = tail;
            return;
        }
        let mut index = self.tail;
        let mut overtaken = None;
        while index != tail {
            let address = self.base.wrapping_add(index * SIZE as u64);
            let sealed = memory.seal(address, if send { SENT } else { RECEIVED });
            if self.owned.insert(index, sealed).is_some() {
                overtaken.get_or_insert(index);
            }
            index = if index + 1 >= count { 0 } else { index + 1 };
        }
        self.tail = tail;
        if let Some(index) = overtaken {
            found.add(
                "e1000-tail-passes-head",
                format!("{name} was set to {tail}: descriptor {index} was still the device's"),
            );
        }
    }
}
