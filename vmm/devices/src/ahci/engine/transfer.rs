//! The data of a command: to and from the drive itself, or by requests to its back end.

use super::{Command, Transfer, Work};
use crate::ahci::atapi::raw_frame;
use crate::ahci::frames::Ending;
use crate::ahci::port::{Port, Unit};
use crate::ahci::prdt::Regions;
use crate::backend::{Operation, Request};
use crate::dma::Segment;
use crate::trace::{Asked, HostOp, Interest, Owner};
use crate::virtio::Context;
use xinim_abi::hw::ahci::{PortError, PortInterrupt};
use xinim_abi::hw::ata;

/// Largest single request to the back end, in bytes.
const MAX_REQUEST: u64 = 16 << 20;
/// Bytes of a raw CD sector, and where its data are.
pub(super) const RAW_SECTOR: u64 = 2352;
const RAW_DATA: u64 = 16;
const CD_BLOCK: u64 = xinim_abi::hw::atapi::BLOCK_SIZE as u64;

impl Port {
    /// Moves the data, or has the back end move it.
    pub(super) fn perform(&mut self, mut command: Command, work: Work, context: &Context<'_>) {
        let from_host = match &work {
            Work::Take { .. } => true,
            Work::Medium { operation, .. } => matches!(operation, Operation::Write { .. }),
            _ => false,
        };
        if from_host && command.overflow {
            // The drive asks for bytes that the driver has not provided; nothing can answer it.
            self.serr |= PortError::PROTOCOL;
            return self.fatal(PortInterrupt::IFS | PortInterrupt::OFS);
        }
        if let Some(Transfer::PioOut { block }) = command.transfer {
            let first = u64::from(block).min(command.regions.bytes) as u16;
            self.post_pio_setup(false, false, first, &Ending::done(), context);
        }
        if let Some(Transfer::Queued(tag)) = command.transfer {
            // Accepted: BSY clears without an interrupt, and the slot's PxCI bit with it.
            self.post_register(&Ending::done(), false, context);
            self.ci &= !(1 << command.slot);
            self.post_dma_setup(tag, !from_host, command.regions.bytes, context);
        }
        let slot = command.slot;
        match work {
            Work::Done(_) => {}
            Work::Flush => self.submit(command, vec![(Operation::Flush, 0, Vec::new())], context),
            Work::Give { data, ending, .. } => {
                command.ending = ending;
                match command.regions.write(context.dma, 0, &data) {
                    Ok(bytes) => {
                        command.bytes = bytes;
                        command.operation = Operation::Read;
                        command.note_moved(bytes, context);
                    }
                    Err(_) => return self.fatal(PortInterrupt::HBDS),
                }
                self.finish(command, context);
            }
            Work::Take { length, .. } => {
                let data = command.regions.read(context.dma, length as usize);
                let Ok(data) = data else { return self.fatal(PortInterrupt::HBDS) };
                command.bytes = data.len() as u64;
                command.note_moved(command.bytes, context);
                let Some(Unit::Disk(disk)) = &mut self.unit else { return };
                match disk.taken(&command.fis, &data) {
                    Ok(ranges) => {
                        command.operation = Operation::Discard;
                        let list = ranges.into_iter();
                        self.submit_ranges(command, list.collect(), context);
                    }
                    Err(ending) => {
                        command.ending = ending;
                        self.finish(command, context);
                    }
                }
            }
            Work::Medium { operation, offset, .. } => {
                // Whole sectors only, where the driver provided too little room.
                let sector = ata::SECTOR_SIZE as u64;
                command.bytes = match command.overflow {
                    true => command.regions.bytes / sector * sector,
                    false => command.regions.bytes,
                };
                command.operation = operation;
                let pieces = split(&command.regions, operation, offset, command.bytes);
                self.submit(command, pieces, context);
            }
            Work::Raw { first, .. } => {
                let blocks = command.regions.bytes / RAW_SECTOR;
                command.bytes = blocks * RAW_SECTOR;
                command.operation = Operation::Read;
                let mut segments = Vec::new();
                for block in 0..blocks {
                    let frame = raw_frame(first.wrapping_add(block as u32));
                    let at = block * RAW_SECTOR;
                    if command.regions.write(context.dma, at, &frame).is_err() {
                        return self.fatal(PortInterrupt::HBDS);
                    }
                    segments.extend(command.regions.slice(at + RAW_DATA, CD_BLOCK));
                }
                let whole = Regions { segments, bytes: blocks * CD_BLOCK, interrupt: false };
                command.segments = whole.segments.len();
                let offset = u64::from(first) * CD_BLOCK;
                let pieces = split(&whole, Operation::Read, offset, whole.bytes);
                self.submit(command, pieces, context);
            }
        }
        // With room in the queue the next command may follow; PxCMD.CCS stays at this one.
        self.engine.last_slot = slot;
    }

    fn submit_ranges(&mut self, command: Command, ranges: Vec<(u64, u64)>, context: &Context<'_>) {
        let slot = command.slot;
        if ranges.is_empty() {
            return self.finish(command, context);
        }
        let first = self.engine.tag(slot, 0);
        let mut command = command;
        command.pieces = ranges.len() as u32;
        let asked = ranges.iter().map(|(at, length)| (HostOp::Discard, *at, *length));
        self.note_asked(&mut command, asked.collect(), context);
        self.keep(command);
        for (piece, (offset, length)) in (0u64..).zip(ranges) {
            let tag = first + (piece << 8);
            let operation = Operation::Discard;
            let request = Request { tag, operation, offset, length, segments: Vec::new() };
            if let Some(backend) = self.backend_mut() {
                backend.submit(request, context.dma);
            }
        }
    }

    fn submit(
        &mut self,
        mut command: Command,
        pieces: Vec<(Operation, u64, Vec<Segment>)>,
        context: &Context<'_>,
    ) {
        if pieces.is_empty() {
            return self.finish(command, context);
        }
        let slot = command.slot;
        command.pieces = pieces.len() as u32;
        command.note_moved(command.bytes, context);
        let asked = pieces.iter().map(|(operation, offset, segments)| {
            let length = segments.iter().map(|segment| u64::from(segment.length)).sum();
            (operation.host(), *offset, length)
        });
        self.note_asked(&mut command, asked.collect(), context);
        // The back end has the segments from here on.
        command.regions.segments = Vec::new();
        self.keep(command);
        for (piece, (operation, offset, segments)) in (0u32..).zip(pieces) {
            let tag = self.engine.tag(slot, piece);
            let length = segments.iter().map(|segment| u64::from(segment.length)).sum();
            let Some(backend) = self.backend_mut() else { return };
            backend.submit(Request { tag, operation, offset, length, segments }, context.dma);
        }
    }

    /// Reports what the back end is asked for.
    fn note_asked(&self, command: &mut Command, asked: Vec<Asked>, context: &Context<'_>) {
        if !context.tracer.wants(Interest::HOST_IO) {
            return;
        }
        let owner = Owner::Slot { port: self.number, slot: command.slot };
        for &asked in &asked {
            context.tracer.host_io(context.origin, owner, asked, None);
        }
        command.asked = asked;
    }

    fn keep(&mut self, command: Command) {
        self.engine.segments += command.segments;
        let slot = usize::from(command.slot);
        self.engine.commands[slot] = Some(command);
    }
}

impl Command {
    /// Remembers the memory of its first `bytes` bytes, if somebody wants to hear of it.
    fn note_moved(&mut self, bytes: u64, context: &Context<'_>) {
        if context.tracer.wants(Interest::DMA) {
            self.moved = self.regions.slice(0, bytes);
        }
    }
}

/// Requests of at most [`MAX_REQUEST`] bytes for a transfer.
fn split(
    regions: &Regions,
    operation: Operation,
    offset: u64,
    bytes: u64,
) -> Vec<(Operation, u64, Vec<Segment>)> {
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < bytes {
        let take = (bytes - done).min(MAX_REQUEST);
        let segments = if take == regions.bytes {
            regions.segments.clone()
        } else {
            regions.slice(done, take)
        };
        pieces.push((operation, offset + done, segments));
        done += take;
    }
    pieces
}
