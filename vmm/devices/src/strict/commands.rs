//! Rules of AHCI command lists: headers, command tables, PRDTs, and who owns them (AHCI 4.2, 5.3).
//!
//! A command belongs to the controller from its issue to its end; header (but for PRDBC, which the
//! controller writes) and table are sealed in between.

use super::Found;
use super::memory::{Memory, Sealed};
use crate::trace::EventKind;
use std::collections::BTreeMap;
use xinim_abi::hw::ahci::{CommandHeader, MAX_SLOTS, Prd, table};
use xinim_abi::hw::ata::command;
use zerocopy::FromBytes;

/// Entries of a PRDT that are looked at.
const ENTRIES: usize = 2048;
/// CFL: dwords of a command FIS (4.2.2).
const CFL: std::ops::RangeInclusive<u16> = 2..=16;
/// Where PRDBC is in the header.
const PRDBC: usize = 4;

/// Commands of all ports.
#[derive(Default)]
pub struct Commands {
    /// PxCLB and PxCLBU.
    lists: BTreeMap<u16, u64>,
    /// PxSACT as the driver has set it, less what ended.
    tags: BTreeMap<u16, u64>,
    /// By port and slot.
    issued: BTreeMap<(u16, u8), Issued>,
}

struct Issued {
    queued: bool,
    sealed: Vec<Sealed>,
}

impl Commands {
    pub fn base(&mut self, port: u16, high: bool, value: u64) {
        let list = self.lists.entry(port).or_default();
        *list =
            if high { (*list & 0xFFFF_FFFF) | value << 32 } else { (*list & !0xFFFF_FFFF) | value };
    }

    pub fn tagged(&mut self, port: u16, tags: u64) {
        *self.tags.entry(port).or_default() |= tags;
    }

    /// The port was stopped.
    pub fn forget(&mut self, port: u16) {
        self.tags.remove(&port);
        self.issued.retain(|(of, _), _| *of != port);
    }

    pub fn event(&mut self, kind: &EventKind, memory: &Memory, found: &mut Found) {
        match *kind {
            EventKind::AtaCommand { port, slot, command, .. } => {
                self.begun(u16::from(port), slot, command, memory, found);
            }
            EventKind::AtaEnd { port, slot, .. } => {
                let port = u16::from(port);
                if let Some(tags) = self.tags.get_mut(&port) {
                    *tags &= !(1 << (slot & 31));
                }
                let Some(issued) = self.issued.remove(&(port, slot)) else { return };
                if let Some(changed) = issued.sealed.iter().find(|sealed| !memory.intact(sealed)) {
                    found.add(
                        "ahci-command-changed",
                        format!(
                            "port {port} slot {slot}: memory at {:#x} changed while the command ran",
                            changed.address
                        ),
                    );
                }
            }
            _ => {}
        }
    }

    fn begun(&mut self, port: u16, slot: u8, code: u8, memory: &Memory, found: &mut Found) {
        let queued = is_queued(code);
        let tagged = self.tags.get(&port).is_some_and(|tags| tags >> (slot & 31) & 1 != 0);
        if queued && !tagged {
            found.add(
                "ahci-ncq-no-tag",
                format!("port {port} slot {slot}: a queued command whose bit in PxSACT is not set"),
            );
        }
        let others = self.issued.range((port, 0)..=(port, u8::MAX));
        if let Some(((_, other), _)) = others
            .into_iter()
            .find(|((_, other), issued)| *other != slot && issued.queued != queued)
        {
            found.add(
                "ahci-ncq-mixed",
                format!(
                    "port {port}: slots {other} and {slot} hold a queued and an unqueued command"
                ),
            );
        }
        let sealed = self.seal(port, slot, memory);
        self.issued.insert((port, slot), Issued { queued, sealed });
    }

    /// Where the header of a slot is, and what it says.
    fn header(&self, port: u16, slot: u8, memory: &Memory) -> Option<(u64, CommandHeader)> {
        let size = size_of::<CommandHeader>();
        let at = self.lists.get(&port)?.wrapping_add(u64::from(slot) * size as u64);
        let header = CommandHeader::read_from_bytes(&memory.bytes(at, size)?).ok()?;
        Some((at, header))
    }

    fn seal(&self, port: u16, slot: u8, memory: &Memory) -> Vec<Sealed> {
        let Some((at, header)) = self.header(port, slot, memory) else { return Vec::new() };
        let behind = PRDBC + 4;
        let rest = size_of::<CommandHeader>() - behind;
        let parts = [
            memory.seal(at, PRDBC),
            memory.seal(at.wrapping_add(behind as u64), rest),
            memory.seal(header.table(), table_length(&header)),
        ];
        parts.into_iter().flatten().collect()
    }

    /// Commands are issued: looks at their headers and tables.
    pub fn check(&self, port: u16, slots: u64, memory: &Memory, found: &mut Found) {
        for slot in (0..MAX_SLOTS as u8).filter(|slot| slots >> slot & 1 != 0) {
            if let Some((_, header)) = self.header(port, slot, memory) {
                check(port, slot, &header, memory, found);
            }
        }
    }
}

fn table_length(header: &CommandHeader) -> usize {
    table::PRDT + usize::from(header.prdtl).min(ENTRIES) * table::PRD_SIZE
}

fn check(port: u16, slot: u8, header: &CommandHeader, memory: &Memory, found: &mut Found) {
    if !CFL.contains(&header.cfl()) {
        found.add(
            "ahci-cfl",
            format!("port {port} slot {slot}: a command FIS of {} dwords", header.cfl()),
        );
    }
    if !header.ctba.is_multiple_of(table::ALIGN as u32) {
        found.add(
            "ahci-table-alignment",
            format!("port {port} slot {slot}: command table at {:#x}", header.ctba),
        );
    }
    let Some(bytes) = memory.bytes(header.table(), table_length(header)) else { return };
    let regions = bytes[table::PRDT..].chunks_exact(table::PRD_SIZE);
    let regions = regions.filter_map(|entry| Prd::read_from_bytes(entry).ok());
    if let Some((index, region)) =
        regions.enumerate().find(|(_, prd)| prd.dba & 1 != 0 || prd.dbc & 1 == 0)
    {
        let last = region.dbc & (Prd::MAX - 1);
        found.add(
            "ahci-prd-odd",
            format!(
                "port {port} slot {slot}: region {index} is at {:#x}, bytes - 1 = {last}",
                region.dba
            ),
        );
    }
}

fn is_queued(code: u8) -> bool {
    matches!(code, command::READ_FPDMA_QUEUED | command::WRITE_FPDMA_QUEUED)
}
