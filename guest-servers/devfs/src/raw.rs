//! A block device by byte offsets, with nothing remembered between requests.
//!
//! Requests are whole blocks; a write that covers part of a block reads it first. Several requests
//! are under way at once, as many as data memory and the driver allow.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{Submission, op};
use xinim_block_client::Transport;
use xinim_fs_kit::{Sink, Source};

/// Bytes copied at once between data memory and the other side.
const HOP: usize = 16 * 1024;

/// A device or a partition of it.
#[derive(Debug)]
pub struct RawDisk<T> {
    transport: T,
    next_id: u64,
}

impl<T: Transport> RawDisk<T> {
    pub fn new(transport: T) -> Self {
        Self { transport, next_id: 0 }
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.transport.info().sectors.saturating_mul(512)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn read_only(&self) -> bool {
        self.transport.info().read_only
    }

    pub fn block_size(&self) -> u32 {
        self.transport.info().block_size
    }

    fn block(&self) -> u64 {
        u64::from(self.block_size()).max(512)
    }

    /// Bytes that go in one round: whole blocks that fit into data memory.
    fn round_len(&self) -> u64 {
        let block = self.block();
        let room = self.transport.data_len() as u64;
        let depth = u64::from(self.transport.info().depth.max(1));
        room.min((self.request_len() as u64).saturating_mul(depth)) / block * block
    }

    /// Bytes of one request at most: whole blocks.
    fn request_len(&self) -> usize {
        let block = self.block() as usize;
        (self.transport.info().max_bytes as usize / block * block).max(block)
    }

    /// Reads from the device into `out`; the range must lie inside.
    pub fn read(&mut self, offset: u64, len: usize, out: &mut dyn Sink) -> Result<()> {
        let end = self.check(offset, len)?;
        let block = self.block();
        let mut at = offset;
        while at < end {
            let start = at / block * block;
            let stop = end.next_multiple_of(block).min(start + self.round_len()).min(self.len());
            self.transfer(op::READ, start, (stop - start) as usize)?;
            let until = stop.min(end);
            let mut hop = vec![0; HOP.min((until - at) as usize)];
            while at < until {
                let piece = &mut hop[..HOP.min((until - at) as usize)];
                self.transport.read_data((at - start) as usize, piece)?;
                out.put((at - offset) as usize, piece)?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Writes to the device. `RoFs` if it takes no writes.
    pub fn write(&mut self, offset: u64, len: usize, from: &mut dyn Source) -> Result<()> {
        let end = self.check(offset, len)?;
        if self.read_only() {
            return Err(Error::RoFs);
        }
        let block = self.block();
        let mut at = offset;
        while at < end {
            let start = at / block * block;
            let stop = end.next_multiple_of(block).min(start + self.round_len());
            let until = stop.min(end);
            // The blocks at the edges keep what is not written.
            if start < at || (until < stop && stop - start <= block) {
                self.transfer(op::READ, start, block as usize)?;
            }
            let last = stop - block;
            let tail =
                if until < stop && last > start { Some(self.read_block(last)?) } else { None };
            if start < at && tail.is_some() {
                // The tail's block went through the same memory: the head again.
                self.transfer(op::READ, start, block as usize)?;
            }
            if let Some(tail) = tail {
                self.transport.write_data((last - start) as usize, &tail)?;
            }
            let mut hop = vec![0; HOP.min((until - at) as usize)];
            while at < until {
                let piece = &mut hop[..HOP.min((until - at) as usize)];
                from.get((at - offset) as usize, piece)?;
                self.transport.write_data((at - start) as usize, piece)?;
                at += piece.len() as u64;
            }
            self.transfer(op::WRITE, start, (stop - start) as usize)?;
        }
        Ok(())
    }

    /// Gives whole blocks back to the device, or with `zeroes` makes them zeros: by WRITE_ZEROES, or
    /// by writing them where the device does not know that. `NotSup`: it does not know DISCARD.
    pub fn discard(&mut self, offset: u64, len: u64, zeroes: bool) -> Result<()> {
        let block = self.block();
        let end = offset.checked_add(len).filter(|&end| end <= self.len());
        let end = end.ok_or(Error::Inval)?;
        if !offset.is_multiple_of(block) || !len.is_multiple_of(block) {
            return Err(Error::Inval);
        }
        if self.read_only() {
            return Err(Error::RoFs);
        }
        let limits = self.transport.limits();
        let (op, most) = match zeroes {
            false => (op::DISCARD, limits.max_discard),
            true => (op::WRITE_ZEROES, limits.max_zeroes),
        };
        let (op, most) = match u64::from(most) / block * block {
            0 if zeroes => (op::WRITE, (self.request_len() as u64).min(self.round_len())),
            0 => return Err(Error::NotSup),
            most => (op, most),
        };
        if op == op::WRITE {
            if most == 0 {
                return Err(Error::Io);
            }
            self.transport.write_data(0, &vec![0; most as usize])?;
        }
        let depth = self.transport.info().depth.max(1) as usize;
        let mut at = offset;
        while at < end {
            let mut requests = Vec::new();
            while at < end && requests.len() < depth {
                let len = most.min(end - at);
                let (id, sector, len32) = (self.id(), at / 512, len as u32);
                requests.push(Submission { id, sector, len: len32, op, ..Submission::default() });
                at += len;
            }
            self.submit_all(&requests)?;
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<()> {
        let id = self.id();
        self.submit_all(&[Submission { id, op: op::FLUSH, ..Submission::default() }])
    }

    fn check(&self, offset: u64, len: usize) -> Result<u64> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.len());
        if self.round_len() == 0 { Err(Error::Io) } else { end.ok_or(Error::Inval) }
    }

    fn read_block(&mut self, start: u64) -> Result<Vec<u8>> {
        let block = self.block() as usize;
        self.transfer(op::READ, start, block)?;
        let mut bytes = vec![0; block];
        self.transport.read_data(0, &mut bytes)?;
        Ok(bytes)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Moves whole blocks between the device and the start of data memory.
    fn transfer(&mut self, op: u32, start: u64, len: usize) -> Result<()> {
        let most = self.request_len();
        let requests: Vec<Submission> = (0..len)
            .step_by(most)
            .map(|at| Submission {
                id: self.id(),
                sector: (start + at as u64) / 512,
                offset: at as u32,
                len: most.min(len - at) as u32,
                op,
                flags: 0,
            })
            .collect();
        self.submit_all(&requests)
    }

    /// Submits and waits for all; the first error is answered when none is under way any more.
    fn submit_all(&mut self, requests: &[Submission]) -> Result<()> {
        self.transport.submit(requests)?;
        let mut left = requests.len();
        let mut result = Ok(());
        let mut completions = Vec::new();
        while left > 0 {
            completions.clear();
            self.transport.wait(&mut completions)?;
            for completion in &completions {
                if requests.iter().any(|request| request.id == completion.id) {
                    left -= 1;
                    if completion.status != 0 {
                        let code = u16::try_from(completion.status).ok();
                        let error = code.and_then(Error::from_code).unwrap_or(Error::Io);
                        result = result.and(Err(error));
                    }
                }
            }
        }
        result
    }
}
