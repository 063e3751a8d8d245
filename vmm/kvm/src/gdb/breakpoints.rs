//! Breakpoints and watchpoints, as the processor's debug registers and as `int3` in memory.
//!
//! There are four debug registers (SDM volume 3, 17.2). In ring 0 they are all there is: `int3`
//! there ends a machine on a KVM that emulates ring 0. In ring 3 a software breakpoint is an `int3`
//! in memory, wherever the page is there. (A KVM that emulates ring 0 runs ring 3 directly, without
//! debug registers, and hands an `int3` there to the guest: it has no breakpoints in ring 3, and
//! they are refused.) A program's text is shared by the processes that run it, and so is an
//! `int3` in it; a hit in another address space than the one it was set in is passed over.

use std::collections::HashMap;

use gdbstub::target::ext::breakpoints::WatchKind;
use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    KVM_GUESTDBG_USE_SW_BP, kvm_guest_debug,
};

use crate::symbols::KERNEL_HALF;

/// `int3`.
pub const INT3: u8 = 0xCC;
const SLOTS: usize = 4;

/// What a debug register watches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Execute,
    Write,
    /// There is no "read only": reads and writes both.
    Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub address: u64,
    pub kind: Kind,
    /// Bytes: 1, 2, 4 or 8.
    pub length: u8,
    /// Of user addresses: the page tables it was set in.
    pub root: Option<u64>,
    /// gdb asked for a software breakpoint.
    pub software: bool,
}

/// An `int3` in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planted {
    pub physical: u64,
    pub original: u8,
    pub root: u64,
}

#[derive(Debug, Default)]
pub struct Breakpoints {
    slots: [Option<Slot>; SLOTS],
    pub planted: HashMap<u64, Planted>,
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Execute => write!(f, "executes {:#x}", self.address),
            Kind::Write => write!(f, "writes {:#x}+{}", self.address, self.length),
            Kind::Access => write!(f, "accesses {:#x}+{}", self.address, self.length),
        }
    }
}

/// In words: the debug registers, then what is in memory.
impl std::fmt::Display for Breakpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut planted: Vec<_> = self.planted.keys().collect();
        planted.sort_unstable();
        let slots = self.slots.iter().flatten().map(Slot::to_string);
        let all: Vec<_> =
            slots.chain(planted.into_iter().map(|at| format!("int3 at {at:#x}"))).collect();
        f.write_str(if all.is_empty() { "none" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

impl Breakpoints {
    /// Takes a debug register; `false`: none is free, or it cannot watch that.
    pub fn add(&mut self, slot: Slot) -> bool {
        let fits = matches!(slot.length, 1 | 2 | 4 | 8)
            && slot.address.is_multiple_of(slot.length.into())
            && (slot.kind != Kind::Execute || slot.length == 1);
        let free = self.slots.iter_mut().find(|slot| slot.is_none()).filter(|_| fits);
        free.map(|free| *free = Some(slot)).is_some()
    }

    pub fn remove(&mut self, address: u64, length: u8, wanted: impl Fn(Kind) -> bool) -> bool {
        let same =
            |slot: &Slot| slot.address == address && slot.length == length && wanted(slot.kind);
        let found = self.slots.iter_mut().find(|slot| slot.as_ref().is_some_and(same));
        found.map(|slot| *slot = None).is_some()
    }

    pub fn clear(&mut self) {
        self.slots = [None; SLOTS];
    }

    /// Which one DR6 says was hit.
    pub fn hit(&self, dr6: u64) -> Option<Slot> {
        (0..SLOTS).filter(|index| dr6 >> index & 1 != 0).find_map(|index| self.slots[index])
    }

    /// The one for execution at this address, whatever DR6 says.
    pub fn execution_at(&self, pc: u64) -> Option<Slot> {
        let here = |slot: &Slot| slot.kind == Kind::Execute && slot.address == pc;
        self.slots.iter().flatten().copied().find(here)
    }

    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none) && self.planted.is_empty()
    }

    /// What KVM is told before a vCPU goes on.
    pub fn control(&self, step: bool, inject: bool) -> kvm_guest_debug {
        let mut debug = kvm_guest_debug::default();
        if self.is_empty() && !step && !inject {
            return debug;
        }
        debug.control = KVM_GUESTDBG_ENABLE;
        if step {
            debug.control |= KVM_GUESTDBG_SINGLESTEP;
        }
        if inject {
            debug.control |= KVM_GUESTDBG_INJECT_BP;
        }
        if !self.planted.is_empty() {
            debug.control |= KVM_GUESTDBG_USE_SW_BP;
        }
        if self.slots.iter().any(Option::is_some) {
            debug.control |= KVM_GUESTDBG_USE_HW_BP;
            for (index, slot) in self.slots.iter().enumerate() {
                if let Some(slot) = slot {
                    debug.arch.debugreg[index] = slot.address;
                    debug.arch.debugreg[7] |= enable(index, slot);
                }
            }
        }
        debug
    }
}

/// Bits of DR7: globally enabled, condition, length.
fn enable(index: usize, slot: &Slot) -> u64 {
    let condition = match slot.kind {
        Kind::Execute => 0b00,
        Kind::Write => 0b01,
        Kind::Access => 0b11,
    };
    let length = match slot.length {
        2 => 0b01,
        4 => 0b11,
        8 => 0b10,
        _ => 0b00,
    };
    // Bit 10 is always set.
    1 << 10 | 0b10 << (2 * index) | (condition | length << 2) << (16 + 4 * index)
}

/// Of gdb's three, the two the processor has.
pub fn watch(kind: WatchKind) -> Kind {
    match kind {
        WatchKind::Write => Kind::Write,
        WatchKind::Read | WatchKind::ReadWrite => Kind::Access,
    }
}

pub fn in_kernel(address: u64) -> bool {
    address >= KERNEL_HALF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(address: u64, kind: Kind, length: u8) -> Slot {
        Slot { address, kind, length, root: None, software: false }
    }

    #[test]
    fn debug_registers_are_encoded_as_the_manual_says() {
        let mut breaks = Breakpoints::default();
        assert_eq!(breaks.control(false, false).control, 0);
        assert!(breaks.add(slot(0x1000, Kind::Execute, 1)));
        assert!(breaks.add(slot(0x2008, Kind::Write, 8)));
        let debug = breaks.control(true, false);
        assert_eq!(
            debug.control,
            KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP
        );
        assert_eq!(debug.arch.debugreg[..2], [0x1000, 0x2008]);
        assert_eq!(debug.arch.debugreg[7], 0x400 | 0b1010 | 0b1001 << 20);
        assert_eq!(breaks.hit(0b10).unwrap().address, 0x2008);
        assert_eq!(breaks.execution_at(0x1000).unwrap().kind, Kind::Execute);
        assert_eq!(breaks.to_string(), "executes 0x1000, writes 0x2008+8");
        assert_eq!(Breakpoints::default().to_string(), "none");
    }

    #[test]
    fn there_are_four_and_they_must_be_aligned() {
        let mut breaks = Breakpoints::default();
        assert!(!breaks.add(slot(0x1001, Kind::Write, 4)));
        assert!(!breaks.add(slot(0x1000, Kind::Write, 3)));
        for index in 0..4 {
            assert!(breaks.add(slot(index, Kind::Execute, 1)));
        }
        assert!(!breaks.add(slot(9, Kind::Execute, 1)));
        assert!(!breaks.remove(2, 1, |kind| kind == Kind::Write));
        assert!(breaks.remove(2, 1, |kind| kind == Kind::Execute));
        assert!(breaks.add(slot(9, Kind::Execute, 1)));
    }
}
