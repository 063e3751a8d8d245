//! MSI-X (PCI 6.8.2): vector table, pending bits, delivery.
//!
//! A vector is delivered when MSI-X is enabled, neither it nor the function is masked, and the
//! function is bus master; otherwise its pending bit is set and delivery follows when the last
//! obstacle goes.

use crate::device::{Access, GuestError, Op, Origin, Outcome};
use crate::irq::{MsiMessage, MsiRoute, MsiSink};
use crate::trace::{EventKind, Tracer};
use std::sync::Arc;
use xinim_abi::hw::pci::{self, MsixEntry, msix};
use xinim_abi::hw::register::find;

/// Vectors that fit the 4 KiB MSI-X BAR with the table in its lower and the PBA in its upper half.
pub const MAX_VECTORS: u16 = 128;
/// Offset of the pending bit array in the MSI-X BAR.
pub const PBA_OFFSET: u64 = 0x800;
/// Size of the MSI-X BAR.
pub const BAR_SIZE: u64 = 0x1000;

/// The MSI-X state of a function.
pub struct Msix {
    // Glue
    sink: Arc<dyn MsiSink>,
    tracer: Tracer,
    // Volatile state
    entries: Vec<MsixEntry>,
    pending: Vec<bool>,
    told: Vec<Option<MsiRoute>>,
    enabled: bool,
    function_masked: bool,
    bus_master: bool,
}

impl Msix {
    /// `vectors` is clamped to 1..=[`MAX_VECTORS`].
    pub fn new(vectors: u16, sink: Arc<dyn MsiSink>, tracer: Tracer) -> Self {
        let count = usize::from(vectors.clamp(1, MAX_VECTORS));
        Self {
            sink,
            tracer,
            entries: vec![reset_entry(); count],
            pending: vec![false; count],
            told: vec![None; count],
            enabled: false,
            function_masked: false,
            bus_master: false,
        }
    }

    pub fn vectors(&self) -> u16 {
        self.entries.len() as u16
    }

    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The capability's bytes for table and PBA in `bar`.
    pub fn capability(&self, bar: u8) -> [u8; msix::CAPABILITY_SIZE] {
        let mut body = [0; msix::CAPABILITY_SIZE];
        let bir = u32::from(bar) & msix::BIR_MASK;
        body[0] = pci::CAP_MSIX;
        body[2..4].copy_from_slice(&(self.vectors() - 1).to_le_bytes());
        body[4..8].copy_from_slice(&bir.to_le_bytes());
        body[8..12].copy_from_slice(&(PBA_OFFSET as u32 | bir).to_le_bytes());
        body
    }

    /// Message control or bus mastering changed.
    pub fn control(&mut self, control: u16, bus_master: bool, origin: &Origin) {
        self.enabled = control & msix::CONTROL_ENABLE != 0;
        self.function_masked = control & msix::CONTROL_FUNCTION_MASK != 0;
        self.bus_master = bus_master;
        for vector in 0..self.vectors() {
            self.update(vector, origin);
        }
    }

    /// Raises `vector`, if there is one of that number and MSI-X is on.
    pub fn signal(&mut self, vector: u16, origin: &Origin) {
        if !self.enabled || usize::from(vector) >= self.entries.len() {
            return;
        }
        let route = self.route(vector);
        let pending = route.masked || !self.bus_master;
        self.tracer.emit(origin, || EventKind::Msi { vector, message: route.message, pending });
        if pending {
            self.pending[usize::from(vector)] = true;
        } else {
            self.sink.signal(vector, route.message);
        }
    }

    fn route(&self, vector: u16) -> MsiRoute {
        let entry = self.entries[usize::from(vector)];
        let address = u64::from(entry.address_high) << 32 | u64::from(entry.address_low);
        MsiRoute {
            message: MsiMessage { address, data: entry.data },
            masked: !self.enabled
                || self.function_masked
                || entry.control & msix::ENTRY_MASKED != 0,
        }
    }

    /// Tells the sink of a changed route and delivers what waited for it.
    fn update(&mut self, vector: u16, origin: &Origin) {
        let route = self.route(vector);
        let index = usize::from(vector);
        let was = self.told[index].is_none_or(|told| told.masked);
        if was != route.masked {
            let masked = route.masked;
            self.tracer.emit(origin, || EventKind::MsiMask { vector, masked });
        }
        if self.told[index] != Some(route) {
            self.told[index] = Some(route);
            self.sink.route(vector, route);
        }
        if self.pending[index] && !route.masked && self.bus_master {
            self.pending[index] = false;
            self.signal(vector, origin);
        }
    }

    /// An access to the MSI-X BAR. Dwords and aligned quadwords only (PCI 6.8.2).
    pub fn access(&mut self, access: Access) -> Outcome {
        if !matches!(access.size, 4 | 8) {
            return Outcome::error(GuestError::BadSize, access.size);
        }
        if !access.offset.is_multiple_of(u64::from(access.size)) {
            return Outcome::error(GuestError::Unaligned, access.size);
        }
        if access.offset >= PBA_OFFSET {
            return self.pba(access);
        }
        let vector = access.offset / msix::ENTRY_SIZE as u64;
        if vector >= self.entries.len() as u64 {
            return Outcome::error(GuestError::NoRegister, access.size);
        }
        let (vector, at) = (vector as u16, (access.offset as usize) % msix::ENTRY_SIZE);
        let mut outcome = match access.op {
            Op::Read => {
                let low = self.dword(vector, at);
                let high = if access.size == 8 { self.dword(vector, at + 4) } else { 0 };
                Outcome::value(u64::from(high) << 32 | u64::from(low))
            }
            Op::Write(value) => {
                self.set_dword(vector, at, value as u32);
                if access.size == 8 {
                    self.set_dword(vector, at + 4, (value >> 32) as u32);
                }
                self.update(vector, &access.origin);
                Outcome::done()
            }
        }
        .at(pci::MSIX_ENTRY, at as u32);
        if let Some(decode) = &mut outcome.decode {
            decode.index = Some(vector);
        }
        outcome
    }

    fn dword(&self, vector: u16, at: usize) -> u32 {
        let entry = &self.entries[usize::from(vector)];
        match at {
            msix::ENTRY_ADDRESS_LOW => entry.address_low,
            msix::ENTRY_ADDRESS_HIGH => entry.address_high,
            msix::ENTRY_DATA => entry.data,
            _ => entry.control,
        }
    }

    fn set_dword(&mut self, vector: u16, at: usize, value: u32) {
        let old = self.dword(vector, at);
        let new = find(pci::MSIX_ENTRY, at as u32, true)
            .map_or(old, |r| r.written(u64::from(old), u64::from(value)) as u32);
        let entry = &mut self.entries[usize::from(vector)];
        match at {
            msix::ENTRY_ADDRESS_LOW => entry.address_low = new,
            msix::ENTRY_ADDRESS_HIGH => entry.address_high = new,
            msix::ENTRY_DATA => entry.data = new,
            _ => entry.control = new,
        }
    }

    fn pba(&self, access: Access) -> Outcome {
        if access.is_write() {
            return Outcome::done().with_error(GuestError::ReadOnly);
        }
        let first = (access.offset - PBA_OFFSET) as usize * 8;
        let value = (0..usize::from(access.size) * 8).fold(0, |value, bit| {
            let pending = self.pending.get(first + bit).copied().unwrap_or(false);
            value | u64::from(pending) << bit
        });
        Outcome::value(value)
    }

    /// Back to power-on: off, every vector masked, nothing pending.
    pub fn reset(&mut self) {
        self.entries.fill(reset_entry());
        self.pending.fill(false);
        self.control(0, false, &Origin::default());
    }
}

fn reset_entry() -> MsixEntry {
    MsixEntry { control: msix::ENTRY_MASKED, ..MsixEntry::default() }
}

#[cfg(test)]
#[path = "msix_tests.rs"]
mod tests;
