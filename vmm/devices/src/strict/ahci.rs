//! Rules of an AHCI controller's registers (AHCI 1.3.1); what is issued is in `commands.rs`.
//!
//! ```text
//!   GHC.HR -> read it 0 -> CLB, FB -> FRE -> TFD not BSY -> ST -> CI
//!   ST cleared -> CR read 0 -> FRE cleared
//!   interrupt: PxIS cleared, then IS
//! ```

use super::Found;
use super::commands::Commands;
use super::memory::Memory;
use super::shadow::{Shadow, Touch};
use crate::trace::EventKind;
use std::collections::BTreeMap;
use xinim_abi::hw::ahci::{self as hw, Ghc, PortCmd, cap};
use xinim_abi::hw::ata::Status;

/// What a driver has made of one controller.
#[derive(Default)]
pub struct Ahci {
    /// GHC.HR was set and not yet read as 0.
    resetting: bool,
    ports: BTreeMap<u16, Port>,
    commands: Commands,
}

#[derive(Default)]
struct Port {
    /// As last written.
    cmd: u64,
    /// PxIS as last read, less what was cleared since.
    pending: u64,
    /// PxTFD was overridden (PxCMD.CLO) since it was last read.
    overridden: bool,
}

const fn at(offset: usize) -> u32 {
    offset as u32
}

fn has(value: u64, bit: PortCmd) -> bool {
    value & u64::from(bit.bits()) != 0
}

impl Ahci {
    pub fn access(&mut self, touch: &Touch, shadow: &Shadow, memory: &Memory, found: &mut Found) {
        if touch.is(hw::HBA) {
            self.generic(touch, found);
        } else if touch.is(hw::PORT) {
            self.awaited(touch, found);
            self.port(touch, shadow, memory, found);
        }
    }

    fn awaited(&mut self, touch: &Touch, found: &mut Found) {
        if self.resetting && touch.write {
            // Once for each reset.
            self.resetting = false;
            found.add(
                "ahci-reset-unawaited",
                "the driver goes on although GHC.HR was not read as 0 after the reset",
            );
        }
    }

    fn generic(&mut self, touch: &Touch, found: &mut Found) {
        for (register, value, _) in touch.parts() {
            let offset = register.offset;
            let reset = value & u64::from(Ghc::HR.bits()) != 0;
            if offset == at(hw::GHC) && !touch.write {
                self.resetting &= reset;
            } else if offset == at(hw::GHC) && reset {
                *self = Self { resetting: true, ..Self::default() };
            } else if touch.write {
                self.awaited(touch, found);
            }
            if offset == at(hw::IS) && touch.write {
                self.cleared(value, found);
            }
        }
    }

    /// IS is cleared: nothing may be left in the ports' own registers (10.7.2.1).
    fn cleared(&self, ports: u64, found: &mut Found) {
        for (index, port) in &self.ports {
            if ports >> index & 1 != 0 && port.pending & u64::from(hw::PX_IS_CLEAR) != 0 {
                found.add(
                    "ahci-interrupt-order",
                    format!("IS was cleared for port {index} before PxIS ({:#x})", port.pending),
                );
            }
        }
    }

    fn port(&mut self, touch: &Touch, shadow: &Shadow, memory: &Memory, found: &mut Found) {
        let Some(index) = touch.index.filter(|index| usize::from(*index) < hw::MAX_PORTS) else {
            return;
        };
        for (register, value, mask) in touch.parts() {
            let offset = register.offset;
            let port = self.ports.entry(index).or_default();
            if !touch.write {
                if offset == at(hw::PX_IS) {
                    port.pending = value;
                } else if offset == at(hw::PX_TFD) {
                    port.overridden = false;
                }
                continue;
            }
            if offset == at(hw::PX_CMD) {
                let value = (port.cmd & !mask) | value;
                let last = |register| shadow.last_read(hw::PORT, touch.index, at(register));
                port.command_written(index, value, last(hw::PX_CMD), last(hw::PX_TFD), found);
                if !has(value, PortCmd::ST) {
                    self.commands.forget(index);
                }
            } else if offset == at(hw::PX_IS) {
                port.pending &= !value;
            } else if offset == at(hw::PX_CLB) || offset == at(hw::PX_CLBU) {
                self.base_written(index, register.name, offset, value, PortCmd::ST, found);
                self.commands.base(index, offset == at(hw::PX_CLBU), value);
            } else if offset == at(hw::PX_FB) || offset == at(hw::PX_FBU) {
                self.base_written(index, register.name, offset, value, PortCmd::FRE, found);
            } else if offset == at(hw::PX_SACT) {
                self.commands.tagged(index, value);
            } else if offset == at(hw::PX_CI) {
                let started = has(port.cmd, PortCmd::ST);
                let slots = shadow.last_read(hw::HBA, None, at(hw::CAP));
                issued(index, value, started, slots, found);
                self.commands.check(index, value, memory, found);
            }
        }
    }

    fn base_written(
        &mut self,
        index: u16,
        name: &str,
        offset: u32,
        value: u64,
        running: PortCmd,
        found: &mut Found,
    ) {
        let cmd = self.ports.get(&index).map_or(0, |port| port.cmd);
        if has(cmd, running) {
            found.add(
                "ahci-base-live",
                format!("{name} of port {index} was written while PxCMD.{running:?} is set"),
            );
        }
        let align = match offset {
            o if o == at(hw::PX_CLB) => hw::COMMAND_LIST_ALIGN as u64,
            o if o == at(hw::PX_FB) => hw::RECEIVED_FIS_ALIGN as u64,
            _ => 1,
        };
        if !value.is_multiple_of(align) {
            found.add(
                "ahci-base-alignment",
                format!(
                    "{name} of port {index} was written with {value:#x}, no multiple of {align}"
                ),
            );
        }
    }

    pub fn event(&mut self, kind: &EventKind, memory: &Memory, found: &mut Found) {
        self.commands.event(kind, memory, found);
    }
}

/// PxCI was written.
pub(super) fn issued(index: u16, value: u64, started: bool, cap: Option<u64>, found: &mut Found) {
    if !started {
        found.add("ahci-issue-stopped", format!("PxCI of port {index} was written while ST is 0"));
    }
    let slots = cap.map_or(hw::MAX_SLOTS as u32, |cap| cap::slots(cap as u32));
    if value.checked_shr(slots).unwrap_or(0) != 0 {
        found.add(
            "ahci-slot-beyond",
            format!("PxCI of port {index} was written with {value:#x}; there are {slots} slots"),
        );
    }
}

impl Port {
    fn command_written(
        &mut self,
        index: u16,
        value: u64,
        last_cmd: Option<u64>,
        last_tfd: Option<u64>,
        found: &mut Found,
    ) {
        let old = std::mem::replace(&mut self.cmd, value);
        let set = |bit| has(value, bit) && !has(old, bit);
        let running = last_cmd.is_some_and(|cmd| has(cmd, PortCmd::CR));
        self.overridden |= has(value, PortCmd::CLO);
        if set(PortCmd::ST) {
            if !has(value, PortCmd::FRE) {
                found.add(
                    "ahci-start-no-fre",
                    format!("PxCMD.ST of port {index} was set while FRE is 0"),
                );
            }
            if running {
                found.add(
                    "ahci-start-running",
                    format!("PxCMD.ST of port {index} was set although CR was last read as 1"),
                );
            }
            let busy = u64::from((Status::BSY | Status::DRQ).bits());
            if !self.overridden && last_tfd.is_some_and(|tfd| tfd & busy != 0) {
                found.add(
                    "ahci-start-busy",
                    format!("PxCMD.ST of port {index} was set although PxTFD was last read busy"),
                );
            }
        }
        let stopped = has(old, PortCmd::FRE) && !has(value, PortCmd::FRE);
        if stopped && (has(old, PortCmd::ST) || running) {
            found.add(
                "ahci-fre-live",
                format!("PxCMD.FRE of port {index} was cleared while the command list runs"),
            );
        }
    }
}
