//! Commands: from PxCI through the drive and its back end to the frames that end them (AHCI 5.5,
//! 5.6).
//!
//! ```text
//!   PxCI bit --> header, CFIS, ACMD --> drive decodes --> Work
//!                                                          |
//!     Done / Give (data of the drive's own)  <-------------+----> Medium, Ranges, Flush
//!        D2H at once, or PIO setup                                 requests to the back end
//!                                                                        |
//!     not queued: TFD.BSY until D2H or PIO setup; next command after that|
//!     queued:     D2H at once (BSY and PxCI clear), SDB later  <---------+
//! ```
//! Slots are taken round robin. With queued commands outstanding others follow at once; a command
//! that is not queued has the drive to itself. After an error nothing is issued (`halted`).
//!
//! Data is moved in `transfer.rs`. Bounds: one call takes [`BATCH`] commands and [`BATCH_ENTRIES`] PRDT entries; commands wait while
//! [`MAX_SEGMENTS`] pieces of memory are in flight at the port.

mod transfer;

use super::ata::AtaDisk;
use super::frames::{Ending, READY};
use super::link::Link;
use super::port::{Port, Unit};
use super::prdt::{self, PrdtError, Regions};
use crate::backend::{BackendError, Completion, Operation};
use crate::dma::Segment;
use crate::trace::{Asked, EventKind, Owner};
use crate::virtio::Context;
use xinim_abi::hw::ahci::{
    self as hw, CommandHeader, HeaderFlags, PortCmd, PortError, PortInterrupt, table,
};
use xinim_abi::hw::ata::{self, Status};
use xinim_abi::hw::atapi::PACKET_SIZE;
use xinim_abi::hw::sata::{RegisterH2d, fis, flags};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Commands issued, and rounds of completions, in one call.
const BATCH: usize = 64;
/// PRDT entries read in one call.
const BATCH_ENTRIES: usize = 64 << 10;
/// Pieces of guest memory in flight at one port.
pub const MAX_SEGMENTS: usize = 64 << 10;

/// How a command's data travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// DRQ blocks of so many bytes, to the host.
    PioIn {
        block: u32,
    },
    /// DRQ blocks of so many bytes, from the host.
    PioOut {
        block: u32,
    },
    Dma,
    /// With this tag.
    Queued(u8),
}

/// What a drive makes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Ends at once.
    Done(Ending),
    /// Data of the drive's own for the host, then the ending.
    Give {
        data: Vec<u8>,
        transfer: Transfer,
        ending: Ending,
    },
    /// Bytes for the drive itself; then [`AtaDisk::taken`] says what to do.
    Take {
        length: u64,
        transfer: Transfer,
    },
    /// Data between medium and host.
    Medium {
        operation: Operation,
        offset: u64,
        length: u64,
        transfer: Transfer,
    },
    /// Raw CD sectors from the 2048-byte block `first` on.
    Raw {
        first: u32,
        blocks: u32,
        transfer: Transfer,
    },
    Flush,
}

/// Commands of a port.
#[derive(Default)]
pub(super) struct Engine {
    /// After an error, until ST is cleared.
    pub halted: bool,
    /// The back end still works on commands that were forgotten.
    pub draining: bool,
    /// PxCMD.CCS
    pub last_slot: u8,
    /// Counts how often everything was forgotten; part of each back-end tag.
    epoch: u32,
    commands: [Option<Command>; hw::MAX_SLOTS],
    segments: usize,
}

/// A command the drive works on.
struct Command {
    slot: u8,
    /// Where its header is.
    header: u64,
    fis: RegisterH2d,
    packet: bool,
    transfer: Option<Transfer>,
    ending: Ending,
    operation: Operation,
    /// Bytes moved when it succeeds.
    bytes: u64,
    regions: Regions,
    overflow: bool,
    pieces: u32,
    error: Option<BackendError>,
    segments: usize,
    /// For the trace: what the back end was asked for, and the memory it moves.
    asked: Vec<Asked>,
    moved: Vec<Segment>,
}

/// Whether a command could be issued.
enum Issued {
    Yes,
    /// Too much is in flight.
    Later,
}

/// CFIS and ACMD of a command table.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct TableHead {
    cfis: [u8; table::CFIS_SIZE],
    acmd: [u8; table::ACMD_SIZE],
}

impl Engine {
    /// Nobody waits for anything any more.
    pub fn forget(&mut self) {
        self.commands = Default::default();
        self.segments = 0;
        self.epoch = self.epoch.wrapping_add(1);
        self.halted = false;
        self.last_slot = 0;
    }

    pub fn pieces_in_flight(&self) -> u32 {
        self.commands.iter().flatten().map(|command| command.pieces).sum()
    }

    /// Slots of queued commands the drive has.
    fn queued(&self) -> u32 {
        self.commands.iter().flatten().filter(|c| c.is_queued()).fold(0, |m, c| m | 1 << c.slot)
    }

    fn exclusive(&self) -> bool {
        self.commands.iter().flatten().any(|command| !command.is_queued())
    }

    fn tag(&self, slot: u8, piece: u32) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(piece & 0xFF_FFFF) << 8 | u64::from(slot)
    }

    /// The command a completion belongs to.
    fn find(&mut self, tag: u64) -> Option<&mut Option<Command>> {
        let slot = tag as usize & 0xFF;
        let current = (tag >> 32) as u32 == self.epoch;
        self.commands.get_mut(slot).filter(|command| current && command.is_some())
    }
}

impl Command {
    fn is_queued(&self) -> bool {
        matches!(self.transfer, Some(Transfer::Queued(_)))
    }
}

impl Port {
    /// Issues what can be issued and ends what has ended; whether work is left.
    pub(super) fn run(&mut self, context: &Context<'_>) -> bool {
        let mut entries = BATCH_ENTRIES;
        for _ in 0..BATCH {
            let ended = self.complete(context);
            let mut issued = false;
            let mut later = false;
            while let Some(slot) = self.next_slot()
                && entries > 0
            {
                match self.issue(slot, &mut entries, context) {
                    Issued::Yes => issued = true,
                    Issued::Later => {
                        later = true;
                        break;
                    }
                }
            }
            if issued && let Some(backend) = self.backend_mut() {
                backend.start();
            }
            if !ended && (!issued || later || entries == 0) {
                return entries == 0 && self.next_slot().is_some();
            }
        }
        true
    }

    /// The next slot to be issued, if the drive can take a command.
    fn next_slot(&self) -> Option<u8> {
        let busy = u32::from((Status::BSY | Status::DRQ).bits());
        let ready = self.cmd.contains(PortCmd::ST)
            && !self.engine.halted
            && !self.engine.draining
            && self.link == Link::Up
            && self.tfd & busy == 0
            && !self.engine.exclusive();
        if !ready || self.ci == 0 {
            return None;
        }
        let after = (u32::from(self.engine.last_slot) + 1) % hw::MAX_SLOTS as u32;
        let distance = self.ci.rotate_right(after).trailing_zeros();
        Some(((after + distance) % hw::MAX_SLOTS as u32) as u8)
    }

    fn issue(&mut self, slot: u8, entries: &mut usize, context: &Context<'_>) -> Issued {
        let at = self.clb.saturating_add(u64::from(slot) * hw::COMMAND_HEADER_SIZE as u64);
        let Ok(header) = prdt::fetch::<CommandHeader>(context.dma, at) else {
            self.fatal(PortInterrupt::HBFS);
            return Issued::Yes;
        };
        let count = usize::from(header.prdtl);
        if self.engine.segments > 0 && self.engine.segments + count > MAX_SEGMENTS {
            return Issued::Later;
        }
        *entries = entries.saturating_sub(count.max(1));
        self.engine.last_slot = slot;
        let Ok(head) = prdt::fetch::<TableHead>(context.dma, header.table()) else {
            self.fatal(PortInterrupt::HBFS);
            return Issued::Yes;
        };
        let Ok((fis, _)) = RegisterH2d::read_from_prefix(&head.cfis) else { return Issued::Yes };
        // The drive answers anything but a register FIS with R_ERR, again and again (6.1.2).
        if fis.kind != fis::REGISTER_H2D || !(2..=16).contains(&header.cfl()) {
            self.serr |= PortError::PROTOCOL;
            self.fatal(PortInterrupt::IFS);
            return Issued::Yes;
        }
        if fis.flags & flags::COMMAND == 0 {
            self.control(slot, &header, &fis, context);
            return Issued::Yes;
        }
        self.command(slot, at, &header, &fis, &head.acmd, context);
        Issued::Yes
    }

    /// A write to the device control register: the edges of SRST are a software reset. It ends
    /// with R_OK where the header says so, else with the D2H FIS that announces the drive.
    fn control(
        &mut self,
        slot: u8,
        header: &CommandHeader,
        fis: &RegisterH2d,
        context: &Context<'_>,
    ) {
        let Some(unit) = &mut self.unit else { return };
        let asserted = fis.control & ata::CONTROL_SRST != 0;
        let was = unit.set_srst(asserted);
        self.ci &= !(1 << slot);
        if was && !asserted {
            let ending = unit.soft_reset();
            self.post_register(&ending, false, context);
            self.sig = ending.signature();
        } else if !header.flags().contains(HeaderFlags::CLEAR_BUSY) && asserted {
            // Nothing clears BSY until SRST is taken back.
            self.tfd = hw::tfd(Status::BSY.bits(), 0);
        }
    }

    fn command(
        &mut self,
        slot: u8,
        header_at: u64,
        header: &CommandHeader,
        fis: &RegisterH2d,
        acmd: &[u8; table::ACMD_SIZE],
        context: &Context<'_>,
    ) {
        let queued = self.engine.queued();
        let (port, code) = (self.number, fis.command);
        let (lba, count) = super::ata::place(fis);
        context.tracer.emit(context.origin, || EventKind::AtaCommand {
            port,
            slot,
            command: code,
            lba,
            count,
        });
        let Some(unit) = &mut self.unit else { return };
        let packet = matches!(unit, Unit::CdRom(_)) && code == ata::command::PACKET;
        let work = match unit {
            Unit::Disk(disk) => disk.command(fis, slot, queued != 0),
            Unit::CdRom(drive) => {
                let mut cdb = [0; PACKET_SIZE];
                cdb.copy_from_slice(&acmd[..PACKET_SIZE]);
                drive.command(fis, &cdb)
            }
        };
        self.tfd = hw::tfd(Status::BSY.bits(), 0);
        if packet {
            let ending = Ending { count: reason::PACKET, ..Ending::done() };
            self.post_pio_setup(false, false, PACKET_SIZE as u16, &ending, context);
        }
        let mut command = Command {
            slot,
            header: header_at,
            fis: *fis,
            packet,
            transfer: None,
            ending: Ending::done(),
            operation: Operation::Flush,
            bytes: 0,
            regions: Regions::default(),
            overflow: false,
            pieces: 0,
            error: None,
            asked: Vec::new(),
            moved: Vec::new(),
            segments: 0,
        };
        // A refusal while queued commands are outstanding ends them all (ACS-3 4.15.6).
        if let Work::Done(ending) = &work
            && ending.is_error()
            && queued != 0
        {
            self.drop_queue();
        }
        let (length, transfer) = match &work {
            Work::Done(ending) => {
                command.ending = *ending;
                return self.finish(command, context);
            }
            Work::Flush => (0, Transfer::Dma),
            Work::Give { data, transfer, .. } => (data.len() as u64, *transfer),
            Work::Take { length, transfer } | Work::Medium { length, transfer, .. } => {
                (*length, *transfer)
            }
            Work::Raw { blocks, transfer, .. } => {
                (u64::from(*blocks) * transfer::RAW_SECTOR, *transfer)
            }
        };
        command.transfer = Some(transfer);
        let place = header.table().saturating_add(table::PRDT as u64);
        // Data for the drive are read from memory, all others written to it.
        let from_memory = match &work {
            Work::Take { .. } => true,
            Work::Medium { operation, .. } => matches!(operation, Operation::Write { .. }),
            _ => false,
        };
        match prdt::collect(context.dma, place, header.prdtl, (length, !from_memory)) {
            Ok(regions) => command.regions = regions,
            Err(PrdtError::Table(_)) => return self.fatal(PortInterrupt::HBFS),
            Err(PrdtError::Region(_)) => return self.fatal(PortInterrupt::HBDS),
        }
        command.overflow = command.regions.bytes < length;
        command.segments = command.regions.segments.len();
        self.perform(command, work, context);
    }

    /// Takes the back end's completions; whether there were any.
    fn complete(&mut self, context: &Context<'_>) -> bool {
        let mut any = false;
        let mut ended = 0;
        for _ in 0..hw::MAX_SLOTS * BATCH {
            let Some(completion) = self.next_completion() else { break };
            any = true;
            self.trace_completion(&completion, context);
            let Some(command) = self.ended_command(completion) else { continue };
            let queued = command.is_queued();
            if queued && command.error.is_none() {
                self.trace_end(&command, &Ending::done(), 0, context);
                self.data_done(&command);
                ended |= 1 << command.slot;
                continue;
            }
            if queued {
                self.end_queued(&mut ended, context);
                self.fail_queued(&command, context);
            } else {
                self.finish(command, context);
            }
        }
        self.end_queued(&mut ended, context);
        if any {
            self.rest();
        }
        any
    }

    fn trace_completion(&mut self, completion: &Completion, context: &Context<'_>) {
        let port = self.number;
        let Some(Some(command)) = self.engine.find(completion.tag) else { return };
        let piece = (completion.tag >> 8) as usize & 0xFF_FFFF;
        let Some(&asked) = command.asked.get(piece) else { return };
        let owner = Owner::Slot { port, slot: command.slot };
        let errno = completion.result.err().map_or(0, |error| error.errno);
        context.tracer.host_io(context.origin, owner, asked, Some(errno));
    }

    /// Notes a completion; its command, if that was the last it waited for.
    fn ended_command(&mut self, completion: Completion) -> Option<Command> {
        let place = self.engine.find(completion.tag)?;
        let command = place.as_mut()?;
        command.pieces = command.pieces.saturating_sub(1);
        if let Err(error) = completion.result {
            command.error.get_or_insert(error);
        }
        if command.pieces > 0 {
            return None;
        }
        let command = place.take()?;
        self.engine.segments = self.engine.segments.saturating_sub(command.segments);
        Some(command)
    }

    /// One set device bits FIS for all that have ended.
    fn end_queued(&mut self, ended: &mut u32, context: &Context<'_>) {
        let active = std::mem::take(ended);
        if active != 0 {
            let ending = Ending { status: READY, ..Ending::done() };
            self.post_set_device_bits(active, &ending, context);
        }
    }

    fn data_done(&mut self, command: &Command) {
        if command.overflow {
            self.is |= PortInterrupt::OFS;
        }
        self.descriptors_done(&command.regions);
    }

    /// A queued command failed: the drive aborts the others and keeps a log (ACS-3 4.15.6).
    fn fail_queued(&mut self, command: &Command, context: &Context<'_>) {
        let ending = self.failure(command);
        self.trace_end(command, &ending, errno(command), context);
        self.drop_queue();
        self.post_set_device_bits(0, &ending, context);
    }

    /// Queued commands in the drive are gone; their PxSACT bits stay.
    fn drop_queue(&mut self) {
        let slot = self.engine.last_slot;
        self.forget();
        self.engine.last_slot = slot;
    }

    fn failure(&mut self, command: &Command) -> Ending {
        let error = command.error.unwrap_or(BackendError::UNKNOWN);
        match &mut self.unit {
            Some(Unit::Disk(disk)) => AtaDisk::failure(
                disk,
                &command.fis,
                command.operation,
                command.is_queued().then_some(command.slot),
                error,
            ),
            Some(Unit::CdRom(drive)) => drive.failure(),
            None => Ending::failed(ata::Error::ABRT.bits()),
        }
    }

    /// Ends a command that is not queued.
    fn finish(&mut self, command: Command, context: &Context<'_>) {
        let mut ending =
            if command.error.is_some() { self.failure(&command) } else { command.ending };
        let failed = ending.is_error();
        self.trace_end(&command, &ending, errno(&command), context);
        let bytes = if failed { 0 } else { command.bytes };
        // The count of bytes is the second dword of the header (4.2.2).
        let count = (bytes as u32).to_le_bytes();
        if context.dma.write(command.header.saturating_add(4), &count).is_err() {
            return self.fatal(PortInterrupt::HBFS);
        }
        if !failed {
            self.data_done(&command);
        }
        let mut register = true;
        match command.transfer {
            Some(Transfer::PioIn { block }) if !failed && bytes > 0 => {
                if command.packet {
                    ending.count = reason::DATA_IN;
                }
                self.post_pio_setup(true, true, last_block(bytes, block), &ending, context);
                self.tfd = hw::tfd(ending.status, 0);
                register = command.packet || self.dialect.register_after_pio_in;
            }
            Some(Transfer::PioOut { block }) if !failed && bytes > u64::from(block) => {
                self.post_pio_setup(false, true, last_block(bytes, block), &ending, context);
            }
            _ => {}
        }
        if register {
            if command.packet {
                ending.count = reason::DONE;
            }
            self.post_register(&ending, true, context);
        }
        if !failed {
            self.ci &= !(1 << command.slot);
        }
    }

    fn trace_end(&self, command: &Command, ending: &Ending, errno: i32, context: &Context<'_>) {
        let (port, slot) = (self.number, command.slot);
        let (write, ok) = (command.operation == Operation::Read, !ending.is_error());
        for segment in &command.moved {
            let (address, length) = (segment.address, segment.length.into());
            let owner = Owner::Slot { port, slot };
            context.tracer.emit(context.origin, || EventKind::Dma {
                write,
                address,
                length,
                ok,
                owner,
            });
        }
        let (status, error) = (ending.status, ending.error);
        context.tracer.emit(context.origin, || EventKind::AtaEnd {
            port,
            slot,
            status,
            error,
            errno,
        });
    }
}

/// What a packet device says in the count register: C/D and I/O (SATA 13.7, ATA8-ACS 7.25).
mod reason {
    /// It takes the command packet.
    pub const PACKET: u16 = 1;
    /// It gives data.
    pub const DATA_IN: u16 = 2;
    /// The command has ended.
    pub const DONE: u16 = 3;
}

fn errno(command: &Command) -> i32 {
    command.error.map_or(0, |error| error.errno)
}

/// Bytes of the last DRQ block.
fn last_block(bytes: u64, block: u32) -> u16 {
    let block = u64::from(block.max(1));
    let rest = bytes % block;
    (if rest == 0 { block } else { rest }) as u16
}
